"""The tables: scores on rulers, ranks and their letters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_lab import study_of

from modiste.evaluation import records, rulers
from modiste.experiments import conclusions
from modiste.reports import inputs, summary
from modiste.reports.blocks import Mark

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_each_score_of_a_run_stands_on_its_ruler(run: Path) -> None:
    record = records.read(run / "metrics.json")
    score = record.first("frechet")
    assert score is not None and score.trivial is not None
    learned = replace(score, value=0.05 * score.trivial, uncertainty=0.01 * score.trivial)
    records.write(run / "metrics.json", replace(record, scores={**record.scores, str(score.name): learned}))
    table = summary.run_rulers(inputs.open_path(run))
    assert table is not None
    rows = {str(row[0]): row[1] for row in table.rows}
    assert list(rows)[:4] == [
        "Fréchet distance (FID)",
        "kernel distance (KID)",
        "inception-style score (IS)",
        "precision",
    ]
    found, mark = rulers.ruler(learned), rows["Fréchet distance (FID)"]
    assert found is not None and isinstance(mark, Mark) and 0 < found.position < 1
    assert (mark.position, mark.text) == (found.position, f"{found.position:.0%}")
    assert mark.span is not None and mark.span[0] < mark.position < mark.span[1]
    precision = record.first("precision_k3")
    assert precision is not None and precision.real is not None
    for trivial, is_said in ((precision.real + 0.1, True), (precision.real / 2, False)):
        entry = replace(precision, trivial=trivial)
        records.write(run / "metrics.json", replace(record, scores={**record.scores, str(precision.name): entry}))
        shown = summary.run_rulers(inputs.open_path(run))
        assert shown is not None and ("precision begins at 0 instead" in shown.caption) == is_said


def test_a_study_is_told_in_rank_order_and_keeps_its_colours(measured_run: Path, tmp_path: Path) -> None:
    effects = {"bad": (9.0, 9.0), "good": (1.0, 1.0), "middling": (3.0, 3.0)}
    comparison = inputs.open_path(study_of(measured_run, tmp_path / "study", effects, None))
    findings = conclusions.conclude(comparison.read_score_rows())
    ranked = summary.ranked(comparison, findings)
    assert [one.name for one in ranked.configurations] == ["good", "middling", "bad"]
    assert ranked.palette == comparison.palette == ("bad", "good", "middling")
    table = summary.study_rulers(ranked)
    assert table is not None
    assert [row[0] for row in table.rows] == ["good", "middling", "bad", "real images", "noise"]
    positions = [row[1].position for row in table.rows if isinstance(row[1], Mark)]
    assert len(positions) == 3 and positions == sorted(positions, reverse=True)


def test_groups_beyond_z_have_letters_of_their_own() -> None:
    assert [summary._letter(number) for number in (0, 25, 26, 51, 52)] == ["a", "z", "a1", "z1", "a2"]
