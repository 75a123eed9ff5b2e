"""Sets of images on disk as they are when they have been read: written once, mapped into memory from then on.

Pictures are decoded into a file of the cache, blockwise, so that a set may be larger than memory. The file belongs to
the folder or file that was read and to the settings by which it was; it holds their state, and is written anew where
that has changed. Parts and scaled copies of sets that are mapped are kept in the same way.

A file has the pixels uint8 [N, C, H, W], fingerprints of 16 bytes each if there are any, labels int64 [N] if there are
any, facts as JSON, and in its last 8 bytes the length of the facts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from modiste import files
from modiste.cache import UNREADABLE, entry_path
from modiste.data import classes, notes
from modiste.data.images import RESIZE, Images, Labels, Note, Pixels, blocks, resized
from modiste.errors import UsageError
from modiste.wording import counted

FORMAT = 1
MAPPED_BYTES = 2**26
"""Pixels of fewer bytes are read into memory, those of more are mapped."""
KEPT_BYTES, KEPT_SECONDS = 20 * 10**9, 30 * 24 * 60 * 60
"""The cache keeps sets of so many bytes besides the newest one, and none that was not opened for so long."""
TICK_SECONDS = 0.02
"""Two changes of a file may bear the same time if they are less than this apart."""
FINGERPRINT = 16
NOTES: dict[str, type[Note]] = {
    kind.__name__: kind
    for module in (notes, classes)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Note)
}


class NoRoom(UsageError):
    """Images cannot be written where they were to be."""


@dataclass(frozen=True)
class Contents:
    """What a set has beside its pixels."""

    labels: Labels | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


class PixelFile:
    """A file to which images of one size are added: all grey, or all in colour from the first one in colour on."""

    def __init__(self, file: IO[bytes], place: Path) -> None:
        self.file, self.place = file, place
        self.size = (0, 0, 0)
        """Channels, height and width."""
        self.count = 0
        self.fingerprints: list[bytes] = []

    def add(self, pixels: Pixels, fingerprints: bytes = b"") -> None:
        """Append images [N, C, H, W] and their fingerprints, 16 bytes each."""
        channels, *side = pixels.shape[1:]
        with self._errors_worded():
            if not self.count:
                self.size = (channels, side[0], side[1])
            elif channels > self.size[0]:
                self._add_colour()
            elif channels < self.size[0]:
                pixels = pixels.repeat(3, axis=1)
            self.file.write(np.ascontiguousarray(pixels).data)
        self.count += len(pixels)
        self.fingerprints.append(fingerprints)

    @contextmanager
    def _errors_worded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "make room, or let MODISTE_CACHE name another place"
            raise NoRoom(f"cannot write {self.place}: {error.strerror}; {remedy}") from None

    def _add_colour(self) -> None:
        """Repeat the one channel of the images so far, in place and from the last to the first."""
        _, height, width = self.size
        for part in reversed(list(blocks(self.count, height * width))):
            self.file.seek(part.start * height * width)
            grey = np.frombuffer(self.file.read((part.stop - part.start) * height * width), np.uint8)
            self.file.seek(3 * part.start * height * width)
            self.file.write(grey.reshape(-1, 1, height * width).repeat(3, axis=1).data)
        self.file.seek(0, os.SEEK_END)
        self.size = (3, height, width)

    def check_room(self, needed: int, what: str) -> None:
        """NoRoom where the disk has no room for so many bytes."""
        if needed > (free := shutil.disk_usage(self.place.parent).free):
            raise NoRoom(
                f"{needed / 1e9:.1f} GB are needed in {self.place.parent} for {what}, where {free / 1e9:.1f} GB are "
                f"free; make room, let MODISTE_CACHE name another place, or make them smaller with {RESIZE}"
            )

    def finish(self, key: str, state: str, contents: Contents) -> None:
        """Append all that is not pixels."""
        facts = {
            "key": key,
            "state": state,
            "shape": (self.count, *self.size),
            "fingerprints": len(prints := b"".join(self.fingerprints)),
            "labelled": contents.labels is not None,
            "class_names": contents.class_names,
            "notes": [[type(note).__name__, asdict(note)] for note in contents.notes],
        }
        labels = b"" if contents.labels is None else contents.labels.astype("<i8").tobytes()
        text = json.dumps(facts).encode()
        with self._errors_worded():
            self.file.write(prints + labels + text + struct.pack("<Q", len(text)))
            self.file.flush()
            os.fsync(self.file.fileno())


def stored(
    key: Mapping[str, Any], state: Callable[[], str], name: str, write: Callable[[PixelFile], Contents]
) -> Images:
    """The images that `write` writes, from the cache if they are there in this state.

    `key` says, in plain values, what is read and how; `state` gives what changes with it. One process at a time writes
    them, and others wait for it. Where the cache has no room or cannot be written, they lie in a temporary file
    without a name while they are used; NoRoom where that fails too.
    """
    text, before = json.dumps({"format": FORMAT, **key}, sort_keys=True), state()
    folder = entry_path("images", text).with_suffix("")
    place = folder / "set"
    with suppress(*UNREADABLE):
        return _open(place, text, before, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.exclusive(folder):
            with suppress(*UNREADABLE):  # another process may have written them in the meantime
                return _open(place, text, before, name)
            files.sweep_once(folder)
            unfinished = files.temporary_beside(place)
            try:
                with unfinished.open("w+b") as file:
                    _write(PixelFile(file, place), text, before, write)
                if state() != before:  # it changed while it was read: these images are not kept
                    return _open(unfinished, text, before, name)
                unfinished.replace(place)
                files.sync_names(folder)
                _remove_unused(place)
                return _open(place, text, before, name)
            finally:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
    except (OSError, NoRoom):
        with tempfile.TemporaryFile() as file:
            _write(PixelFile(file, Path(tempfile.gettempdir()) / "modiste"), text, before, write)
            return _read(file, text, before, name)


def _write(out: PixelFile, key: str, state: str, write: Callable[[PixelFile], Contents]) -> None:
    out.finish(key, state, write(out))


def _open(place: Path, key: str, state: str, name: str) -> Images:
    """The images in this file; OSError or ValueError where it is missing, damaged, or holds others."""
    with place.open("rb") as file:
        images = _read(file, key, state, name)
    with suppress(OSError):
        os.utime(place)  # it was used now
    return images


def _read(file: IO[bytes], key: str, state: str, name: str) -> Images:
    end = file.seek(-8, os.SEEK_END)
    (length,) = struct.unpack("<Q", file.read(8))
    file.seek(end - length)
    facts = json.loads(file.read(length))
    if not isinstance(facts, dict) or (facts.get("key"), facts.get("state")) != (key, state):
        raise ValueError("another set's, or of an earlier state")
    shape, prints = facts["shape"], facts["fingerprints"]
    size, count = int(np.prod(shape)), shape[0]
    if size + prints + 8 * count * facts["labelled"] != end - length:
        raise ValueError("damaged")
    file.seek(size)
    fingerprints = np.frombuffer(file.read(prints), np.uint8).reshape(-1, FINGERPRINT) if prints else None
    labels = np.frombuffer(file.read(8 * count), "<i8").astype(np.int64) if facts["labelled"] else None
    if is_mapped := size >= MAPPED_BYTES:
        pixels = np.asarray(np.memmap(file, np.uint8, "r", shape=tuple(shape)))
    else:
        file.seek(0)
        pixels = np.frombuffer(bytearray(file.read(size)), np.uint8).reshape(shape)
    return Images(
        pixels,
        labels,
        tuple(facts["class_names"]),
        name,
        tuple(_note(*fields) for fields in facts["notes"]),
        fingerprints,
        source=(key, state) if is_mapped else None,
    )


def _note(kind: str, fields: Mapping[str, Any]) -> Note:
    return NOTES[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _remove_unused(newest: Path) -> None:
    """Remove sets from the cache that were not opened for long, and those opened longest ago where it is too large."""
    total, now = 0, time.time()
    with suppress(OSError):
        sets = [(place.stat(), place) for place in newest.parents[1].glob("*/set") if place != newest]
        for facts, place in sorted(sets, key=lambda one: one[0].st_mtime, reverse=True):
            total += facts.st_size
            if total > KEPT_BYTES or now - facts.st_mtime > KEPT_SECONDS:
                place.unlink(missing_ok=True)
                with suppress(OSError):  # another process is about to write there
                    place.parent.rmdir()


def select(images: Images, indices: NDArray[np.int64], what: str) -> Images:
    """The images at these indices, in memory or, where they are many of a set that is mapped, mapped from the cache.

    `what` names the choice, of which the cache keeps the last one.
    """
    size = len(indices) * images.pixels[0].size
    if images.source is None or size < MAPPED_BYTES:
        return images.select(indices)
    place, state = images.source
    labels = None if images.labels is None else images.labels[indices]

    def write(out: PixelFile) -> Contents:
        out.check_room(size, f"{counted(len(indices))} of {images.name}")
        for part in blocks(len(indices), images.pixels[0].size):
            out.add(images.pixels[indices[part]])
        return Contents()

    chosen = hashlib.sha256(indices.tobytes()).hexdigest()
    found = stored({"part": what, "of": place}, lambda: f"{state} {chosen}", images.name, write)
    return replace(images, pixels=found.pixels, labels=labels, fingerprints=None, groups=None, source=found.source)


def resize(images: Images, side: int, resample: str, fit: str, background: str) -> Images:
    """The images at side x side pixels, in memory or, where they are many of a set that is mapped, from the cache."""
    if images.source is None:
        return replace(images, pixels=resized(images.pixels, side, resample, fit, background))
    place, state = images.source

    def write(out: PixelFile) -> Contents:
        out.check_room(len(images) * side**2, f"{counted(len(images))} of {side} x {side} pixels")
        for part in blocks(len(images), images.pixels[0].size):
            out.add(resized(images.pixels[part], side, resample, fit, background))
        return Contents()

    key = {"resize": side, "filter": resample, "fit": fit, "background": background, "of": place}
    found = stored(key, lambda: state, images.name, write)
    return replace(images, pixels=found.pixels, source=found.source)


def state_of(path: Path) -> str:
    """A hash that changes when a file at or below the path does: of names, sizes, and times of content and status.

    Hidden files do not count. It waits a moment where a file was changed just now, so that a later change shows.
    """
    lines, newest = _scan(path)
    if 0 <= (since := time.time() - newest / 1e9) < TICK_SECONDS:
        time.sleep(TICK_SECONDS - since)
        lines, _ = _scan(path)
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _scan(path: Path) -> tuple[list[str], int]:
    """A line for each file and folder at or below the path, and the time of the last change in nanoseconds."""
    lines: list[str] = []
    newest, seen, waiting = 0, set(), []

    def note(place: str, facts: os.stat_result) -> None:
        nonlocal newest
        lines.append(f"{place} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}")
        newest = max(newest, facts.st_ctime_ns)

    if path.is_dir():
        waiting.append(str(path))
    else:
        note(path.name, path.stat())
    while waiting:
        folder = waiting.pop()
        known = Path(folder).stat()
        if (identity := (known.st_dev, known.st_ino)) in seen:  # a link back
            continue
        seen.add(identity)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir():
                        waiting.append(entry.path)
                        lines.append(entry.path)
                    else:
                        note(entry.path, entry.stat())
                except OSError:  # a link to nothing
                    lines.append(f"{entry.path} -")
    return lines, newest
