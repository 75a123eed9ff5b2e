"""The README's commands and its Python example, in their short form: toy garments, a few updates."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from modiste import cli
from modiste.data import toy
from modiste.sampling import writers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VERBS = {
    "train",
    "sample",
    "evaluate",
    "judge",
    "data",
    "recipes",
    "doctor",
    "study",
    "search",
    "report",
    "export",
    "augment",
    "verify",
}
SHORT = {
    "train.images": 32,
    "train.batch_size": 16,
    "train.tick_images": 16,
    "train.threads": 1,
    "train.precision": "float32",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == program]


def shortened(words: list[str]) -> list[str]:
    if words[1] == "train":
        toys = [] if "--data" in words else ["--data", "closet.npz"]
        return [*words, *toys, *(part for key, value in SHORT.items() for part in ("--set", f"{key}={value}"))]
    if words[1] == "evaluate":
        toys = [] if "runs/photos" in words else ["--data", "closet.npz"]
        return [*words, *toys, "--count", "16"]
    if words[1:3] == ["judge", "train"]:
        return [*words, "--epochs", "1"]
    if words[1] in ("study", "search"):  # their own tests train
        return [*words, "--dry-run", *(["--no-calibration"] if words[1] == "study" else [])]
    if words[1] == "report":  # the README's studies are not there
        return [*words[:2], "runs/mine"]
    small = {"fashion-mnist": "toy", "1000": "16", "6000": "2"}
    return [small.get(word, word) for word in words]


def save_closet(folder: Path) -> None:
    """300 training and 200 test images of drawn garments, 28 pixels wide, where the commands find them."""
    train, test = (toy.draw(count, 28, seed) for count, seed in ((300, 7), (200, 8)))
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez(folder / "closet.npz", class_names=np.array(train.class_names), **arrays)


def test_every_modiste_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_closet(tmp_path)
    photos = toy.draw(64, size=40)
    writers.write(photos, range(64), tmp_path / "photos", "folder")
    (tmp_path / "mine.toml").write_text('name = "mine"\n[data]\nresize = 32\n', encoding="utf-8")
    listed = commands("modiste")
    assert len(listed) >= 14 and {words[1] for words in listed} == VERBS
    closets_judge = ["modiste", "judge", "train", "--data", "closet.npz", "--epochs", "1"]  # as Fashion-MNIST has one
    for words in [closets_judge, *map(shortened, listed)]:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, (words, capsys.readouterr().err)
    assert (tmp_path / "sneakers.png").is_file() and (tmp_path / "runs" / "mine-2" / "progress.gif").is_file()


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    assert "2_000" in example
    save_closet(tmp_path)
    scope: dict[str, object] = {}
    exec(example.replace("2_000", "64").replace('"toy"', '"closet.npz"'), scope)
    images = scope["images"]
    assert isinstance(images, np.ndarray) and images.shape == (16, 1, 28, 28) and images.dtype == np.uint8


def test_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [words[1] for words in commands("make")]
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"\]\(([\w./-]+)\)", README)) | set(re.findall(r"`([\w/-]+\.md)`", README))
    assert len(named) >= 4
    for name in named:
        assert (ROOT / name).is_file(), name


def test_the_table_of_recipes_is_the_one_that_the_command_prints() -> None:
    printed = CliRunner().invoke(cli.app, ["recipes", "--markdown"]).output.strip()
    assert printed.count("\n") > 15
    assert printed in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
