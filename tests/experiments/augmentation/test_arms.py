"""The parts of an augmentation experiment: subsets, batches, filters, the classifier, and what its numbers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.experiments.augmentation import analysis, arms, experiment, subsets
from modiste.experiments.augmentation.arms import ALONE, BOTH, CLASSICAL, MIXED, REAL, REPEATS
from modiste.experiments.augmentation.experiment import Settings
from modiste.experiments.augmentation.subsets import Parts


@pytest.fixture(scope="module")
def garments() -> Images:
    return toy.draw(300, 16, 7)


def named(arm: str, filters: Sequence[arms.Filter] = ("none",), rare: bool = False) -> arms.Arm:
    return next(one for one in arms.arms_for((0.5,), filters, rare) if one.name == arm)


def counts(images: Images) -> list[int]:
    assert images.labels is not None
    return np.bincount(images.labels, minlength=len(images.class_names)).tolist()


# subsets


def test_a_subset_keeps_the_classes_shares_and_nests(garments: Images) -> None:
    """Three of four images of one class are away, and so are three of four in every budget."""
    assert garments.labels is not None
    uneven = garments.select(np.flatnonzero((garments.labels != 2) | (np.arange(300) // 10 % 4 == 0)))
    assert counts(uneven)[2] == 8
    hundred, fifty = (subsets.choose(uneven, budget, 0) for budget in (100, 50))
    assert len(hundred) == 100 and len(fifty) == 50 and len(set(hundred.tolist())) == 100
    assert set(counts(uneven.select(hundred))) <= {2, 3, 10, 11}
    assert set(fifty) <= set(hundred)
    assert (hundred == subsets.choose(uneven, 100, 0)).all()
    assert (hundred != subsets.choose(uneven, 100, 1)).any()
    assert subsets.choose(uneven, "all", 3).tolist() == list(range(len(uneven)))


def test_rare_classes_have_a_tenth(garments: Images) -> None:
    rare = subsets.rare_classes(["bag", "6"], garments)
    assert rare == (6, 8)
    assert counts(garments.select(subsets.choose(garments, "all", 0, rare))) == [30] * 6 + [3, 30, 3, 30]
    assert counts(garments.select(subsets.choose(garments, 164, 0, rare))) == [20] * 6 + [2, 20, 2, 20]
    with pytest.raises(UsageError, match="at most 246"):
        subsets.choose(garments, 247, 0, rare)
    with pytest.raises(UsageError, match=r"class 'Shirt' is left with no image; ask for at least 82"):
        subsets.choose(garments, 40, 0, rare)
    for words, complaint in ((["hat"], "'hat' is no class"), (["shirt", "s"], "'s' fits several classes")):
        with pytest.raises(UsageError, match=complaint):
            subsets.rare_classes(words, garments)


def test_a_class_too_small_to_be_rare_is_named(garments: Images) -> None:
    assert garments.labels is not None
    few = garments.select(np.flatnonzero((garments.labels != 6) | (np.arange(300) < 80)))
    with pytest.raises(UsageError, match=r"of the 8 images of the class 'Shirt' a tenth is none; leave it out"):
        subsets.choose(few, "all", 0, (6, 8))


def test_the_usual_budgets_leave_every_class_an_image(garments: Images) -> None:
    assert experiment._budgets(garments, ()) == (100, "all")
    assert garments.labels is not None
    others = np.repeat(np.flatnonzero(garments.labels != 2), 5)
    scarce = garments.select(np.append(others, 2))  # one image of a class, 1,350 of the others
    assert counts(scarce)[2] == 1 and experiment._budgets(scarce, ()) == (1000, "all")


def test_without_test_images_five_seeds_test_every_image_once(garments: Images) -> None:
    parts = Parts(garments, None)
    seen = []
    for seed in range(5):
        chosen, tested = subsets.split(parts, seed)
        assert counts(tested) == [6] * 10 and len(chosen) == 240
        both = {image.tobytes() for image in chosen.pixels} & {image.tobytes() for image in tested.pixels}
        assert not both
        seen += [image.tobytes() for image in tested.pixels]
    assert sorted(seen) == sorted(image.tobytes() for image in garments.pixels)
    again = subsets.split(parts, 5)[1].pixels  # the next five seeds cut the folds anew
    assert not any((again == subsets.split(parts, seed)[1].pixels).all() for seed in range(5))


def test_data_that_cannot_be_used_are_named(tmp_path: Path, garments: Images) -> None:
    def refused(**arrays: Any) -> str:
        np.savez(tmp_path / "some.npz", **arrays)
        with pytest.raises(UsageError) as error:
            subsets.open_parts(Data(name=str(tmp_path / "some.npz")))
        return str(error.value)

    pixels, labels = garments.pixels, garments.labels
    assert labels is not None
    names = np.array(garments.class_names)
    assert "has no labels" in refused(images=pixels)
    last = np.argsort(labels == 8, kind="stable")
    np.savez(tmp_path / "bags-last.npz", images=pixels[last], labels=labels[last], class_names=names)
    with pytest.raises(UsageError, match=r"no image of the class 'Bag', so nothing .*; raise data\.count"):
        subsets.open_parts(Data(name=str(tmp_path / "bags-last.npz"), count=int((labels != 8).sum())))
    assert "a fifth cannot be held out" in refused(images=pixels[:40], labels=labels[:40])
    two = {"images": pixels, "labels": labels, "x_test": pixels[:50]}
    assert "accuracy needs them" in refused(**two)


# batches


@pytest.mark.parametrize("ratio", [0.25, 0.3, 0.5])
def test_a_mixed_batch_has_its_share_and_the_real_images_keep_their_order(garments: Images, ratio: float) -> None:
    real, synthetic = garments.select(slice(40)), garments.select(slice(100, 200))
    arm = replace(named(MIXED), ratio=ratio)
    known = {image.tobytes() for image in real.pixels}

    def real_ones(synthetic: Images | None, arm: arms.Arm) -> tuple[list[bytes], int]:
        steps = list(arms.batches(real, synthetic, arm, steps=10, seed=3))
        assert {len(batch) for batch in steps} == {arms.BATCH}
        images = [image.tobytes() for batch in steps for image in batch.pixels]
        return [image for image in images if image in known], len(images)

    alone, total = real_ones(None, named(REAL))
    mixed, _ = real_ones(synthetic, arm)
    assert len(alone) == total
    assert len(mixed) == total - int(total * ratio)
    assert mixed == alone[: len(mixed)]


def test_synthetic_only_never_shows_a_real_image(garments: Images) -> None:
    real, synthetic = garments.select(slice(40)), garments.select(slice(100, 200))
    known = {image.tobytes() for image in real.pixels}
    for batch in arms.batches(real, synthetic, named(ALONE), steps=3, seed=0):
        assert not known & {image.tobytes() for image in batch.pixels}


def test_rare_classes_are_filled_to_balance(garments: Images) -> None:
    real = garments.select(subsets.choose(garments, "all", 0, (6, 8)))
    used, filling, ratio = arms.materials(real, garments, named(MIXED, rare=True))
    assert filling is not None and len(used) == 246
    assert counts(filling) == [0] * 6 + [27, 0, 27, 0]
    assert ratio == 54 / 300
    repeated, nothing, share = arms.materials(real, garments, named(REPEATS, rare=True))
    assert counts(repeated) == [30] * 10 and nothing is None and share == 0
    assert {image.tobytes() for image in repeated.pixels} == {image.tobytes() for image in real.pixels}


def test_arms_and_steps() -> None:
    five = [REAL, CLASSICAL, MIXED, BOTH, ALONE]
    assert [arm.name for arm in arms.arms_for((0.5,), ("none",), False)] == five
    assert [arm.name for arm in arms.arms_for((0.5,), ("none",), True)] == [*five[:2], REPEATS, *five[2:]]
    many = [arm.name for arm in arms.arms_for((0.25, 0.5), ("none", "confidence"), False)]
    assert len(many) == len(set(many)) == 2 + 2 * (2 * 2 + 1)
    assert f"{BOTH}, ratio 0.25, filter confidence" in many and f"{ALONE}, filter none" in many
    assert [arms.default_steps(count) for count in (40, 300, 1000, 55_000)] == [600, 1039, 1897, 4000]
    rates = [arms.rate_factor(step, 100) for step in range(100)]
    assert (
        max(rates) == 1.0
        and rates[-1] == pytest.approx(0, abs=1e-9)
        and rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    )


# the classifier: oracles


def test_real_images_as_synthetic_ones_help_and_noise_does_not() -> None:
    """Twenty labels: 280 more real images passed off as synthetic are worth ten points or more, noise none."""
    images, tested = toy.draw(300, 12, 7), toy.draw(200, 12, 8)  # at 12 pixels, which is quick
    random = np.random.default_rng(0)
    tables: dict[str, list[dict[str, Any]]] = {"oracle": [], "noise": []}
    for seed in range(3):
        chosen = subsets.choose(images, 20, seed)
        real, rest = images.select(chosen), images.select(np.setdiff1d(np.arange(300), chosen))
        pixels = random.integers(0, 256, rest.pixels.shape, dtype=np.uint8)
        noise = replace(rest, pixels=pixels, labels=random.integers(0, 10, len(rest)))
        bare = arms.outcome(real, None, tested, named(REAL), steps=50, seed=seed, flip=False)
        for name, synthetic in (("oracle", rest), ("noise", noise)):
            mixed = arms.outcome(real, synthetic, tested, named(MIXED), steps=50, seed=seed, flip=False)
            assert mixed["accuracy"] == pytest.approx(np.trace(mixed["confusion"]) / 200)
            tables[name] += [row("20", seed, CLASSICAL, bare["accuracy"]), row("20", seed, MIXED, mixed["accuracy"])]
    (oracle,), (noise,) = (analysis.compared(table, "accuracy") for table in tables.values())
    assert oracle.word == "helps" and (oracle.difference.mean or 0) > 0.1
    assert noise.word != "helps" and (noise.difference.mean or 0) < 0.02


def test_filters_keep_the_share_of_each_class_that_is_right(garments: Images) -> None:
    """Half of the labels are wrong, and a classifier of thirty real images per class throws most of these out."""
    assert garments.labels is not None
    network = arms.learn(garments, None, named(REAL), steps=40, seed=0, flip=False)
    more = toy.draw(200, 16, 9)
    assert more.labels is not None
    wrong = np.arange(200) // 10 % 2 == 1
    asked = replace(more, labels=np.where(wrong, (more.labels + 5) % 10, more.labels))
    for kind in ("confidence", "distance"):
        kept = arms.filtered(asked, kind, 0.5, network, garments)
        assert counts(kept) == [10] * 10
        truth = {image.tobytes(): label for image, label in zip(more.pixels, more.labels, strict=True)}
        assert kept.labels is not None
        right = np.mean(
            [truth[image.tobytes()] == label for image, label in zip(kept.pixels, kept.labels, strict=True)]
        )
        assert right > 0.8, kind


def test_the_same_seed_gives_the_same_weights(garments: Images) -> None:
    both = [arms.learn(garments, garments, named(BOTH), steps=3, seed=4, flip=True).state_dict() for _ in range(2)]
    other = arms.learn(garments, garments, named(BOTH), steps=3, seed=5, flip=True).state_dict()
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    assert not torch.equal(both[0]["head.weight"], other["head.weight"])


# what the numbers say


def row(budget: str, seed: int, arm: str, accuracy: float, rare: float | None = None) -> dict[str, Any]:
    return {
        "budget": budget, "images": 300 if budget == "all" else int(budget), "seed": seed, "arm": arm, "steps": 600,
        "real": 20, "synthetic": 0, "ratio": 0.5, "tested": 200, "accuracy": accuracy, "rare": rare,
        "per_class": {"left": accuracy + 0.01 * seed, "right": accuracy - 0.01 * seed, "absent": None},
    }  # fmt: skip


def made_up(shifts: Mapping[str, Mapping[str, float]], rare: bool = False) -> list[dict[str, Any]]:
    """Rows of five seeds: the classical arm at 0.8 with some noise, the others that much better, with less noise."""
    random = np.random.default_rng(1)
    base = 0.8 + 0.02 * random.standard_normal(5)
    rows = []
    for budget, arms_there in shifts.items():
        for seed in range(5):
            for arm, shift in arms_there.items():
                value = float(base[seed] + shift + 0.002 * random.standard_normal())
                rows.append(row(budget, seed, arm, value, value - 0.3 if rare else None))
    return rows


def test_verdicts_tables_and_the_answer(tmp_path: Path) -> None:
    rows = made_up({
        "100": {REAL: -0.05, CLASSICAL: 0, MIXED: -0.03, BOTH: 0.04, ALONE: -0.3},
        "all": {REAL: -0.02, CLASSICAL: 0, MIXED: -0.02, BOTH: 0.0, ALONE: -0.2},
    })  # fmt: skip
    found = {(gain.budget, gain.arm): gain for gain in analysis.compared(rows, "accuracy")}
    assert len(found) == 8
    assert found["100", BOTH].word == "helps" and found["100", BOTH].verdict.startswith(("helps by 3.", "helps by 4."))
    assert " ± 0." in found["100", BOTH].verdict
    assert found["all", MIXED].word == "harms" and found["all", MIXED].verdict.startswith(
        ("harms by 1.", "harms by 2.")
    )
    assert found["all", BOTH].verdict.startswith("cannot be told apart with 5 seeds")
    ordered = sorted(gain.p_value for gain in found.values() if gain.p_value is not None)
    assert ordered[0] >= 8 * min(gain.difference.p_value or 1 for gain in found.values()) * 0.999

    said = analysis.answer(rows, analysis.decisive(rows), Path("augment/it"))
    assert said[0].startswith(f"with 100 labels synthetic images help: {BOTH} helps by ")
    assert "augment/it/100-seed*/synthetic*.npz" in said[0]
    assert said[1].startswith(f"with all 300 labels no gain over {CLASSICAL} could be shown, so do not use")
    assert f": in accuracy the best of 3 arms with them, {BOTH}, cannot be told apart" in said[1]
    assert said[1].endswith(f" against {CLASSICAL} (+0.2 points); 2 of the 3 harm")
    assert said[2] == "it helps with 100 labels, and nowhere else"

    heads, body = analysis.table(rows, list(found.values()), "100", "accuracy")
    assert [line[0] for line in body] == [REAL, CLASSICAL, MIXED, BOTH, ALONE] and len(heads) == len(body[0])
    assert body[3][3].startswith(("+3.", "+4."))
    assert [line[:2] for line in analysis.per_class(rows, "100")[1]][2] == ["absent", "-"]

    settings = Settings(data=Data(name="toy"), budgets=(100, "all"))
    analysis.write(tmp_path, settings, rows)
    assert (tmp_path / "report.md").read_text().count("\n| real + both |") == 2
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "accuracy.svg").read_text()
    assert len((tmp_path / "records.csv").read_text().splitlines()) == 51


def test_a_budget_whose_seeds_have_different_counts_is_one_point(tmp_path: Path) -> None:
    """Folds of 101 images per class leave 800 or 810 of all to a seed."""
    rows = made_up({"100": {REAL: -0.05, CLASSICAL: 0, MIXED: 0}, "all": {REAL: 0.05, CLASSICAL: 0.1, MIXED: 0.1}})
    for one in rows:
        if one["budget"] == "all":
            one.update(images=810 if one["seed"] else 800, steps=1708 if one["seed"] else 1697)
    (axes,) = analysis.learning_curve(rows).axes
    assert axes.get_xticks().tolist() == [100, 808]
    lines = [np.asarray(line[0].get_ydata(), float) for line in axes.containers]
    of_real = [one["accuracy"] for one in rows if one["arm"] == REAL]
    assert lines[0].tolist() == pytest.approx([100 * np.mean(of_real[:5]), 100 * np.mean(of_real[5:])])
    assert analysis.answer(rows, analysis.decisive(rows), tmp_path)[1].startswith("with all 800 to 810 labels ")
    settings = Settings(data=Data(name="toy"), budgets=(100, "all"))
    told = analysis.report(tmp_path, settings, rows)
    assert "## 800 to 810 labels, 1,697 to 1,708 steps per arm" in told
    assert "the labelled images of the budget `all` are the same for all" in told and "Nadeau" not in told
    own = analysis.report(tmp_path, settings.model_copy(update={"data": Data(name="own.npz")}), rows)
    assert "another generator" in own and "what they train on overlaps" in own
    of_run = analysis.report(tmp_path, settings.model_copy(update={"run": "runs/mine"}), rows)
    assert "about this one generator" in of_run and "another generator" not in of_run and "Nadeau" not in of_run


def test_one_budget_is_drawn_arm_by_arm(tmp_path: Path) -> None:
    shifts = {REAL: -0.05, CLASSICAL: 0, REPEATS: 0.05, MIXED: 0.0, BOTH: 0.1, ALONE: -0.3}
    rows = made_up({"100": shifts}, rare=True)
    picture = analysis.side_by_side(rows)
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == list(shifts)
    for axes, score in zip(picture.axes, ("accuracy", "rare"), strict=True):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        means = [np.mean([row[score] for row in rows if row["arm"] == arm]) for arm in shifts]
        assert points == pytest.approx([100 * mean for mean in means])
    analysis.write(tmp_path, Settings(data=Data(name="toy"), budgets=(100,)), rows)
    assert "labelled real images; means over 5 seeds" in (tmp_path / "accuracy.svg").read_text()


def test_no_use_no_verdict_and_harm() -> None:
    none = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: 0, BOTH: 0, ALONE: -0.3}})
    said = analysis.answer(none, analysis.decisive(none), Path("x"))
    assert said[-1] == f"no gain over {CLASSICAL} is shown at any budget; do not use it"
    harm = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: -0.1, BOTH: -0.2, ALONE: -0.3}})
    assert analysis.answer(harm, analysis.decisive(harm), Path("x"))[-1] == "it harms; do not use it"
    once = [one for one in harm if one["seed"] == 0]
    said = analysis.answer(once, analysis.decisive(once), Path("x"))
    assert len(said) == 1 and "no verdict is possible with one seed" in said[0]
    begun = [one for one in harm if one["seed"] < 2 and one["arm"] in (REAL, CLASSICAL)]
    assert (
        "before three seeds are measured in all arms" in analysis.answer(begun, analysis.decisive(begun), Path("x"))[0]
    )
    two = [one for one in harm if one["seed"] < 2]
    assert {(gain.word, gain.p_value) for gain in analysis.decisive(two)} == {("no verdict possible", None)}


def test_a_report_says_what_is_not_measured_yet(tmp_path: Path) -> None:
    rows = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: 0, BOTH: 0, ALONE: -0.3}})
    settings = Settings(data=Data(name="toy"), budgets=(100,), seeds=(0, 1, 2, 3, 4))
    assert analysis.unfinished(tmp_path, settings, rows) == ""
    more = settings.model_copy(update={"budgets": (100, "all")})
    said = "5 of 10 pieces are not measured: all-seed0, all-seed1, all-seed2 and 2 more"
    assert analysis.unfinished(tmp_path, more, rows) == said
    assert f"- {said}; what follows is said of the others so far" in analysis.report(tmp_path, more, rows)
    assert analysis.unfinished(tmp_path, settings, rows[:-1]) == "1 of 5 pieces are not measured: 100-seed4"


def test_arms_that_are_not_measured_yet_are_not_the_best() -> None:
    rows = made_up({"100": {REAL: 0, CLASSICAL: 0, MIXED: -0.1, BOTH: 0.2, ALONE: -0.3}})
    begun = [one for one in rows if one["arm"] != BOTH or one["seed"] == 0]
    said = analysis.answer(begun, analysis.decisive(begun), Path("x"))
    assert f"the best of 2 arms with them, {MIXED}, harms by " in said[0]


def test_a_gain_over_harmful_classical_augmentation_is_no_gain() -> None:
    rows = made_up({"100": {REAL: 0.1, CLASSICAL: 0, MIXED: 0.05, BOTH: 0.05, ALONE: -0.3}})
    said = analysis.answer(rows, analysis.decisive(rows), Path("x"))
    assert f"no gain over {REAL} could be shown" in said[0]
    assert said[1].startswith("with 100 labels the classical changes harm, a sign of too few steps (600)")
    assert said[2] == f"no gain over {REAL} is shown at any budget; do not use it"


def test_with_rare_classes_repeating_them_must_be_beaten_too() -> None:
    shifts = {REAL: -0.05, CLASSICAL: 0, REPEATS: 0.05, MIXED: 0.0, BOTH: 0.03, ALONE: -0.3}
    rows = made_up({"100": shifts}, rare=True)
    against = [(gain.arm, gain.against) for gain in analysis.decisive(rows)]
    assert (BOTH, REPEATS) in against and (REPEATS, CLASSICAL) in against and (REAL, REPEATS) not in against
    said = analysis.answer(rows, analysis.decisive(rows), Path("x"))
    assert f"no gain over {REPEATS} could be shown" in said[0]
    assert f"the best of 3 arms with them, {BOTH}, helps by 3." in said[0] and f" against {CLASSICAL}, and " in said[0]
    assert f" against {REPEATS}; 1 of the 3 harms" in said[0] and "harms by 1." in said[0]
    assert said[-1] == f"no gain over {REPEATS} is shown at any budget; do not use it"
    useless = made_up({"100": {**shifts, REPEATS: -0.2, MIXED: 0.0, BOTH: 0.0}}, rare=True)
    said = analysis.answer(useless, analysis.decisive(useless), Path("x"))
    assert f"no gain over {CLASSICAL} could be shown" in said[0] and f"against {REPEATS}" in said[0]
    assert said[-1] == f"no gain over {CLASSICAL} is shown at any budget; do not use it"
    better = made_up({"100": {**shifts, BOTH: 0.1}}, rare=True)
    said = analysis.answer(better, analysis.decisive(better), Path("x"))
    assert "of the rare classes' accuracy" in said[0] and said[-1] == "it helps with 100 labels"
    assert len(analysis.learning_curve(better).axes) == 2


def test_what_ratio_and_filter_change_is_compared() -> None:
    names = [arm.name for arm in arms.arms_for((0.25, 0.5), ("none", "distance"), False)]
    rows = made_up({"100": {name: 0.05 * ("distance" in name) for name in names}})
    found = {gain.arm: gain for gain in analysis.varied(rows, "accuracy")}
    assert len(found) == 3 + 3 + 1
    assert found[f"{BOTH}, ratio 0.5, filter none"].against == f"{BOTH}, ratio 0.25, filter none"
    assert found[f"{BOTH}, ratio 0.5, filter none"].word == "cannot be told apart"
    assert found[f"{ALONE}, filter distance"].word == "helps"
