"""The command `study`: lists, dry runs, tables and wrong use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from modiste.cli import tables
from modiste.experiments import monitor, results, runner, studies, study_config
from modiste.experiments.runner import JobResult
from modiste.reports import report as reports

COMMAND = [sys.executable, "-m", "modiste"]
QUIET = Console(quiet=True)
PATIENCE_SECONDS = 400  # for a machine that does other things


def test_a_dry_run_says_that_fewer_go_on_at_a_time(
    study_file: Path,
    closet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.setattr(studies, "cores", lambda: 5)
    words = ["--set", "train.processes=2", "--set", "train.device=cpu", "--seeds", 1, "--dry-run", "--jobs", 3]
    recipe = ["--recipe", tmp_path / "tiny.toml", "--budgets", 40]
    for verb in (["study", study_file, "--no-calibration"], ["augment", closet, *recipe]):
        code, _, said = call(*verb, *words, "--out", tmp_path / "out")
        assert code == 0 and "2 at a time and not 3: each has up to 2 processes, and there are 5 cores" in said
        code, _, said = call(*verb, *words, "--out", tmp_path / "out", "--ray", "cluster:6379")
        assert code == 0 and "at a time and not" not in said


def test_the_list_and_the_dry_run(study_file: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("study")
    assert code == 0 and "diaz-a, diaz-b, diaz-c" in out
    assert {one["name"] for one in json.loads(call("study", "--json")[1])} == set(study_config.shipped())
    words = (
        "study",
        study_file,
        "--out",
        tmp_path / "out",
        "--seeds",
        "3",
        "--budget",
        "2min",
        "--dry-run",
        "--no-calibration",
    )
    code, out, _ = call(*words)
    assert code == 0 and "6 runs, seeds 0, 1, 2" in out and "evaluations not counted" in out
    told = json.loads(call(*words, "--json")[1])
    assert told["seconds"] == 6 * (120 + 2 * monitor.START_SECONDS) and told["bytes"] is None
    assert len(told["commands"]) == 12 and told["configurations"][0]["images"] == 160
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table(
    study_file: Path,
    here: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., tuple[int, str, str]],
) -> None:
    page = tmp_path / "out" / "report.html"
    with monkeypatch.context() as patch:
        patch.setattr(reports, "report", lambda folder, log: SimpleNamespace(html=folder / "report.html"))
        patch.setenv("FORCE_COLOR", "1")
        patch.setenv("COLUMNS", "80")
        code, out, _ = call("study", study_file, "--out", tmp_path / "out", "--seeds", 1)
    assert code == 0
    table = out[: out.index(tables.DIRECTIONS)]
    assert {"Fréchet", "distance"} <= set(table.split()) and max(map(len, table.splitlines())) <= 80
    assert out.splitlines()[-1] == f"open {page}"
    assert "lr_generator-0.002" in out and "with one seed no verdict is possible" in out
    assert f"wrote {tmp_path / 'out/records.csv'}" in out and "not finished" not in out
    code, out, _ = call("study", tmp_path / "out", "--seeds", 2, "--no-report", "--json")
    told = json.loads(out[out.index('{\n  "study"') :])
    assert code == 0 and told["finished"] and told["rows"] == [row.to_json() for row in results.read(tmp_path / "out")]
    assert told["findings"]["pairs"][0]["verdict"]["reason"] == "two seeds"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study", "dias"], "did you mean 'diaz'"),
        (["study", "diaz", "--seeds", "0"], "--seeds 0 is no possible count of seeds; give one from 1 to 1,000"),
        (["study", "diaz", "--seeds", "99999999999"], "--seeds 99999999999 is no possible count of seeds; give one"),
        (["search", "noronha", "--seeds", "99999999999"], "--seeds 99999999999 is no possible count of seeds; give"),
        (["study", "diaz", "--budget", "soon"], "'soon' is no length"),
        (["study", "diaz", "--set", "train.epoch=1"], "did you mean 'train.epochs'"),
    ],
)
def test_wrong_use(words: list[str], said: str, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call(*words, "--out", tmp_path / "out")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_every_run_failed_is_a_failure(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setattr(
        runner, "run_locally", lambda jobs, *_: ((k, JobResult("failed", "no room")) for k in range(len(jobs)))
    )
    code, out, err = call("study", study_file, "--out", tmp_path / "out")
    assert code == 1 and "failed: no room" in out and "every run of the study failed" in err
