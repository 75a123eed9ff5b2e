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

import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modiste import __version__

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
    return says_so(path.read_bytes())


def _parquet_footer(path: Path) -> bytes:
    """The metadata at a Parquet file's end: their length and PAR1 follow them (Parquet format, File format)."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = struct.unpack("<I", file.read(4))[0]
        file.seek(-8 - length, 2)
        return file.read(length)


def says_so(content: bytes) -> bool:
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


def marked(content: bytes) -> bytes:
    """The content of a PNG, GIF or SVG file with a mark; as it is where it has one, and of other kinds."""
    if says_so(content):
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


def marked_text(text: str) -> str:
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
