"""Signs of a failing training, read from its log alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Record = Mapping[str, Any]
Kind = Literal["saturated", "vanishing"]
PATIENCE_TICKS = 5
"""A sign has to be there for so many ticks in a row."""
SATURATED_ACCURACY = 0.99
VANISHED_SHARE = 1e-3

SENTENCES: dict[Kind, str] = {
    "saturated": "the discriminator tells real from fake without fail; it may have won. A smaller "
    "train.lr_discriminator, loss.label_smoothing=0.1 or network.discriminator_norm=spectral usually helps",
    "vanishing": "the generator's gradient has vanished to under a thousandth of its first value, so it no longer "
    "learns. loss.adversarial=nonsaturating or hinge, or a smaller train.lr_discriminator, usually helps",
}


@dataclass(frozen=True)
class Sign:
    """A sign of a failing training: its kind, and the images shown when it appeared."""

    kind: Kind
    images: int
    value: float
    """saturated: the discriminator's least accuracy in these ticks; vanishing: the largest gradient norm over the
    first."""

    def __str__(self) -> str:
        return SENTENCES[self.kind]


@dataclass
class History:
    """The part of a log that signs are read from; its size does not grow with the log."""

    first: Record | None = None
    recent: deque[Record] = field(default_factory=lambda: deque(maxlen=PATIENCE_TICKS))
    seen: set[Kind] = field(default_factory=set)

    def add(self, record: Record) -> list[Sign]:
        """Take the next record; returns the signs that appear with it, each once in a run."""
        self.first = self.first or record
        self.recent.append(record)
        if len(self.recent) < PATIENCE_TICKS:
            return []
        accuracy = min(min(one["d_accuracy_real"], one["d_accuracy_fake"]) for one in self.recent)
        gradient, first_gradient = max(one["gradient_norm_g"] for one in self.recent), self.first["gradient_norm_g"]
        signs = []
        if accuracy > SATURATED_ACCURACY:
            signs.append(Sign("saturated", record["images"], accuracy))
        if gradient < VANISHED_SHARE * first_gradient:
            signs.append(Sign("vanishing", record["images"], gradient / first_gradient))
        new = [sign for sign in signs if sign.kind not in self.seen]
        self.seen.update(sign.kind for sign in new)
        return new


def diagnose(records: Iterable[Record]) -> list[Sign]:
    """All signs in a log, in the order in which they appeared."""
    history = History()
    return [sign for record in records for sign in history.add(record)]
