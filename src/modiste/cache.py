"""The cache on disk: results computed from real images, under a key of everything they depend on."""

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


def cache_size() -> int:
    """The bytes of all files in the cache."""
    sizes = 0
    for top, _, names in os.walk(cache_root()):
        for name in names:
            with suppress(OSError):  # removed in the meantime
                sizes += Path(top, name).stat().st_size
    return sizes


CACHE_FORMAT = 2
UNREADABLE = (OSError, ValueError)
"""Raised by a missing or damaged cache file, whose content is then computed again."""


def cached_json(key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of `compute()`, cached on disk; `key` holds everything it depends on, as plain values."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE):
        return json.loads(read_entry("scores", text))
    value = compute()
    write_entry("scores", text, json.dumps(value).encode())
    return value


def cached_array(key: Mapping[str, Any], compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The array of `compute()`, cached on disk; `key` holds everything it depends on, as plain values."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE), np.load(io.BytesIO(read_entry("arrays", text)), allow_pickle=False) as stored:
        return cast("NDArray[np.float64]", stored["values"])
    with progress.stage("distances between real images, kept for the next time"):
        values = compute()
    write_entry("arrays", text, npz_bytes(values=values))
    return values


def cached_bytes(kind: str, key: str, compute: Callable[[], bytes]) -> bytes:
    """The bytes of `compute()`, cached on disk in the folder `kind`; `key` names everything they depend on."""
    with suppress(*UNREADABLE):
        return read_entry(kind, key)
    content = compute()
    write_entry(kind, key, content)
    return content


def npz_bytes(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


# --- entries: a line with the hash of key and content, then the content, so that damaged, truncated and misplaced files
# are recognised


def entry_path(kind: str, key: str) -> Path:
    return cache_root() / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cached"


def _seal(key: str, content: bytes) -> bytes:
    sha = hashlib.sha256(key.encode() + b"\0")
    sha.update(content)
    return sha.hexdigest().encode() + b"\n"


def read_entry(kind: str, key: str) -> bytes:
    """The content cached under this key; ValueError if the file is damaged, OSError if there is none."""
    seal, _, content = entry_path(kind, key).read_bytes().partition(b"\n")
    if seal + b"\n" != _seal(key, content):
        raise ValueError("damaged, or another entry's")
    return content


def write_entry(kind: str, key: str, content: bytes) -> None:
    """Cache the content if possible; a cache that cannot be written is no reason to stop."""
    place = entry_path(kind, key)
    with suppress(OSError, ModisteError):
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(place, _seal(key, content) + content)
