"""Phrases: sentences from numbers."""

from __future__ import annotations

import pytest

from modiste.evaluation.records import Protocol, Record, ReferenceFacts, ScoreEntry
from modiste.metrics.metric_names import MEANINGS, MetricName
from modiste.reports import phrases


def record_of(kind: str, value: float, real: float, trivial: float) -> Record:
    name = MetricName(kind, "garment", 10_000, "test")
    score = ScoreEntry(name, value, 0.01, real=real, trivial=trivial)
    return Record("run", {}, Protocol(ReferenceFacts("toy test"), 10_000), {str(name): score})


@pytest.mark.parametrize(("value", "nothing"), [(100.0, True), (20.0, False)])
def test_a_run_that_learned_nothing_is_told_so(value: float, nothing: bool) -> None:
    assert (
        "Nothing has been learned yet" in phrases.distance_sentence(record_of("frechet", value, 0.05, 112))
    ) == nothing


def test_a_distance_is_told_as_factors_from_noise_and_to_real_images() -> None:
    assert phrases.distance_sentence(record_of("frechet", 1.6, 0.05, 112.0)) == (
        "Its images are 70 times nearer to real ones than noise is; other real images are 32 times nearer still."
    )
    assert phrases.distance_sentence(record_of("frechet", 0.06, 0.05, 112.0)).endswith(
        "as near as other real images are."
    )


def test_what_a_run_lacks_most_is_named_with_its_shares() -> None:
    assert phrases.weakest_share_sentence(record_of("recall_k3", 0.39, 0.87, 0.0)) == (
        "What it lacks most is recall: 39%, where real images get 87% (share of real images that the generator could "
        "make)."
    )
    assert phrases.weakest_share_sentence(record_of("recall_k3", 0.87, 0.87, 0.0)).startswith(
        "None of its shares falls"
    )


def test_the_field_has_names_for_three_scores() -> None:
    assert phrases.known_title("frechet_garment_10k_test") == "Fréchet distance (FID)"
    assert phrases.known_title("recall_k3_garment_10k_test") == "recall"


def test_every_kind_of_score_has_a_title() -> None:
    assert phrases.TITLES.keys() == MEANINGS.keys()
