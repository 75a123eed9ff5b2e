"""The pages: generated ones are up to date, links lead somewhere, commands have options that exist."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pages import blocks, commands

from modiste import cli, config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "docs" / "lab" / "README.md"])
WITH_COMMANDS = [page for page in PAGES if page.name != "CHANGELOG.md"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    found = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    pages = generate.pages()
    assert {path.name for path in pages} == {"cli.md", "recipes.md"}
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make docs`"


def test_the_page_of_commands_has_every_option(generate: ModuleType) -> None:
    page = generate.cli_page()
    for name, command in leaves():
        (section,) = re.findall(rf"^## modiste {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        for parameter in command.params:
            assert f"{parameter.opts[0].upper()}" in section.upper(), (name, parameter.opts)
        assert "```sh\nmodiste " in section, name


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", {})
        if not inner or command.invoke_without_command:
            yield name, command
        for word, below in inner.items():
            yield f"{name} {word}", below


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    known_commands = dict(leaves())
    keys = {row["key"] for row in config.describe_keys()}
    for words in (found[1:] for found in commands(path.read_text(encoding="utf-8"), "modiste")):
        if words[0] in ("NAME", "--help"):  # a command to be written, and no command
            continue
        name = " ".join(words[:2]) if " ".join(words[:2]) in known_commands else words[0]
        known = ["--help", *(text for one in known_commands[name].params for text in (*one.opts, *one.secondary_opts))]
        for word in words:
            assert not word.startswith("--") or word in known, f"modiste {' '.join(words)}"
        for key in re.findall(r"--set (\w+\.\w+)=", " ".join(words)):
            assert key in keys, f"{key} in modiste {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if heading:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert heading in anchors, f"{path.name} links to {target}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_contributors_are_sent_to_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z]+/)+[a-z_.]+\.(?:py|md|toml))`", text))
    assert len(named) > 5
    for file in named:
        assert (ROOT / file).exists() or (ROOT / "src" / "modiste" / file).exists(), file


def test_every_python_snippet_of_the_shipped_generator_runs() -> None:
    page = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    (snippet,) = blocks(page, "python")
    scope: dict[str, Any] = {}
    exec(snippet, scope)
    assert scope["bags"].shape == (16, 1, 28, 28)
