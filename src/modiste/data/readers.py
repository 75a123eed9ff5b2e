"""Images from files: IDX (the format of MNIST and its kin), .npz archives, folders of pictures, Parquet files."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data import archives, keys, parquet, pictures
from modiste.data.classes import Unused, checked_names
from modiste.data.images import Images, Labels, Note, Pixels
from modiste.data.notes import UnreadFiles, UnreadFolder, few
from modiste.errors import ModisteError

Split = keys.Split

IDX_PREFIXES: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}
IDX_ENDINGS = {
    "images": ("-images-idx3-ubyte", "-images.idx3-ubyte"),
    "labels": ("-labels-idx1-ubyte", "-labels.idx1-ubyte"),
}
IDX_LIKE = re.compile(r"idx[13]|ubyte", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
JUNK_FOLDERS = ("__MACOSX", "@eaDir")
"""What macOS packs into archives beside the files, and where Synology's disks keep previews."""
SPLIT_WORDS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
"""Where all folders are called so, in any case of letters, they are hardly classes."""
UNKNOWN = -1  # the label of an image whose class is not told
MOST_UNNAMED_CLASSES = 1000  # a label above this in a file without class names is taken for a mistake


def expanded(path: str | Path) -> Path:
    """The path with ~ for the home folder, or as it is where that names no user: it may be a file's name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_path(path: Path, split: Split, data: Data | None = None) -> Images:
    """The images of one split of a folder (IDX files, pictures or Parquet files), a .npz file or a .parquet file.

    `data` says how pictures are to be brought to one square size, or else that they have to be so.
    """
    data = data or Data()
    if not path.exists():
        raise ModisteError(f"{path} does not exist; check the path, and say with --data where moved images are now")
    if is_npz(path):
        return read_npz(path, split)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return read_parquet(path, split, data)
    if not path.is_dir():
        remedy = f"give its folder, {path.parent}" if IDX_LIKE.search(path.name) else "give one of these"
        raise ModisteError(f"{path} is neither a folder nor a .npz or .parquet file; {remedy}")
    if any(idx_file(path, kind, "images") for kind in IDX_PREFIXES):
        return read_idx_folder(path, split)
    if parquet.files(path):
        return read_parquet(path, split, data)
    return read_pictures(path, split, data)


def is_npz(path: Path) -> bool:
    """Whether this is a file that ends in .npz, in any case of letters."""
    return path.suffix.lower() == ".npz" and path.is_file()


def has_test_split(path: Path) -> bool:
    """Whether the folder or file brings its own test images."""
    if is_npz(path):
        with archives.open_npz(path) as archive:
            return bool(keys.named(archive.files, "images", "test"))
    if any(idx_file(path, kind, "images") for kind in IDX_PREFIXES):
        return idx_file(path, "test", "images") is not None
    if parquet.files(path):
        return bool(parquet.files(path, "test"))
    test = path / "test"
    if not (test.is_dir() and (path / "train").is_dir()):
        return False
    return any(map(_has_pictures, (test, *_class_folders(test).values())))


# IDX


def idx_file(folder: Path, split: Split, kind: Literal["images", "labels"]) -> Path | None:
    """The folder's IDX file of that split and kind, plain or compressed; none if it has none.

    Names may begin with the set's, as in emnist-letters-train-images-idx3-ubyte.gz, which must be the only such set.
    """
    start = _idx_start(folder)
    for prefix in IDX_PREFIXES[split]:
        for ending in IDX_ENDINGS[kind]:
            for name in (f"{start}{prefix}{ending}.gz", f"{start}{prefix}{ending}"):
                if (folder / name).is_file():
                    return folder / name
    return None


def _idx_start(folder: Path) -> str:
    """What the names of the folder's IDX images begin with before their split: nothing, or the name of one set."""
    words, endings = (
        "|".join(map(re.escape, some))
        for some in (itertools.chain(*IDX_PREFIXES.values()), itertools.chain(*IDX_ENDINGS.values()))
    )
    pattern = re.compile(rf"((?:.+[-_.])?)(?:{words})(?:{endings})(?:\.gz)?")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    starts = sorted({found[1] for name in names if (found := pattern.fullmatch(name))})
    if len(starts) > 1 and starts[0]:
        sets = ", ".join(start.rstrip("-_.") for start in starts)
        raise ModisteError(f"{folder} holds IDX files of several sets ({sets}); put those of one into their own folder")
    return starts[0] if starts else ""


