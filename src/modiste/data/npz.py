"""Images in .npz archives and .npy files: which arrays are images and which labels, by name and content.

No code in them is run.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from modiste.data import image_files, npy, stored
from modiste.data.classes import labelled
from modiste.data.images import Images, Note, Split
from modiste.data.notes import LabelsBeside, ReadFrom, UnreadArray
from modiste.errors import ModisteError, first_line

Kind = Literal["images", "labels"]
SPLITS: tuple[Split, ...] = get_args(Split)
STANDARD_NAMES: dict[Kind, dict[Split, tuple[str, ...]]] = {
    "images": {"train": ("images", "x", "x_train", "train_images"), "test": ("x_test", "test_images")},
    "labels": {"train": ("labels", "y", "y_train", "train_labels"), "test": ("y_test", "test_labels")},
}
"""Names that are read without a note, in order of preference."""
IMAGE_WORDS, LABEL_WORDS = ("image", "img", "data", "x", "arr_0"), ("label", "target", "y", "arr_1")
NAME = re.compile(rf"(?:(train|test)_?)?({'|'.join((*IMAGE_WORDS, *LABEL_WORDS))})s?(?:_?(train|test))?")
MOST_VALUES = 1000
"""An array with more different values than this, or with most values only once, is not taken for labels."""
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile)
"""What numpy raises for an .npz file that is damaged, encrypted or packed in another way."""


def is_npz(path: Path) -> bool:
    """Whether this is a file that ends in .npz, in any case of letters."""
    return path.suffix.lower() == ".npz" and path.is_file()


def is_arrays(path: Path) -> bool:
    """Whether this is an .npz or .npy file, or a folder of nothing but files, with images in an .npy file."""
    if not path.is_dir():
        return is_npz(path) or npy.is_npy(path)
    names = [file.stem for file in npy.files(path)]
    return any(matching_names(names, "images", split) for split in SPLITS) and not any(
        place.is_dir() or image_files.is_picture(place) for place in path.iterdir() if not place.name.startswith(".")
    )


def open_arrays(path: Path) -> Any:
    """The opened .npz file, or the .npy files, for use in a `with` statement."""
    return open_npz(path) if is_npz(path) else npy.ArrayFiles(path)


def read_arrays(path: Path, split: Split) -> Images:
    """The uint8 images, labels and class names in an .npz file or in .npy files, under standard names or others.

    The images of a large .npy file are mapped.
    """
    with open_arrays(path) as archive:
        key = find_images(archive, path, split)
        if key is None:
            raise ModisteError(
                f"{path} has no {split} images: its keys are {', '.join(archive.files) or 'none'}; "
                f"name the array {' or '.join(STANDARD_NAMES['images'][split])}"
            )
        place = path.name if npy.is_npy(path) else f"{path.name}[{key}]"
        pixels = channels_first(_uint8(read_array(archive, key, path), place), place)
        label_key = find_labels(archive, path, split, len(pixels))
        train_key = label_key if split == "train" else find_labels(archive, path, "train")
        labels, known = (read_array(archive, key, path) if key else None for key in (label_key, train_key))
        names = read_class_names(archive, path)
        notes = array_notes(archive, path, key, label_key, len(pixels)) if split == "train" else ()
    name = path.resolve().name if path.is_dir() else path.stem
    images = labelled(pixels, labels, names, name, known)
    source = None
    if isinstance(archive, npy.ArrayFiles) and pixels.nbytes >= stored.MAPPED_BYTES:
        file = archive.paths[key]
        source = (str(file.resolve()), stored.state_of(file))
    return replace(images, notes=(*images.notes, *notes, *_beside(path)), source=source)


def _beside(path: Path) -> tuple[Note, ...]:
    """The note on labels that lie beside a single .npy file and would be read with its folder."""
    if not npy.is_npy(path) or not is_arrays(path.parent):
        return ()
    names = [file.stem for file in npy.files(path.parent)]
    found = [name for split in SPLITS for name in matching_names(names, "labels", split)]
    return (LabelsBeside(f"{found[0]}.npy", str(path.parent)),) if found else ()


def _uint8(pixels: NDArray[Any], place: str) -> NDArray[np.uint8]:
    """The pixels as they are; ModisteError for those of another type."""
    if pixels.dtype == np.uint8:
        return pixels
    problem = "whose range is unknown" if pixels.dtype.kind in "iuf" else "which is no type of pixels"
    remedy = ", as np.uint8(255) * array" if pixels.dtype == bool else ""
    raise ModisteError(f"{place} holds {pixels.dtype}, {problem}; save uint8 pixels from 0 to 255{remedy}")


def channels_first(pixels: NDArray[Any], place: str) -> NDArray[Any]:
    """Images [N, C, H, W] from [N, H, W], [N, H, W, C] or [N, C, H, W]."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        turned = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(turned) if pixels.flags.writeable else turned  # what is mapped stays where it is
    raise ModisteError(
        f"{place} has the shape {list(pixels.shape)}; save images as [N, H, W], [N, H, W, C] or [N, C, H, W] "
        "with 1 or 3 channels"
    )


def open_npz(path: Path) -> Any:
    """The opened archive of a .npz file, of plain arrays only; ModisteError for any other file."""
    try:
        archive = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ModisteError(
            f"{path} is not a readable .npz file ({_reason(error)}); write it again with numpy.savez"
        ) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ModisteError(f"{path} is a single array, not a .npz file; write it with numpy.savez")
    return archive


