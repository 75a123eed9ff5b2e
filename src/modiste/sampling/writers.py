"""Images as files: one picture, or a set in a format that other programs read, made aside and renamed when complete.

    png          one picture, a grid of all images
    gif          one picture, an animation of all images
    npz          one file: images uint8 [N, C, H, W], labels, class_names, seeds
    folder       a PNG file per image, in one folder per class
    idx          the two files of MNIST
    parquet      one file: the columns image (PNG) and label, as Hugging Face's datasets reads them
    huggingface  a folder with such a file in data/

The card of a set, which says how it was made, is written by `exports.synthetic_set`.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modiste import files
from modiste.data import folders, parquet
from modiste.data.images import Images, as_picture, class_folder
from modiste.data.parquet import pyarrow
from modiste.errors import ModisteError, UsageError
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling import grids
from modiste.wording import counted

PICTURE_FORMATS = ("png", "gif")
SET_FORMATS = ("npz", "folder", "idx", "parquet", "huggingface")
FORMATS = (*PICTURE_FORMATS, *SET_FORMATS)
SINGLE = ("npz", "parquet")
"""The formats in which a set is one file; the others make a folder."""
WITH_PNG = ("folder", "parquet", "huggingface")
"""The formats in which every image is a PNG file, which can be signed and have metadata."""
SHARD = "data/train-00000-of-00001.parquet"
IDX_CLASSES = 256
LOGGED_EVERY = 5_000
ROW_GROUP = 1_000
OUR_CARD = b"tags: [synthetic, gan, modiste]"
"""A line of every card of ours (data_card.md)."""
SMALLEST_SET = 100
"""Fewer images than this are a preview and no set, unless so many of each class were asked for."""

Log = Callable[[str], None]


class Picture(NamedTuple):
    """One image of a set as a PNG file."""

    name: str
    folder: str
    """The name of its class as a folder's; empty without labels."""
    content: bytes


def format_of(out: Path) -> str:
    """The format that a path asks for: its ending, idx for a folder with idx in its name, else folder."""
    ending = out.suffix.lower().lstrip(".")
    if ending in (*PICTURE_FORMATS, *SINGLE):
        return ending
    if ending and not out.is_dir():
        raise UsageError(
            f"{out} ends in .{ending}; write .png, .gif, .npz, .parquet or a folder (or choose with --format)"
        )
    return "idx" if "idx" in out.name.lower() else "folder"


def check_format(kind: str) -> None:
    """UsageError for a format in which images are not written."""
    if kind not in FORMATS:
        raise UsageError(f"--format {kind!r} is none; choose one of {', '.join(FORMATS)}")


def check_marks(out: Path, kind: str, signed: bool, watermarked: bool) -> None:
    """UsageError for a mark that this format cannot carry."""
    if signed and kind != "png" and kind not in WITH_PNG:
        raise UsageError(f"only PNG files are signed, and {out} in the format {kind} has none; choose .png or a folder")
    if watermarked and kind in PICTURE_FORMATS:
        raise UsageError(f"a watermark marks single images and {out} is a {kind}; write .npz, IDX files or a folder")


def is_set(kind: str, count: int, per_class: int | None) -> bool:
    """Whether such images are a set, which is searched for copies of training images and gets a card."""
    return kind in SET_FORMATS and (per_class is not None or kind == "huggingface" or count >= SMALLEST_SET)


def card_place(out: Path, kind: str) -> Path:
    """The path of a set's data card: README.md in a folder, set.npz.md beside set.npz."""
    return out.with_name(f"{out.name}.md") if kind in SINGLE else out / "README.md"


def is_card(place: Path) -> bool:
    """Whether the file is a data card as Modiste wrote it."""
    return place.is_file() and OUR_CARD in place.read_bytes() and files.is_ours(place)


def check(
    out: Path,
    kind: str,
    channels: int,
    seeds: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    labels: NDArray[np.int64] | None = None,
) -> None:
    """Raise UsageError or ModisteError before anything is generated if the output could not be written.

    `labels` are those that the images will have, by default all.
    """
    check_format(kind)
    if kind in PICTURE_FORMATS:
        if out.is_dir():
            raise UsageError(f"{out} is a folder and a picture is one file; name the file, as {out / 'grid.png'}")
        files.refuse_foreign_file(out)
        return
    if kind in ("parquet", "huggingface"):
        pyarrow()
    if kind == "idx" and channels != 1:
        raise UsageError("IDX files hold grey images; write colour images as .npz or a folder")
    if kind == "idx" and len(class_names) > IDX_CLASSES:
        raise UsageError(
            f"a label in IDX files is one byte, and there are {len(class_names):,} classes; write .npz, .parquet or a "
            "folder"
        )
    if kind == "folder" and seeds is not None and len(set(seeds)) < len(seeds):
        raise UsageError("a seed is given twice, and a folder holds one picture per seed; give each seed once")
    if kind == "folder":
        _check_folders(class_names, range(len(class_names)) if labels is None else np.unique(labels).tolist())
    if kind in SINGLE:
        if out.is_dir():
            raise UsageError(f"{out} is a folder and {kind} is one file; name the file, as {out}/set.{kind}")
        if out.suffix.lower() != f".{kind}":
            raise UsageError(f"{kind} is one file, and no reader would know {out} for one; name it {out}.{kind}")
        if not _is_earlier_parquet(out):
            files.refuse_foreign_file(out)
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file and not a folder; choose a new folder")
    _refuse_full(out)


