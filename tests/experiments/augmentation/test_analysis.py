"""What the results of an augmentation experiment show: comparisons, tables, answers, and the report's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modiste.config import Data
from modiste.experiments.augmentation import analysis, arms, report
from modiste.experiments.augmentation.arms import (
    ALONE,
    BOTH,
    CLASSICAL,
    MIXED,
    REAL,
    REPEATS,
    Arm,
    ArmRow,
    Kind,
    LinearFeatures,
)
from modiste.experiments.augmentation.experiment import Settings

LINEAR: Sequence[LinearFeatures] = ("pixels", "discriminator", "judge")
ARMS = {arm.kind: arm for arm in (*arms.arms_for((0.5,), ("none",), False, LINEAR), Arm(REPEATS))}


def made_up(shifts: Mapping[str, Mapping[Arm | Kind, float]], rare: bool = False) -> list[ArmRow]:
    """Rows of five seeds: the classical arm at 0.8 with some noise, the others that much better, with less noise."""
    random = np.random.default_rng(1)
    base = 0.8 + 0.02 * random.standard_normal(5)
    rows = []
    for budget, shift_of in shifts.items():
        for seed in range(5):
            for arm, shift in shift_of.items():
                value = float(base[seed] + shift + 0.002 * random.standard_normal())
                rows.append(ArmRow(
                    budget, seed, arm if isinstance(arm, Arm) else ARMS[arm], 600, real=20, synthetic=0, ratio=0.5,
                    accuracy=value, confusion=[], images=300 if budget == "all" else int(budget), tested=200,
                    per_class={"left": value + 0.01 * seed, "right": value - 0.01 * seed, "absent": None},
                    rare=value - 0.3 if rare else None,
                ))  # fmt: skip
    return rows


def answer(rows: list[ArmRow], folder: Path = Path("x")) -> list[str]:
    return analysis.answer(rows, analysis.decisive(rows), folder)


def test_verdicts_tables_and_the_answer(tmp_path: Path) -> None:
    rows = made_up({
        "100": {REAL: -0.05, CLASSICAL: 0, MIXED: -0.03, BOTH: 0.04, ALONE: -0.3},
        "all": {REAL: -0.02, CLASSICAL: 0, MIXED: -0.02, BOTH: 0.0, ALONE: -0.2},
    })  # fmt: skip
    found = {(gain.budget, gain.arm.name): gain for gain in analysis.compared(rows, "accuracy")}
    assert len(found) == 8
    best = found["100", BOTH]
    assert best.effect == "helps" and best.difference.mean == pytest.approx(0.04, abs=0.005)
    assert best.verdict.startswith("helps by ") and " ± 0." in best.verdict and best.verdict.endswith(" points")
    assert found["all", MIXED].effect == "harms" and found["all", MIXED].difference.mean == pytest.approx(
        -0.02, abs=0.005
    )
    undecided = found["all", BOTH]
    assert undecided.effect == "cannot be told apart" and undecided.difference.pairs == 5
    raw = [gain.difference.p_value for gain in found.values()]
    corrected = [gain.p_value for gain in found.values() if gain.p_value is not None]
    assert len(corrected) == 8 and min(corrected) == pytest.approx(8 * min(p for p in raw if p is not None))

    said = answer(rows, Path("augment/it"))
    assert said[0].startswith(f"with 100 labels synthetic images help: {BOTH} helps by ")
    assert "augment/it/100-seed*/synthetic*.npz" in said[0]
    assert said[1].startswith(f"with all 300 labels no gain over {CLASSICAL} could be shown, so do not use")
    assert f": in accuracy the best of 3 arms with them, {BOTH}, cannot be told apart" in said[1]
    assert said[1].endswith(f" against {CLASSICAL} (+0.2 points); 2 of the 3 harm")
    assert said[2] == "it helps with 100 labels, and nowhere else"

    heads, body = analysis.table(rows, list(found.values()), "100", "accuracy")
    assert [line[0] for line in body] == [REAL, CLASSICAL, MIXED, BOTH, ALONE] and len(heads) == len(body[0])
    assert float(body[3][3].split()[0]) == pytest.approx(4, abs=0.5)
    assert [line[:2] for line in analysis.per_class(rows, "100")[1]][2] == ["absent", "-"]

    settings = Settings(data=Data(name="toy"), budgets=(100, "all"))
    report.write(tmp_path, settings, rows)
    assert (tmp_path / "report.md").read_text().count("\n| real + both |") == 2
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "accuracy.svg").read_text()
    assert len((tmp_path / "records.csv").read_text().splitlines()) == 51


def test_a_budget_whose_seeds_have_different_counts_is_one_point(tmp_path: Path) -> None:
    """Folds of 101 images per class leave 800 or 810 of all to a seed."""
    rows = made_up({"100": {REAL: -0.05, CLASSICAL: 0, MIXED: 0}, "all": {REAL: 0.05, CLASSICAL: 0.1, MIXED: 0.1}})
    rows = [
        replace(row, images=810 if row.seed else 800, steps=1708 if row.seed else 1697) if row.budget == "all" else row
        for row in rows
    ]
    (axes,) = report.learning_curve(rows).axes
    assert axes.get_xticks().tolist() == [100, 808]
    lines = [np.asarray(line[0].get_ydata(), float) for line in axes.containers]
    of_real = [row.accuracy for row in rows if row.arm.kind == REAL]
    assert lines[0].tolist() == pytest.approx([100 * np.mean(of_real[:5]), 100 * np.mean(of_real[5:])])
    assert answer(rows, tmp_path)[1].startswith("with all 800 to 810 labels ")
    settings = Settings(data=Data(name="toy"), budgets=(100, "all"))
    told = report.report(tmp_path, settings, rows)
    assert "## 800 to 810 labels, 1,697 to 1,708 steps per arm" in told
    assert "the labelled images of the budget `all` are the same for all" in told and "Nadeau" not in told
    own = report.report(tmp_path, settings.model_copy(update={"data": Data(name="own.npz")}), rows)
    assert "another generator" in own and "what they train on overlaps" in own
    of_run = report.report(tmp_path, settings.model_copy(update={"run": "runs/mine"}), rows)
    assert "about this one generator" in of_run and "another generator" not in of_run and "Nadeau" not in of_run


def test_one_budget_is_drawn_arm_by_arm(tmp_path: Path) -> None:
    shifts = {REAL: -0.05, CLASSICAL: 0, REPEATS: 0.05, MIXED: 0.0, BOTH: 0.1, ALONE: -0.3}
    rows = made_up({"100": shifts}, rare=True)
    picture = report.side_by_side(rows)
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == list(shifts)
    for axes, score in zip(picture.axes, ("accuracy", "rare"), strict=True):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        means = [np.mean([getattr(row, score) for row in rows if row.arm.kind == arm]) for arm in shifts]
        assert points == pytest.approx([100 * mean for mean in means])
    report.write(tmp_path, Settings(data=Data(name="toy"), budgets=(100,)), rows)
    assert "labelled real images; means over 5 seeds" in (tmp_path / "accuracy.svg").read_text()


def test_no_use_no_verdict_and_harm() -> None:
    none = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: 0, BOTH: 0, ALONE: -0.3}})
    said = answer(none)
    assert said[-1] == f"no gain over {CLASSICAL} is shown at any budget; do not use it"
    harm = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: -0.1, BOTH: -0.2, ALONE: -0.3}})
    assert answer(harm)[-1] == "it harms; do not use it"
    once = [row for row in harm if row.seed == 0]
    said = answer(once)
    assert len(said) == 1 and "no verdict is possible with one seed" in said[0]
    begun = [row for row in harm if row.seed < 2 and row.arm.kind in (REAL, CLASSICAL)]
    assert "before three seeds are measured in all arms" in answer(begun)[0]
    two = [row for row in harm if row.seed < 2]
    assert {(gain.effect, gain.p_value) for gain in analysis.decisive(two)} == {("no verdict possible", None)}


def test_a_report_says_what_is_not_measured_yet(tmp_path: Path) -> None:
    rows = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: 0, BOTH: 0, ALONE: -0.3}})
    settings = Settings(data=Data(name="toy"), budgets=(100,), seeds=(0, 1, 2, 3, 4))
    assert report.unfinished(tmp_path, settings, rows) == ""
    more = settings.model_copy(update={"budgets": (100, "all")})
    said = "5 of 10 measurements are not finished: all-seed0, all-seed1, all-seed2 and 2 more"
    assert report.unfinished(tmp_path, more, rows) == said
    assert f"- {said}; what follows is about the others so far" in report.report(tmp_path, more, rows)
    assert report.unfinished(tmp_path, settings, rows[:-1]) == "1 of 5 measurements are not finished: 100-seed4"


def test_arms_that_are_not_measured_yet_are_not_the_best() -> None:
    rows = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: -0.1, BOTH: 0.2, ALONE: -0.3}})
    begun = [row for row in rows if row.arm.kind != BOTH or row.seed == 0]
    said = answer(begun)
    assert f"the best of 2 arms with them, {MIXED}, harms by " in said[0]


def test_a_gain_over_harmful_classical_augmentation_is_no_gain() -> None:
    rows = made_up({"100": {REAL: 0.1, CLASSICAL: 0, MIXED: 0.05, BOTH: 0.05, ALONE: -0.3}})
    said = answer(rows)
    assert f"no gain over {REAL} could be shown" in said[0]
    assert said[1].startswith("with 100 labels the classical changes harm, a sign of too few steps (600)")
    assert said[2] == f"no gain over {REAL} is shown at any budget; do not use it"


def test_with_rare_classes_repeating_them_must_be_beaten_too() -> None:
    shifts = {REAL: -0.05, CLASSICAL: 0, REPEATS: 0.05, MIXED: 0.0, BOTH: 0.03, ALONE: -0.3}
    rows = made_up({"100": shifts}, rare=True)
    against = [(gain.arm.kind, gain.against.kind) for gain in analysis.decisive(rows)]
    assert (BOTH, REPEATS) in against and (REPEATS, CLASSICAL) in against and (REAL, REPEATS) not in against
    said = answer(rows)
    assert f"no gain over {REPEATS} could be shown" in said[0]
    assert f"the best of 3 arms with them, {BOTH}, helps by 3." in said[0] and f" against {CLASSICAL}, and " in said[0]
    assert f" against {REPEATS}; 1 of the 3 harms" in said[0] and "harms by 1." in said[0]
    assert said[-1] == f"no gain over {REPEATS} is shown at any budget; do not use it"
    useless = made_up({"100": {**shifts, REPEATS: -0.2, MIXED: 0.0, BOTH: 0.0}}, rare=True)
    said = answer(useless)
    assert f"no gain over {CLASSICAL} could be shown" in said[0] and f"against {REPEATS}" in said[0]
    assert said[-1] == f"no gain over {CLASSICAL} is shown at any budget; do not use it"
    better = made_up({"100": {**shifts, BOTH: 0.1}}, rare=True)
    said = answer(better)
    assert "of the rare classes' accuracy" in said[0] and said[-1] == "it helps with 100 labels"
    assert len(report.learning_curve(better).axes) == 2


def test_what_ratio_and_filter_change_is_compared() -> None:
    some = arms.arms_for((0.25, 0.5), ("none", "distance"), False)
    rows = made_up({"100": {arm: 0.05 * (arm.filter == "distance") for arm in some}})
    found = {gain.arm.name: gain for gain in analysis.compared_variants(rows, "accuracy")}
    assert len(found) == 3 + 3 + 1
    assert found[f"{BOTH}, ratio 0.5, filter none"].against.name == f"{BOTH}, ratio 0.25, filter none"
    assert found[f"{BOTH}, ratio 0.5, filter none"].effect == "cannot be told apart"
    assert found[f"{ALONE}, filter distance"].effect == "helps"


def test_linear_classifiers_are_compared_with_one_on_pixels() -> None:
    shifts = {"linear on pixels": -0.2, "linear on discriminator": -0.1, "linear on judge": 0.1}
    rows = made_up({"100": {REAL: -0.05, CLASSICAL: 0, MIXED: 0, BOTH: 0, ALONE: -0.3, **shifts}})
    said = answer(rows)
    (told,) = [text for text in said if text.startswith("with 100 labels linear on discriminator helps by 10.")]
    assert " points against linear on pixels, and harms by " in told
    assert told.endswith(" points against real + classical")
    assert any(text.startswith("the judge has learned from the labels of all training images") for text in said)
    assert said[-1] == "no gain over real + classical is shown at any budget; do not use it"
    without = answer([row for row in rows if not row.arm.is_linear])
    assert without[-1] == said[-1] and not any("linear" in text for text in without)
