"""Signs of a failing training, read from its log alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modiste.runs import BestCheckpoint
from modiste.training import checkpoint_selection

Record = Mapping[str, Any]
Augmentation = Literal["none", "off", "on"]
Kind = Literal["saturated", "vanishing", "overfitting", "rising", "stalled", "uniform"]
PATIENCE_TICKS = 5
"""A sign in the discriminator's accuracy or the generator's gradient has to be there for so many ticks in a row."""
SATURATED_ACCURACY = 0.99
VANISHED_SHARE = 1e-3
OVERFITTING_GAP = 0.15
"""By which the discriminator's accuracy on training images is above that on held-out ones; five standard errors."""
RISEN = 1.15
"""A held-out score over the best one, in RISEN_EVALUATIONS in a row; 2,000 images leave it uncertain by some 3 %."""
RISEN_EVALUATIONS = 2
STALLED_EVALUATIONS = 8
UNIFORM_SHARE = 0.5
"""Variety within a class over that of held-out images, in RISEN_EVALUATIONS in a row."""

SENTENCES: dict[Kind, str] = {
    "saturated": "the discriminator tells real from fake without fail; it may have won. A smaller "
    "train.lr_discriminator, loss.label_smoothing=0.1 or network.discriminator_norm=spectral usually helps",
    "vanishing": "the generator's gradient has vanished to under a thousandth of its first value, so it no longer "
    "learns. loss.adversarial=nonsaturating or hinge, or a smaller train.lr_discriminator, usually helps",
    "overfitting": "the discriminator knows its training images: on them it is right {value:.0%} more often than on "
    "held-out ones. {remedy}",
    "rising": "images move away from the held-out ones again: their distance is {value:.2f} times that after {best:,} "
    "images, which best.safetensors keeps. {remedy}",
    "stalled": "the last {value:.0f} scores on held-out images were no better than that after {best:,} images, which "
    "best.safetensors keeps. evaluate.patience (--patience) ends a training in time",
    "uniform": "images {of_class}are too alike: they vary {value:.0%} as much as held-out ones. Variety may still come "
    "with more training; a smaller train.lr_discriminator or a larger train.batch_size may help",
}
REMEDIES = {
    "none": "augment.policy=auto, a shorter training or more images usually help",
    "off": "A shorter training or more images usually help",
    "on": "augment.policy is at work against it; a shorter training or more images usually help, too",
}
"""By augmentation: of those that adapt, "off" is a probability of 0."""


@dataclass(frozen=True)
class Sign:
    """A sign of a failing training: its kind, and the images shown when it appeared."""

    kind: Kind
    images: int
    value: float
    """saturated: the discriminator's least accuracy in these ticks; vanishing: the largest gradient norm over the
    first; overfitting: the gap between the accuracies; rising: the score over the best one; stalled: the scores since
    the best one; uniform: the variety over that of held-out images."""
    best: int = 0
    """rising, stalled: the images shown at the best score."""
    augmentation: Augmentation = "none"
    """overfitting, rising: of what the discriminator sees."""
    of_class: int | None = None
    """uniform: the number of the class, if there are classes."""

    def __str__(self) -> str:
        of_class = "" if self.of_class is None else f"of class {self.of_class} "
        remedy = REMEDIES[self.augmentation]
        return SENTENCES[self.kind].format(value=self.value, best=self.best, remedy=remedy, of_class=of_class)


@dataclass
class History:
    """The part of a log that signs are read from; its size does not grow with the log."""

    first: Record | None = None
    recent: deque[Record] = field(default_factory=lambda: deque(maxlen=PATIENCE_TICKS))
    seen: set[Kind] = field(default_factory=set)
    best: BestCheckpoint | None = None
    scores: deque[Record] = field(default_factory=lambda: deque(maxlen=RISEN_EVALUATIONS))
    """The last records with a score on held-out images."""
    since_best: int = 0
    """Scores on held-out images since the best one."""

    def add(self, record: Record) -> list[Sign]:
        """Take the next record; returns the signs that appear with it, each once in a run."""
        self.first = self.first or record
        self.recent.append(record)
        signs = [*self._of_ticks(record), *self._of_overfitting(record), *self._of_scores(record)]
        new = [sign for sign in signs if sign.kind not in self.seen]
        self.seen.update(sign.kind for sign in new)
        return new

    def _of_ticks(self, record: Record) -> list[Sign]:
        if len(self.recent) < PATIENCE_TICKS or self.first is None:
            return []
        accuracy = min(min(one["d_accuracy_real"], one["d_accuracy_fake"]) for one in self.recent)
        gradient, first_gradient = max(one["gradient_norm_g"] for one in self.recent), self.first["gradient_norm_g"]
        signs = []
        if accuracy > SATURATED_ACCURACY:
            signs.append(Sign("saturated", record["images"], accuracy))
        if gradient < VANISHED_SHARE * first_gradient:
            signs.append(Sign("vanishing", record["images"], gradient / first_gradient))
        return signs

    def _of_overfitting(self, record: Record) -> list[Sign]:
        gap = overfitting(record)
        if gap is None or gap <= OVERFITTING_GAP:
            return []
        augmentation = _augmentation(record)
        if augmentation == "off":  # until this very tick
            augmentation = "on"
        return [Sign("overfitting", record["images"], gap, augmentation=augmentation)]

    def _of_scores(self, record: Record) -> list[Sign]:
        before, self.best = self.best, checkpoint_selection.better(self.best, record)
        if self.best is None or self.best.score not in record:
            return []
        self.since_best = self.since_best + 1 if self.best is before else 0
        self.scores.append(record)
        signs, images, best = [], record["images"], self.best
        recent = [one for one in self.scores if best.score in one]
        if self.since_best >= RISEN_EVALUATIONS and min(one[best.score] for one in recent) > RISEN * best.value:
            factor, augmentation = record[best.score] / best.value, _augmentation(record)
            signs.append(Sign("rising", images, factor, best.images, augmentation))
        if self.since_best >= STALLED_EVALUATIONS:
            signs.append(Sign("stalled", images, self.since_best, best.images))
        varieties = [one.get("variety", 1.0) for one in self.scores]
        if len(varieties) == RISEN_EVALUATIONS and max(varieties) < UNIFORM_SHARE:
            signs.append(Sign("uniform", images, record["variety"], of_class=record.get("variety_class")))
        return signs


def _augmentation(record: Record) -> Augmentation:
    if "augment_probability" not in record:
        return "none"
    return "on" if record["augment_probability"] else "off"


def overfitting(record: Record) -> float | None:
    """How much more often the discriminator is right about training images than about held-out ones; None if that was
    not measured."""
    if "d_accuracy_heldout" not in record:
        return None
    return float(record["d_accuracy_train"] - record["d_accuracy_heldout"])


def diagnose(records: Iterable[Record]) -> list[Sign]:
    """All signs in a log, in the order in which they appeared."""
    history = History()
    return [sign for record in records for sign in history.add(record)]
