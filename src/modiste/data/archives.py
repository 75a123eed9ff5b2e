"""Archives of arrays (.npz): opened without running code, and what of them are images and labels."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.data import keys
from modiste.data.images import Note
from modiste.data.keys import Kind, Split
from modiste.data.notes import ReadFrom, UnreadArray
from modiste.errors import ModisteError

UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile)
"""What opening an .npz file raises that is damaged, encrypted or packed in another way."""


def open_npz(path: Path) -> Any:
    """The opened archive of a .npz file; plain arrays only."""
    try:
        archive = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ModisteError(f"{path} is not a readable .npz file ({error}); write it with numpy.savez") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ModisteError(f"{path} is a single array, not a .npz file; write it with numpy.savez")
    return archive


def entry(archive: Any, key: str, path: Path) -> NDArray[Any]:
    """One array of an opened .npz file."""
    try:
        return np.asarray(archive[key])
    except UNREADABLE as error:
        raise ModisteError(f"{path}: the array {key} cannot be read ({error}); write plain arrays") from None


def class_names_in(archive: Any, path: Path) -> list[object] | None:
    """The names, as they are, of the classes in an opened .npz file; None if it has none."""
    if "class_names" not in archive.files:
        return None
    names = entry(archive, "class_names", path)
    if names.ndim != 1:
        raise ModisteError(f"{path}: class_names has the shape {list(names.shape)}; save a list with a name per class")
    return list(names)


def images_key(archive: Any, path: Path, split: Split) -> str | None:
    """The key of the images of that split in an opened .npz file; None if it has none."""
    found = keys.named(archive.files, "images", split)
    if len(found) > 1:
        raise ModisteError(
            f"{path} may have its {split} images under {' or '.join(found)}; call one of them "
            f"{keys.CUSTOMARY['images'][split][0]}"
        )
    return found[0] if found else None


def labels_key(archive: Any, path: Path, split: Split, images: int | None = None) -> str | None:
    """The key of the labels of so many images in an opened .npz file; None if there is none, or no telling which."""
    found = keys.named(archive.files, "labels", split)
    if not found or keys.is_customary(found[0]):
        return found[0] if found else None
    fitting = [key for key in found if keys.may_be_labels(*_header(archive, key, path), images)]
    return fitting[0] if len(fitting) == 1 else None


def seen_in(archive: Any, path: Path, images: str, labels: str | None, count: int) -> tuple[Note, ...]:
    """Which keys were read that could be doubted, and which were not read though they look like more to read."""
    read = [key for key in (images, labels) if key]
    kinds: dict[str, Kind] = {images: "images", **({labels: "labels"} if labels else {})}
    found: list[Note] = [ReadFrom(key, kinds[key]) for key in read if not keys.is_customary(key)]
    tests = [key for kind in keys.CUSTOMARY for key in keys.named(archive.files, kind, "test")]
    for key in archive.files:
        if key in (*read, *tests, "class_names"):
            continue
        shape, dtype = _header(archive, key, path)
        if len(shape) in (3, 4) and dtype.kind in "iuf" and shape[0] > 1:
            found.append(UnreadArray(key, "images", ""))
        elif keys.says_labels(key):
            fits = labels is None and keys.may_be_labels(shape, dtype, count)
            found.append(UnreadArray(key, "labels", "labels" if fits else ""))
        elif (
            labels is None
            and dtype.kind != "O"
            and keys.may_be_labels(shape, dtype, count)
            and keys.look_like_labels(entry(archive, key, path))
        ):
            found.append(UnreadArray(key, "labels", "labels"))
    return tuple(found)


def _header(archive: Any, key: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array in an opened .npz file, which is not read."""
    try:
        with archive.zip.open(f"{key}.npy") as file:
            reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = reader[np.lib.format.read_magic(file)[0]](file)
            return shape, dtype
    except (*UNREADABLE, KeyError):  # nothing that numpy wrote for plain arrays
        array = entry(archive, key, path)
        return array.shape, array.dtype
