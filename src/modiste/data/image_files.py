"""Image files: which files are pictures, and how one or many of them become pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from modiste import progress
from modiste.config import Data
from modiste.data import decoding
from modiste.data.decoding import Picture, Scaling
from modiste.data.images import RESIZE, Note, Pixels, join_pixels
from modiste.data.notes import Fitted, Size, Transparent
from modiste.data.stored import PixelFile
from modiste.environment import cores, is_main_process
from modiste.errors import ModisteError, UsageError
from modiste.wording import counted

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
    f"resize them to squares, before or with {RESIZE}, and say with data.fit (`--fit`) what becomes of their "
    "shape: crop, pad or stretch"
)
"""What to do about images that are not square."""


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


def read_pixels(files: Iterable[Picture], data: Data | None = None) -> tuple[Pixels, tuple[Note, ...]]:
    """All pictures as uint8 [N, C, H, W] in memory, and notes on what was done to them.

    `data` says how they are brought to one square size; without data.resize they must be of one size.
    """
    data = data or Data()
    blocks = list(decoding.decode_all(files, _scaling(data)))
    pixels = join_pixels([block.pixels for block in blocks])
    return pixels, _notes(blocks, data, len(pixels))


def write_pixels(files: Iterable[Picture], count: int, data: Data, out: PixelFile) -> tuple[Note, ...]:
    """Decode the pictures of a set, so many, into a file of square images; returns notes on what was done to them.

    Each is resized as soon as it is decoded. Without data.resize they must be square and of one size, which is checked
    by each file's header before it is decoded. Many pictures are decoded on all cores.
    """
    pictures = counted(count, "picture")

    def check_first(file: Picture, size: Size) -> None:
        if size[0] != size[1]:
            raise UsageError(f"{file} is {decoding.worded(size)} pixels, not square; {RESIZE_REMEDY}")
        needed = count * size[0] * size[1]
        out.check_room(needed, f"{pictures} of {decoding.worded(size)} pixels, as {file} is one")

    if data.resize is not None:
        out.check_room(count * data.resize**2, f"{pictures} of {data.resize} x {data.resize} pixels")
    processes = cores() if count >= decoding.WORTH_PROCESSES else 1
    console = progress.console(quiet=processes == 1 or not is_main_process())
    about: list[decoding.Block] = []
    with progress.reporter(console, f"reading {pictures}", live=processes > 1) as reporter:
        for block in decoding.decode_all(files, _scaling(data), check_first, processes):
            out.add(block.pixels, block.fingerprints)
            about.append(block._replace(pixels=block.pixels[:0], fingerprints=b""))
            reporter.update(out.count / count, f"reading pictures: {out.count:,} of {count:,}")
    return _notes(about, data, out.count)


def reading_settings(data: Data) -> dict[str, Any]:
    """The settings on which the pixels of a picture depend, as plain values."""
    return _scaling(data)._asdict()


def _scaling(data: Data) -> Scaling:
    return Scaling(data.resize, data.resize_filter, data.fit, data.background)


def _notes(blocks: Sequence[decoding.Block], data: Data, count: int) -> tuple[Note, ...]:
    oblong = [size for block in blocks for size in block.oblong]
    notes: list[Note] = [fit_note(data.fit, oblong, count)] if oblong else []
    if transparent := sum(block.transparent for block in blocks):
        vanished = sum(block.vanished for block in blocks)
        notes.append(Transparent(transparent, count, data.background, vanished))
    return tuple(notes)


def fit_note(fit: str, sizes: Sequence[Size], total: int) -> Fitted:
    """The note on the images that are not square, which have these sizes."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return Fitted(fit, len(sizes), total, ordered[0], ordered[-1])


def open_picture(file: Picture) -> Image.Image:
    """The picture (of several the first) in mode L or RGB, upright; transparent parts are laid over black."""
    return decoding.decode(file).picture
