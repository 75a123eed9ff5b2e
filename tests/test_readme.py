"""Every command of README and tutorial, and README's Python example, in short: toy garments, a few updates."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from pages import blocks, commands

from modiste import cli
from modiste.data import toy
from modiste.latent import encoder
from modiste.sampling import writers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SHORT = {
    "train.images": 32,
    "train.batch_size": 16,
    "train.tick_images": 16,
    "train.threads": 1,
    "train.precision": "float32",
}


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
        again = ["--dry-run"] if "--dry-run" not in words else []
        return [*words, *again, *(["--no-calibration"] if words[1] == "study" else [])]
    if words[1] == "report":  # the studies are not there
        return [*words[:2], "runs/first"]
    if words[1] == "project":
        return [*words[:3], "closet.npz", *words[4:], "--count", "2", "--steps", "2"]
    if words[1] == "blind":  # of the few test images
        return [*words, "--trials", "20"]
    if words[1] == "detect":  # of the few images that are held out
        return [*words, "--alpha", "0.2", "--steps", "1"]
    small = {"fashion-mnist": "closet.npz", "1000": "16", "100": "2", "6000": "2"}
    return [small.get(word, word) for word in words]


def save_closet(folder: Path) -> None:
    """160 training and 100 test images of drawn garments, 28 pixels wide, where the commands find them."""
    train, test = (toy.draw(count, 28, seed) for count, seed in ((160, 7), (100, 8)))
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez(folder / "closet.npz", class_names=np.array(train.class_names), **arrays)


@pytest.mark.parametrize("name", ["README", pytest.param("tutorial", marks=pytest.mark.slow)])
def test_every_modiste_command_of_the_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = {"README": README, "tutorial": TUTORIAL}[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoder, "SAMPLES", 64)
    save_closet(tmp_path)
    photos = toy.draw(64, size=40)
    writers.write(photos, range(64), tmp_path / "photos", "folder")
    if name == "README":
        writers.write(toy.draw(32, size=28), range(32), tmp_path / "set.npz", "npz")
    for block in blocks(page, "toml"):
        (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    closets_judge = ["modiste", "judge", "train", "--data", "closet.npz", "--epochs", "1"]  # as Fashion-MNIST has one
    listed = dict.fromkeys(tuple(shortened(words)) for words in commands(page, "modiste"))  # each once
    ending = [list(words) for words in listed if words[1] != "studio"]  # which tests/studio/test_server.py ends
    for words in [closets_judge, *ending]:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, (words, capsys.readouterr().err)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


def test_the_readme_names_every_command() -> None:
    named = {words[1] for words in commands(README, "modiste")}
    assert named == set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(README, "python")
    assert "2_000" in example
    save_closet(tmp_path)
    scope: dict[str, object] = {}
    exec(example.replace("2_000", "64").replace("count=500", "count=16").replace('"toy"', '"closet.npz"'), scope)
    images = scope["images"]
    assert isinstance(images, np.ndarray) and images.shape == (16, 1, 28, 28) and images.dtype == np.uint8


def test_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    targets = {words[1] for words in commands(text, "make")}
    assert len(targets) > 5
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
