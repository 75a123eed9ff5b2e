"""What the tests of searches share: a space file, and trials without training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from small_space import HEAD, RATES, WIDTHS, written

from modiste import config
from modiste.config import Recipe
from modiste.experiments.runner import JobResult
from modiste.experiments.search import trials


@pytest.fixture
def file(tiny: Recipe, closet: Path, tmp_path: Path) -> Path:
    """A space of learning rates and widths around a recipe file beside it; three trials of ten updates."""
    recipe = config.override(tiny, {"data.name": str(closet), "data.resize": None, "train.images": 160})
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    return written(tmp_path, f"{HEAD}trials = 3\nfinalists = {{ count = 1, seeds = 2 }}\n[space]\n{RATES}\n{WIDTHS}\n")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No training at all: the score of a trial is its learning rate; the folders' names, in order."""
    names: list[str] = []

    def train(worker: Any, trial: Any, planned: Any, stopped: Any) -> tuple[JobResult, trials.TrialMonitor]:
        names.append(planned.name)
        time.sleep(0.02)
        result = JobResult("failed", "it exploded") if planned.recipe.network.z_dim == 13 else JobResult("finished")
        return result, trials.TrialMonitor(worker, trial, planned)

    def measured(worker: Any, planned: Any) -> tuple[float, dict[str, Any]]:
        return planned.recipe.train.lr_generator, {"score": "frechet_x_40_heldout", "gflop_per_image": 1.0}

    monkeypatch.setattr(trials, "_train", train)
    monkeypatch.setattr(trials, "measured", measured)
    monkeypatch.setattr(trials, "WAITING_SECONDS", 0.05)
    return names
