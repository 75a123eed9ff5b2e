"""Alarms: what a careful reader would notice in the scores of a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from modiste.evaluation.records import Protocol, ScoreEntry, format_number
from modiste.metrics import baselines
from modiste.wording import counted

Kind = Literal[
    "exact copies",
    "near copies",
    "data copying",
    "authenticity",
    "missing classes",
    "better than real",
    "little variety",
]
KINDS: dict[Kind, str] = {
    "exact copies": "exact copies of training images",
    "near copies": "more near-duplicates of training images than chance makes",
    "data copying": "closer to training images than unseen real images are",
    "authenticity": "fewer images are new than of unseen real ones",
    "missing classes": "classes that are hardly ever made",
    "better than real": "better than real images get",
    "little variety": "the judge is surer of them than of real images (little variety)",
}
"""What each kind of alarm is about."""

BY_ERRORS, BY_RATIO, BY_SHARE_OF_TRIVIAL = 5.0, {"lower": 1.25, "higher": 1.05}, 0.01
"""A score beats real images if it is better by so many standard errors of the difference, and by this factor too.

Scores that may be 0 or less: by this share of the trivial baseline. In 200 draws of real images that pose as generated
ones, of 40 to 2,000 images each, none did.
"""
ASKED = ("class_balance_tv", "label_agreement")
"""Better than real images where a generator is asked for its classes; label agreement has an alarm of its own."""
TYPICAL = ("precision_k3", "density_k5", "inception_style")
"""Scores that rise where images are typical and alike."""
NO_BOUND = ("reconstruction_error",)
"""Scores whose real baseline, the nearest training image, a good generator is to beat."""


@dataclass(frozen=True)
class Alarm:
    """One alarm, with the scores and facts that it rests on."""

    kind: Kind
    scores: tuple[ScoreEntry, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The alarm as a sentence for the user."""
        score, facts = self.scores[0], self.facts
        match self.kind:
            case "exact copies":
                copies = (
                    "is an exact copy of a training image"
                    if facts["exact"] == 1
                    else "are exact copies of training images"
                )
                return f"{counted(facts['exact'])} {copies}"
            case "near copies":
                return (
                    f"{facts['near']:,} images are as close to a training image as 1 % of unseen real ones are, and "
                    f"{facts['expected_near']:,.0f} would be by chance: some are copies"
                )
            case "data copying":
                return f"images are closer to training images than unseen real ones are (C_T = {score.value:.1f})"
            case "authenticity":
                return f"fewer images are new ({score.value:.1%}) than of unseen real ones ({score.real:.1%})"
            case "missing classes":
                return f"classes that are hardly ever made: {', '.join(facts['classes'])}"
            case "better than real":
                values = [f"{one.name} {format_number(one.value)} ({format_number(one.real)})" for one in self.scores]
                return f"better than real images ({', '.join(values)}): {_why_better(self)}"
            case "little variety":
                return "the judge is surer of these images than of real ones, which speaks of little variety"
            case _:
                assert_never(self.kind)


def _why_better(alarm: Alarm) -> str:
    """The likely reason for scores that are better than those of real images."""
    generated, real = alarm.facts["generated"], alarm.facts["real_count"]
    if real and real < 0.9 * generated:
        return f"only {real:,} real images were measured, and {generated:,} generated ones; ask for --count {real}"
    if all(score.kind in TYPICAL for score in alarm.scores):
        return "they are more typical than real images, which costs variety: see recall and coverage"
    return (
        f"real images ({alarm.facts['real'] or 'of the baseline'}) and the reference are of different populations, or "
        "too few, or the generator has learned from the reference"
    )


def find(scores: Iterable[ScoreEntry], protocol: Protocol) -> list[Alarm]:
    """The alarms that scores of this protocol raise."""
    scores = list(scores)
    raised = []
    if better := tuple(filter(beats_real, scores)):
        facts = {"generated": protocol.generated, "real": protocol.real, "real_count": protocol.real_count}
        raised.append(Alarm("better than real", better, facts))
    return raised + [alarm for score in scores for alarm in _of_score(score, protocol.reference.class_names)]


def _of_score(score: ScoreEntry, class_names: list[str]) -> Iterator[Alarm]:
    """The alarms that one score raises by itself."""
    value, real, details, error = score.value, score.real, score.details, score.uncertainty or 0.0
    if value is None:
        return
    match score.kind:
        case "near_duplicates_pixels":
            if details["exact"]:
                yield Alarm("exact copies", (score,), details)
            expected = details["expected_near"]
            if details["near"] > 2 * expected + 5 * math.sqrt(expected) + 3:
                yield Alarm("near copies", (score,), details)
        case "data_copying" if value < -3:
            yield Alarm("data copying", (score,))
        case "authenticity" if real is not None and value < real - 5 * error:
            yield Alarm("authenticity", (score,))
        case "class_balance_tv":
            if len(class_names) != len(details["frequencies"]):  # the oldest records do not name the classes
                return
            equal = [1 / len(class_names)] * len(class_names)  # in records of older versions
            wanted, usual = details.get("wanted", equal), details.get("reference_frequencies", equal)
            enough = 20 / details["images"] * (1 - 1e-9)
            shares = zip(class_names, details["frequencies"], wanted, usual, strict=True)
            missing = [name for name, share, due, seen in shares if share < 0.1 * seen and due >= enough]
            if missing:
                yield Alarm("missing classes", (score,), {"classes": missing})
        case "label_agreement" if real is not None:
            if value > real + 3 * math.hypot(error, score.real_uncertainty or 0.0):
                yield Alarm("little variety", (score,))


def beats_real(score: ScoreEntry) -> bool:
    """Whether a score is better than that of real images by more than chance gives, and by more than a trifle."""
    value, real, error, real_error = score.value, score.real, score.uncertainty, score.real_uncertainty
    if score.kind in (*ASKED, *NO_BOUND) or score.better == "near":
        return False
    if value is None or real is None or error is None or real_error is None:
        return False
    gain = real - value if score.better == "lower" else value - real
    if gain <= BY_ERRORS * math.hypot(error, real_error):
        return False
    if score.kind in baselines.UNBIASED:
        return gain > BY_SHARE_OF_TRIVIAL * abs(score.trivial or 0.0)
    worse, better = (real, value) if score.better == "lower" else (value, real)
    return worse > BY_RATIO[score.better] * better
