"""Parquet files of pictures in the layout of Hugging Face's datasets: the columns `image` (bytes, path) and `label`.

Other names are read where only one column can be meant.

Pictures come out as the files that they were, a few at a time: `image_files` decodes them, `provenance` reads what they
say of their origin.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data import image_files, npz, stored
from modiste.data.classes import labelled
from modiste.data.decoding import ParquetPicture
from modiste.data.images import Images, Note, Split, class_folder
from modiste.data.notes import ReadFrom, UnreadArray, UnreadFiles
from modiste.errors import ModisteError

IMAGE, LABEL = "image", "label"
SPLITS = ("train", "test")
BATCH = 1000
"""Pictures in memory at once."""


def pyarrow() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet; ModisteError if they are not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ModisteError(
            f"Parquet files need the package pyarrow ({error}); pip install 'modiste[parquet]'"
        ) from None


def files(path: Path, split: str | None = None) -> list[Path]:
    """The Parquet files at a path, in the order of their names, all or those of one split; none if there are none.

    They are the file itself, which is a train split, or those in a folder's data/, or train and test files in the
    folder; their names start with the split (train-00000-of-00001.parquet).
    """
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" and split != "test" else []
    found = _inside(path / "data") or [file for file in _inside(path) if _split(file) in SPLITS]
    return [file for file in found if split in (None, _split(file))]


def _inside(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if file.suffix.lower() == ".parquet" and file.is_file() and not file.name.startswith(".")
    )


def _split(file: Path) -> str:
    return re.split(r"[-.]", file.name, maxsplit=1)[0]


def classes(parts: Sequence[Path]) -> tuple[bool, tuple[str, ...] | None]:
    """Whether these files of one set have labels, and the names of the classes if their schema has them."""
    found = []
    for file in parts:
        with _opened(file) as opened:
            label = _label_column(opened.schema_arrow)
            found.append((label is not None, _class_names(opened.schema_arrow.metadata, label or LABEL)))
        if found[-1] != found[0]:
            raise ModisteError(f"{file} has other labels or class names than {parts[0].name}; take both from one set")
    return found[0]


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError):
        return None


def labels(parts: Sequence[Path]) -> NDArray[Any]:
    """The column of labels [N] of files that have one, as it is."""
    found = []
    for file in parts:
        with _opened(file) as opened:
            label = _label_column(opened.schema_arrow) or LABEL
            found.append(_filled(file, opened, label).to_numpy())
    return np.concatenate(found)


def file_notes(path: Path, parts: Sequence[Path]) -> tuple[Note, ...]:
    """Notes on a set at that path: columns read under another name, unread ones like labels, and unread files."""
    with _opened(parts[0]) as opened:
        schema = opened.schema_arrow
        image, label = _image_column(schema), _label_column(schema)
        found: list[Note] = [ReadFrom(image, "images")] if image and image != IMAGE else []
        found += [ReadFrom(label, "labels")] if label and label != LABEL else []
        for name in schema.names:
            if name in (image, label) or not _holds_labels(schema.field(name).type):
                continue
            advice = "" if label else LABEL
            if npz.sounds_like_labels(name):
                found.append(UnreadArray(name, "labels", advice))
            elif label is None:
                values = np.array(opened.read(columns=[name]).column(name).to_pylist(), object)
                if npz.look_like_labels(values):
                    found.append(UnreadArray(name, "labels", advice))
    used = {file for split in SPLITS for file in files(path, split)}
    beside = [] if path.is_file() else [file.name for file in _inside(parts[0].parent) if file not in used]
    return (*found, *([UnreadFiles(tuple(beside))] if beside else []))


def _image_column(schema: Any) -> str | None:
    """The column of pictures: `image`, or the only one that holds files' bytes as Hugging Face's datasets does."""
    held = [name for name in schema.names if _holds_pictures(schema.field(name).type)]
    return IMAGE if IMAGE in schema.names else held[0] if len(held) == 1 else None


def _label_column(schema: Any) -> str | None:
    """The column of labels: `label`, or the only one of whole numbers that another program's name for labels has."""
    integers = [name for name in schema.names if pyarrow()[0].types.is_integer(schema.field(name).type)]
    found = npz.matching_names(integers, "labels", "train")
    return LABEL if LABEL in schema.names else found[0] if len(found) == 1 else None


def _holds_pictures(kind: Any) -> bool:
    types = pyarrow()[0].types
    inner = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None
    return inner is not None and (types.is_binary(inner) or types.is_large_binary(inner))


def _holds_labels(kind: Any) -> bool:
    types = pyarrow()[0].types
    return bool(
        types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind)
    )


def columns(parts: Sequence[Path]) -> list[str]:
    """The names of the columns beside the pictures, that all of these files have."""
    found: list[str] = []
    for number, file in enumerate(parts):
        with _opened(file) as opened:
            here = [name for name in opened.schema_arrow.names if name != _image_column(opened.schema_arrow)]
        found = [name for name in found if name in here] if number else here
    return found


