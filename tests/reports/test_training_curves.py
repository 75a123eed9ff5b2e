"""Curves: which are drawn, and nothing where one point is all there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_lab import study_of

from modiste import files as safe_files
from modiste import runs
from modiste.metrics import metric_names
from modiste.reports import inputs, training_curves
from modiste.reports.blocks import Gallery, Paragraph

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_a_run_has_its_accuracies_in_one_chart(measured_run: Path) -> None:
    charts = {one.name: one for one in training_curves.curves(inputs.open_path(measured_run))}
    assert list(charts) == ["curve-losses", "curve-accuracies"]
    (axes,) = charts["curve-accuracies"].figure.axes
    assert [line.get_label() for line in axes.lines][:2] == ["real images", "generated images"]
    assert axes.get_ylim() == (0, 1.02)


def test_a_study_tells_generated_from_real_images_by_dashes(measured_run: Path, tmp_path: Path) -> None:
    comparison = inputs.open_path(study_of(measured_run, tmp_path / "study", {"a": (1.0,), "b": (2.0,)}, None))
    charts = {one.name: one for one in training_curves.curves(comparison)}
    assert list(charts) == ["curve-loss-g", "curve-loss-d", "curve-accuracies"]
    lines = charts["curve-accuracies"].figure.axes[0].lines
    assert [line.get_linestyle() for line in lines][:4] == ["-", "-", "--", "--"]


def test_held_out_distance_is_a_curve_from_its_second_value_on(run: Path) -> None:
    log = runs.Run(run).read_log()
    key = metric_names.heldout_score(log[-1])
    assert key is not None
    lines = [json.dumps({**line, key: float(len(log) - k)}) for k, line in enumerate(log)]
    safe_files.write_text(run / "log.jsonl", "\n".join(lines) + "\n")
    *_, chart = training_curves.curves(inputs.open_path(run))
    assert chart.name == "curve-heldout"
    assert list(chart.figure.axes[0].lines[0].get_ydata()) == [float(len(log) - k) for k in range(len(log))]


def test_one_tick_is_no_curve(run: Path) -> None:
    log = runs.Run(run).read_log()
    safe_files.write_text(run / "log.jsonl", json.dumps(log[-1]) + "\n")
    section = training_curves.curve_section(inputs.open_path(run))
    assert section is not None and not any(isinstance(block, Gallery) for block in section.blocks)
    assert isinstance(section.blocks[0], Paragraph) and "a curve needs two" in section.blocks[0].text
