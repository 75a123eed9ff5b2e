"""The words of a report: names of scores for people, sentences from numbers, and what a data set cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modiste.evaluation import records
from modiste.metrics import baselines, suite

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


def title_of(score: str) -> str:
    """A score's name for people: `Fréchet distance (random)` for another extractor than the judge."""
    stem = suite.metric_kind(score)
    extractor = score.removeprefix(stem).strip("_").split("_")[0]
    words = TITLES.get(stem, stem.replace("_", " "))
    return f"{words} ({extractor})" if extractor in ("random", "second") or extractor.startswith("incep") else words


def arrow(better: str) -> str:
    """Which way is better, as one word."""
    return {"lower": "lower is better", "higher": "higher is better", "near": "near the floor is better"}[better]


def about_one(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """How far a run's headline score is from real images, in a sentence."""
    name = next((name for name in scores if suite.metric_kind(name) == "frechet"), None)
    if name is None:
        return "No distance to real images was measured."
    score = scores[name]
    value, floor, ceiling = score["value"], score["floor"], score["ceiling"]
    text = f"Its Fréchet distance to real images is {records.with_uncertainty(value, score.get('uncertainty'))}"
    if floor and floor > 0:
        text += f", {value / floor:,.0f} times what other real images get ({records.format_number(floor)})"
    if ceiling:
        text += f"; a generator that learned nothing gets {records.format_number(ceiling)}"
    way = baselines.way(name, value, floor, ceiling, score.get("uncertainty"))
    if way is not None and way < baselines.LEARNED:
        text += ", so nothing has been learned yet: a longer budget may help"
    return text + "."


def weakest(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The share that falls furthest behind real images, in a sentence; empty where no share was measured."""
    kinds = ("precision_k3", "recall_k3", "coverage_k5", "label_agreement")
    found = []
    for name, score in scores.items():
        if suite.metric_kind(name) in kinds and score["value"] is not None and score["floor"]:
            found.append((score["value"] / score["floor"], suite.metric_kind(name), score))
    if not found:
        return ""
    _, kind, score = min(found, key=lambda one: one[0])
    return (
        f"Of the measured shares, {TITLES[kind]} is the furthest from real images "
        f"({score['value']:.0%}, real images {score['floor']:.0%}: {suite.MEANINGS[kind].words})"
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