def column(parts: Sequence[Path], name: str) -> tuple[str, ...]:
    """The values [N] of a column as texts; ModisteError where one is missing."""
    found: list[Any] = []
    for file in parts:
        with _opened(file) as opened:
            found += _filled(file, opened, name).to_pylist()
    return tuple(map(str, found))


def _filled(file: Path, opened: Any, name: str) -> Any:
    """A column of an opened file; ModisteError where a value is missing."""
    values = opened.read(columns=[name]).column(name)
    if values.null_count:
        missing = values.is_null().to_pylist().index(True)
        raise ModisteError(f"{file}[{missing}] has no value in the column {name}; fill it in, or leave the row out")
    return values


def names(parts: Sequence[Path]) -> list[str]:
    """The name kept with each picture [N] of these files; empty where there is none."""
    found: list[str] = []
    for file in parts:
        with _opened(file) as opened:
            _check(file, opened.schema_arrow)
            image = _image_column(opened.schema_arrow) or IMAGE
            if opened.schema_arrow.field(image).type.get_field_index("path") < 0:
                found += [""] * opened.metadata.num_rows
                continue
            for batch in opened.iter_batches(BATCH, columns=[f"{image}.path"]):
                found += [(row[image] or {}).get("path") or "" for row in batch.to_pylist()]
    return found


def rows(parts: Sequence[Path]) -> int:
    """The number of rows of these files."""
    count = 0
    for file in parts:
        with _opened(file) as opened:
            count += opened.metadata.num_rows
    return count


def pictures(parts: Sequence[Path]) -> Iterator[ParquetPicture]:
    """The pictures of these files in turn, undecoded."""
    count = 0
    for file in parts:
        with _opened(file) as opened:
            schema = opened.schema_arrow
            _check(file, schema)
            column, label = _image_column(schema) or IMAGE, _label_column(schema)
            names = _class_names(schema.metadata, label or LABEL) or ()
            columns = [column, label] if label else [column]
            found = (row for batch in opened.iter_batches(BATCH, columns=columns) for row in batch.to_pylist())
            for k, row in enumerate(found):
                image = row[column] or {}
                content, name = image.get("bytes"), image.get("path") or ""
                if content is None:
                    known = f", only the path {name!r}" if name else ""
                    raise ModisteError(f"{file}[{k}] has no bytes{known}; write the pictures themselves into the file")
                yield ParquetPicture(file, k, _name(name, row.get(label), names) or f"{file.name}[{k}]", content)
                count += 1
    if not count:
        raise ModisteError(f"{parts[0]} holds no pictures; write it again")


def _name(kept: str, label: object, names: Sequence[str]) -> str:
    if not kept or "/" in kept or not isinstance(label, int):
        return kept
    return f"{class_folder(names[label] if 0 <= label < len(names) else '', label)}/{kept}"


def _check(file: Path, schema: Any) -> None:
    """ModisteError for a file without a column of pictures as bytes."""
    column = _image_column(schema)
    if column is None:
        raise ModisteError(
            f"{file} has no column {IMAGE}: its columns are {', '.join(schema.names) or 'none'}; "
            f"name the column of pictures {IMAGE}"
        )
    kind = schema.field(column).type
    if not _holds_pictures(kind):
        raise ModisteError(
            f"{file}: the column {column} holds {kind}; write pictures as a struct of bytes (PNG) and path, "
            "as Hugging Face's datasets does"
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The opened Parquet file; ModisteError for one that cannot be read."""
    arrow, parquet = pyarrow()
    try:
        with parquet.ParquetFile(file) as opened:
            yield opened
    except (OSError, ValueError, arrow.ArrowException) as error:
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise ModisteError(f"{file} is not a readable Parquet file ({reason}); write or fetch it again") from None


def read_parquet(path: Path, split: Split, data: Data) -> Images:
    """The pictures in a Parquet file or in the files data/train-*.parquet and data/test-*.parquet of a folder.

    They keep their order and follow the rules of `folders.read_folder`; classes are named by Hugging Face's metadata.
    """
    parts = files(path, split)
    if not parts:
        raise ModisteError(f"{path} has no {split} images; in a folder, name their files data/{split}-*.parquet")
    name = path.stem if path.is_file() else path.resolve().name

    def write(out: stored.PixelFile) -> stored.Contents:
        has_labels, class_names = classes(files(path))
        own, train = (labels(some) if has_labels and some else None for some in (parts, files(path, "train")))
        done = image_files.write_pixels(pictures(parts), rows(parts), data, out)
        found = labelled(np.broadcast_to(np.uint8(0), (out.count, *out.size)), own, class_names, name, train)
        notes = file_notes(path, parts) if split == "train" else ()
        return stored.Contents(found.labels, found.class_names, (*found.notes, *notes, *done))

    key = {"parquet": str(path.resolve()), "split": split, **image_files.reading_settings(data)}
    return stored.stored(key, lambda: stored.state_of(path), name, write)
