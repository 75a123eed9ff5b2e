"""The estimate of a study's time and disk."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from modiste import config
from modiste.data.sets import native_data, open_data
from modiste.errors import ModisteError
from modiste.evaluation import evaluate
from modiste.evaluation.evaluate import extractors_for
from modiste.experiments import estimate, monitor, plan, runner, studies, study_config
from modiste.experiments.runner import Job, JobResult
from modiste.metrics import features

COMMAND = [sys.executable, "-m", "modiste"]
QUIET = Console(quiet=True)
PATIENCE_SECONDS = 400  # for a machine that does other things


def test_a_training_that_judges_itself_is_predicted_longer(study_file: Path, tmp_path: Path) -> None:
    run = plan.expand(study_config.load(study_file), tmp_path / "out")[0]
    seconds = []
    for every in (0, 100):
        changes = {"train.images": 250, "evaluate.every_images": every, "evaluate.count": 50}
        changed = replace(run, recipe=config.override(run.recipe, changes))
        seconds.append(estimate._row(changed, 10.0, 1, 20.0, 1000)["training_seconds"])
    assert seconds == [25, 25 + 3 * 20 * 50 / 1000]  # after 100, 200 and the last 250 images


@pytest.mark.slow
def test_calibration_predicts_time_and_disk(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 1.0)
    study = study_config.revise(study_config.load(study_file), seeds=1)
    told = estimate.table(study, plan.expand(study, tmp_path / "out"), 1, True, print)
    done = studies.study(study, tmp_path / "out", console=QUIET)
    size = sum(path.stat().st_size for path in (tmp_path / "out/runs").rglob("*") if path.is_file())
    assert told["bytes"] == pytest.approx(size, rel=0.7)
    assert told["configurations"][0]["images_per_second"] > 10
    assert told["seconds"] >= sum({row.configuration: row.seconds for row in done.read_rows()}.values())


def test_a_dry_run_takes_a_part_of_the_study(
    study_file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains for a part of a run at most, evaluates nothing, and knows whether the real images were measured."""
    asked: list[str] = []

    def carry_out(job: runner.Job) -> str:
        asked.extend(job.commands[0])
        return next(runner.run_locally([job], 1, lambda: False, lambda: None))[1]

    monkeypatch.setattr(runner, "run_job", carry_out)
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: pytest.fail("an evaluation"))
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    study = study_config.revise(study_config.load(study_file), seeds=1, budget="0.4s", evaluate={"count": 5000})
    planned = plan.expand(study, tmp_path / "out")
    told = estimate.table(study, planned, 1, True, lambda _: None)
    budgets = [asked[k + 1] for k, word in enumerate(asked) if word == "--budget"]
    assert budgets == ["0.100s"] * 2
    assert not (tmp_path / "cache/scores").exists(), "nothing is measured of the real images"
    each, first = told["configurations"][0]["evaluation_seconds"], told["first_evaluation_seconds"]
    assert told["seconds"] == pytest.approx(2 * (0.4 + each + 2 * monitor.START_SECONDS) + first, abs=3) and each > 0
    assert first > 0
    recipe = planned[0].recipe
    real = open_data(native_data(recipe.data), part="test")
    train = open_data(native_data(recipe.data).model_copy(update={"count": recipe.data.count}), part="train")
    for extractor in extractors_for(native_data(recipe.data), real, None, False)[0]:
        for images in (real, train):
            features.extract(extractor, images, cached=True)
    again = estimate.table(study, planned, 1, True, lambda _: None)
    assert again["first_evaluation_seconds"] == 0


def test_a_calibration_mirrors_nothing(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []
    monkeypatch.setattr(runner, "run_job", lambda job: seen.append(job) or JobResult("failed", "stopped"))
    study = study_config.load(study_file)
    planned = plan.expand(study, tmp_path / "out", "mlflow")
    assert "--track" in planned[0].commands[0]
    with pytest.raises(ModisteError, match="cannot be trained: stopped"):
        estimate.table(study, planned, 1, True, print)
    assert "--track" not in seen[0].commands[0] and "mlflow" not in seen[0].commands[0]
