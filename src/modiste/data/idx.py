"""Images in IDX files, the format of MNIST (LeCun): a folder of them, plain or compressed."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modiste.data.classes import labelled
from modiste.data.images import Images, Split
from modiste.errors import ModisteError

IDX_PREFIXES: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}
IDX_ENDINGS = {
    "images": ("-images-idx3-ubyte", "-images.idx3-ubyte"),
    "labels": ("-labels-idx1-ubyte", "-labels.idx1-ubyte"),
}
IDX_LIKE = re.compile(r"idx[13]|ubyte", re.IGNORECASE)


def is_idx_folder(folder: Path) -> bool:
    """Whether the folder holds IDX files of images, of any split."""
    return any(idx_file(folder, split, "images") for split in IDX_PREFIXES)


def idx_file(folder: Path, split: Split, kind: Literal["images", "labels"]) -> Path | None:
    """The folder's IDX file of that split and kind, plain or compressed; none if it has none.

    Names may begin with the set's, as in emnist-letters-train-images-idx3-ubyte.gz, which must be the only such set.
    """
    start = _name_prefix(folder)
    for prefix in IDX_PREFIXES[split]:
        for ending in IDX_ENDINGS[kind]:
            for name in (f"{start}{prefix}{ending}.gz", f"{start}{prefix}{ending}"):
                if (folder / name).is_file():
                    return folder / name
    return None


def _name_prefix(folder: Path) -> str:
    """What the names of the folder's IDX files have before their split: nothing, or the name of the one set."""
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
    """The images of a folder of IDX files under MNIST's names, with labels if there are any."""
    image_file = idx_file(folder, split, "images")
    if image_file is None:
        missing = f"{_name_prefix(folder)}{IDX_PREFIXES[split][0]}{IDX_ENDINGS['images'][0]}.gz"
        raise ModisteError(f"{folder} has no {split} images; add the file {missing}")
    label_file = idx_file(folder, split, "labels")
    pixels = parse_idx(read_decompressed(image_file), image_file, dimensions=3)
    labels, known = (
        None if file is None else parse_idx(read_decompressed(file), file, dimensions=1)
        for file in (label_file, idx_file(folder, "train", "labels"))
    )
    return labelled(pixels[:, None], labels, None, folder.resolve().name, known)


def read_decompressed(path: Path) -> bytes:
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
