"""Words of a report: names of scores for people, and sentences from numbers."""

from __future__ import annotations

from collections.abc import Sequence

from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.metrics import baselines
from modiste.metrics.metric_names import OF_ONNX, MetricName

TITLES = {
    "frechet": "Fréchet distance",
    "frechet_infinite": "Fréchet distance, endless images",
    "kernel": "kernel distance",
    "inception_style": "inception-style score",
    "precision_k3": "precision",
    "recall_k3": "recall",
    "density_k5": "density",
    "coverage_k5": "coverage",
    "class_frechet": "Fréchet within classes",
    "label_agreement": "label agreement",
    "class_balance_tv": "class imbalance",
    "two_sample_1nn": "1-neighbour test",
    "nearest_ratio_pixels": "distance to training images",
    "authenticity": "authenticity",
    "data_copying": "data copying",
    "near_duplicates_pixels": "near duplicates",
    "discriminator_accuracy_real": "D on unseen real images",
    "discriminator_accuracy_fake": "D on generated images",
    "classifier_accuracy": "classifier trained on it",
}
"""Names of scores for heads and axes; the full names stand in the tables of all scores."""


OTHER_EXTRACTORS = ("random", "second", "inception", "inception-other")


def title_of(score: str) -> str:
    """A score's name for people: `Fréchet distance (random)` for another extractor than the judge."""
    name = MetricName.parse(score)
    title, own = TITLES[name.kind], name.extractor.startswith(OF_ONNX)
    return f"{title} ({name.extractor})" if name.extractor in OTHER_EXTRACTORS or own else title


def direction(better: str) -> str:
    """Which values are better, in words."""
    return {"lower": "lower is better", "higher": "higher is better", "near": "near real images is better"}[better]


def distance_sentence(record: Record) -> str:
    """How far a run's headline score is from real images, in a sentence."""
    score = record.first("frechet")
    if score is None or score.value is None:
        return "No distance to real images was measured."
    text = f"Its Fréchet distance to real images is {records.with_uncertainty(score.value, score.uncertainty)}"
    if score.real and score.real > 0:
        text += f", {score.value / score.real:,.0f} times what other real images get"
        text += f" ({records.format_number(score.real)})"
    if score.trivial:
        text += f"; a generator that learned nothing gets {records.format_number(score.trivial)}"
    share = baselines.share_learned(score.kind, score.value, score.real, score.trivial, score.uncertainty)
    if share is not None and share < baselines.LEARNED:
        text += ", so nothing has been learned yet: a longer budget may help"
    return text + "."


def weakest_share_sentence(record: Record) -> str:
    """The share that falls furthest behind real images, in a sentence; empty where no share was measured."""
    kinds = ("precision_k3", "recall_k3", "coverage_k5", "label_agreement")
    shares = [
        (score.value / score.real, score)
        for score in record.scores.values()
        if score.kind in kinds and score.value is not None and score.real
    ]
    if not shares:
        return ""
    _, score = min(shares, key=lambda one: one[0])
    return (
        f"Of the measured shares, {TITLES[score.kind]} is the furthest from real images "
        f"({score.value:.0%}, real images {score.real:.0%}: {score.name.meaning.words})"
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
