"""Images from files: IDX (the format of MNIST and its kin), .npz archives, folders of pictures, Parquet files."""

from __future__ import annotations

import gzip
import io
import itertools
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from modiste.data import parquet
from modiste.data.classes import Unused, checked_names
from modiste.data.images import Images, Labels, Pixels, scaled
from modiste.errors import ModisteError

Split = Literal["train", "test"]
Resize = tuple[int, str]  # side in pixels, Pillow filter

IDX_PREFIXES: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}
IDX_ENDINGS = {
    "images": ("-images-idx3-ubyte", "-images.idx3-ubyte"),
    "labels": ("-labels-idx1-ubyte", "-labels.idx1-ubyte"),
}
NPZ_IMAGES: dict[Split, tuple[str, ...]] = {
    "train": ("images", "x", "x_train", "train_images"),
    "test": ("x_test", "test_images"),
}
NPZ_LABELS: dict[Split, tuple[str, ...]] = {
    "train": ("labels", "y", "y_train", "train_labels"),
    "test": ("y_test", "test_labels"),
}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
IDX_LIKE = re.compile(r"idx[13]|ubyte", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
JUNK_FOLDERS = ("__MACOSX", "@eaDir")
"""What macOS packs into archives beside the files, and where Synology's disks keep previews."""
SPLIT_WORDS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
"""Where all folders are called so, in any case of letters, they are hardly classes."""
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile)
"""What opening an .npz file raises that is damaged, encrypted or packed in another way."""
MOST_UNNAMED_CLASSES = 1000  # a label above this in a file without class names is taken for a mistake


def expanded(path: str | Path) -> Path:
    """The path with ~ for the home folder, or as it is where that names no user: it may be a file's name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_path(path: Path, split: Split, resize: Resize | None = None) -> Images:
    """The images of one split of a folder (IDX files, pictures or Parquet files), a .npz file or a .parquet file."""
    if not path.exists():
        raise ModisteError(f"{path} does not exist; check the path, and say with --data where moved images are now")
    if is_npz(path):
        return read_npz(path, split)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return read_parquet(path, split, resize)
    if not path.is_dir():
        remedy = f"give its folder, {path.parent}" if IDX_LIKE.search(path.name) else "give one of these"
        raise ModisteError(f"{path} is neither a folder nor a .npz or .parquet file; {remedy}")
    if any(idx_file(path, kind, "images") for kind in IDX_PREFIXES):
        return read_idx_folder(path, split)
    if parquet.files(path):
        return read_parquet(path, split, resize)
    return read_pictures(path, split, resize)


def is_npz(path: Path) -> bool:
    """Whether this is a file that ends in .npz, in any case of letters."""
    return path.suffix.lower() == ".npz" and path.is_file()


def has_test_split(path: Path) -> bool:
    """Whether the folder or file brings its own test images."""
    if is_npz(path):
        with open_npz(path) as archive:
            return any(key in archive.files for key in NPZ_IMAGES["test"])
    if any(idx_file(path, kind, "images") for kind in IDX_PREFIXES):
        return idx_file(path, "test", "images") is not None
    if parquet.files(path):
        return bool(parquet.files(path, "test"))
    test = path / "test"
    if not (test.is_dir() and (path / "train").is_dir()):
        return False
    return any(_pictures(folder) for folder in (test, *_class_folders(test).values()))


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
    """The uint8 images, labels and class names in a .npz file, under the customary keys."""
    with open_npz(path) as archive:
        key = next((key for key in NPZ_IMAGES[split] if key in archive.files), None)
        if key is None:
            raise ModisteError(
                f"{path} has no {split} images: its keys are {', '.join(archive.files) or 'none'}; "
                f"name the array {' or '.join(NPZ_IMAGES[split])}"
            )
        pixels = entry(archive, key, path)
        label_key, train_key = (
            next((key for key in NPZ_LABELS[part] if key in archive.files), None) for part in (split, "train")
        )
        labels, known = (entry(archive, key, path) if key else None for key in (label_key, train_key))
        names = class_names_in(archive, path)
    place = f"{path.name}[{key}]"
    if pixels.dtype != np.uint8:
        raise ModisteError(f"{place} holds {pixels.dtype}, whose range is unknown; save uint8 pixels from 0 to 255")
    return labelled(channels_first(pixels, place), labels, names, path.stem, known)


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
    order: a class without images is left out, and noted. ModisteError for a class that no training image has.
    """
    if labels is None:
        return Images(pixels, None, (), name)
    labels = _whole(labels, name)
    known = labels if train_labels is None else _whole(train_labels, name)
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


def read_pictures(folder: Path, split: Split, resize: Resize | None = None) -> Images:
    """The pictures of a folder, its sub-folders being the classes; train/ and test/ are splits if both exist.

    Within a class pictures keep their natural order (9 before 10); classes take turns, so that the first so
    many images hold all classes. Grey pictures become one channel, a set with any colour three; transparency
    becomes black.
    """
    files, labels, names = picture_files(folder, split)
    return Images(stacked(files, resize), labels, names, folder.resolve().name)


