"""Words of a report: names of scores for people, and sentences from numbers."""

from __future__ import annotations

from collections.abc import Sequence

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
    "reconstruction_error": "reconstruction error",
    "classifier_accuracy": "classifier trained on it",
}
"""Names of scores for heads and axes; the full names stand in the tables of all scores."""


FIELD_NAMES = {"frechet": "FID", "kernel": "KID", "inception_style": "IS"}
"""What papers call a kind of score, which they measure in Inception's features."""

OTHER_EXTRACTORS = ("random", "second", "inception", "inception-other")


LEVEL = 0.97
"""Of what real images get: from there on a share counts as theirs."""


def title_of(score: str) -> str:
    """A score's name for people: `Fréchet distance (random)` for another extractor than the judge."""
    name = MetricName.parse(score)
    title, own = TITLES[name.kind], name.extractor.startswith(OF_ONNX)
    return f"{title} ({name.extractor})" if name.extractor in OTHER_EXTRACTORS or own else title


def known_title(score: str) -> str:
    """A score's name for people with the field's: `Fréchet distance (FID)`."""
    field_name = FIELD_NAMES.get(MetricName.parse(score).kind)
    return f"{title_of(score)} ({field_name})" if field_name else title_of(score)


def direction(better: str) -> str:
    """Which values are better, in words."""
    return {"lower": "lower is better", "higher": "higher is better", "near": "near real images is better"}[better]


def distance_sentence(record: Record) -> str:
    """How far a run's images are from noise and from real ones by the Fréchet distance, in a sentence."""
    score = record.first("frechet")
    if score is None or score.value is None or not score.real or not score.trivial:
        return "How near its images come to real ones was not measured."
    share = baselines.share_learned(score.kind, score.value, score.real, score.trivial, score.uncertainty)
    if share is not None and share < baselines.LEARNED:
        return "Nothing has been learned yet: its images are hardly nearer to real ones than noise is. Train it longer."
    from_noise = f"Its images are {_times(score.trivial / score.value)} nearer to real ones than noise is"
    if score.value - 2 * (score.uncertainty or 0.0) <= score.real:
        return f"{from_noise}, as near as other real images are."
    return f"{from_noise}; other real images are {_times(score.value / score.real)} nearer still."


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.1f} times"


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
    share, score = min(shares, key=lambda one: one[0])
    if share >= LEVEL:
        return f"None of its shares falls behind real images; the lowest is {TITLES[score.kind]} ({score.value:.0%})."
    return (
        f"What it lacks most is {TITLES[score.kind]}: {score.value:.0%}, where real images get {score.real:.0%} "
        f"({score.name.meaning.words})."
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
