"""Removal of folders from texts that are published: paths become relative, or names.

Reports, cards, records and exports pass through here. Files needed to resume (recipe.toml, manifest.json, those of
studies and searches) keep full paths.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

BEGINS = re.compile(r"(?<![\w.~/:])(?:~[\w.-]*|\.\.(?:/\.\.)*)?/(?=[^\s/])")
"""The start of a path that leaves the current folder; no fraction and no web address."""
QUOTED = re.compile(r"'([\w.-]*=|)((?:/|~|\.\./)[^'\n]+)'")
"""A path in quotes, also after `key=`."""
LOCAL = re.compile(r"\b(file|sqlite(?:\+\w+)?):/{2,}(\S+)")
NAMES = ("class_names", "classes")
"""Keys of JSON values that are no paths, whatever they look like."""
CLOSING = "'\"`)]}>,;:."


def last_part(word: str) -> str:
    """The last part of a path that leaves the current folder, also after `key=`; any other word unchanged."""
    if _leads_out(word):
        return Path(word).name
    key, equals, value = word.partition("=")
    return f"{key}={Path(value).name}" if equals and _leads_out(value) else word


def published_command(command: Sequence[str]) -> str:
    """The command of a manifest as a person would type it, without folders outside the current one."""
    program, *words = command or ("modiste",)
    return shlex.join(["modiste" if program == "__main__.py" else program, *map(last_part, words)])


def _leads_out(word: str) -> bool:
    return Path(word).is_absolute() or word.startswith("~") or ".." in Path(word).parts


def short_path(path: Path) -> str:
    """The path relative to the current folder; for one outside it, its name alone."""
    path, here = normalised(path), Path.cwd()
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else path.name


def normalised(path: Path) -> Path:
    """The absolute path without `..`, which would reveal further folders."""
    return Path(os.path.normpath(path.absolute()))


def without_folders(text: str, known: Iterable[str | Path] = ()) -> str:
    """The text with every absolute path cut to its last part, or relative to the current folder if it lies there.

    `known` are paths that the text may contain and that may no longer exist. Other paths with spaces end at a quotation
    mark, or where a path of this machine ends.
    """
    text = LOCAL.sub(lambda match: f"{match[1]}:{Path(match[2]).name}", text)
    text = QUOTED.sub(lambda match: shlex.quote(f"{match[1]}{_short(match[2])}"), text)
    for path in sorted({str(normalised(Path(one))) for one in known if _leads_out(str(one))}, key=len, reverse=True):
        if path != os.sep:
            text = re.sub(re.escape(path) + r"(?![\w-])", short_path(Path(path)).replace("\\", "\\\\"), text)
    here = str(Path.cwd())
    if here != os.sep:
        text = re.sub(r"(?<![\w.~/])" + re.escape(here) + "/(?=[^\\s/])", "", text)
    parts, place = [], 0
    while match := BEGINS.search(text, place):
        end = _end(text, match.start())
        path = text[match.start() : end].rstrip("/")
        is_path = path.count("/") > 1 or path.startswith((".", "~")) or _exists(path)  # `/5` is no path
        parts += [text[place : match.start()], Path(path).name if is_path else text[match.start() : end]]
        place = end
    return "".join([*parts, text[place:]])


def _short(path: str) -> str:
    return short_path(Path(path)) if Path(path).is_absolute() else Path(path).name


def _end(text: str, start: int) -> int:
    """The end of the path that starts there."""
    line = text.find("\n", start)
    line = len(text) if line < 0 else line
    if start and text[start - 1] in "'\"`" and (close := text.find(text[start - 1], start, line)) > 0:
        return close
    word = re.compile(r"\S+").match(text, start)
    end = start + len(word[0].rstrip(CLOSING)) if word else start + 1
    for longer in range(line, end, -1):  # with spaces in it
        if not text[longer : longer + 1].isalnum() and _exists(text[start:longer]):
            return longer
    return max(end, start + 1)


def _exists(path: str) -> bool:
    with suppress(OSError, RuntimeError, ValueError):  # the home folder of an unknown user
        return os.path.lexists(Path(path).expanduser())
    return False


def without_paths(tree: Any, known: Iterable[str | Path] = ()) -> Any:
    """A JSON value with `without_folders` applied to all its strings."""
    known = tuple(known)
    if isinstance(tree, Mapping):
        return {key: value if key in NAMES else without_paths(value, known) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_paths(value, known) for value in tree]
    if not isinstance(tree, str):
        return tree
    is_sentence = re.search(r"\s", tree)  # which may begin with a path
    return without_folders(tree if is_sentence else last_part(tree), known)
