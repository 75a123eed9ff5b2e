"""Data that cannot be learned from or compared: every command says so in one sentence, before it makes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modiste import config
from modiste.config import Recipe

PIXELS = np.random.default_rng(0).integers(0, 256, (80, 16, 16), dtype=np.uint8)
LABELS = np.repeat(np.arange(4), 20)
TURNS = np.arange(80) % 4


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of sets, each of which is wrong in one way."""
    colour, large = np.stack([PIXELS, PIXELS // 2, PIXELS], 3), PIXELS.repeat(2, 1).repeat(2, 2)
    for name, test in (("colour", colour), ("size", large)):
        np.savez(tmp_path / f"{name}.npz", x_train=PIXELS, y_train=TURNS, x_test=test, y_test=TURNS)
    np.savez(tmp_path / "stranger.npz", x_train=PIXELS, y_train=TURNS % 3, x_test=PIXELS, y_test=TURNS)
    np.savez(tmp_path / "sorted.npz", images=PIXELS, labels=LABELS, class_names=["a", "b", "c", "d"])
    return tmp_path


def commands(recipe: Recipe, folder: Path, data: Path, **changes: Any) -> dict[str, list[object]]:
    """What a user would type, by command, into the folder out."""
    own = {"data.name": str(data), "data.resize": None, "data.count": None, **changes}
    (folder / "tiny.toml").write_text(config.to_toml(config.override(recipe, own)), encoding="utf-8")
    head = 'about = "little"\n'
    (folder / "study.toml").write_text(
        f'{head}evaluate.reference = "heldout"\n[[configuration]]\nname = "tiny"\nrecipe = "tiny.toml"\n'
    )
    (folder / "space.toml").write_text(
        f'{head}recipe = "tiny.toml"\n[space]\n"train.lr_generator" = {{ low = 1e-4, high = 1e-2 }}\n'
    )
    np.savez(folder / "made.npz", images=PIXELS)
    out = folder / "out"
    return {
        "data": ["data", data, "--out", out],
        "train": ["train", folder / "tiny.toml", "--out", out],
        "dry": ["train", folder / "tiny.toml", "--out", out, "--dry-run"],
        "judge": ["judge", "train", "--data", data, "--epochs", 1, "--out", out / "judge"],
        "study": ["study", folder / "study.toml", "--out", out],
        "search": ["search", folder / "space.toml", "--trials", 1, "--out", out],
        "augment": ["augment", data, "--recipe", folder / "tiny.toml", "--out", out],
        "evaluate": ["evaluate", folder / "made.npz", "--data", data, "--count", 40, "--out", out / "record.json"],
    }


def made(folder: Path) -> list[Path]:
    """What a command left behind, but for the lock of a folder."""
    return [path for path in (folder / "out").rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("colour", "the training images are grey and the test images in colour"),
        ("size", "the training images are 16 x 16 and the test images 32 x 32 pixels"),
        ("stranger", "no training image has label 3, and a test image does"),
    ],
)
def test_test_images_of_another_kind_are_refused_by_every_command(
    call: Any, tiny: Recipe, files: Path, name: str, said: str
) -> None:
    pytest.importorskip("optuna")
    for command, words in commands(tiny, files, files / f"{name}.npz").items():
        code, out, err = call(*words)
        assert code == 1 and said in err and out == "", command
        assert err.strip().count("\n") == 0 and not made(files), command


def test_classes_that_no_training_image_has_are_refused_by_every_command(call: Any, tiny: Recipe, files: Path) -> None:
    pytest.importorskip("optuna")
    asked = commands(tiny, files, files / "sorted.npz", **{"data.count": 36})
    for command in ("train", "dry", "study", "search"):
        code, out, err = call(*asked[command])
        assert code == 2 and "has no image of the classes 'c', 'd', so nothing can be learned of them" in err, command
        assert "raise data.count, or mix the order of the images" in err, command
        assert out == "" and not made(files), command
    unconditional = commands(tiny, files, files / "sorted.npz", **{"network.conditioning": "none", "data.count": 36})
    assert call(*unconditional["dry"])[0] == 0  # classes do not matter to it


def test_what_was_left_out_is_said_and_printed(call: Any, tiny: Recipe, tmp_path: Path) -> None:
    """EMNIST's letters begin with label 1: no class 0 is learned, sampled or offered."""
    np.savez(tmp_path / "letters.npz", images=PIXELS, labels=TURNS + 1)
    said = "warning: letters: no image is of the class '0', so there are 4 classes and not 5"
    asked = commands(tiny, tmp_path, tmp_path / "letters.npz")
    shown = call("data", tmp_path / "letters.npz", "--out", tmp_path / "shown")
    assert said in shown[2] and " 0  " not in shown[1]
    code, out, err = call(*asked["train"])
    assert code == 0 and said in err and "--class 4 " in out
    code, out, err = call("sample", tmp_path / "out", "--class", "1", "--count", 3, "--out", tmp_path / "one.png")
    assert code == 0 and "wrote 3 images of the class '1' (label 0) to" in out
    code, out, err = call("sample", tmp_path / "out", "--class", "0", "--count", 3, "--out", tmp_path / "none.png")
    assert code == 2 and "its classes are '1' (label 0), '2' (label 1)" in err and not (tmp_path / "none.png").exists()
    code, out, err = call("evaluate", tmp_path / "out", "--reference", "heldout", "--count", 20)
    assert code == 0 and said in err


def test_a_run_is_reported_and_measured_where_test_images_have_no_labels(
    call: Any, tiny: Recipe, tmp_path: Path
) -> None:
    np.savez(tmp_path / "secret.npz", x_train=PIXELS, y_train=TURNS, x_test=PIXELS[::-1], y_test=TURNS * 0 - 1)
    asked = commands(tiny, tmp_path, tmp_path / "secret.npz")
    assert call(*asked["train"])[0] == 0
    code, _, err = call("evaluate", tmp_path / "out", "--count", 20)
    assert code == 0 and "the test images have no labels, and the training images have some" in err
    code, _, err = call("evaluate", tmp_path / "out", "--count", 20, "--classifier")
    assert code == 2 and "--classifier needs labels, and secret test has none; add them" in err
    assert call("report", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| class | train |" in page and "| class | train | test |" not in page
