"""Files and folders: marks of authorship, atomic writing, locks.

A file that says in its own content that Modiste wrote it may be replaced; any other is refused. The marks:

    PNG        a text chunk Software: Modiste VERSION
    GIF        a comment
    SVG        a comment before the drawing
    PDF        its Creator
    HTML       <meta name="generator">
    Markdown   a comment as the last line, with a digest of what stands above it: an edited copy is its editor's
    JSON       versions.modiste, of a record in its protocol, of a manifest at the top
    npz        the member digital_source_type, which no other program writes
    Parquet    a note in the file's key-value metadata

Files of versions without marks are recognised by content that only Modiste writes, where there is such content.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from modiste.environment import __version__
from modiste.errors import ModisteError, UsageError

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
    """Whether the file is marked as written by Modiste, or `named_in`, a marked file, names it."""
    with suppress(OSError, ValueError, zipfile.BadZipFile, struct.error):  # an unreadable file counts as the user's
        if _says_so(path):
            return True
        return named_in is not None and is_ours(named_in) and is_named(path.name, named_in)
    return False


def is_named(name: str, place: Path) -> bool:
    """Whether a record or a page of Markdown names this file, plainly or as the last part of an address."""
    with suppress(OSError, UnicodeEncodeError):
        spellings = b"|".join(re.escape(spelling.encode()) for spelling in (name, quote(name)))
        return re.search(rb'[/"(](' + spellings + rb')[")]', place.read_bytes()) is not None
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
    """Whether a PNG, GIF, SVG, PDF, HTML, JSON, Markdown or LaTeX file's content is marked as written by Modiste."""
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
    """The content of a PNG, GIF or SVG file with a mark added; unchanged if marked already or of another kind."""
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


def text_with_mark(text: str, start: str = "<!-- ", end: str = " -->") -> str:
    """Markdown, or text with other marks of comments, with the mark as its last line."""
    return f"{text.strip()}\n\n{start}{NOTE}; {_digest(text.encode())}{end}\n"


def _is_our_text(content: bytes) -> bool:
    mark = re.search(rb"\n(?:<!--|%) written by Modiste \S+; ([0-9a-f]{16})(?: -->)?", content)
    if mark is None:
        return EARLIER_TEXT.match(content) is not None
    is_last = not content[mark.end() :].strip()
    return is_last and _digest(content[: mark.start()]) == mark[1].decode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text.replace(b"\r\n", b"\n").strip()).hexdigest()[:16]


THIS_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Part of temporary names, since machines may share a folder."""
THIS_PROCESS = f"{THIS_MACHINE}{uuid.uuid4().hex[:8]}"
"""Part of temporary names, since process numbers are given again."""
WRITES = itertools.count()
SWEPT: set[Path] = set()
"""The folders this process has written into."""
UNFINISHED = re.compile(r"^\..+\.(\d{1,9})-(\w+)-\d+\.writing$")
"""The names of `temporary_beside`: process number, THIS_PROCESS, number of the write."""
LEAST_TRIED, LEAST_ROOM = 2**20, 2**26
"""A disk with less room is full: bytes that can be written, and bytes that the system reports free."""
ELSEWHERE_SECONDS = 24 * 60 * 60.0
"""Unfinished files of other machines are left alone for so long: whether their process lives is unknown here."""


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_text(path, as_json(tree))


def as_json(tree: Mapping[str, Any]) -> str:
    """Indented JSON, the form of all of Modiste's JSON files."""
    return json.dumps(tree, indent=2) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: at every instant the old content or the new one is there, never a part."""
    place = temporary_beside(path)
    sweep_once(path.parent)
    with errors_name_place(path):
        try:
            write_synced(place, content)
            place.replace(path)
            sync_names(path.parent)
        finally:
            with suppress(OSError):
                place.unlink(missing_ok=True)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file to the disk itself, for a rename that follows."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def temporary_beside(path: Path) -> Path:
    """A hidden, unique path in the same folder, to be renamed to that path when it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}-{THIS_PROCESS}-{next(WRITES)}.writing")


def sync_names(folder: Path) -> None:
    """Write a folder's names to the disk itself, where the system can: a power cut must not undo a rename."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to make files in before they are renamed; removed at the end.

    Parents that had to be made for it are removed too if they stay empty.
    """
    place = temporary_beside(path.absolute())
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        with errors_name_place(path):
            place.mkdir(parents=True)
            sweep_once(place.parent)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


@contextmanager
def atomic_folder(path: Path) -> Iterator[tuple[Path, Callable[[str, str | bytes], None]]]:
    """Replace a whole folder atomically: a temporary folder that becomes `path` at the end, and a writer of its files.

    An earlier folder moves aside before the rename and is then removed. If the process is killed between the two,
    `recover_folder` moves it back.
    """

    def write(name: str, content: str | bytes) -> None:
        with errors_name_place(path / name):
            write_synced(place / name, content.encode() if isinstance(content, str) else content)

    with folder_beside(path) as place:
        yield place, write
        target = path.absolute()  # `.` has no name to put another one beside
        with errors_name_place(path), exclusive(target.parent):
            sync_names(place)
            if target.exists():
                target.rename(temporary_beside(target).with_suffix(".replaced"))
            try:
                place.rename(target)
            except BaseException:
                _put_back(target)
                raise
            sync_names(target.parent)
            _put_back(target)


