"""Signs of a training that goes wrong, in words, from the log alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
PATIENCE_TICKS = 5


def _saturated(recent: Sequence[Record], _: Record) -> bool:
    return all(min(record["d_accuracy_real"], record["d_accuracy_fake"]) > 0.99 for record in recent)


def _vanishing(recent: Sequence[Record], first: Record) -> bool:
    return all(record["gradient_norm_g"] < 1e-3 * first["gradient_norm_g"] for record in recent)


SIGNS: list[tuple[Callable[[Sequence[Record], Record], bool], str]] = [
    (
        _saturated,
        "the discriminator tells real from fake without fail; it may have won. A smaller train.lr_discriminator, "
        "loss.label_smoothing=0.1 or network.discriminator_norm=spectral usually helps",
    ),
    (
        _vanishing,
        "the generator's gradient has vanished to under a thousandth of its first value, so it no longer learns. "
        "loss.adversarial=nonsaturating or hinge, or a smaller train.lr_discriminator, usually helps",
    ),
]


@dataclass
class History:
    """What of a log the signs are read from: as much after a hundred thousand ticks as after ten."""

    first: Record | None = None
    recent: deque[Record] = field(default_factory=lambda: deque(maxlen=PATIENCE_TICKS))
    seen: set[str] = field(default_factory=set)

    def add(self, record: Record) -> list[str]:
        """The signs that show for the first time with this next record, each once in a run.

        A sign has to be there for PATIENCE_TICKS in a row.
        """
        self.first = self.first or record
        self.recent.append(record)
        if len(self.recent) < PATIENCE_TICKS:
            return []
        recent, first = tuple(self.recent), self.first
        new = [text for shows, text in SIGNS if text not in self.seen and shows(recent, first)]
        self.seen.update(new)
        return new


def diagnose(records: Iterable[Record]) -> list[str]:
    """All signs that a log shows, in the order in which they came up."""
    history = History()
    return [text for record in records for text in history.add(record)]