def read_idx_folder(folder: Path, split: Split) -> Images:
    """The images and, if there are any, labels of a folder that holds IDX files under MNIST's names."""
    image_file = idx_file(folder, split, "images")
    if image_file is None:
        wanted = f"{_idx_start(folder)}{IDX_PREFIXES[split][0]}{IDX_ENDINGS['images'][0]}.gz"
        raise ModisteError(f"{folder} has no {split} images; add the file {wanted}")
    label_file = idx_file(folder, split, "labels")
    pixels = parse_idx(payload(image_file), image_file, dimensions=3)
    labels, known = (
        None if file is None else parse_idx(payload(file), file, dimensions=1)
        for file in (label_file, idx_file(folder, "train", "labels"))
    )
    return labelled(pixels[:, None], labels, None, folder.resolve().name, known)


def payload(path: Path) -> bytes:
    """The bytes of a file, decompressed if it is a gzip file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModisteError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ModisteError(f"{path} is not a whole gzip file ({error}); fetch it again") from None


def parse_idx(content: bytes, place: Path | str, dimensions: int) -> NDArray[np.uint8]:
    """The uint8 array of an IDX payload with so many dimensions."""
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise ModisteError(
            f"{place} starts with {content[:4].hex() or 'nothing'}, not with the IDX magic {magic.hex()}; "
            "it is another kind of file or broken, fetch it again"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise ModisteError(
            f"{place} promises {' x '.join(map(str, shape))} bytes in its header but holds "
            f"{max(0, len(content) - start):,}; it was cut off or padded, fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


# .npz


def read_npz(path: Path, split: Split) -> Images:
    """The uint8 images, labels and class names in a .npz file, under customary keys or those of other programs."""
    with archives.open_npz(path) as archive:
        key = archives.images_key(archive, path, split)
        if key is None:
            raise ModisteError(
                f"{path} has no {split} images: its keys are {', '.join(archive.files) or 'none'}; "
                f"name the array {' or '.join(keys.CUSTOMARY['images'][split])}"
            )
        pixels = archives.entry(archive, key, path)
        label_key = archives.labels_key(archive, path, split, len(pixels))
        train_key = label_key if split == "train" else archives.labels_key(archive, path, "train")
        labels, known = (archives.entry(archive, key, path) if key else None for key in (label_key, train_key))
        names = archives.class_names_in(archive, path)
        seen = archives.seen_in(archive, path, key, label_key, len(pixels)) if split == "train" else ()
    place = f"{path.name}[{key}]"
    if pixels.dtype != np.uint8:
        raise ModisteError(f"{place} holds {pixels.dtype}, whose range is unknown; save uint8 pixels from 0 to 255")
    images = labelled(channels_first(pixels, place), labels, names, path.stem, known)
    return replace(images, notes=(*images.notes, *seen))


def channels_first(pixels: NDArray[Any], place: str) -> NDArray[Any]:
    """Images [N, C, H, W] from [N, H, W], [N, H, W, C] or [N, C, H, W]."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    raise ModisteError(
        f"{place} has the shape {list(pixels.shape)}; save images as [N, H, W], [N, H, W, C] or [N, C, H, W] "
        "with 1 or 3 channels"
    )


def labelled(
    pixels: Pixels,
    labels: NDArray[Any] | None,
    class_names: Sequence[object] | None,
    name: str,
    train_labels: NDArray[Any] | None = None,
) -> Images:
    """Images from raw arrays; classes without names are called by their numbers.

    The classes are those of the training images (of `labels` where the others are not given), numbered anew in their
    order: a class without images is left out, and noted. ModisteError for a class that no training image has. Test
    images that all have the label -1, as where it is kept secret, have none.
    """
    if labels is None:
        return Images(pixels, None, (), name)
    labels = _whole(labels, name)
    known = labels if train_labels is None else _whole(train_labels, name)
    if (labels == UNKNOWN).all() and (known >= 0).all() and len(known):
        return Images(pixels, None, (), name)
    names = _unnamed(int(known.max(initial=-1)), name) if class_names is None else checked_names(class_names, name)
    both = np.union1d(labels, known)
    if len(both) and (both[0] < 0 or (class_names is not None and both[-1] >= len(names))):
        strange = int(both[0] if both[0] < 0 else both[-1])
        raise ModisteError(
            f"{name}: label {strange} is out of range for {len(names)} classes; number the classes from 0 and leave "
            "images without a class out"
        )
    used = np.unique(known)
    if len(strangers := np.setdiff1d(labels, used)):
        one = f"is of the class {names[strangers[-1]]!r}" if class_names is not None else f"has label {strangers[-1]}"
        raise ModisteError(f"{name}: no training image {one}, and a test image does; add some, or leave it out")
    kept = tuple(names[label] for label in used)
    unused = tuple(one for label, one in enumerate(names) if label not in set(used.tolist()))
    notes = (Unused(name, unused, len(kept)),) if unused and kept else ()
    return Images(pixels, np.searchsorted(used, labels).astype(np.int64), kept, name, notes)


