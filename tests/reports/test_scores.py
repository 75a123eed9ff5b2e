"""The scores of a study: every seed, between noise and real images."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_lab import study_of

from modiste.experiments import conclusions
from modiste.plotting import charts
from modiste.reports import inputs, scores, summary

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_distances_stand_on_a_logarithmic_axis_in_rank_order_and_in_their_colours(
    measured_run: Path, tmp_path: Path
) -> None:
    comparison = inputs.open_path(
        study_of(measured_run, tmp_path / "study", {"bad": (9.0, 8.0), "good": (1.0, 2.0)}, None)
    )
    findings = conclusions.conclude(comparison.read_score_rows())
    score = comparison.of_kind("frechet")
    assert score is not None
    (axes,) = scores.dot_chart(summary.ranked(comparison, findings), score).figure.axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["good", "bad"]
    means = [str(line.get_color()) for line in axes.lines if line.get_gid() == "mean"]
    assert means == [charts.LINES[1], charts.LINES[0]]
    assert scores.score_section(comparison, findings) is not None


def test_a_single_run_has_rulers_instead(measured_run: Path) -> None:
    comparison = inputs.open_path(measured_run)
    assert scores.score_section(comparison, conclusions.conclude(comparison.read_score_rows())) is None
