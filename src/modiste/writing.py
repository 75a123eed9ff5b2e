"""Writing: no file is ever half there, nobody else's file is replaced, and a folder belongs to one process at a time.

Every file is written beside its place and renamed into it. What a process that was killed has left there is removed by
the next one that writes into the same folder. What lies in a place that somebody named is replaced only if it says that
Modiste wrote it (`marks`); in a folder that Modiste made, its own names are its own. Locks that the operating system
releases with the process keep others out of a folder, or let one after the other rename in it.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from modiste import marks
from modiste.errors import ModisteError, UsageError

THIS_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # some share their folders
THIS_PROCESS = (
    f"{THIS_MACHINE}{uuid.uuid4().hex[:8]}"  # the number of a process that was killed may be given to this one
)
WRITES = itertools.count()
SWEPT: set[Path] = set()
"""The folders that this process has written into."""
UNFINISHED = re.compile(r"^\..+\.(\d{1,9})-(\w+)-\d+\.writing$")
"""The names that `beside` gives: the number of a process, a word for it and its machine, the number of its write."""
LEAST_TRIED, LEAST_ROOM = 2**20, 2**26
"""With less room than this a disk is full: bytes that can be written, and that the system says are free."""
ELSEWHERE_SECONDS = 24 * 60 * 60.0
"""What another machine began to write is left alone for so long, as nobody here knows whether it is still at it."""


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_text(path, as_json(tree))


def as_json(tree: Mapping[str, Any]) -> str:
    """Indented JSON, as all of Modiste's files have it."""
    return json.dumps(tree, indent=2) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file so that at every instant the old content or the new one is there, never a part.

    A `private` one nobody but the user can read.
    """
    place = beside(path)
    sweep_once(path.parent)
    with place_named(path):
        try:
            with place.open("wb") as file:
                if private:
                    place.chmod(0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            place.replace(path)
            settle_names(path.parent)
        finally:
            with suppress(OSError):
                place.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A hidden place beside that path, no other writer's, for what is renamed into it when it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}-{THIS_PROCESS}-{next(WRITES)}.writing")


def settle_names(folder: Path) -> None:
    """Bring a folder's new names to the disk too, where the system can: a power cut must not undo a rename."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def place_named(path: Path) -> Iterator[None]:
    """Say of a write that fails which place it was for, why, and what to do about it."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if full else "choose a place that can be written to"
        raise ModisteError(
            f"cannot write {path}: {error.strerror}; what was saved before is intact; {remedy} and run it again"
        ) from None


def try_place(path: Path) -> None:
    """ModisteError if a file cannot be written there: asked before long work, so that it is not lost after it."""
    with place_named(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def refuse_foreign(path: Path, named_in: Path | None = None) -> None:
    """UsageError where a file lies in the place of an output and does not say that Modiste wrote it (`marks.is_ours`).

    Asked before long work; also of folders and of links that lead nowhere. `named_in` may name the file as ours.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and a file is to be written there; choose another place with --out")
    if os.path.lexists(path) and not marks.is_ours(path, named_in):
        raise UsageError(
            f"{path} is there and does not say that Modiste wrote it as it is, so it is not replaced; move it away, or "
            "choose another place with --out"
        )


def refuse_others(path: Path, what: str, ours: Sequence[str]) -> None:
    """UsageError when a folder holds entries unlike `ours` (patterns) and is therefore no `what`, as "run folder".

    Locks, empty folders and what was not written to the end are let pass: a start that is cut off leaves them.
    """
    entries = [entry for entry in path.iterdir() if not any(map(entry.match, ours))] if path.is_dir() else []
    known = [entry for entry in entries if _is_lock(entry) or UNFINISHED.search(entry.name)]
    strange = sorted(
        entry.name for entry in entries if entry not in known and (not entry.is_dir() or any(entry.iterdir()))
    )
    if strange:
        raise UsageError(f"{path} holds other files ({strange[0]}) and is no {what}; choose another with --out")


def refuse_changed(expected: Mapping[Path, str], what: str) -> None:
    """UsageError where one of these files is there with another text than the one that is to be written."""
    for path, text in expected.items():
        if path.is_file() and path.read_bytes().replace(b"\r\n", b"\n").strip() != text.encode().strip():
            raise UsageError(
                f"{path} is there with another text than this {what} would write there, so it is not replaced; move it "
                "away, or choose another folder with --out"
            )


def _is_lock(path: Path) -> bool:
    """Whether a `.lock` is one: empty, or where a system has no such locks with the number of its process."""
    if path.name != ".lock" or not path.is_file():
        return False
    return not path.stat().st_size or re.match(rb"\d+\s", path.read_bytes()) is not None


def has_room(folder: Path) -> bool:
    """Whether the disk of a folder has room for more than a few small files: asked after a write has failed."""
    with suppress(OSError):
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_TRIED))
            file.flush()
        return shutil.disk_usage(folder).free >= LEAST_ROOM
    return False


class InUse(ModisteError):
    """Another process holds the folder."""


@contextmanager
def held(path: Path, work: str) -> Iterator[None]:
    """Hold a folder, made if need be, for this process; InUse when another one holds it, ModisteError when none can.

    `work` is what goes on there, for the sentence: a training, a study.
    """
    lock = filelock.FileLock(path / ".lock")
    if (path / ".lock").is_file() and not _is_lock(path / ".lock"):  # it would be emptied
        raise UsageError(f"{path / '.lock'} is no lock of Modiste; choose another folder with --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InUse(f"{path} is in use by another {work}; wait for it, or choose another --out") from None
    except OSError as error:
        raise ModisteError(f"cannot use {path} for this {work}: {error.strerror}; choose another with --out") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process, or thread, is between two renamings in this folder; no file is left by it.

    Where the system has no such locks, nobody is waited for.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have none
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder among the system's temporary files, gone at the end; those of killed processes go first."""
    parent = Path(tempfile.gettempdir())
    sweep(parent.glob(".modiste.*.writing"))
    place = beside(parent / "modiste")
    with place_named(place):
        place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep_once(folder: Path) -> None:
    """Remove what others have left half-written in a folder, when this process writes into it for the first time."""
    place = folder.absolute()
    if place not in SWEPT:
        SWEPT.add(place)
        with suppress(OSError):
            sweep(place.glob(".*.writing"))


def sweep(unfinished: Iterable[Path]) -> None:
    """Remove those of these files and folders that `beside` has named and no living process is still writing."""
    for path in list(unfinished):
        with suppress(OSError):  # it is in nobody's way
            if (told := UNFINISHED.search(path.name)) and not _is_being_written(path, int(told[1]), told[2]):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_being_written(path: Path, number: int, word: str) -> bool:
    """Whether the process that a name of `beside` tells of is alive, as far as this machine knows."""
    if os.name != "posix" or (len(word) == len(THIS_PROCESS) and not word.startswith(THIS_MACHINE)):
        return time.time() - path.lstat().st_mtime < ELSEWHERE_SECONDS  # on Windows the question would end the process
    if number == os.getpid():
        return word == THIS_PROCESS
    try:
        os.kill(number, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # it is another user's
    return True
