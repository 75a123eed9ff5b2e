"""What is handed on names no folder of the machine it was made on: paths become relative, or names.

Reports, cards, records and exports pass through here; what a training goes on from (recipe.toml, manifest.json, a
study's and a search's files) keeps full paths.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

BEGINS = re.compile(r"(?<![\w.~/:])(?:~[\w.-]*|\.\.(?:/\.\.)*)?/(?=[^\s/])")
"""Where a path out of the current folder begins in a text; not a fraction's stroke and not a web address."""
QUOTED = re.compile(r"'([\w.-]*=|)((?:/|~|\.\./)[^'\n]+)'")
"""A path that a shell needs quoted, also after `key=`."""
LOCAL = re.compile(r"\b(file|sqlite(?:\+\w+)?):/{2,}(\S+)")
NAMES = ("class_names", "classes")
"""What is no path, whatever it looks like."""
CLOSING = "'\"`)]}>,;:."


def last_part(word: str) -> str:
    """The last part of a path out of the current folder, also after `key=`; any other word as it is."""
    if _leads_out(word):
        return Path(word).name
    key, equals, value = word.partition("=")
    return f"{key}={Path(value).name}" if equals and _leads_out(value) else word


def _leads_out(word: str) -> bool:
    return Path(word).is_absolute() or word.startswith("~") or ".." in Path(word).parts


def short_path(path: Path) -> str:
    """What to type for a place from here; for one outside the current folder its name alone."""
    path, here = normalised(path), Path.cwd()
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else path.name


def normalised(path: Path) -> Path:
    """The path from the root, without `..` in it: that would name folders which are nobody's business."""
    return Path(os.path.normpath(path.absolute()))


def without_folders(text: str, known: Iterable[str | Path] = ()) -> str:
    """The text with every absolute path as its last part, or relative to the current folder where it lies there.

    `known` are paths that the text may name and that may be gone; of others that hold spaces the end is found where a
    quotation mark is, or by what there is on this machine.
    """
    text = LOCAL.sub(lambda found: f"{found[1]}:{Path(found[2]).name}", text)
    text = QUOTED.sub(lambda found: shlex.quote(f"{found[1]}{_short(found[2])}"), text)
    for path in sorted({str(normalised(Path(one))) for one in known if _leads_out(str(one))}, key=len, reverse=True):
        if path != os.sep:
            text = re.sub(re.escape(path) + r"(?![\w-])", short_path(Path(path)).replace("\\", "\\\\"), text)
    here = str(Path.cwd())
    if here != os.sep:
        text = re.sub(r"(?<![\w.~/])" + re.escape(here) + "/(?=[^\\s/])", "", text)
    parts, place = [], 0
    while found := BEGINS.search(text, place):
        end = _end(text, found.start())
        path = text[found.start() : end].rstrip("/")
        whole = path.count("/") > 1 or path.startswith((".", "~")) or _is_there(path)  # `/5` is no path
        parts += [text[place : found.start()], Path(path).name if whole else text[found.start() : end]]
        place = end
    return "".join([*parts, text[place:]])


def _short(path: str) -> str:
    return short_path(Path(path)) if Path(path).is_absolute() else Path(path).name


def _end(text: str, start: int) -> int:
    """Where the path ends that begins there."""
    line = text.find("\n", start)
    line = len(text) if line < 0 else line
    if start and text[start - 1] in "'\"`" and (close := text.find(text[start - 1], start, line)) > 0:
        return close
    word = re.compile(r"\S+").match(text, start)
    end = start + len(word[0].rstrip(CLOSING)) if word else start + 1
    for longer in range(line, end, -1):  # with spaces in it
        if not text[longer : longer + 1].isalnum() and _is_there(text[start:longer]):
            return longer
    return max(end, start + 1)


def _is_there(path: str) -> bool:
    with suppress(OSError, RuntimeError, ValueError):  # of a user whom nobody knows
        return os.path.lexists(Path(path).expanduser())
    return False


def without_paths(tree: Any, known: Iterable[str | Path] = ()) -> Any:
    """JSON values as they may be handed on, see `without_folders`."""
    known = tuple(known)
    if isinstance(tree, Mapping):
        return {key: value if key in NAMES else without_paths(value, known) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_paths(value, known) for value in tree]
    if not isinstance(tree, str):
        return tree
    return without_folders(
        tree if re.search(r"\s", tree) else last_part(tree), known
    )  # a sentence may begin with a path
