"""Linear arms: in an experiment, and where a judge or a discriminator is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support import JobsHere

from modiste import config, runs
from modiste.config import Data, Recipe
from modiste.data import toy
from modiste.errors import ModisteError, UsageError
from modiste.experiments import runner
from modiste.experiments.augmentation import arms, experiment, linear
from modiste.experiments.augmentation.arms import CLASSICAL, LINEAR
from modiste.experiments.augmentation.augment import augment
from modiste.sampling import discriminators
from modiste.training import trainer

QUIET = Console(quiet=True)


def test_an_experiment_with_features(
    closet: Path, closet_judge: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = JobsHere()
    monkeypatch.setattr(runner, "run_locally", jobs.run_locally)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(config.to_toml(config.override(tiny, {"train.images": 32})), encoding="utf-8")
    words = {"budgets": (40,), "seeds": (0,), "steps": 1, "count": 10, "recipe": recipe, "console": QUIET}
    found = augment(closet, tmp_path / "one", features=True, **words)
    rows = {(row.seed, row.arm.name): row for row in found.read_rows()}
    assert found.is_finished() and len(rows) == 8 and {name for _, name in rows} >= set(LINEAR)
    row = rows[0, "linear on judge"]
    assert row.real == row.images == 40 and row.synthetic == 0 and sum(map(sum, row.confusion)) == row.tested == 200
    assert row.accuracy > rows[0, "linear on pixels"].accuracy - 0.1
    assert not any("linear" in text for text in found.read_answer())  # of one seed nothing is said
    assert "| linear on judge | 1 |" in (tmp_path / "one" / "report.md").read_text()
    assert "## 40 labels, 1 steps per arm" in (tmp_path / "one" / "report.md").read_text()
    with pytest.raises(UsageError, match="only --seeds and --budgets can be given, not --features"):
        augment(tmp_path / "one", features=True, console=QUIET)
    with pytest.raises(UsageError, match="holds another experiment"):
        augment(closet, tmp_path / "one", **words)
    settings = tmp_path / "one" / "settings.toml"  # of an older version, which knew no such arms
    lines = settings.read_text().splitlines(keepends=True)
    first = next(k for k, line in enumerate(lines) if line.startswith("features"))
    last = next(k for k in range(first, len(lines)) if "]" in lines[k])
    settings.write_text("".join(lines[:first] + lines[last + 1 :]))
    assert not any(arm.is_linear for arm in experiment.all_arms(experiment.read(tmp_path / "one")[0]))


def test_a_run_brings_its_discriminator(
    closet: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = JobsHere()
    monkeypatch.setattr(runner, "run_locally", jobs.run_locally)
    changes = {"data.name": str(closet), "data.count": None, "data.resize": None, "data.split": "fit"}
    run = trainer.train(config.override(tiny, {**changes, "train.images": 32}), tmp_path / "run", console=QUIET)
    words = {"seeds": (0,), "steps": 1, "count": 10, "console": QUIET, "features": True}
    found = augment(run.path, tmp_path / "one", **words)
    assert {row.arm.name for row in found.read_rows()} >= {"linear on pixels", "linear on discriminator"}
    copied = runs.Run(tmp_path / "one" / "all-seed0" / "generator")
    assert discriminators.exists(copied) and not (copied.path / "state").exists()
    for state in runs.states(run):
        state.unlink()
    with pytest.raises(UsageError, match="was kept without its discriminator, of whose features to learn"):
        augment(run.path, tmp_path / "two", **words)
    assert not (tmp_path / "two").exists()


def test_a_judge_that_is_gone(closet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=toy.draw(40, 16, 5).pixels, labels=toy.draw(40, 16, 5).labels)
    assert linear.available(Data(name=str(tmp_path / "own.npz"))) == ("pixels", "discriminator")
    with pytest.raises(ModisteError, match="with which the experiment was begun, is no longer there"):
        linear.extractor("judge", tmp_path, Data(name=str(tmp_path / "own.npz")))


def test_linear_arms_come_last_and_only_where_asked_for() -> None:
    plain = arms.arms_for((0.5,), ("none",), False)
    more = arms.arms_for((0.5,), ("none",), False, ("pixels", "judge"))
    assert more[: len(plain)] == plain and [arm.name for arm in more[len(plain) :]] == [
        "linear on pixels", "linear on judge",
    ]  # fmt: skip
    assert not any(arm.is_linear or arm.kind == CLASSICAL for arm in plain[2:])