def recover_folder(path: Path) -> None:
    """Move a folder back that `atomic_folder` had moved aside when it was killed, or remove it if it was replaced."""
    path = path.absolute()
    if _moved_aside(path):
        with errors_name_place(path), exclusive(path.parent):  # waits for a process that is still replacing it
            _put_back(path)


def _put_back(path: Path) -> None:
    for aside in sorted(_moved_aside(path), key=lambda folder: folder.stat().st_mtime_ns, reverse=True):
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)


def _moved_aside(path: Path) -> list[Path]:
    """The earlier folders of this path, under names that nothing else has."""
    name = re.compile(re.escape(f".{path.name}.") + r"\d+-\w+-\d+\.replaced")
    return [folder for folder in path.parent.glob(".*.replaced") if name.fullmatch(folder.name) and folder.is_dir()]


@contextmanager
def errors_name_place(path: Path) -> Iterator[None]:
    """Turn an OSError into a ModisteError that names the place, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if full else "choose a place that can be written to"
        raise ModisteError(
            f"cannot write {path}: {error.strerror}; what was saved before is intact; {remedy} and run it again"
        ) from None


def check_writable(path: Path) -> None:
    """ModisteError if a file cannot be written there; called before long work whose result it will hold."""
    with errors_name_place(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def refuse_foreign_file(path: Path, named_in: Path | None = None) -> None:
    """UsageError where an output's path holds a folder, a dead link, or a file without Modiste's mark (`is_ours`).

    Called before long work. `named_in` is a marked file that may name this one.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and a file is to be written there; choose another place with --out")
    if os.path.lexists(path) and not is_ours(path, named_in):
        raise UsageError(
            f"{path} is there and does not say that Modiste wrote it as it is, so it is not replaced; move it away, or "
            "choose another place with --out"
        )


def refuse_foreign_folder(path: Path, what: str, ours: Sequence[str]) -> None:
    """UsageError when a folder holds entries unlike `ours` (patterns), and so is no `what` ("run folder"), or a file is
    where it or a folder above it should be.

    Locks, empty folders and unfinished files are accepted: a start that was cut off leaves them.
    """

    def is_foreign(entry: Path) -> bool:
        known = any(map(entry.match, ours)) or _is_lock(entry) or UNFINISHED.search(entry.name)
        return not known and (not entry.is_dir() or any(entry.iterdir()))

    there = next((place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place)), path)
    if not there.is_dir():
        raise UsageError(f"{there} is a file and not a folder; choose another with --out")
    if path.is_dir() and (foreign := sorted(entry.name for entry in path.iterdir() if is_foreign(entry))):
        raise UsageError(f"{path} holds other files ({foreign[0]}) and is no {what}; choose another with --out")


def refuse_changed(expected: Mapping[Path, str], what: str) -> None:
    """UsageError where one of these files exists with another text than the one to be written."""
    for path, text in expected.items():
        if path.is_file() and path.read_bytes().replace(b"\r\n", b"\n").strip() != text.encode().strip():
            raise UsageError(
                f"{path} is there with another text than this {what} would write there, so it is not replaced; move it "
                "away, or choose another folder with --out"
            )


def _is_lock(path: Path) -> bool:
    """Whether a `.lock` file is a lock: empty, or on systems without file locks the number of its process."""
    if path.name != ".lock" or not path.is_file():
        return False
    return not path.stat().st_size or re.match(rb"\d+\s", path.read_bytes()) is not None


def has_room(folder: Path) -> bool:
    """Whether the disk of a folder has room for more than a few small files; called after a write has failed."""
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
    """Lock a folder for this process, creating it if need be; InUse when another process holds it.

    `work` names what is done there, for the message: training, study. ModisteError where no lock can be made.
    """
    lock = filelock.FileLock(path / ".lock")
    if (path / ".lock").is_file() and not _is_lock(path / ".lock"):  # a lock would empty it
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
    """Wait until no other process or thread is renaming in this folder; leaves no lock file.

    Without effect where the system has no such locks.
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
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder in `parent` or the system's temporary folder, removed at the end; first those of ended processes
    go."""
    parent = parent or Path(tempfile.gettempdir())
    sweep(parent.glob(".modiste.*.writing"))
    place = temporary_beside(parent / "modiste")
    with errors_name_place(place):
        place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep_once(folder: Path) -> None:
    """Remove unfinished files of ended processes from a folder, when this process first writes into it."""
    place = folder.absolute()
    if place not in SWEPT:
        SWEPT.add(place)
        with suppress(OSError):
            sweep(place.glob(".*.writing"))


def sweep(unfinished: Iterable[Path]) -> None:
    """Remove those of these paths that have a name of `temporary_beside` and whose process has ended."""
    for path in list(unfinished):
        with suppress(OSError):  # it does no harm
            if (name := UNFINISHED.search(path.name)) and not _is_being_written(path, int(name[1]), name[2]):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_being_written(path: Path, number: int, process: str) -> bool:
    """Whether the process in a temporary name is alive, as far as this machine knows."""
    if os.name != "posix" or (len(process) == len(THIS_PROCESS) and not process.startswith(THIS_MACHINE)):
        return time.time() - path.lstat().st_mtime < ELSEWHERE_SECONDS  # on Windows os.kill would end the process
    if number == os.getpid():
        return process == THIS_PROCESS
    try:
        os.kill(number, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # another user's process
    return True