def _whole(labels: NDArray[Any], name: str) -> Labels:
    """Labels int64 [N] from whole numbers [N] or [N, 1]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ModisteError(f"{name}: labels are {labels.dtype} {list(labels.shape)}; save whole numbers [N]")
    return labels.astype(np.int64)


def _unnamed(highest: int, name: str) -> tuple[str, ...]:
    """The numbers up to the highest label as names of classes."""
    if highest >= MOST_UNNAMED_CLASSES:
        raise ModisteError(
            f"{name}: label {highest} is out of range for {MOST_UNNAMED_CLASSES} unnamed classes; "
            "number the classes from 0 or add class_names"
        )
    return tuple(map(str, range(highest + 1)))


# folders of pictures


class Folder(NamedTuple):
    """The pictures of a folder in the order of `read_pictures`, and what was seen beside them."""

    files: list[Path]
    labels: Labels | None
    """[N]; none in a flat folder."""
    class_names: tuple[str, ...]
    notes: tuple[Note, ...]


def read_pictures(folder: Path, split: Split, data: Data) -> Images:
    """The pictures of a folder, its sub-folders being the classes; train/ and test/ are splits if both exist.

    A picture is what Pillow reads, whatever its name ends in. Within a class pictures keep their natural order (9
    before 10); classes take turns, so that the first so many images hold all classes. Grey pictures become one
    channel, a set with any colour three; transparency is laid over the background.
    """
    files, labels, names, unread = picture_files(folder, split)
    prints: list[bytes] = []
    pixels, done = pictures.decoded(files, data, square=True, prints=prints)
    return Images(pixels, labels, names, folder.resolve().name, (*unread, *done), prints=tuple(prints))


def picture_files(folder: Path, split: Split) -> Folder:
    """The files that `read_pictures` reads, with their labels and classes."""
    beside: list[Path] = []
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        names, root = tuple(_class_folders(folder / "train")), folder / split
        strangers = [place for name, place in _class_folders(root).items() if name not in names]
        if strangers:
            raise ModisteError(f"{strangers[0]} is no class of {folder / 'train'}; use the same class names")
        if split == "test" and not _class_folders(root):
            names = ()  # their classes are not told
        beside = [place for name, place in _class_folders(folder).items() if name not in ("train", "test")]
    else:
        if split == "test":
            raise ModisteError(f"{folder} has no test images; add the sub-folders train and test")
        names, root = tuple(_class_folders(folder)), folder
        if names and all(name.lower() in SPLIT_WORDS for name in names):
            raise ModisteError(
                f"{folder} has no folders but {', '.join(names)}, which look like splits and not like classes; "
                f"call them train and test, or give {folder / names[0]} alone"
            )
        if inner := _wrapped(folder):
            raise ModisteError(f"{folder} holds no pictures, nor does anything down to {inner}; give {inner} itself")
    places = _class_folders(root)
    loose, *listed = (_sorted_out(place) for place in (root, *(places[name] for name in names if name in places)))
    _refuse_dangling(root, [file for found in (loose, *listed) for file in found.dangling])
    in_class = dict(zip((name for name in names if name in places), listed, strict=True))
    files: list[tuple[int, int, Path]] = []  # (rank in the class, class, file)
    for label, name in enumerate(names):
        found = in_class[name].pictures if name in in_class else []
        if name in places:
            _refuse_deeper(places[name])
        if not found and split == "train":
            raise _without_pictures(places[name])
        files += [(rank, label, file) for rank, file in enumerate(found)]
    if loose.pictures and names:
        raise ModisteError(f"{loose.pictures[0]} lies beside class folders such as {names[0]}; move it into its class")
    files += [(rank, 0, file) for rank, file in enumerate(loose.pictures)]
    if not files:
        raise _without_pictures(root)
    files.sort(key=lambda entry: entry[:2])
    labels = np.array([label for _, label, _ in files], np.int64) if names else None
    unread = tuple(str(file.relative_to(root)) for found in (loose, *listed) for file in found.others)
    notes: list[Note] = [UnreadFiles(unread)] if unread else []
    for place in beside:
        if count := sum(map(pictures.is_picture, place.rglob("*"))):
            notes.append(UnreadFolder(place.name, count))
    return Folder([file for _, _, file in files], labels, names, tuple(notes))


def _refuse_deeper(place: Path) -> None:
    """An error for pictures in a folder within a class's, which would be left out."""
    for folder in _class_folders(place).values():
        if any(map(pictures.is_picture, folder.rglob("*"))):
            raise ModisteError(
                f"{folder} lies within the class {place.name}, and classes have no folders of their own; "
                f"move its pictures into {place}, or the folder into {place.parent}"
            )


