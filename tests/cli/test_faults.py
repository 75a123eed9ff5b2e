"""Commands that are killed at any change of the disk or find it full: what follows is as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modiste
from modiste import config
from modiste.config import Recipe
from modiste.data import toy

LAB = Path(__file__).with_name("fault_lab.py")

STUDY = """
about = "Does the learning rate matter?"
seeds = 1
threads = 1
evaluate.count = 30
grid.train.lr_generator = [1e-4, 2e-3]
[[configuration]]
name = "tiny"
recipe = "tiny.toml"
"""
SEARCH = """
about = "A little search."
recipe = "tiny.toml"
sampler = "random"
evaluate.count = 30
trials = 2
finalists = { count = 1, seeds = 1 }
[space]
"train.lr_generator" = { low = 1e-4, high = 1e-2, log = true }
"""
SET = ["sample", "mine", "--out", "set.npz", "--per-class", "4"]
REPLACED = ["export", "handed-on", "--pretrained"]
AUGMENT = ["augment", "closet.npz", "--out", "aug", "--recipe", "tiny.toml", "--budgets", "20", "--seeds", "1",
           "--steps", "4", "--count", "20"]  # fmt: skip
COMMANDS = {
    "set": SET,
    "replaced": REPLACED,
    "study": ["study", "rates.toml", "--out", "rates"],
    "search": ["search", "little.toml", "--out", "little"],
    "augment": AUGMENT,
    "sample": ["sample", "mine", "--out", "made", "--per-class", "2", "--format", "huggingface"],
    "export": ["export", "mine", "--onnx"],
    "report": ["report", "mine"],
    "evaluate": ["evaluate", "mine", "--count", "40"],
}
GROWING = ["/runs/", "/generator/", "rates/records", "finalists/0/records", "finalists/1/records", "aug/records",
           "aug/report", "aug/accuracy", "arms.jsonl", "space.toml", "/workers/"]  # fmt: skip
"""Tables and logs that are written anew after each run or piece, and run folders, which test_resume.py looks at."""

HOW = ("kill", "full")

posix = pytest.mark.skipif(os.name != "posix", reason="forks")


@pytest.fixture
def laboratory(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose template has a small data set, a short run of it, a recipe, a study and a search space."""
    root = tmp_path / "lab"
    work = root / "template" / "work"
    for place in ("cache", "tmp", "work"):
        (root / "template" / place).mkdir(parents=True)
    train, test = toy.draw(60, 16, 7), toy.draw(30, 16, 8)
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez(work / "closet.npz", class_names=np.array(train.class_names), **arrays)
    short = {"data.name": "closet.npz", "data.resize": None, "data.count": None, "train.images": 32,
             "train.tick_images": 16}  # fmt: skip
    recipe = config.override(tiny, short)
    (work / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    (work / "rates.toml").write_text(STUDY, encoding="utf-8")
    (work / "little.toml").write_text(SEARCH, encoding="utf-8")
    monkeypatch.chdir(work)
    monkeypatch.setenv("MODISTE_CACHE", str(root / "template" / "cache"))
    modiste.train(recipe, "mine")
    modiste.export_pretrained("mine", "handed-on")  # with no scores, which the next export has
    modiste.evaluate("handed-on", count=40)
    shutil.rmtree(root / "template" / "cache")
    (root / "template" / "cache").mkdir()
    return root


def lab(root: Path, tasks: list[dict[str, Any]], seconds: float = 500) -> list[dict[str, Any]]:
    """What the laboratory says of these commands."""
    done = subprocess.run(
        [sys.executable, str(LAB), str(root)], input=json.dumps(tasks), capture_output=True, text=True, timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def right(found: list[dict[str, Any]]) -> None:
    """Nothing went wrong, and the faults were met."""
    for one in found:
        assert not one["wrong"], "\n".join([" ".join(one["words"]), *one["wrong"]])
        assert one["changes"] >= 4 and one["endings"], one


@posix
def test_killed_without_room_or_two_at_a_time(laboratory: Path) -> None:
    """A set of one file with its card, and an export that replaces an earlier one, whose two renamings take turns: at
    some of the changes they make.
    """
    tasks = [
        {"words": words, "how": how, "at": at}
        for words in (SET, REPLACED)
        for how, at in (("kill", 4), ("full", [3]), ("twice", 1))
    ]
    found = lab(laboratory, tasks)
    right(found)
    for one, other in zip(found[::3], found[1::3], strict=True):
        assert set(one["endings"]) == {"SIGKILL"} and len(one["endings"]) == 4
        assert other["endings"][0] == "exit 1"


@posix
def test_an_evaluation_killed_or_without_room(laboratory: Path) -> None:
    """While it fills the cache, which it can do without, and while it writes its record, the last thing."""
    words = ["evaluate", "mine", "--count", "20"]
    right(lab(laboratory, [{"words": words, "how": "kill", "at": [-1]}, {"words": words, "how": "full", "at": [6]}]))


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full", "disk", "random", "twice"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_fault(command: str, how: str, laboratory: Path) -> None:
    """SIGKILL at 21 random instants in all, among others."""
    if command == "search":
        pytest.importorskip("optuna")
    if how == "disk" and os.geteuid() != 0:
        pytest.skip("only root makes a disk")
    slow = command in ("report", "export")
    at: Any = {"kill": 3 if slow else 8, "full": 2 if slow else 5, "disk": [0, 16, 100], "random": 3, "twice": 2}[how]
    found = lab(laboratory, [{"words": COMMANDS[command], "how": how, "at": at, "grows": GROWING}], seconds=3000)
    if command == "search":  # a trial that is made again has another number, and so other names: see test_search.py
        found[0]["wrong"] = [line for line in found[0]["wrong"] if "at " in line.partition(":")[0]]
    right(found)
