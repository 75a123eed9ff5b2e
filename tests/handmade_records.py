"""Records that no evaluation was needed for."""

from __future__ import annotations

from typing import Any

from modiste.evaluation.records import Protocol, Record, ReferenceFacts, ScoreEntry
from modiste.metrics.metric_names import MetricName

FRECHET, COVERAGE, RANDOM = "frechet_garment_10k_test", "coverage_k5_garment_10k_test", "frechet_random_10k_test"


def score(
    name: str, value: float | None, real: float | None, trivial: float | None, error: float = 0.0, **more: Any
) -> ScoreEntry:
    parsed = MetricName.parse(name)
    return ScoreEntry(parsed, value, error or None, real, None, trivial, {}, parsed.meaning.better, more)


def record(name: str = "mine", frechet: float | None = 2.0, random: float = 20.0, **protocol: Any) -> Record:
    facts = {
        "reference": ReferenceFacts("toy test", "test", 100, "d", ["coat", "bag"]),
        "generated": 10_000,
        "real_count": 10_000,
        "extractors": {"garment": {"hash": "abc", "input": [1, 28, 28]}},
        "generator": {"kind": "run", "weights": "ema"},
        "versions": {"torch": "2.9"},
    }
    scores = [
        score(FRECHET, frechet, 0.5, 400.0, 0.01),
        score(RANDOM, random, 1.0, 900.0),
        score(COVERAGE, 0.81, 0.96, 0.0),
    ]
    return Record(name, {}, Protocol(**{**facts, **protocol}), {str(one.name): one for one in scores})
