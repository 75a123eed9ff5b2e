"""Marks: what a file says in its own content of having been written by Modiste, and therefore may be replaced.

    PNG        a text chunk Software: Modiste VERSION
    GIF        a comment
    SVG        a comment before the drawing
    PDF        its Creator
    HTML       <meta name="generator">
    Markdown   a comment as the last line, with a digest of what stands above it: an edited copy is its editor's
    JSON       versions.modiste, of a record in its protocol, of a manifest at the top
    npz        the member digital_source_type, which no other program writes
    Parquet    a note in the file's key-value metadata

Files of earlier versions that had no marks yet are known by what only Modiste writes, where there is such a thing.
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
import struct
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from modiste.errors import ModisteError, UsageError
from modiste.version import __version__

MARK = f"Modiste {__version__}"
NOTE = f"written by {MARK}"
PNG, GIF = b"\x89PNG\r\n\x1a\n", b"GIF8"
PNG_HEAD = len(PNG) + 25  # the header chunk comes first (PNG specification, section 5.6)
SOURCE_KEY = "digital_source_type"  # in .npz files
EARLIER_GIF = b"\x21\xfe\x46http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\0"
EARLIER_PAGE = re.compile(rb"<footer>Written by modiste \S+\. This page is one file: ")
EARLIER_TEXT = re.compile(
    rb"(---\n(pretty_name: .*|library_name: modiste)\n(.*\n)?tags: \[.*\bmodiste\]"
    rb"|# (Run|Study) [^\n]*\n(.|\n)*\n## What was measured and how\n"
    rb"|# Do synthetic images help on [^\n]*\?\n)"
)
"""Beginnings of data cards, model cards and reports."""


def is_ours(path: Path, named_in: Path | None = None) -> bool:
    """Whether the file says that Modiste wrote it, or `named_in`, another one of ours, says so of it."""
    with suppress(OSError, ValueError, zipfile.BadZipFile, struct.error):  # what cannot be read is somebody's
        if _says_so(path):
            return True
        return named_in is not None and is_ours(named_in) and is_named(path.name, named_in)
    return False


def is_named(name: str, place: Path) -> bool:
    """Whether that file, a record or a page of Markdown, names a file beside it or, as an address, in its folder."""
    with suppress(OSError, UnicodeEncodeError):
        ways = b"|".join(re.escape(way.encode()) for way in (name, quote(name)))
        return re.search(rb'[/"(](' + ways + rb')[")]', place.read_bytes()) is not None
    return False


def _says_so(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return f"{SOURCE_KEY}.npy" in archive.namelist()
    if head.startswith(b"PAR1"):
        return b"written by Modiste " in _parquet_footer(path)
    return has_mark(path.read_bytes())


def _parquet_footer(path: Path) -> bytes:
    """The metadata at a Parquet file's end: their length and PAR1 follow them (Parquet format, File format)."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = struct.unpack("<I", file.read(4))[0]
        file.seek(-8 - length, 2)
        return file.read(length)


def has_mark(content: bytes) -> bool:
    """Whether this content of a file (PNG, GIF, SVG, PDF, HTML, JSON or Markdown) says that Modiste wrote it."""
    if content.startswith(PNG):
        return any(key == b"Software" and text.startswith(b"Modiste ") for key, text in _texts(content))
    if content.startswith(GIF):
        return re.search(rb"\x21\xfe.written by Modiste ", content, re.DOTALL) is not None or EARLIER_GIF in content
    if content.startswith(b"%PDF"):
        return re.search(rb"/Creator \(Modiste ", content) is not None
    start = content[:4096].lstrip().lower()
    if start.startswith((b"<?xml", b"<svg")):
        return re.search(rb"<!-- written by Modiste \S+ -->\s*<svg", content) is not None
    if start.startswith((b"<!doctype html", b"<html")):
        generator = re.search(rb'<meta name="generator" content="Modiste ', content)
        return generator is not None or EARLIER_PAGE.search(content) is not None
    if start.startswith(b"{"):
        with suppress(json.JSONDecodeError, RecursionError):
            return _names_modiste(json.loads(content))
        return False
    return _is_our_text(content.replace(b"\r\n", b"\n"))