def picture_files(folder: Path, split: Split) -> tuple[list[Path], Labels | None, tuple[str, ...]]:
    """The files that `read_pictures` reads, in its order, with their labels [N] (none in a flat folder) and classes."""
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        names, root = tuple(_class_folders(folder / "train")), folder / split
        strangers = [place for name, place in _class_folders(root).items() if name not in names]
        if strangers:
            raise ModisteError(f"{strangers[0]} is no class of {folder / 'train'}; use the same class names")
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
    files: list[tuple[int, int, Path]] = []  # (rank in the class, class, file)
    for label, name in enumerate(names):
        found = _pictures(places[name]) if name in places else []
        if name in places:
            _refuse_deeper(places[name])
        if not found and split == "train":
            raise _without_pictures(places[name])
        files += [(rank, label, file) for rank, file in enumerate(found)]
    loose = _pictures(root)
    if loose and names:
        raise ModisteError(f"{loose[0]} lies beside class folders such as {names[0]}; move it into its class")
    files += [(rank, 0, file) for rank, file in enumerate(loose)]
    if not files:
        raise _without_pictures(root)
    files.sort(key=lambda entry: entry[:2])
    labels = np.array([label for _, label, _ in files], np.int64) if names else None
    return [file for _, _, file in files], labels, names


def _refuse_deeper(place: Path) -> None:
    """An error for pictures in a folder within a class's, which would be left out."""
    for folder in _class_folders(place).values():
        if any(_pictures(deeper) for deeper in (folder, *folder.rglob("*"))):
            raise ModisteError(
                f"{folder} lies within the class {place.name}, and classes have no folders of their own; "
                f"move its pictures into {place}, or the folder into {place.parent}"
            )


def _wrapped(folder: Path) -> Path | None:
    """The folder that holds several classes, or other data, where `folder` holds nothing but it, as unpacking does."""
    inner = folder
    while not _pictures(inner) and len(found := list(_class_folders(inner).values())) == 1:
        inner = found[0]
        several = len(_class_folders(inner)) > 1 and not _pictures(inner)
        if several or parquet.files(inner) or any(IDX_LIKE.search(path.name) for path in inner.iterdir()):
            return inner
    return None


def _without_pictures(folder: Path) -> ModisteError:
    """What to say of a folder without pictures: what it holds, and what to do."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if idx := [name for name in files if IDX_LIKE.search(name)]:
        wanted = f"train{IDX_ENDINGS['images'][0]} and train{IDX_ENDINGS['labels'][0]} (.gz)"
        remedy = f"of the IDX files {_few(idx)} none is called as they are looked for: name them {wanted}"
    elif data := [name for name in files if Path(name).suffix.lower() in (".npz", ".parquet")]:
        remedy = f"give {folder / data[0]} itself"
    elif packed := [name for name in files if Path(name).suffix.lower() in ARCHIVES]:
        remedy = f"unpack {_few(packed)} first"
    else:
        remedy = "fill or remove it"
    return ModisteError(f"{folder} holds no pictures ({', '.join(PICTURES)}); {remedy}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _class_folders(root: Path) -> dict[str, Path]:
    """The folders of classes by the classes' names, numbers in the order of their values, others naturally."""
    places = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in JUNK_FOLDERS]
    folders = dict(zip(checked_names([place.name for place in places], str(root)), places, strict=True))
    values = {name: float(name) for name in folders if re.fullmatch(r"-?\d+(\.\d+)?", name)}
    numbers = values if len(values) == len(folders) else {}
    return {name: folders[name] for name in sorted(folders, key=lambda name: (numbers.get(name, 0.0), _natural(name)))}


def _pictures(folder: Path) -> list[Path]:
    files = folder.iterdir() if folder.is_dir() else ()
    found = [p for p in files if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file()]
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """9 before 10, whatever the case; names that differ in case or leading zeros alone have an order too."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts], name


def stacked(files: Iterable[Path | parquet.Picture], resize: Resize | None = None) -> Pixels:
    """All pictures as uint8 [N, C, H, W]; without resize they must be of one size."""
    rows: list[NDArray[np.uint8]] = []
    first = ""
    for file in files:
        picture, frames = _opened(file)
        if frames > 1:
            raise ModisteError(f"{file} holds {frames} pictures; save each as a file of its own")
        first = first or str(file)
        if resize is not None:
            picture = scaled(picture, *resize)
        row = np.asarray(picture)
        if rows and row.shape[:2] != rows[0].shape[:2]:
            raise ModisteError(
                f"{file} is {_size(row)} pixels but {first} is {_size(rows[0])}; "
                "bring all pictures to one size, before or with `--resize SIDE` of train, data, augment and judge train"
            )
        if row.ndim == 3 and (row == row[:, :, :1]).all():
            row = row[:, :, 0]
        rows.append(row)
    if any(row.ndim == 3 for row in rows):
        rows = [row if row.ndim == 3 else np.repeat(row[:, :, None], 3, axis=2) for row in rows]
        return np.ascontiguousarray(np.stack(rows).transpose(0, 3, 1, 2))
    return np.stack(rows)[:, None]


def _size(row: NDArray[np.uint8]) -> str:
    return f"{row.shape[1]} x {row.shape[0]}"


def open_picture(file: Path | parquet.Picture) -> Image.Image:
    """The picture (of several the first) in mode L or RGB, upright; transparent parts are laid over black."""
    return _opened(file)[0]


def _opened(file: Path | parquet.Picture) -> tuple[Image.Image, int]:
    """The picture as `open_picture` gives it, and how many the file holds."""
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file.content)) as opened:
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # MPO: a photo and its previews
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except Exception as error:  # a damaged file raises whatever its parser stumbles over
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"{file} is not a readable picture ({reason}); replace or remove it") from None
    if picture.mode.startswith(("I", "F")):
        raise ModisteError(f"{file} has more than 8 bits per channel ({picture.mode}); convert it to 8 bits")
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return picture.convert("L"), frames
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture.convert("RGB"), frames


# Parquet files


def read_parquet(path: Path, split: Split, resize: Resize | None = None) -> Images:
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
    return labelled(stacked(parquet.pictures(files), resize), labels, names, name, known)
