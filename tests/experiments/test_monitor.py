"""What a study tells of its way: each run's stage, and how long the rest takes."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modiste import config, progress, runs
from modiste.config import Recipe
from modiste.errors import UsageError
from modiste.experiments import monitor, studies, study_config
from modiste.experiments.monitor import START_SECONDS, StudyProgress, TimeLeft
from modiste.experiments.plan import RunSpec
from modiste.experiments.studies import StudyOptions
from modiste.training import trainer


def planned(name: str, recipe: Recipe, folder: Path, gflop: float = 1.0) -> RunSpec:
    return RunSpec(name, 0, recipe, folder / f"{name}-seed0", "tiny", {}, gflop_per_image=gflop)


def test_a_run_s_standing_is_what_its_folder_says(tiny: Recipe, tmp_path: Path) -> None:
    one = planned("one", tiny, tmp_path, gflop=0.5)
    assert monitor.study_progress(one) == StudyProgress("waiting")
    timed = replace(one, recipe=config.override(tiny, {"train.budget_seconds": 40.0}))
    assert monitor.study_progress(timed) == StudyProgress("waiting", 0.0, 40.0)
    run = trainer.train(tiny, one.folder, console=progress.console(quiet=True))
    assert monitor.study_progress(one) == StudyProgress("judging", 1.0, 0.0)
    runs.update_manifest(run, status="running")
    runs.write_log(run, [{**run.read_log()[0], "images": 80, "seconds": 10.0}])  # a quarter, written a moment ago
    there = monitor.study_progress(one)
    assert there.stage == "training" and there.seconds == pytest.approx(30, abs=1)
    assert there.share == pytest.approx(0.25, abs=0.02) and there.gflop_per_second == pytest.approx(4)
    assert monitor.study_progress(timed).seconds == pytest.approx(30, abs=1)
    short = replace(one, recipe=config.override(tiny, {"train.budget_seconds": 16.0}))
    assert monitor.study_progress(short).seconds == pytest.approx(6, abs=1)


def test_the_rest_is_counted_and_what_is_unknown_is_said(tiny: Recipe, tmp_path: Path) -> None:
    a, b = planned("a", tiny, tmp_path), planned("b", tiny, tmp_path, gflop=3.0)  # 320 images each
    known = {"a-seed0": StudyProgress("training", 0.5, 100.0, 2.0), "b-seed0": StudyProgress("waiting")}
    assert monitor.time_left([a, b], known, [], 1) == TimeLeft(100 + 320 * 3 / 2 + START_SECONDS, 2, None, 1)
    assert monitor.time_left([a, b], known, [20.0, 40.0], 2) == TimeLeft(
        (100 + 320 * 3 / 2 + START_SECONDS) / 2, 2, 30.0, 2
    )
    assert str(TimeLeft(60.0, 3, None, 1)) == "about 1 min 00 s of training and 3 evaluations left"
    assert str(TimeLeft(60.0, 3, 10.0, 2)) == "about 1 min 15 s left"
    begun = monitor.time_left([a, b], known, [20.0, 40.0], 2, begun=[12.0, 99.0])
    assert (
        begun == TimeLeft((100 + 320 * 3 / 2 + START_SECONDS) / 2, 2, 30.0, 2, 42.0)
        and str(begun) == "about 5 min 02 s left"
    )
    assert str(TimeLeft(None, 2, None, 1)) == "2 evaluations left" and str(TimeLeft(0.0, 0, 5.0, 1)) == ""


def test_a_forecast_falls_by_what_has_passed(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of 100 seconds, judged for 300 each, one after the other; nothing is slower than foreseen."""
    clock = 0.0
    both = [planned(name, config.override(tiny, {"train.budget_seconds": 100.0}), tmp_path) for name in "ab"]

    def standing(run: RunSpec) -> StudyProgress:
        passed = clock - (0 if run is both[0] else 400)
        if passed <= 0:
            return StudyProgress("waiting", 0.0, 100.0)
        left = 100 - passed
        return StudyProgress("training", passed / 100, left, 1.0) if left > 0 else StudyProgress("judging", 1.0, 0.0)

    monkeypatch.setattr(monitor, "study_progress", standing)
    monkeypatch.setattr(monitor.time, "monotonic", lambda: clock)
    told = io.StringIO()
    with monitor.progress_reporter(Console(file=told), "pair", both, both, 1) as reporter:
        while clock < 800:
            clock += 1
            reporter.poll()
            if clock in (400, 800):
                reporter.end(both[clock == 800], "done")
    lines = told.getvalue().splitlines()
    assert lines[0] == "pair: 0 of 2 runs, 0%, about 3 min 30 s of training and 2 evaluations left"
    assert [line for line in lines if not line.startswith("pair")] == [
        "a-seed0: training",
        "a-seed0: trained; judging its images",
        "a-seed0: done  (1 of 2 runs, 50%, about 6 min 45 s left)",
        "b-seed0: training",
        "b-seed0: trained; judging its images",
        "b-seed0: done  (2 of 2 runs, 100%)",
    ]

    def seconds(words: str) -> int:
        return sum(int(number) * {"min": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+) (min|s)\b", words))

    left = [seconds(line.partition("about")[2]) for line in lines if "about" in line and "evaluation" not in line]
    assert left == sorted(left, reverse=True) and 395 <= left[0] <= 405
    training = [seconds(line.partition("about")[2]) for line in lines if "of training" in line]
    assert training == sorted(training, reverse=True)
    shares = [int(share) for share in re.findall(r"(\d+)%", told.getvalue())]
    assert max(shares[:-1]) < 100 and len(set(left)) == len(left) >= 6


@pytest.mark.parametrize(
    ("budget", "count"),
    [("20s", 2_000), ("59s", 2_000), ("60s", 10_000), ("5min", 10_000), ("6400 images", 2_000),
     ("60000 images", 10_000), ("3 epochs", 10_000), (None, 10_000)],
)  # fmt: skip
def test_short_runs_are_judged_by_fewer_images(budget: str | None, count: int, tmp_path: Path) -> None:
    asked, _ = studies.resolve_study(study_config.Study(recipes=("swift",), budget=budget), tmp_path / "out")
    assert asked.evaluate.count == count
    for said in (500, 10_000):
        asked, _ = studies.resolve_study(
            study_config.Study(recipes=("swift",), budget=budget), tmp_path / "out", StudyOptions(count=said)
        )
        assert asked.evaluate.count == said


def test_a_study_that_was_begun_keeps_its_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one of a version that judged every budget alike; and a reference that is given says nothing of a count."""
    short: Any = study_config.Study(recipes=("swift",), budget="20s")
    asked, path = studies.resolve_study(short, tmp_path / "out", StudyOptions(reference="heldout"), progress.console())
    assert (asked.evaluate.count, asked.evaluate.reference) == (2_000, "heldout")
    assert "2,000 generated images" in capsys.readouterr().err
    path.mkdir()
    tree = '{"study": "", "hash": "", "threads": 1, "configurations": {}, "evaluate": {"count": 10000}, "runs": []}'
    (path / "plan.json").write_text(tree, encoding="utf-8")
    assert studies.resolve_study(short, path, console=progress.console())[0].evaluate.count == 10_000
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError):
        study_config.default_count(study_config.Study(recipes=("swift",), budget="soon"))
