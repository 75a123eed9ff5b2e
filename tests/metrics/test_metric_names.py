"""Names of scores: their parts, written and read."""

from __future__ import annotations

import pytest

from modiste.errors import ModisteError
from modiste.metrics import metric_names
from modiste.metrics.metric_names import MEANINGS, MetricName


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("frechet_garment_10k_test", MetricName("frechet", "garment", 10_000, "test")),
        ("frechet_inception_10k_test", MetricName("frechet", "inception", 10_000, "test")),
        ("frechet_infinite_garment_test", MetricName("frechet_infinite", "garment", None, "test")),
        ("frechet_infinite_own-random_heldout", MetricName("frechet_infinite", "own-random", None, "heldout")),
        ("class_frechet_closet_60_train", MetricName("class_frechet", "closet", 60, "train")),
        ("inception_style_photos-2024_500", MetricName("inception_style", "photos-2024", 500)),
        ("two_sample_1nn_2024_test", MetricName("two_sample_1nn", "2024", None, "test")),
        ("near_duplicates_pixels_1234", MetricName("near_duplicates_pixels", "", 1234)),
        ("nearest_ratio_pixels_2k", MetricName("nearest_ratio_pixels", "", 2000)),
        ("discriminator_accuracy_real", MetricName("discriminator_accuracy_real")),
        ("frechet_garment_0_test", MetricName("frechet", "garment", 0, "test")),
        ("kernel", MetricName("kernel")),
    ],
)
def test_a_name_is_its_parts(text: str, parts: MetricName) -> None:
    assert MetricName.parse(text) == parts and str(parts) == text


@pytest.mark.parametrize("text", ["", "loss_g", "frechet_", "frechet_a_b_c", "kernel_garment_test_10k"])
def test_other_words_are_no_names(text: str) -> None:
    with pytest.raises(ModisteError, match="no score is named"):
        MetricName.parse(text)


def test_every_kind_has_a_name_and_a_meaning() -> None:
    for kind, meaning in MEANINGS.items():
        name = MetricName(kind, "garment" if meaning.in_features else "", 10_000, "test")
        assert MetricName.parse(str(name)) == name and name.meaning is meaning
    assert {meaning.better for meaning in MEANINGS.values()} == {"lower", "higher", "near"}


def test_scores_are_found_by_kind_and_in_lines_of_a_log() -> None:
    names = ["frechet_infinite_a_test", "frechet_a_10_test", "frechet_b_10_test"]
    assert (
        metric_names.of_kind(names, "frechet") == "frechet_a_10_test" and metric_names.of_kind(names, "kernel") is None
    )
    line = {"images": 5, "loss_g": 0.1, "frechet_a_10_heldout": 3.0}
    assert metric_names.heldout_score(line) == "frechet_a_10_heldout" and metric_names.heldout_score(names) is None
