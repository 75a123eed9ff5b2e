"""Which images belong together, by the names of their files, a Parquet column or an array of an .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modiste.data import archives, parquet, readers
from modiste.data.images import Images
from modiste.errors import UsageError


def groups_of(images: Images, path: Path, by: str) -> tuple[str, ...]:
    """The group [N] of each training image that was read from that folder or file.

    `by` is the text up to which the file names of one group are alike, whatever their classes, or the name of a column
    or an array. UsageError where there is none, and for groups that keep nothing together, or everything.
    """
    place = f"data.group_by = {by!r}"
    if readers.is_npz(path):
        groups = _array(images, path, by, place)
    elif any(readers.idx_file(path, split, "images") for split in readers.IDX_PREFIXES):
        raise UsageError(f"{place}: IDX files have neither names of pictures nor columns; leave it out")
    elif files := parquet.files(path, "train"):
        columns = parquet.columns(files)
        names = [] if by in columns else [Path(name).name for name in parquet.names(files)]
        groups = parquet.column(files, by) if by in columns else _beginnings(names, path, by, place, columns)
    else:
        groups = _beginnings([file.name for file in readers.picture_files(path, "train").files], path, by, place)
    found = len(set(groups))
    if found == 1:
        raise UsageError(f"{place}: all {len(images):,} images of {images.name} are one group, so none can be held out")
    if found == len(images):
        raise UsageError(
            f"{place}: each of the {len(images):,} images of {images.name} is a group of its own, so nothing is kept "
            "together; give what several images share"
        )
    return groups


def _array(images: Images, path: Path, by: str, place: str) -> tuple[str, ...]:
    with archives.open_npz(path) as archive:
        if by not in archive.files:
            raise UsageError(f"{place}: {path} has no such array; its arrays are {', '.join(archive.files)}")
        values = archives.entry(archive, by, path)
    if values.shape != (len(images),):
        raise UsageError(
            f"{place}: this array of {path} has the shape {list(values.shape)}; give one with a value for each of the "
            f"{len(images):,} images"
        )
    return tuple(map(str, values.tolist()))


def _beginnings(
    names: Sequence[str], path: Path, until: str, place: str, columns: Sequence[str] = ()
) -> tuple[str, ...]:
    """The names of files up to the first `until`."""
    if not until or not any(until in name for name in names):
        beside = f", and no column (these are {', '.join(columns)})" if columns else ""
        first = f"the first is {names[0]!r}" if names and names[0] else "there are none"
        raise UsageError(
            f"{place} is in no name of a picture of {path} ({first}){beside}; give the text before which the names of "
            "one group are the same"
        )
    return tuple(name.partition(until)[0] for name in names)
