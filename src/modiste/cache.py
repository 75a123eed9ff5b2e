"""The cache on disk: what was computed from real images, kept under everything that it depends on."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import platformdirs
from numpy.typing import NDArray

from modiste import files, progress
from modiste.errors import ModisteError


def cache_root() -> Path:
    """The user's cache folder; MODISTE_CACHE moves it."""
    return Path(os.environ.get("MODISTE_CACHE") or platformdirs.user_cache_dir("modiste")).expanduser()


CACHE_FORMAT = 2
UNREADABLE = (OSError, ValueError)
"""What reading a missing or damaged file of the cache raises; it is computed anew."""


def cached_json(key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of `compute()`, kept on disk under everything that it depends on (`key`, plain values)."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE):
        return json.loads(read_entry("scores", text))
    value = compute()
    write_entry("scores", text, json.dumps(value).encode())
    return value


def cached_array(key: Mapping[str, Any], compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The array of `compute()`, kept on disk under everything that it depends on (`key`, plain values)."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE), np.load(io.BytesIO(read_entry("arrays", text)), allow_pickle=False) as stored:
        return cast("NDArray[np.float64]", stored["values"])
    with progress.stage("distances between real images, kept for the next time"):
        values = compute()
    write_entry("arrays", text, npz_bytes(values=values))
    return values


def npz_bytes(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


# --- the cache: an entry is one line with the hash of its key and content, then the content, so that a damaged file,
# a part of one and another entry's file are all known for what they are


def entry_path(kind: str, key: str) -> Path:
    return cache_root() / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cached"


def _seal(key: str, content: bytes) -> bytes:
    sha = hashlib.sha256(key.encode() + b"\0")
    sha.update(content)
    return sha.hexdigest().encode() + b"\n"


def read_entry(kind: str, key: str) -> bytes:
    """What was kept under this key; ValueError where that is not what lies there, OSError where nothing does."""
    seal, _, content = entry_path(kind, key).read_bytes().partition(b"\n")
    if seal + b"\n" != _seal(key, content):
        raise ValueError("damaged, or another entry's")
    return content


def write_entry(kind: str, key: str, content: bytes) -> None:
    """Keep it if that is possible; a cache that cannot be written is no reason to stop."""
    place = entry_path(kind, key)
    with suppress(OSError, ModisteError):
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(place, _seal(key, content) + content)
