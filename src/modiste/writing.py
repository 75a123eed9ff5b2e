"""Writing: no file is ever half there, and a folder belongs to one process at a time.

Every file is written beside its place and renamed into it. A lock that the operating system releases with the process
keeps others out of a folder.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from modiste.errors import ModisteError, UsageError

THIS_PROCESS = uuid.uuid4().hex[:8]  # the number of a process that was killed may be given to this one
WRITES = itertools.count()


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_text(path, as_json(tree))


def as_json(tree: Mapping[str, Any]) -> str:
    """Indented JSON, as all of Modiste's files have it."""
    return json.dumps(tree, indent=2) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that at every instant the old content or the new one is there, never a part."""
    place = beside(path)
    with place_named(path):
        try:
            with place.open("wb") as file:
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


def refuse_others(path: Path, what: str, ours: Sequence[str]) -> None:
    """UsageError when a folder holds entries unlike `ours` (patterns) and is therefore no `what`, as "run folder".

    Locks, empty folders and what was not written to the end are let pass: a start that is cut off leaves them.
    """
    known = (".lock", ".*.writing", *ours)
    entries = [entry for entry in path.iterdir() if not any(map(entry.match, known))] if path.is_dir() else []
    strange = sorted(entry.name for entry in entries if not entry.is_dir() or any(entry.iterdir()))
    if strange:
        raise UsageError(f"{path} holds other files ({strange[0]}) and is no {what}; choose another with --out")


class InUse(ModisteError):
    """Another process holds the folder."""


@contextmanager
def held(path: Path, work: str) -> Iterator[None]:
    """Hold a folder, made if need be, for this process; InUse when another one holds it, ModisteError when none can.

    `work` is what goes on there, for the sentence: a training, a study.
    """
    lock = filelock.FileLock(path / ".lock")
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


def sweep(unfinished: Iterable[Path]) -> None:
    """Remove these files and folders, named by `beside`, but for those that a living process is still writing."""
    for path in list(unfinished):
        if not _has_living_writer(path):
            with suppress(OSError):  # it is in nobody's way
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _has_living_writer(path: Path) -> bool:
    """Whether the process that a name of `beside` tells of is alive on this machine."""
    told = re.search(r"\.(\d{1,9})-(\w+)-\d+\.writing$", path.name)
    if told is None or os.name != "posix":  # elsewhere the question would end the process
        return False
    if int(told[1]) == os.getpid():
        return told[2] == THIS_PROCESS
    try:
        os.kill(int(told[1]), 0)
    except OSError as error:
        return error.errno == errno.EPERM  # it is another user's
    return True
