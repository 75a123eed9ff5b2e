"""A study and a search that the last version wrote go on in this one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import modiste
from modiste import runs
from modiste.experiments import results, studies
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.search import search, spaces
from modiste.reports import inputs

FOLDERS = Path(__file__).with_name("last_version")
"""Two configurations of toy garments over seeds 0 and 1, and one of three trials beside an interrupted one; by commit
85418d7, without logs, pictures and the states of finished runs."""
QUIET = Console(quiet=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / "study", tmp_path / "study"))


@pytest.fixture
def small_search(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / "search", tmp_path / "search"))


def earlier_values() -> list[tuple[str, int, str, float | None]]:
    lines = map(json.loads, (FOLDERS / "study/records.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["configuration"], line["seed"], line["score"], line["value"]) for line in lines]


def current_values(folder: Path) -> list[tuple[str, int, str | None, float | None]]:
    return [(row.configuration, row.seed, row.score, row.value) for row in results.read(folder)]


def test_the_runs_of_a_study_are_reused(study: Path, here: list[str]) -> None:
    folder = modiste.study(study, console=QUIET)
    assert here == [] and folder.is_finished()
    assert current_values(study) == earlier_values()
    old = (json.loads(line) for line in (FOLDERS / "study/records.jsonl").read_text(encoding="utf-8").splitlines())
    for row, line in zip(folder.read_rows(), old, strict=True):
        assert (row.real, row.trivial) == (line["floor"], line["ceiling"])
    with (study / "records.csv").open(newline="", encoding="utf-8") as lines:
        assert tuple(next(csv.reader(lines))) == results.COLUMNS
    before, now = studies.open_study(FOLDERS / "study").read_plan(), folder.read_plan()
    assert now.differences(before) == [] and now.hash == before.hash
    assert len(inputs.open_path(study).records) == 4


@pytest.mark.slow
def test_a_seed_is_added_to_a_study(study: Path, here: list[str]) -> None:
    folder = modiste.study(study, seeds=3, console=QUIET)
    assert here == ["tiny-seed2", "faster-seed2"] and folder.is_finished()
    found = current_values(study)
    assert found[: len(earlier_values())] == earlier_values()
    assert len({row.protocol_hash for row in folder.read_rows()}) == 1 and {seed for _, seed, *_ in found} == {0, 1, 2}


def test_the_trials_of_a_search_are_read(small_search: Path) -> None:
    pytest.importorskip("optuna")
    space = spaces.load(small_search)
    worker = search._open(space, ExperimentFolder(small_search, "search"), None, QUIET)
    finished, again, waiting = worker.read_rows()
    assert (finished.state, again.state, waiting.state) == ("finished", "queued again", "waiting")
    record = json.loads((small_search / finished.folder / "metrics-heldout.json").read_text(encoding="utf-8"))
    assert finished.value == record["scores"][finished.score]["value"]
    assert 1e-4 <= finished.settings["train.lr_generator"] <= 1e-2 and again.folder == waiting.folder


@pytest.mark.slow
def test_a_search_goes_on_with_its_interrupted_trial(small_search: Path, here: list[str]) -> None:
    pytest.importorskip("optuna")
    found = modiste.search(small_search, console=QUIET)
    assert here == ["trial-0001", "trial-0003"] and found.finished
    assert [row.state for row in found.trials] == ["finished", "queued again", "finished", "finished"]
    assert runs.Run(small_search / "runs/trial-0001").read_manifest().status == "finished"
    assert found.trials[2].settings == found.trials[1].settings