def _names_modiste(tree: Any) -> bool:
    """Whether a JSON object is a record, or has the version of Modiste where records, cards and manifests have it."""
    if not isinstance(tree, dict):
        return False
    if {"format", "subject", "protocol", "scores"} <= tree.keys():
        return True
    protocol = tree.get("protocol")
    places = (tree, tree.get("versions"), protocol.get("versions") if isinstance(protocol, dict) else None)
    return any(isinstance(place, dict) and isinstance(place.get("modiste"), str) for place in places)


def _texts(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text of the uncompressed text chunks of a PNG file."""
    place = len(PNG)
    while place + 8 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        if kind in (b"tEXt", b"iTXt"):
            key, _, text = body.partition(b"\0")
            yield key, text.lstrip(b"\0") if kind == b"iTXt" else text
        place += 12 + length


def text_chunk(key: str, text: str) -> bytes:
    """An iTXt chunk: UTF-8, uncompressed, of no stated language (PNG specification, section 11.3.3.4)."""
    body = b"iTXt" + key.encode("latin-1", "replace") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def with_mark(content: bytes) -> bytes:
    """The content of a PNG, GIF or SVG file with a mark; as it is where it has one, and of other kinds."""
    if has_mark(content):
        return content
    if content.startswith(PNG):
        return content[:PNG_HEAD] + text_chunk("Software", MARK) + content[PNG_HEAD:]
    if content.startswith(GIF) and content.endswith(b";"):
        note = NOTE.encode()
        return content[:-1] + b"\x21\xfe" + bytes([len(note)]) + note + b"\0;"
    before, tag, drawing = content.partition(b"<svg")
    if tag and content[:64].lstrip().startswith((b"<?xml", b"<svg")):
        return before + f"<!-- {NOTE} -->\n".encode() + tag + drawing
    return content


def text_with_mark(text: str) -> str:
    """Markdown with the mark as its last line."""
    return f"{text.strip()}\n\n<!-- {NOTE}; {_digest(text.encode())} -->\n"


def _is_our_text(content: bytes) -> bool:
    found = re.search(rb"\n<!-- written by Modiste \S+; ([0-9a-f]{16}) -->", content)
    if found is None:
        return EARLIER_TEXT.match(content) is not None
    ends = not content[found.end() :].strip()
    return ends and _digest(content[: found.start()]) == found[1].decode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text.replace(b"\r\n", b"\n").strip()).hexdigest()[:16]


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
    place = temporary_beside(path)
    sweep_once(path.parent)
    with errors_name_place(path):
        try:
            with place.open("wb") as file:
                if private:
                    place.chmod(0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            place.replace(path)
            sync_names(path.parent)
        finally:
            with suppress(OSError):
                place.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A hidden place beside that path, no other writer's, for what is renamed into it when it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}-{THIS_PROCESS}-{next(WRITES)}.writing")


def sync_names(folder: Path) -> None:
    """Bring a folder's new names to the disk too, where the system can: a power cut must not undo a rename."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def errors_name_place(path: Path) -> Iterator[None]:
    """Say of a write that fails which place it was for, why, and what to do about it."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if full else "choose a place that can be written to"
        raise ModisteError(
            f"cannot write {path}: {error.strerror}; what was saved before is intact; {remedy} and run it again"
        ) from None


def check_writable(path: Path) -> None:
    """ModisteError if a file cannot be written there: asked before long work, so that it is not lost after it."""
    with errors_name_place(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def refuse_foreign_file(path: Path, named_in: Path | None = None) -> None:
    """UsageError where a file lies in the place of an output and does not say that Modiste wrote it (`marks.is_ours`).

    Asked before long work; also of folders and of links that lead nowhere. `named_in` may name the file as ours.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and a file is to be written there; choose another place with --out")
    if os.path.lexists(path) and not is_ours(path, named_in):
        raise UsageError(
            f"{path} is there and does not say that Modiste wrote it as it is, so it is not replaced; move it away, or "
            "choose another place with --out"
        )


def refuse_foreign_folder(path: Path, what: str, ours: Sequence[str]) -> None:
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
def locked(path: Path, work: str) -> Iterator[None]:
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
def exclusive(folder: Path) -> Iterator[None]:
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
def temporary_folder() -> Iterator[Path]:
    """A new folder among the system's temporary files, gone at the end; those of killed processes go first."""
    parent = Path(tempfile.gettempdir())
    sweep(parent.glob(".modiste.*.writing"))
    place = temporary_beside(parent / "modiste")
    with errors_name_place(place):
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