def _refuse_full(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; choose a new folder, so that no earlier image is mixed in or lost")


def _is_earlier_parquet(file: Path) -> bool:
    """Whether a Parquet file is a set by a version that left no note in such files: its first picture says so."""
    if file.suffix != ".parquet" or not file.is_file():
        return False
    with suppress(ModisteError, StopIteration):  # what cannot be read is somebody's all the same
        return files.has_mark(next(parquet.pictures([file])).content)
    return False


def _check_folders(class_names: Sequence[str], labels: Iterable[int]) -> None:
    """UsageError where folders named after the classes of these labels would not be read as these classes."""
    names = {label: class_folder(class_names[label], label) for label in labels}
    remedy = "write .npz or .parquet, which keep the names as they are"
    for name, count in Counter(names.values()).items():
        if count > 1:
            both = " and ".join(repr(class_names[label]) for label, folder in names.items() if folder == name)
            raise UsageError(f"the classes {both} would lie in one folder, {name}; {remedy}")
    if names and all(name.lower() in folders.SPLIT_WORDS for name in names.values()):
        raise UsageError(f"folders of the classes {', '.join(names.values())} would be read as splits; {remedy}")
    if {"train", "test"} <= set(names.values()):
        raise UsageError(f"folders of the classes train and test would be read as two parts of a set; {remedy}")


def write(
    images: Images,
    seeds: Sequence[int] | None,
    out: Path,
    kind: str,
    mark: metadata.Marker | None = None,
    facts: Mapping[str, str] | None = None,
    columns: int | None = None,
) -> None:
    """Write images in one of FORMATS: as a grid (png, with so many columns), an animation (gif), or a set without card.

    `mark` makes PNG, GIF and .npz files say that they are synthetic, PNG files with these facts, seed and class too;
    give it for generated images alone.
    """
    check(out, kind, images.pixels.shape[1], seeds, images.class_names, images.labels)
    if kind in SET_FORMATS:
        with files.folder_beside(out) as place:
            fill(place, images, seeds, out, kind, mark, facts)
            commit(place, out, kind)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "png":
        picture = grids.png(grids.class_grid(images, columns))
        facts = {"Title": images.name, **(facts or {})}
        files.write_bytes(out, mark(picture, facts) if mark else files.with_mark(picture))
    else:
        frames = [tiles.grid(image[None], 1) for image in images.pixels]
        files.write_bytes(out, grids.gif(frames, seconds=0.1 * len(frames), synthetic=mark is not None))


def fill(
    place: Path,
    images: Images,
    seeds: Sequence[int] | None,
    out: Path,
    kind: str,
    mark: metadata.Marker | None = None,
    facts: Mapping[str, str] | None = None,
    log: Log = lambda _: None,
) -> None:
    """Write the files of a set that will be `out` into the folder `place`.

    `mark` writes these facts, title, class and, where it was given, seed into PNG files, and makes .npz files say that
    they are synthetic; give it for generated images alone.
    """
    facts = {"Title": images.name, **(facts or {})}
    with files.errors_name_place(out):
        if kind == "npz":
            files.write_synced(place / out.name, _npz(images, seeds, mark is not None))
        elif kind == "idx":
            for name, content in _idx_files(images):
                files.write_synced(place / name, content)
        elif kind == "folder":
            for one in _logged(_pictures(images, seeds, mark, facts), len(images), log):
                (place / one.folder).mkdir(exist_ok=True)
                (place / one.folder / one.name).write_bytes(one.content)
        else:
            file = place / (SHARD if kind == "huggingface" else out.name)
            file.parent.mkdir(exist_ok=True)
            pictures = _logged(_pictures(images, seeds, mark, facts), len(images), log)
            _write_parquet(file, images, pictures, mark is not None)


def commit(place: Path, out: Path, kind: str) -> None:
    """Rename what lies in the folder `place` into `out`, a card of a single file beside it.

    The card of an earlier set goes first, so that wherever this is stopped no card lies beside a set of other images.
    """
    with files.errors_name_place(out):
        out = out.absolute()  # `.` cannot be removed by that name
        if kind == "folder" and hasattr(os, "sync"):
            os.sync()  # once for all of its files: 9 ms for each of 60,000 would be nine minutes
        files.sync_names(place)
        with files.exclusive(out.parent):  # two sets at a time: no card comes to lie beside the other one's images
            if kind in SINGLE:
                if is_card(card := card_place(out, kind)):
                    card.unlink()
                for file in sorted(place.iterdir(), key=lambda file: file.name != out.name):  # the set first
                    file.replace(out.parent / file.name)
            else:
                _refuse_full(out)  # it was new when this one began
                if out.exists():
                    out.rmdir()
                place.rename(out)
        files.sync_names(out.parent)


def write_card(place: Path, out: Path, kind: str, text: str) -> None:
    """Write the data card of a set that is being made in the folder `place`."""
    with files.errors_name_place(out):
        files.write_synced(place / card_place(out, kind).name, files.text_with_mark(text).encode())


def _npz(images: Images, seeds: Sequence[int] | None, synthetic: bool) -> bytes:
    arrays: dict[str, Any] = {"images": images.pixels}
    if seeds is not None:
        arrays["seeds"] = np.asarray(seeds)
    if images.labels is not None:
        arrays |= {"labels": images.labels, "class_names": np.array(images.class_names)}
    if synthetic:
        arrays[files.SOURCE_KEY] = np.array(metadata.SOURCE_TYPE)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _idx_files(images: Images) -> Iterator[tuple[str, bytes]]:
    """The layout of MNIST: big-endian magic number, sizes, bytes (LeCun's IDX)."""
    count, _, height, width = images.pixels.shape
    header = struct.pack(">iiii", 0x0803, count, height, width)
    yield "train-images-idx3-ubyte.gz", gzip.compress(header + images.pixels.tobytes(), mtime=0)
    if images.labels is not None:
        labels = struct.pack(">ii", 0x0801, count) + images.labels.astype(np.uint8).tobytes()
        yield "train-labels-idx1-ubyte.gz", gzip.compress(labels, mtime=0)


def _pictures(
    images: Images, seeds: Sequence[int] | None, mark: metadata.Marker | None, facts: Mapping[str, str]
) -> Iterator[Picture]:
    numbers = range(len(images)) if seeds is None else seeds
    for k, (pixels, number) in enumerate(zip(images.pixels, numbers, strict=True)):
        folder, own = "", {**facts, **({} if seeds is None else {"Seed": str(number)})}
        if images.labels is not None:
            label = int(images.labels[k])
            folder = class_folder(images.class_names[label], label)
            own["Class"] = images.class_names[label] or str(label)
        content = grids.png(as_picture(pixels))
        yield Picture(f"{number:06d}.png", folder, mark(content, own) if mark else content)


def _logged(pictures: Iterator[Picture], count: int, log: Log) -> Iterator[Picture]:
    for k, picture in enumerate(pictures):
        if k and k % LOGGED_EVERY == 0:
            log(f"{k:,} of {counted(count)} written")
        yield picture


def _write_parquet(file: Path, images: Images, pictures: Iterator[Picture], synthetic: bool) -> None:
    """The layout that Hugging Face's datasets takes for images: a struct of bytes and path, features in the schema."""
    arrow, writers = pyarrow()
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    columns = [("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))]
    if images.labels is not None:
        features["label"] = {"names": list(images.class_names), "_type": "ClassLabel"}
        columns.append(("label", arrow.int64()))
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = arrow.schema(columns, metadata={**about, "comment": files.NOTE} if synthetic else about)
    with file.open("wb") as opened:
        with writers.ParquetWriter(opened, schema) as writer:
            for start in range(0, len(images), ROW_GROUP):
                some = itertools.islice(pictures, ROW_GROUP)
                table: dict[str, Any] = {"image": [{"bytes": one.content, "path": one.name} for one in some]}
                if images.labels is not None:
                    table["label"] = images.labels[start : start + ROW_GROUP]
                writer.write_table(arrow.table(table, schema=schema))
        opened.flush()
        os.fsync(opened.fileno())


def parquet_sizes(place: Path) -> tuple[int, int]:
    """Bytes of a Hugging Face set's file in the folder `place`, as it lies there and unpacked."""
    _, readable = pyarrow()
    file = place / SHARD
    about = readable.read_metadata(file)
    return file.stat().st_size, sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
