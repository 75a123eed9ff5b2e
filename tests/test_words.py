"""One standard term for one thing: the old words are gone from source, help texts, recipes and pages.

CONTRIBUTING.md has the list for readers. `text` words are looked for everywhere, in names, docstrings, comments and
messages alike; `name` words are good English and bad names, so they are looked for in identifiers alone.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Word:
    """An old word as a regular expression, what is said instead, and where the old one may stand, with the reason."""

    pattern: str
    instead: str
    allowed: Mapping[str, str] = field(default_factory=dict)


TEXT = [
    Word(
        "floors?|ceilings?",
        "real baseline, trivial baseline",
        {
            "src/modiste/evaluation/records.py": "reads records of older versions",
            "src/modiste/experiments/": "math.floor",
            "src/modiste/exports/model_card.md": "Math.floor",
            "src/modiste/provenance/watermark.py": "np.floor and the noise floor of signal processing",
        },
    ),
    Word(
        "games?",
        "adversarial loss",
        {"src/modiste/training/losses.py": "a paper's zero-sum game"},
    ),
    Word("errands?", "job"),
    Word("carry_out|carries out", "run"),
    Word("glances?", "poll"),
    Word("gaze|eyes", "report features"),
    Word("strangers?", "foreign"),
    Word("verbs?", "command", {"src/modiste/experiments/conclusions.py": "the verb of a sentence"}),
    Word("house recipes?|house family|house networks|the family", "our recipes, well-known GANs"),
    Word("rooms", "packages, modules"),
    Word("team|partners?", "ProcessGroup, worker"),
]
NAMES = [
    Word("settle[sd]?|settling", "resolve, commit"),
    Word("told|telling", "logged, messages"),
    Word("mine", "own"),
    Word("said|saying", "text, lines"),
    Word("subjects?", "source"),
]
PAGES = {"CONTRIBUTING.md": "the list itself", "docs/lab": "dated texts", "docs/studies": "dated reports"}
"""Where every word may stand."""

FOLDERS = {"src": ("py", "toml", "md", "html"), "benchmarks": ("py",), "docs": ("py", "md")}
FOUND = [path for folder, endings in FOLDERS.items() for end in endings for path in (ROOT / folder).rglob(f"*.{end}")]
SOURCES = [*sorted(FOUND), ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "Makefile"]


def places(word: Word, files: list[Path]) -> Iterator[tuple[str, Path]]:
    """The files in which the word may not stand, by their names."""
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith((*PAGES, *word.allowed)):
            yield name, path


@functools.cache
def lines_of(path: Path) -> list[str]:
    """The lines of a file, as words."""
    return [as_words(line) for line in path.read_text(encoding="utf-8").splitlines()]


@functools.cache
def names_in(path: Path) -> list[tuple[int, str]]:
    """The names that a module gives, with their lines."""
    return list(identifiers(path.read_text(encoding="utf-8")))


def as_words(text: str) -> str:
    """Text in lower case in which CamelCase is parted, so that names are searched like sentences."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """The names that a module gives, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


@pytest.mark.parametrize("word", TEXT, ids=lambda word: word.pattern)
def test_an_old_word_is_nowhere(word: Word) -> None:
    pattern = re.compile(rf"(?<![a-z])(?:{word.pattern})(?![a-z])")
    hits = [
        f"{name}:{number}: {line.strip()}"
        for name, path in places(word, SOURCES)
        for number, line in enumerate(lines_of(path), 1)
        if pattern.search(line)
    ]
    assert not hits, f"say {word.instead}:\n" + "\n".join(hits)


@pytest.mark.parametrize("word", NAMES, ids=lambda word: word.pattern)
def test_an_old_word_is_no_name(word: Word) -> None:
    pattern = re.compile(rf"(?<![a-z])(?:{word.pattern})(?![a-z])")
    modules = [path for path in SOURCES if path.suffix == ".py"]
    hits = [
        f"{name}:{number}: {identifier}"
        for name, path in places(word, modules)
        for number, identifier in names_in(path)
        if pattern.search(as_words(identifier))
    ]
    assert not hits, f"say {word.instead}:\n" + "\n".join(hits)


def test_the_search_sees_names_and_sentences() -> None:
    assert as_words("SettleAll the_game") == "settle_all the_game"
    assert {name for _, name in identifiers("def told(mine):\n    asked = 1\n")} == {"told", "mine", "asked"}