def _wrapped(folder: Path) -> Path | None:
    """The folder that holds several classes, or other data, where `folder` holds nothing but it, as unpacking does."""
    inner = folder
    while not _has_pictures(inner) and len(found := list(_class_folders(inner).values())) == 1:
        inner = found[0]
        several = len(_class_folders(inner)) > 1 and not _has_pictures(inner)
        if several or parquet.files(inner) or any(IDX_LIKE.search(path.name) for path in inner.iterdir()):
            return inner
    return None


def _without_pictures(folder: Path) -> ModisteError:
    """What to say of a folder without pictures: what it holds, and what to do."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if idx := [name for name in files if IDX_LIKE.search(name)]:
        wanted = f"train{IDX_ENDINGS['images'][0]} and train{IDX_ENDINGS['labels'][0]} (.gz)"
        remedy = f"of the IDX files {few(idx)} none is called as they are looked for: name them {wanted}"
    elif data := [name for name in files if Path(name).suffix.lower() in (".npz", ".parquet")]:
        remedy = f"give {folder / data[0]} itself"
    elif packed := [name for name in files if Path(name).suffix.lower() in ARCHIVES]:
        remedy = f"unpack {few(packed)} first"
    else:
        remedy = f"it holds only {few(files)}; fill or remove it" if files else "fill or remove it"
    return ModisteError(f"{folder} holds no pictures; {remedy}")


def _class_folders(root: Path) -> dict[str, Path]:
    """The folders of classes by the classes' names, numbers in the order of their values, others naturally."""
    places = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in JUNK_FOLDERS]
    folders = dict(zip(checked_names([place.name for place in places], str(root)), places, strict=True))
    values = {name: float(name) for name in folders if re.fullmatch(r"-?\d+(\.\d+)?", name)}
    numbers = values if len(values) == len(folders) else {}
    return {name: folders[name] for name in sorted(folders, key=lambda name: (numbers.get(name, 0.0), _natural(name)))}


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(map(pictures.is_picture, folder.iterdir()))


class Sorted(NamedTuple):
    """The files of one folder that are not hidden, each list in natural order."""

    pictures: list[Path]
    others: list[Path]
    dangling: list[Path]
    """Links to what is not there."""


def _sorted_out(folder: Path) -> Sorted:
    found = Sorted([], [], [])
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: _natural(entry.name))
    for entry in listed:
        if entry.name.startswith(".") or entry.is_dir():
            continue
        file = folder / entry.name
        if entry.is_file():
            (found.pictures if pictures.looks_like_a_picture(file) else found.others).append(file)
        else:
            (found.others if file.exists() else found.dangling).append(file)
    return found


def _refuse_dangling(root: Path, links: list[Path]) -> None:
    if links:
        first = links[0].relative_to(root)
        count = "a link" if len(links) == 1 else f"{len(links):,} links"
        raise ModisteError(
            f"{root} holds {count} to files that are not there ({first} to {links[0].readlink()}); put these back, or "
            "remove the links"
        )


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """9 before 10, whatever the case; names that differ in case or leading zeros alone have an order too."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts], name


# Parquet files


def read_parquet(path: Path, split: Split, data: Data) -> Images:
    """The pictures in a Parquet file or in the files data/train-*.parquet and data/test-*.parquet of a folder.

    They are taken in their order and by the rules of `read_pictures`; classes are named by Hugging Face's metadata.
    """
    files = parquet.files(path, split)
    if not files:
        raise ModisteError(f"{path} has no {split} images; in a folder, name their files data/{split}-*.parquet")
    has_labels, names = parquet.classes(parquet.files(path))
    labels, known = (
        parquet.labels(parts) if has_labels and parts else None for parts in (files, parquet.files(path, "train"))
    )
    name = path.stem if path.is_file() else path.resolve().name
    prints: list[bytes] = []
    pixels, done = pictures.decoded(parquet.pictures(files), data, square=True, prints=prints)
    images = labelled(pixels, labels, names, name, known)
    seen = parquet.seen(path, files) if split == "train" else ()
    return replace(images, notes=(*images.notes, *seen, *done), prints=tuple(prints))
