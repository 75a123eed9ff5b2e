"""Image files: which files are pictures, and how one or many of them become pixels."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from modiste.config import Data
from modiste.data.images import Note, Pixels, fingerprint, scaled, stack_pictures
from modiste.data.notes import Fitted, Size, Transparent
from modiste.errors import ModisteError, UsageError

KNOWN_BY_CONTENT = (
    "AVIF", "BMP", "DDS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TIFF",
    "WEBP", "XPM",
)  # fmt: skip
"""Pillow's formats of pictures whose first bytes no other file has."""
KNOWN_BY_NAME = (*KNOWN_BY_CONTENT, "DIB", "MPO", "PCX", "TGA", "XBM")
"""Pillow's formats of pictures; a file with one of their endings counts as one."""
RAW = (".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".sr2", ".srw")
"""Endings of cameras' raw files, which look like TIFF files with a small preview."""
RESIZE_REMEDY = (
    "resize them to a side length with `--resize SIDE` of train, data, augment and judge train, and say with `--fit` "
    "what becomes of their shape (crop, pad or stretch)"
)
"""What to do about images that are not square."""
MOST_BYTES = 4 * 10**9
"""A set whose decoded pictures need more memory than this has to be resized."""
LAST_UPRIGHT = 4  # photo orientations above this exchange width and height
FAINT, CLEAR = 16, 128  # a picture has vanished where its colours differ by less and its transparency by more


def is_picture(path: Path) -> bool:
    """Whether this is a picture, by its ending or else its first bytes; hidden files are none."""
    return not path.name.startswith(".") and path.is_file() and looks_like_a_picture(path)


def looks_like_a_picture(file: Path) -> bool:
    """Whether what is known to be a file, and not hidden, is a picture."""
    ending = file.suffix.lower()
    if ending in _endings():
        return True
    if ending in RAW:
        return False
    try:
        with Image.open(file, formats=KNOWN_BY_CONTENT):
            return True
    except PermissionError as error:
        raise ModisteError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    except Exception:  # parsers raise anything for what is no picture
        return False


@functools.cache
def _endings() -> frozenset[str]:
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in KNOWN_BY_NAME)


class ParquetPicture(NamedTuple):
    """One row of a Parquet file: a picture as the file that it was, in PNG or another format."""

    file: Path
    row: int
    name: str
    """The class's folder and the name kept with it; of a picture without a name, its place."""
    content: bytes

    def __str__(self) -> str:
        return f"{self.file}[{self.row}]"


def read_pixels(
    files: Iterable[Path | ParquetPicture],
    data: Data | None = None,
    square: bool = False,
    fingerprints: list[bytes] | None = None,
) -> tuple[Pixels, tuple[Note, ...]]:
    """All pictures as uint8 [N, C, H, W], each resized as soon as it is decoded, and notes on what was done to them.

    Without data.resize they must be of one size, and a `square` one, which is checked by each file's header before it
    is decoded. The fingerprints of the pictures before resizing are appended to `fingerprints`.
    """
    data = data or Data()
    rows: list[NDArray[np.uint8]] = []
    first: tuple[str, Size] | None = None
    oblong: list[Size] = []
    transparent = vanished = 0

    def check(file: Path | ParquetPicture, size: Size) -> None:
        remedy = "`--resize SIDE` of train, data, augment and judge train"
        if first is not None and size != first[1]:
            raise ModisteError(
                f"{file} is {_size(size)} pixels but {first[0]} is {_size(first[1])}; "
                f"bring all pictures to one size, before or with {remedy}"
            )
        if square and size[0] != size[1]:
            raise UsageError(f"{file} is {_size(size)} pixels, not square; {RESIZE_REMEDY}")
        count = len(files) if isinstance(files, Sized) else 1
        if square and first is None and (needed := count * size[0] * size[1] * 3) > MOST_BYTES:
            raise UsageError(
                f"{count:,} pictures of {_size(size)} pixels, as {file} is one, need up to {needed / 1e9:.1f} GB of "
                f"memory; make them smaller with {remedy}"
            )

    for file in files:
        decoded = _decode(file, data.background, check if data.resize is None else None)
        if decoded.frames > 1:
            raise ModisteError(f"{file} holds {decoded.frames} pictures; save each as a file of its own")
        picture, size = decoded.picture, decoded.picture.size
        first = first or (str(file), size)
        transparent, vanished = transparent + decoded.transparent, vanished + decoded.vanished
        if fingerprints is not None:
            whole = np.asarray(picture)
            fingerprints.append(fingerprint(whole if whole.ndim == 2 else whole.transpose(2, 0, 1)))
        if data.resize is not None:
            oblong += [size] if size[0] != size[1] else []
            picture = scaled(picture, data.resize, data.resize_filter, data.fit, data.background)
        row = np.asarray(picture)
        if row.ndim == 3 and (row == row[:, :, :1]).all():
            row = row[:, :, 0].copy()
        rows.append(row)
    notes: list[Note] = [fit_note(data.fit, oblong, len(rows))] if oblong else []
    notes += [Transparent(transparent, len(rows), data.background, vanished)] if transparent else []
    return stack_pictures(rows), tuple(notes)


def fit_note(fit: str, sizes: list[Size], total: int) -> Fitted:
    """The note on the images that are not square, which have these sizes."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return Fitted(fit, len(sizes), total, ordered[0], ordered[-1])


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


class Decoded(NamedTuple):
    """A picture in mode L or RGB, upright, transparent parts laid over the background."""

    picture: Image.Image
    frames: int
    """The number of pictures in the file."""
    transparent: bool
    vanished: bool
    """Whether hardly anything is visible on this background, though its transparency has a shape."""


def open_picture(file: Path | ParquetPicture) -> Image.Image:
    """The picture (of several the first) in mode L or RGB, upright; transparent parts are laid over black."""
    return _decode(file).picture


def _decode(
    file: Path | ParquetPicture,
    background: str = "black",
    check: Callable[[Path | ParquetPicture, Size], None] | None = None,
) -> Decoded:
    """The decoded picture; `check` is called with its size before that."""
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(file.content)) as opened:
            frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # MPO: a photo and its previews
            width, height = opened.size
            turned = width != height and opened.getexif().get(ExifTags.Base.Orientation, 1) > LAST_UPRIGHT
            if check and frames == 1:
                check(file, (height, width) if turned else (width, height))
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except ModisteError:
        raise
    except Exception as error:  # parsers raise anything for a damaged file
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"{file} is not a readable picture ({reason}); replace or remove it") from None
    if picture.mode.startswith(("I", "F")):
        raise ModisteError(f"{file} has more than 8 bits per channel ({picture.mode}); convert it to 8 bits")
    if not picture.has_transparency_data:
        return Decoded(picture.convert("L" if picture.mode in ("1", "L") else "RGB"), frames, False, False)
    picture = picture.convert("RGBA")
    opacity = np.asarray(picture.getchannel("A"))
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture).convert("RGB")
    has_shape = np.ptp(opacity) > CLEAR
    vanished = has_shape and np.ptp(np.asarray(picture), axis=(0, 1)).max() < FAINT
    return Decoded(picture, frames, bool(opacity.min() < 255), bool(vanished))