def _reason(error: Exception) -> str:
    """Why numpy could not read arrays: it takes what it does not know for pickled objects, and says how to run them."""
    is_unknown = isinstance(error, ValueError | EOFError | zlib.error | zipfile.BadZipFile)
    return "it is damaged, or holds something else than plain arrays" if is_unknown else first_line(error)


def read_array(archive: Any, key: str, path: Path) -> NDArray[Any]:
    """One array of an opened .npz file, or of .npy files, of which large ones are mapped."""
    place = str(path) if npy.is_npy(path) else f"{path}: the array {key}"
    try:
        array = archive[key]
        if not isinstance(array, np.ndarray):  # what else an archive holds, or an archive in the place of an array
            raise ValueError
        array = np.asarray(array)
        return array if array.flags.writeable or array.nbytes >= stored.MAPPED_BYTES else array.copy()
    except UNREADABLE as error:
        raise ModisteError(f"{place} cannot be read ({_reason(error)}); write it again with numpy") from None


def read_class_names(archive: Any, path: Path) -> list[object] | None:
    """The unchecked class names in an opened .npz file; None if it has none."""
    if "class_names" not in archive.files:
        return None
    names = read_array(archive, "class_names", path)
    if names.ndim != 1:
        raise ModisteError(f"{path}: class_names has the shape {list(names.shape)}; save a list with a name per class")
    return list(names)


def find_images(archive: Any, path: Path, split: Split) -> str | None:
    """The key of the images of that split in an opened .npz file; None if it has none."""
    found = matching_names(archive.files, "images", split)
    if len(found) > 1:
        raise ModisteError(
            f"{path} may have its {split} images under {' or '.join(found)}; call one of them "
            f"{STANDARD_NAMES['images'][split][0]}"
        )
    return found[0] if found else None


def find_labels(archive: Any, path: Path, split: Split, images: int | None = None) -> str | None:
    """The key of the labels of so many images in an opened .npz file; None if it has none or several may be them."""
    found = matching_names(archive.files, "labels", split)
    if not found or is_standard(found[0]):
        return found[0] if found else None
    fitting = [key for key in found if may_be_labels(*_header(archive, key, path), images)]
    return fitting[0] if len(fitting) == 1 else None


def array_notes(archive: Any, path: Path, images: str, labels: str | None, count: int) -> tuple[Note, ...]:
    """Notes on arrays that were read under an unusual name, and on unread ones that look like images or labels."""
    read = [key for key in (images, labels) if key]
    kinds: dict[str, Kind] = {images: "images", **({labels: "labels"} if labels else {})}
    found: list[Note] = [ReadFrom(key, kinds[key]) for key in read if not is_standard(key)]
    tests = [key for kind in STANDARD_NAMES for key in matching_names(archive.files, kind, "test")]
    for key in archive.files:
        if key in (*read, *tests, "class_names"):
            continue
        shape, dtype = _header(archive, key, path)
        if len(shape) in (3, 4) and dtype.kind in "iuf" and shape[0] > 1:
            found.append(UnreadArray(key, "images", ""))
        elif sounds_like_labels(key):
            fits = labels is None and may_be_labels(shape, dtype, count)
            found.append(UnreadArray(key, "labels", "labels" if fits else ""))
        elif (
            labels is None
            and dtype.kind != "O"
            and may_be_labels(shape, dtype, count)
            and look_like_labels(read_array(archive, key, path))
        ):
            found.append(UnreadArray(key, "labels", "labels"))
    return tuple(found)


def _header(archive: Any, key: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array in an opened .npz file or in .npy files, without reading its values."""
    try:
        with archive.zip.open(f"{key}.npy") as file:
            reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = reader[np.lib.format.read_magic(file)[0]](file)
            return shape, dtype
    except (*UNREADABLE, KeyError, AttributeError):  # not written by numpy, or no archive
        array = read_array(archive, key, path)
        return array.shape, array.dtype


# names and contents, also of a table's columns


def matching_names(names: Sequence[str], kind: Kind, split: Split) -> list[str]:
    """The names of arrays that may be these: the first standard one, or else all that other programs give them."""
    standard = [name for name in STANDARD_NAMES[kind][split] if name in names]
    return standard[:1] or [name for name in names if _role(name) == (kind, split)]


def is_standard(name: str) -> bool:
    """Whether an array of this name is read without a note."""
    return any(name in names for splits in STANDARD_NAMES.values() for names in splits.values())


def _role(name: str) -> tuple[Kind, Split] | None:
    """What other programs keep under this name, as X_train, trainImages or target; None for any other name."""
    match = NAME.fullmatch(name.lower())
    if not match or (match[1] and match[3]):
        return None
    split: Split = "test" if "test" in (match[1], match[3]) else "train"
    return "images" if match[2] in IMAGE_WORDS else "labels", split


def sounds_like_labels(name: str) -> bool:
    """Whether the name contains a word for labels."""
    return re.search(r"label|target|class(?!_?names)", name.lower()) is not None


def may_be_labels(shape: Sequence[int], dtype: np.dtype[Any], images: int | None) -> bool:
    """Whether such an array has one whole number, text or truth value per image (`images` None: any number of them)."""
    of_one = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    return dtype.kind in "iubUSO" and of_one and images in (None, shape[0])


def look_like_labels(values: NDArray[Any]) -> bool:
    """Whether these values, one per image, repeat as labels do; numbers that count or identify images do not."""
    count = len(set(values.reshape(-1).tolist()))
    return 2 <= count <= min(MOST_VALUES, len(values) // 2)
