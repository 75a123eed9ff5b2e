"""The suite: names with their protocol, the same scores for every candidate, and sane values where these are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.metrics import features, judge, memorisation, suite
from modiste.metrics.features import Extractor
from modiste.metrics.metric_names import MEANINGS, MetricName
from modiste.metrics.nearest_neighbours import nearest, nearest_pixels
from modiste.metrics.suite import Reference
from modiste.networks.layers import ImageShape


@pytest.fixture(scope="module")
def extractors(closet_judge: Path) -> tuple[Extractor, ...]:
    return features.from_judge(judge.load(closet_judge), "closet"), features.random_network(ImageShape(1, 16))


@pytest.fixture(scope="module")
def parts(closet: Path) -> dict[str, Images]:
    return {part: open_data(Data(name=str(closet)), part=part) for part in ("train", "fit", "heldout", "test")}


@pytest.fixture(scope="module")
def reference(parts: dict[str, Images], extractors: tuple[Extractor, ...]) -> Reference:
    test, train = parts["test"], parts["train"]
    return suite.make_reference(test, "test", extractors, train=train, unseen=test, count=200)


def fresh(seed: int = 50) -> Images:
    return toy.draw(200, 16, seed)


def values(measured: suite.Measured) -> dict[str, float]:
    return {name.kind: score.value for name, score in measured.scores.items() if name.extractor != "random"}


def named(found: Mapping[MetricName, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in found.items()}


NAMES = [
    "frechet_closet_200_test",
    "frechet_infinite_closet_test",
    "kernel_closet_200_test",
    "inception_style_closet_200",
    "precision_k3_closet_200_test",
    "recall_k3_closet_200_test",
    "density_k5_closet_200_test",
    "coverage_k5_closet_200_test",
    "two_sample_1nn_closet_test",
    "class_frechet_closet_200_test",
    "label_agreement_closet_200",
    "class_balance_tv_closet_200",
    "frechet_random_200_test",
    "nearest_ratio_pixels_200",
    "authenticity_closet_200",
    "data_copying_closet_200",
    "near_duplicates_pixels_200",
]


def test_every_score_carries_its_protocol(reference: Reference) -> None:
    said: list[str] = []
    measured = suite.measure(fresh(), reference, log=said.append)
    assert list(named(measured.scores)) == NAMES and measured.missing == {}
    assert said[:2] == ["features: closet", "features: random"]
    assert sorted(name for line in said[2:] for name in line.split(", ")) == sorted(NAMES)
    for name, score in measured.scores.items():
        assert name.kind in MEANINGS and np.isfinite(score.value), name


def test_measuring_repeats_and_goes_through_json(reference: Reference) -> None:
    once, again = (suite.measure(fresh(), reference) for _ in range(2))
    assert once == again
    plain = json.loads(json.dumps(suite.as_plain(once)))
    back = suite.from_plain(plain)
    assert suite.as_plain(back) == plain and back.missing == once.missing
    assert {name: (score.value, score.uncertainty) for name, score in back.scores.items()} == {
        name: (score.value, score.uncertainty) for name, score in once.scores.items()
    }


def test_real_images_noise_and_the_mean_image_come_out_in_this_order(
    reference: Reference, parts: dict[str, Images]
) -> None:
    real = values(suite.measure(fresh(), reference))
    noise, mean = (
        values(suite.measure(suite.trivial(kind, 200, parts["test"], parts["fit"], 0), reference))
        for kind in ("noise", "mean_image")
    )
    for key in ("frechet", "frechet_infinite", "kernel", "class_frechet", "class_balance_tv"):
        assert real[key] < 0.4 * min(noise[key], mean[key]), key
    for key in ("coverage_k5", "recall_k3", "label_agreement", "inception_style"):
        assert real[key] > 2 * max(noise[key], mean[key]), key
    assert real["precision_k3"] > 0.8 and noise["precision_k3"] < 0.1  # the mean image is at home among real ones
    assert 0.35 < real["two_sample_1nn"] < 0.65 and noise["two_sample_1nn"] > 0.95
    assert real["label_agreement"] > 0.6 and noise["label_agreement"] < 0.2 and mean["label_agreement"] == 0.1
    assert mean["class_balance_tv"] == pytest.approx(0.9) and mean["inception_style"] == pytest.approx(1.0)


def test_trivial_images_have_the_references_classes(parts: dict[str, Images]) -> None:
    for kind in ("noise", "mean_image"):
        even = suite.trivial(kind, 25, parts["test"], parts["train"], 0)
        assert even.labels.tolist() == [k % 10 for k in range(25)]  # type: ignore[union-attr]
        rare = parts["test"].select(np.flatnonzero((parts["test"].labels != 3) | (np.arange(200) < 20)))
        made = suite.trivial(kind, len(rare), rare, parts["train"], 0)
        assert np.bincount(made.labels).tolist() == np.bincount(rare.labels).tolist()  # type: ignore[arg-type]


def test_copies_of_training_images_raise_the_alarms(reference: Reference, parts: dict[str, Images]) -> None:
    new, copied = (values(suite.measure(images, reference)) for images in (fresh(), parts["train"].select(slice(200))))
    assert copied["nearest_ratio_pixels"] == 0 and copied["near_duplicates_pixels"] == 1
    assert copied["authenticity"] == 0
    assert copied["data_copying"] < -9  # a z score
    assert new["nearest_ratio_pixels"] == pytest.approx(1, abs=0.1) and new["near_duplicates_pixels"] < 0.05
    assert 0.3 < new["authenticity"] < 0.7 and abs(new["data_copying"]) < 4
    for key in ("frechet", "coverage_k5", "label_agreement"):  # which alone would praise the copies
        assert copied[key] == pytest.approx(new[key], rel=0.3), key


def test_the_very_reference_is_at_no_distance(reference: Reference, parts: dict[str, Images]) -> None:
    same = values(suite.measure(parts["test"], reference))
    assert same["frechet"] == pytest.approx(0, abs=1e-6) and same["coverage_k5"] == 1 and same["precision_k3"] == 1


def test_labels_that_were_not_asked_for_fall_to_the_judge(reference: Reference) -> None:
    plain = suite.measure(replace(fresh(), labels=None, class_names=()), reference)
    of_plain, of_labelled = named(plain.scores), named(suite.measure(fresh(), reference).scores)
    assert "label_agreement_closet_200" not in of_plain and "class_frechet_closet_200_test" in of_plain
    unchanged = set(of_plain) - {"class_frechet_closet_200_test"}
    assert all(of_plain[name].value == of_labelled[name].value for name in unchanged)
    # That there are as many of each class is not known without labels, and the distance's error not as small.
    distance = "frechet_closet_200_test"
    assert of_plain[distance].uncertainty > of_labelled[distance].uncertainty > 0


def test_shuffled_labels_move_the_label_agreement_and_the_class_distance_only(reference: Reference) -> None:
    right = fresh()
    wrong = replace(right, labels=(right.labels + 3) % 10)  # type: ignore[operator]
    one, other = (named(suite.measure(images, reference).scores) for images in (right, wrong))
    moved = {name for name in NAMES if one[name].value != other[name].value}
    assert moved == {"label_agreement_closet_200", "class_frechet_closet_200_test"}
    assert other["label_agreement_closet_200"].value < 0.1
    assert other["class_frechet_closet_200_test"].value > 3 * one["class_frechet_closet_200_test"].value


def test_without_a_judge_no_class_is_spoken_of(parts: dict[str, Images], extractors: tuple[Extractor, ...]) -> None:
    bare = suite.make_reference(parts["test"], "test", extractors[1:], count=200)
    names = list(named(suite.measure(fresh(), bare).scores))
    assert bare.classes == 0 and names == [
        "frechet_random_200_test",
        "frechet_infinite_random_test",
        "kernel_random_200_test",
        "precision_k3_random_200_test",
        "recall_k3_random_200_test",
        "density_k5_random_200_test",
        "coverage_k5_random_200_test",
        "two_sample_1nn_random_test",
    ]


def test_unlabelled_references_are_fine(parts: dict[str, Images], extractors: tuple[Extractor, ...]) -> None:
    plain = replace(parts["test"], labels=None, class_names=())
    against = suite.make_reference(plain, "heldout", extractors, count=200)
    found = suite.measure(replace(fresh(), labels=None, class_names=()), against).scores
    assert {"inception_style_closet_200", "frechet_closet_200_heldout"} <= named(found).keys()
    assert not {name.kind for name in found} & {"class_frechet", "class_balance_tv", "label_agreement"}


def test_few_images_give_what_they_can_and_say_what_they_cannot(reference: Reference) -> None:
    few = replace(reference, count=4)
    found = suite.measure(fresh().select(slice(4)), few)
    assert {"frechet_closet_4_test", "label_agreement_closet_4", "nearest_ratio_pixels_4"} <= named(found.scores).keys()
    assert {"frechet_infinite_closet_test", "coverage_k5_closet_4_test"} <= named(found.missing).keys()
    assert not set(found.scores) & set(found.missing)
    assert all(reason and "\n" not in reason for reason in found.missing.values())


def test_only_some_groups_look_through_the_judge_only(reference: Reference) -> None:
    said: list[str] = []
    found = suite.measure(fresh(), reference, only="memorisation_scores", log=said.append)
    assert list(named(found.scores)) == NAMES[-4:] and "features: random" not in said


def test_trivial_images(parts: dict[str, Images]) -> None:
    like = parts["test"]
    noise = suite.trivial("noise", 50, like, parts["fit"], 0)
    assert noise.pixels.shape == (50, 1, 16, 16) and noise.pixels.dtype == np.uint8
    assert noise.pixels.min() == 0 and noise.pixels.max() == 255 and abs(noise.pixels.mean() - 127.5) < 3
    assert np.array_equal(noise.pixels, suite.trivial("noise", 50, like, parts["fit"], 0).pixels)
    assert not np.array_equal(noise.pixels, suite.trivial("noise", 50, like, parts["fit"], 1).pixels)
    mean = suite.trivial("mean_image", 50, like, parts["fit"], 0)
    assert np.abs(mean.pixels[7].astype(float) - parts["fit"].pixels.mean(0)).max() <= 0.5
    assert (mean.pixels == mean.pixels[0]).all()
    for images in (noise, mean):
        assert images.class_names == like.class_names and np.bincount(images.labels).tolist() == [5] * 10  # type: ignore[arg-type]
    assert suite.trivial("mean_image", 1, like, parts["fit"], 0).pixels.flags.writeable  # as torch wants it
    plain = suite.trivial("noise", 5, replace(like, labels=None, class_names=()), parts["fit"], 0)
    assert plain.labels is None


def test_the_memory_is_computed_once(
    parts: dict[str, Images], extractors: tuple[Extractor, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    first = suite.make_memory(parts["train"], parts["test"], extractors[0])
    some = suite.own_distances(first, extractors[0], np.array([3, 5, 3]))
    vectors = first.train_features.vectors
    own = nearest(vectors, vectors, exclude_self=True).distances[:, 0]
    np.testing.assert_allclose(some[[3, 5]], own[[3, 5]], rtol=1e-12)
    assert np.count_nonzero(some) == 2
    more = suite.own_distances(first, extractors[0], np.arange(len(own)))
    np.testing.assert_allclose(more, own, rtol=1e-12)
    for module, name in ((suite, "nearest"), (suite, "nearest_pixels"), (memorisation, "nearest")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("distances of real images computed twice"))
    again = suite.make_memory(parts["train"], parts["test"], extractors[0])
    assert np.array_equal(first.unseen_pixel_distances, again.unseen_pixel_distances)
    assert all(np.array_equal(value, vars(again.cells)[name]) for name, value in vars(first.cells).items())
    assert np.array_equal(suite.own_distances(again, extractors[0], np.arange(len(own))), more)


def test_pixels_are_compared_at_the_judges_size(extractors: tuple[Extractor, ...]) -> None:
    rows = suite.flat(Images(np.full((3, 3, 32, 32), 51, np.uint8), None, (), "large"), extractors[0].shape)
    assert rows.shape == (3, 256) and rows.dtype == np.uint8 and (rows == 51).all()


def test_distances_are_kept_for_each_number_of_channels() -> None:
    colour = replace(fresh(), pixels=np.random.default_rng(0).integers(0, 256, (200, 3, 16, 16), np.uint8))
    train, unseen = colour.select(slice(150)), colour.select(slice(150, 200))
    for channels in (3, 1):
        shape = ImageShape(channels, 16)
        expected = nearest_pixels(suite.flat(unseen, shape), suite.flat(train, shape)).distances[:, 0]
        np.testing.assert_array_equal(suite.unseen_to_train(train, unseen, shape), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("counts", "real", "quota"),
    [
        ((10, 10, 10), (50, 50, 50), True),
        ((11, 10, 10), (50, 50, 50), True),
        ((13, 9, 8), (50, 50, 50), False),
        ((27, 2, 1), (900, 70, 30), True),
        ((10, 10, 10), (900, 70, 30), True),
        ((20, 7, 3), (900, 70, 30), False),
    ],
)
def test_shares_that_chance_does_not_bring_about(
    counts: tuple[int, ...], real: tuple[int, ...], quota: bool, reference: Reference
) -> None:
    def of(numbers: tuple[int, ...]) -> Images:
        labels = np.repeat(np.arange(3), numbers)
        return Images(np.zeros((len(labels), 1, 4, 4), np.uint8), labels, ("a", "b", "c"), "some")

    against = replace(reference, images=of(real))
    found = suite.by_quota(of(counts), against)
    assert (found is not None) == quota and (found is None or found.tolist() == of(counts).labels.tolist())  # type: ignore[union-attr]
    assert suite.by_quota(replace(of(counts), labels=None, class_names=()), against) is None
