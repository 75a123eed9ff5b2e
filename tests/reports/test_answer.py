"""The answer: verdict, ranks and alarms of a study."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_lab import folder_of, shown, study_of

from modiste.evaluation import records
from modiste.experiments import conclusions, results
from modiste.reports import (
    answer,
    inputs,
    report,
    scores,
    summary,
)
from modiste.reports.blocks import Bullets, Fold, Lead, Section, Table

pytestmark = pytest.mark.usefixtures("closet_judge")


def answered(comparison: inputs.Comparison) -> tuple[Section, Table]:
    findings = conclusions.conclude(comparison.read_score_rows())
    return answer.answer(summary.ranked(comparison, findings), findings)


def test_a_study_ranks_tells_apart_and_names_what_failed(measured_run: Path, tmp_path: Path) -> None:
    effects = {"good": (1.0, 1.01, 1.02, 1.0), "twin": (1.01, 1.0, 1.0, 1.03), "bad": (5.0, 5.1, 4.9, 5.0)}
    study = study_of(measured_run, tmp_path / "study", effects, ("twin", 3))
    written = report.report(study)
    table = written.report.summary
    assert [row[0] for row in table.rows][2:] == ["bad", "real images", "trivial"]
    ranks = {str(row[0]): str(row[1]) for row in table.rows}
    assert ranks["good"].endswith("a") and ranks["bad"].endswith("b")
    text = shown(written.html)
    assert "good and twin are better than bad" in text
    assert re.search(r"good and twin cannot be told apart", text)
    assert "1 of 12 runs failed" in text and "twin, seed 3 failed: the loss is not finite" in text
    comparison = inputs.open_path(study)
    score = comparison.of_kind("frechet")
    assert score is not None
    rows = results.read(study)
    mean = float(np.exp(np.mean(np.log(list(results.values(rows, score)["good"].values())))))
    assert "By the geometric mean of the Fréchet distance in the features of the judge closet over 4 " in text
    assert "Fréchet distance: geometric" in text
    assert records.format_number(mean) in text


def test_the_alarms_of_a_study_are_a_line_for_each_kind(measured_run: Path, tmp_path: Path) -> None:
    study = study_of(
        measured_run, tmp_path / "study", {"calm": (1.0, 1.0), "loud": (1.0, 1.0), "odd": (1.0, 1.0)}, ("odd", 1)
    )
    missing_and_copies = {
        ("loud", 0): (["Coat"], 7),
        ("loud", 1): (["Coat", "Bag"], 0),
        ("odd", 0): (["Bag"], 0),
        ("calm", 0): ([], 0),
        ("calm", 1): ([], 0),
    }
    for (name, seed), (missing, exact) in missing_and_copies.items():
        place = folder_of(study, "runs") / f"{name}-seed{seed}" / "metrics.json"
        record = records.read(place)
        shares = [0.0 if label in missing else 0.1 for label in record.protocol.reference.class_names]
        details = {
            "class_balance_tv": {"frequencies": shares, "images": 1000},
            "near_duplicates_pixels": {"exact": exact, "near": exact, "expected_near": 5.0},
            "frechet": {},
        }
        scores = {
            full: replace(score, details=details[score.kind])
            for full, score in record.scores.items()
            if score.kind in details
        }
        records.write(place, replace(record, scores=scores))
    first, _ = answered(inputs.open_path(study))
    doubts, *lists = [block for block in first.blocks if isinstance(block, Bullets)]
    assert len(doubts.items) == 1 and "few images (50 per run)" in doubts.items[0]
    assert [list(one.items) for one in lists] == [
        ["exact copies of training images: loud 1/2", "classes that are hardly ever made: loud 2/2, odd 1/1"]
    ]
    _, fold = [block for block in first.blocks if isinstance(block, Fold)]
    (each,) = [block for block in fold.blocks if isinstance(block, Bullets)]
    assert len(each.items) == 4 and "loud, seed 1: classes that are hardly ever made: Coat, Bag" in each.items


def test_one_seed_gives_no_verdict(measured_run: Path, tmp_path: Path) -> None:
    study = study_of(measured_run, tmp_path / "study", {"good": (1.0,), "bad": (9.0,)}, None)
    first, _ = answered(inputs.open_path(study))
    assert isinstance(first.blocks[0], Lead)
    assert "no verdict on any pair is possible" in first.blocks[0].text
    assert "better" not in first.blocks[0].text


def test_a_study_of_one_configuration_has_nothing_to_compare(measured_run: Path, tmp_path: Path) -> None:
    comparison = inputs.open_path(study_of(measured_run, tmp_path / "study", {"alone": (1.0, 1.1, 1.2)}, None))
    first, _ = answered(comparison)
    assert isinstance(first.blocks[0], Lead) and "the only configuration" in first.blocks[0].text
    assert scores.verdict_blocks(conclusions.conclude(comparison.read_score_rows())) == []


def test_a_mean_over_fewer_seeds_does_not_come_first(measured_run: Path, tmp_path: Path) -> None:
    effects = {"lucky": (1.0, 9.0), "steady": (1.1, 1.2)}
    first, _ = answered(inputs.open_path(study_of(measured_run, tmp_path / "study", effects, ("lucky", 1))))
    assert isinstance(first.blocks[0], Lead)
    assert first.blocks[0].text.startswith("steady, of the 1 that have all 2 seeds, comes nearest")


def test_a_pair_that_learned_nothing_was_not_tested(measured_run: Path, tmp_path: Path) -> None:
    effects = {"one": (19.8, 19.81, 19.79, 19.8), "two": (18.0, 18.01, 17.99, 18.0)}  # 20 is the trivial baseline
    first, _ = answered(inputs.open_path(study_of(measured_run, tmp_path / "study", effects, None)))
    text = repr(first.blocks)
    assert "Nothing has been learned yet" in text and "no verdict on any pair is possible" in text
    assert "cannot be told apart with so few seeds" not in text
