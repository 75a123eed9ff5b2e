"""Folders of pictures, one sub-folder per class: which files they are, in which order, and what is left out."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modiste.config import Data
from modiste.data import idx, image_files, parquet, stored
from modiste.data.classes import checked_names
from modiste.data.images import Images, Labels, Note, Split
from modiste.data.notes import UnreadFiles, UnreadFolder, few
from modiste.errors import ModisteError
from modiste.wording import counted

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
JUNK_FOLDERS = ("__MACOSX", "@eaDir")
"""What macOS packs into archives beside the files, and where Synology's disks keep previews."""
SPLIT_WORDS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")
"""Where all folders are called so, in any case of letters, they are hardly classes."""


class Folder(NamedTuple):
    """The pictures of a folder in the order of `read_folder`, and notes on what is not read."""

    files: list[Path]
    labels: Labels | None
    """[N]; none in a flat folder."""
    class_names: tuple[str, ...]
    notes: tuple[Note, ...]


def read_folder(folder: Path, split: Split, data: Data) -> Images:
    """The pictures of a folder, its sub-folders being the classes; train/ and test/ are splits if both exist.

    A picture is what Pillow reads, whatever its name ends in. Within a class pictures keep their natural order (9
    before 10); classes take turns, so that the first so many images hold all classes. Grey pictures become one
    channel, a set with any colour three; transparency is laid over the background.
    """

    def write(out: stored.PixelFile) -> stored.Contents:
        files, labels, names, unread = list_folder(folder, split)
        return stored.Contents(labels, names, (*unread, *image_files.write_pixels(files, len(files), data, out)))

    key = {"folder": str(folder.resolve()), "split": split, **image_files.reading_settings(data)}
    return stored.stored(key, lambda: stored.state_of(folder), folder.resolve().name, write)


def list_folder(folder: Path, split: Split) -> Folder:
    """The files that `read_folder` reads, with their labels and classes."""
    beside: list[Path] = []
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        names, root = tuple(_class_folders(folder / "train")), folder / split
        unknown = [place for name, place in _class_folders(root).items() if name not in names]
        if unknown:
            raise ModisteError(f"{unknown[0]} is no class of {folder / 'train'}; use the same class names")
        if split == "test" and not _class_folders(root):
            names = ()  # their classes are kept secret
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
        if inner := _inner_folder(folder):
            raise ModisteError(f"{folder} holds no pictures, nor does anything down to {inner}; give {inner} itself")
    places = _class_folders(root)
    loose, *listings = (_list_files(place) for place in (root, *(places[name] for name in names if name in places)))
    _refuse_broken_links(root, [file for found in (loose, *listings) for file in found.broken_links])
    in_class = dict(zip((name for name in names if name in places), listings, strict=True))
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
    unread = tuple(str(file.relative_to(root)) for found in (loose, *listings) for file in found.others)
    notes: list[Note] = [UnreadFiles(unread)] if unread else []
    for place in beside:
        if count := sum(map(image_files.is_picture, place.rglob("*"))):
            notes.append(UnreadFolder(place.name, count))
    return Folder([file for _, _, file in files], labels, names, tuple(notes))


def _refuse_deeper(place: Path) -> None:
    """ModisteError for pictures in a folder within a class's folder, which would be left out."""
    for folder in _class_folders(place).values():
        if any(map(image_files.is_picture, folder.rglob("*"))):
            raise ModisteError(
                f"{folder} lies within the class {place.name}, and classes have no folders of their own; "
                f"move its pictures into {place}, or the folder into {place.parent}"
            )


def _inner_folder(folder: Path) -> Path | None:
    """The folder with several classes, or other data, that lies alone in `folder`, as in an unpacked archive."""
    inner = folder
    while not _has_pictures(inner) and len(found := list(_class_folders(inner).values())) == 1:
        inner = found[0]
        several = len(_class_folders(inner)) > 1 and not _has_pictures(inner)
        if several or parquet.files(inner) or any(idx.IDX_LIKE.search(path.name) for path in inner.iterdir()):
            return inner
    return None


def _without_pictures(folder: Path) -> ModisteError:
    """An error for a folder without pictures that says what it holds, and what to do."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if idx_names := [name for name in files if idx.IDX_LIKE.search(name)]:
        names = f"train{idx.IDX_ENDINGS['images'][0]} and train{idx.IDX_ENDINGS['labels'][0]} (.gz)"
        remedy = f"the names of the IDX files {few(idx_names)} are not the usual ones: name them {names}"
    elif sets := [name for name in files if Path(name).suffix.lower() in (".npz", ".npy", ".parquet")]:
        remedy = f"give {folder / sets[0]} itself"
    elif packed := [name for name in files if Path(name).suffix.lower() in ARCHIVES]:
        remedy = f"unpack {few(packed)} first"
    else:
        remedy = f"it holds only {few(files)}; fill or remove it" if files else "fill or remove it"
    return ModisteError(f"{folder} holds no pictures; {remedy}")


def has_test_images(folder: Path) -> bool:
    """Whether the folder has the sub-folders train and test, and pictures in test."""
    test = folder / "test"
    if not (test.is_dir() and (folder / "train").is_dir()):
        return False
    return any(map(_has_pictures, (test, *_class_folders(test).values())))


def _class_folders(root: Path) -> dict[str, Path]:
    """The class folders by the classes' names: numbers in the order of their values, others in natural order."""
    with os.scandir(root) as entries:  # which knows without a further look what a folder is
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    places = [root / name for name in names if name not in JUNK_FOLDERS]
    folders = dict(zip(checked_names([place.name for place in places], str(root)), places, strict=True))
    values = {name: float(name) for name in folders if re.fullmatch(r"-?\d+(\.\d+)?", name)}
    numbers = values if len(values) == len(folders) else {}
    return {name: folders[name] for name in sorted(folders, key=lambda name: (numbers.get(name, 0.0), _natural(name)))}


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(map(image_files.is_picture, folder.iterdir()))


class Listing(NamedTuple):
    """The files of one folder that are not hidden, each list in natural order."""

    pictures: list[Path]
    others: list[Path]
    broken_links: list[Path]


def _list_files(folder: Path) -> Listing:
    found = Listing([], [], [])
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: _natural(entry.name))
    for entry in ordered:
        if entry.name.startswith(".") or entry.is_dir():
            continue
        file = folder / entry.name
        if entry.is_file():
            (found.pictures if image_files.looks_like_a_picture(file) else found.others).append(file)
        else:
            (found.others if file.exists() else found.broken_links).append(file)
    return found


def _refuse_broken_links(root: Path, links: list[Path]) -> None:
    if links:
        first = links[0].relative_to(root)
        count = counted(len(links), "link")
        raise ModisteError(
            f"{root} holds {count} to files that are not there ({first} to {links[0].readlink()}); put these back, or "
            "remove the links"
        )


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key to sort by: 9 before 10, whatever the case; equal names but for case or leading zeros are ordered too."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts], name
