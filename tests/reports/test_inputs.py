"""Inputs of a report: which records are a run's, and what a study's runs are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_lab import study_of

from modiste import runs
from modiste.evaluation import records
from modiste.experiments import results
from modiste.reports import (
    answer,
    inputs,
)
from modiste.reports.blocks import Paragraph

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_a_record_of_other_weights_or_other_images_is_not_shown_as_the_runs(run: Path) -> None:
    record = records.read(run / "metrics.json")
    for changed in (
        replace(record, source={**record.source, "hash": "0" * 16}),
        replace(record, protocol=replace(record.protocol, generator={**record.protocol.generator, "truncation": 0.5})),
    ):
        records.write(run / "metrics.json", changed)
        (member,) = inputs.open_path(run).members
        assert member.record is None and "other weights" in member.reason
        (block, *_) = answer.not_measured(inputs.open_path(run))
        assert isinstance(block, Paragraph) and "has no scores of" in block.text and "other weights" in block.text
    records.write(run / "metrics.json", record)
    assert inputs.open_path(run).members[0].record == record


def test_the_shipped_run_is_told_by_what_was_measured_here(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = runs.Run(run, shipped=True)
    monkeypatch.chdir(tmp_path)
    record = records.read(run / "metrics.json")
    (run / "metrics.json").unlink()
    assert results.read_scores(shipped) == results.Scores(None, "it was not evaluated")
    shipped.outputs.mkdir(parents=True)
    records.write(shipped.outputs / "metrics.json", record)
    assert results.read_scores(shipped).record == record


def test_a_run_of_a_study_that_was_evaluated_otherwise_waits_to_be_measured(measured_run: Path, tmp_path: Path) -> None:
    study = study_of(measured_run, tmp_path / "study", {"good": (1.0, 1.0), "bad": (9.0, 9.0)}, None)
    place = study / "runs" / "good-seed1" / "metrics.json"
    record = records.read(place)
    record.protocol.generator["batch_norm_statistics"] = "standing"
    records.write(place, record)
    members = {(one.path.name, one.status, one.record is None) for one in inputs.open_path(study).members}
    assert ("good-seed1", "not measured yet", True) in members and ("good-seed0", "finished", False) in members


def test_a_study_folder_with_the_name_of_a_study_that_ships(
    measured_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_of(measured_run, tmp_path / "diaz", {"good": (1.0,), "bad": (9.0,)}, None)
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in inputs.open_path("diaz").configurations] == ["good", "bad"]


def test_a_run_that_goes_on_is_told_by_its_log(run: Path) -> None:
    runs.update_manifest(runs.Run(run), status="running", images=80, seconds=0.001)
    (member,) = inputs.open_path(run).members
    assert member.read_images() == 320 and member.read_seconds() == member.read_log()[-1]["seconds"]


def test_peaks_are_local_maxima_highest_first() -> None:
    values = [1.0, 5.0, 2.0, 2.0, 9.0, float("nan"), 3.0, 4.0]
    log = [{"epoch": float(k), "loss_g": value} for k, value in enumerate(values)]
    assert inputs.peaks(log) == [(4.0, 9.0), (1.0, 5.0), (7.0, 4.0)]
