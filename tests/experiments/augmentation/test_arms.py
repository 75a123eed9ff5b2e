"""The parts of an augmentation experiment: subsets, batches, filters, and the classifier."""

from __future__ import annotations

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
from modiste.experiments.augmentation import arms, plan, subsets
from modiste.experiments.augmentation.arms import ALONE, BOTH, CLASSICAL, MIXED, REAL, REPEATS, Arm, Conditions
from modiste.experiments.augmentation.subsets import Parts


@pytest.fixture(scope="module")
def garments() -> Images:
    return toy.draw(300, 16, 7)


def conditions(steps: int, seed: int, flip: bool = False) -> Conditions:
    return Conditions("all", seed, steps, flip)


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
    assert plan.usual_budgets(garments, ()) == (100, "all")
    assert garments.labels is not None
    others = np.repeat(np.flatnonzero(garments.labels != 2), 5)
    scarce = garments.select(np.append(others, 2))  # one image of a class, 1,350 of the others
    assert counts(scarce)[2] == 1 and plan.usual_budgets(scarce, ()) == (1000, "all")


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
    known = {image.tobytes() for image in real.pixels}

    def real_ones(synthetic: Images | None, arm: Arm) -> tuple[list[bytes], int]:
        steps = list(arms.batches(arms.training_set(real, synthetic, arm), steps=10, seed=3))
        assert {len(batch) for batch in steps} == {arms.BATCH}
        images = [image.tobytes() for batch in steps for image in batch.pixels]
        return [image for image in images if image in known], len(images)

    alone, total = real_ones(None, Arm(REAL))
    mixed, _ = real_ones(synthetic, Arm(MIXED, ratio))
    assert len(alone) == total
    assert len(mixed) == total - int(total * ratio)
    assert mixed == alone[: len(mixed)]


def test_synthetic_only_never_shows_a_real_image(garments: Images) -> None:
    real, synthetic = garments.select(slice(40)), garments.select(slice(100, 200))
    known = {image.tobytes() for image in real.pixels}
    for batch in arms.batches(arms.training_set(real, synthetic, Arm(ALONE, 1.0)), steps=3, seed=0):
        assert not known & {image.tobytes() for image in batch.pixels}


def test_rare_classes_are_filled_to_balance(garments: Images) -> None:
    real = garments.select(subsets.choose(garments, "all", 0, (6, 8)))
    mixed = arms.training_set(real, garments, Arm(MIXED, ratio=None))
    assert mixed.synthetic is not None and len(mixed.real) == 246
    assert counts(mixed.synthetic) == [0] * 6 + [27, 0, 27, 0]
    assert mixed.ratio == 54 / 300
    repeated = arms.training_set(real, garments, Arm(REPEATS))
    assert counts(repeated.real) == [30] * 10 and repeated.synthetic is None and repeated.ratio == 0
    assert {image.tobytes() for image in repeated.real.pixels} == {image.tobytes() for image in real.pixels}


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
    gains: dict[str, list[float]] = {"oracle": [], "noise": []}
    for seed in range(3):
        indices = subsets.choose(images, 20, seed)
        real, rest = images.select(indices), images.select(np.setdiff1d(np.arange(300), indices))
        pixels = random.integers(0, 256, rest.pixels.shape, dtype=np.uint8)
        noise = replace(rest, pixels=pixels, labels=random.integers(0, 10, len(rest)))
        alone = arms.measure_arm(real, None, tested, Arm(REAL), conditions(50, seed))
        for name, synthetic in (("oracle", rest), ("noise", noise)):
            mixed = arms.measure_arm(real, synthetic, tested, Arm(MIXED, 0.5), conditions(50, seed))
            assert mixed.accuracy == pytest.approx(np.trace(mixed.confusion) / 200)
            gains[name].append(mixed.accuracy - alone.accuracy)
    assert min(gains["oracle"]) > 0 and np.mean(gains["oracle"]) > 0.1
    assert np.mean(gains["noise"]) < 0.02


def test_filters_keep_the_share_of_each_class_that_is_right(garments: Images) -> None:
    """Half of the labels are wrong, and a classifier of thirty real images per class throws most of these out."""
    assert garments.labels is not None
    network = arms.learn(garments, None, Arm(REAL), conditions(40, 0))
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
    arm = Arm(BOTH, 0.5)
    both = [arms.learn(garments, garments, arm, conditions(3, 4, flip=True)).state_dict() for _ in range(2)]
    other = arms.learn(garments, garments, arm, conditions(3, 5, flip=True)).state_dict()
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    assert not torch.equal(both[0]["head.weight"], other["head.weight"])
