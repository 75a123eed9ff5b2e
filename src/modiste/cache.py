"""Results computed from real images, on disk or shipped, under a key of everything they depend on."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def cached_json(key: Mapping[str, Any], compute: Callable[[], Any], versions: Mapping[str, str] | None = None) -> Any:
    """The JSON value of `compute()`: of those that ship, from disk, or else computed and kept there.

    `key` holds everything it depends on, as plain values, and `versions` those of libraries: a value on disk is used
    only with the same ones, one that ships with all, as it differs by rounding.
    """
    shipped = _recorded.scores if _recorded is not None else _shipped_scores()
    if (found := shipped.get(shipped_name(key))) is not None:
        return found["value"]
    text = _key_text({**key, "versions": versions} if versions else key)
    with suppress(*UNREADABLE):
        if _recorded is None:
            return json.loads(read_entry("scores", text))
    value = compute()
    if _recorded is not None:
        _recorded.scores[shipped_name(key)] = {"key": dict(key), "value": value}
    write_entry("scores", text, json.dumps(value).encode())
    return value


def cached_array(key: Mapping[str, Any], compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The array of `compute()`, cached on disk; `key` holds everything it depends on, as plain values."""
    return cached_arrays(key, lambda: {"values": compute()})["values"]


def cached_arrays(key: Mapping[str, Any], compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of `compute()` by name: of those that ship, from disk, or else computed and kept there."""
    shipped = _recorded.arrays if _recorded is not None else _shipped_arrays()
    if (found := shipped.get(shipped_name(key))) is not None:
        return found
    with suppress(*UNREADABLE):
        if _recorded is None:
            return read_arrays(key)
    with progress.stage("distances and moments of real images, kept for the next time"):
        values = compute()
    if _recorded is not None:
        _recorded.arrays[shipped_name(key)] = values
    write_arrays(key, values)
    return values


def cached_bytes(kind: str, key: str, compute: Callable[[], bytes]) -> bytes:
    """The bytes of `compute()`, cached on disk in the folder `kind`; `key` names everything they depend on."""
    with suppress(*UNREADABLE):
        return read_entry(kind, key)
    content = compute()
    write_entry(kind, key, content)
    return content


def read_arrays(key: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays on disk under this key; one of UNREADABLE where there are none."""
    with np.load(io.BytesIO(read_entry("arrays", _key_text(key))), allow_pickle=False) as stored:
        return dict(stored)


def write_arrays(key: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None:
    """Keep the arrays on disk under this key."""
    write_entry("arrays", _key_text(key), npz_bytes(**values))


def _key_text(key: Mapping[str, Any]) -> str:
    return json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)


# --- values that ship: `make baselines` computes them for the published sets. Their keys are those of the cache, so one
# of another edition, protocol or content is never found.

SHIPPED = Path(__file__).with_name("assets") / "baselines"
"""Per published set NAME.json, with scores, their keys and the versions that made them, and NAME.npz with arrays."""


@dataclass(frozen=True)
class Recorded:
    """What was computed, by the names under which it ships."""

    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`key` and `value`."""
    arrays: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)


_recorded: Recorded | None = None


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Compute everything anew, as if nothing shipped and nothing were on disk, and collect what is to ship."""
    global _recorded
    _recorded = Recorded()
    try:
        yield _recorded
    finally:
        _recorded = None


def ships(name: str) -> bool:
    """Whether baselines of the data set of that name ship."""
    return (SHIPPED / f"{name}.json").is_file()


def shipped_name(key: Mapping[str, Any]) -> str:
    """The name of a value that ships: 32 hexadecimal digits of the key's hash."""
    return hashlib.sha256(_key_text(key).encode()).hexdigest()[:32]


def shipped_versions(key: Mapping[str, Any]) -> dict[str, str]:
    """The versions of what computed the JSON value that ships under this key; empty where none does."""
    found = _shipped_scores().get(shipped_name(key), {})
    return dict(found.get("versions", {}))


def write_shipped(name: str, found: Recorded, versions: Mapping[str, str]) -> list[Path]:
    """The files of a published set, written."""
    SHIPPED.mkdir(parents=True, exist_ok=True)
    scores, arrays = SHIPPED / f"{name}.json", io.BytesIO()
    files.write_text(scores, json.dumps({"versions": versions, "scores": found.scores}, indent=0) + "\n")
    members = {f"{key}.{name}": array for key, values in found.arrays.items() for name, array in values.items()}
    np.savez_compressed(arrays, **members)  # type: ignore[arg-type]
    files.write_bytes(scores.with_suffix(".npz"), arrays.getvalue())
    return [scores, scores.with_suffix(".npz")]


@functools.cache
def _shipped_scores() -> dict[str, dict[str, Any]]:
    trees = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SHIPPED.glob("*.json"))]
    return {name: {**one, "versions": tree["versions"]} for tree in trees for name, one in tree["scores"].items()}


@functools.cache
def _shipped_arrays() -> dict[str, dict[str, NDArray[Any]]]:
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for file in sorted(SHIPPED.glob("*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            for member in stored.files:
                name, _, array = member.partition(".")
                found.setdefault(name, {})[array] = stored[member]
    return found


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
