"""Signs of a training that goes wrong, in words, from the log alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
PATIENCE_TICKS = 5


def _saturated(recent: Sequence[Record], _: Sequence[Record]) -> bool:
    return all(min(record["d_accuracy_real"], record["d_accuracy_fake"]) > 0.99 for record in recent)


def _vanishing(recent: Sequence[Record], records: Sequence[Record]) -> bool:
    return all(record["gradient_norm_g"] < 1e-3 * records[0]["gradient_norm_g"] for record in recent)


SIGNS: list[tuple[Callable[[Sequence[Record], Sequence[Record]], bool], str]] = [
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


def diagnose(records: Sequence[Record]) -> list[str]:
    """What the newest of the log's records shows for the first time, each sign once in a run."""
    return [text for shows, text in SIGNS if _first_seen(shows, records) == len(records)]


def _first_seen(shows: Callable[[Sequence[Record], Sequence[Record]], bool], records: Sequence[Record]) -> int | None:
    """After how many records the sign had been there for PATIENCE_TICKS in a row; None if never."""
    for end in range(PATIENCE_TICKS, len(records) + 1):
        if shows(records[end - PATIENCE_TICKS : end], records):
            return end
    return None
