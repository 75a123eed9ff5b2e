"""Phrases: sentences from numbers."""

from __future__ import annotations

import pytest

from modiste.evaluation.records import Protocol, Record, ReferenceFacts, ScoreEntry
from modiste.metrics.metric_names import MEANINGS, MetricName
from modiste.reports import phrases


@pytest.mark.parametrize(("value", "nothing"), [(100.0, True), (20.0, False)])
def test_a_run_that_learned_nothing_is_told_so(value: float, nothing: bool) -> None:
    name = MetricName("frechet", "garment", 10_000, "test")
    score = ScoreEntry(name, value, 0.5, real=0.05, trivial=112.0)
    record = Record("run", {}, Protocol(ReferenceFacts("toy test"), 10_000), {str(name): score})
    assert ("nothing has been learned yet" in phrases.distance_sentence(record)) == nothing


def test_every_kind_of_score_has_a_title() -> None:
    assert phrases.TITLES.keys() == MEANINGS.keys()
