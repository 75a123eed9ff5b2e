"""Tables and sentences of scores: one record's, and several records' side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from modiste.evaluation.records import (
    Protocol,
    Record,
    ScoreEntry,
    check_comparable,
    flat,
    format_number,
    markdown,
    with_uncertainty,
)
from modiste.metrics import baselines
from modiste.metrics.metric_names import MEANINGS, MetricName

HEADS = ("score", "generated", "real images", "trivial", "reading", "what it says")
LEGEND = (
    "Real images are others than the reference, measured in the same way; trivial is the worse of noise and the mean "
    "image."
)


def rows(record: Record) -> list[list[str]]:
    """One record's table, with a cell for each of HEADS."""
    return [
        [
            name,
            with_uncertainty(score.value, score.uncertainty),
            format_number(score.real),
            format_number(score.trivial),
            reading(score),
            score.name.meaning.words,
        ]
        for name, score in record.scores.items()
    ]


def reading(score: ScoreEntry) -> str:
    """The score against its baselines in a few words."""
    value, real, trivial = score.value, score.real, score.trivial
    if value is None or real is None:
        return ""
    noise = 2 * (score.uncertainty or 0.0)
    if score.better == "near":
        margin = max(noise, 0.02 * abs((1.0 if trivial is None else trivial) - real))
        side = "below" if value < real else "above"
        return "like real images" if abs(value - real) <= margin else f"{side} real images"
    upwards = 1 if score.better == "higher" else -1
    # The trivial baseline may be no worse than real images, as precision's: noise lies in a real image's neighbourhood.
    is_blind = trivial is not None and (real - trivial) * upwards <= 0
    if trivial is not None and not is_blind and (value - trivial) * upwards <= 0:
        return "no better than a generator that learned nothing"
    if is_blind and (value - real) * upwards >= 0:
        return "like real images, and so is a generator that learned nothing"
    if score.better == "higher":
        return f"{value / real:.0%} of real" if real > 0 else ""
    is_unbiased = score.kind in baselines.UNBIASED
    if value - noise <= (max(real, 0.0) if is_unbiased else real):  # images of one distribution get 0 on average
        return "like real images"
    if not is_unbiased and real > 0:
        return f"{value / real:,.1f} x real"
    return f"{value / trivial:.2%} of trivial" if trivial else ""


def aligned(records: Sequence[Record]) -> dict[str, list[ScoreEntry | None]]:
    """Every score of several records, in the order of tables: its entry in each record, None where it has none.

    UsageError where the records were not measured alike.
    """
    check_comparable(records)
    judge = next(iter(records[0].protocol.extractors), "")
    kinds = list(MEANINGS)
    names = {name: score.name for record in records for name, score in record.scores.items()}
    order = sorted(names, key=lambda name: (kinds.index(names[name].kind), names[name].extractor != judge, name))
    return {name: [record.scores.get(name) for record in records] for name in order}


def comparison(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """A table of several records: the heads, and per score a row of its name, the values and both baselines."""
    heads = ["score", *[record.name for record in records], "real images", "trivial"]
    body = []
    for name, entries in aligned(records).items():
        values = [with_uncertainty(score.value, score.uncertainty) if score else "-" for score in entries]
        known = next(score for score in entries if score)
        body.append([f"{name} ({known.better})", *values, format_number(known.real), format_number(known.trivial)])
    return heads, body


def agreement(records: Sequence[Record]) -> str:
    """Whether all extractors put the records in the same order by Fréchet distance, in one sentence."""
    orders: dict[str, list[str]] = {}
    for name, score in records[0].scores.items():
        if score.kind == "frechet" and all(name in record.scores for record in records):
            values = [(record.scores[name].value, record.name) for record in records]
            values.sort(key=lambda one: math.inf if one[0] is None else one[0])
            orders[score.name.extractor] = [one for _, one in values]
    if len(orders) < 2:
        return ""
    first, *others = orders.values()
    listed = " < ".join(first)
    if all(order == first for order in others):
        return f"all extractors ({', '.join(orders)}) agree on the order by Fréchet distance: {listed}"
    each = "; ".join(f"{name}: {' < '.join(order)}" for name, order in orders.items())
    return f"the extractors do not agree on the order by Fréchet distance: {each}"


def gaps(not_measured: Mapping[MetricName, str]) -> list[str]:
    """What was not measured and why, a sentence per reason."""
    grouped: dict[str, list[str]] = {}
    for name, reason in not_measured.items():
        grouped.setdefault(reason, []).append(str(name))
    return [f"{', '.join(listed)}: {reason}" for reason, listed in grouped.items()]


def protocol_rows(protocol: Protocol) -> list[list[str]]:
    """A dotted key and a text for every part of a protocol but how the images were made."""
    parts = {key: part for key, part in asdict(protocol).items() if key != "generator"}
    return [
        [key, part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)]
        for key, part in flat(parts).items()
    ]


def described(records: Iterable[Record]) -> list[tuple[list[str], str]]:
    """Of each record its protocol in sentences and its table as Markdown."""
    return [(describe_protocol(record.protocol), markdown(HEADS, rows(record))) for record in records]


def describe_protocol(protocol: Protocol) -> list[str]:
    """The protocol in sentences."""
    described = [
        f"{protocol.generated:,} images per generator, one noise seed each, were compared with "
        f"{protocol.reference.count:,} real images of {protocol.reference.data}.",
        f"Real baseline: {protocol.real_count:,} real images of {protocol.real}, measured in the same way; "
        f"trivial baseline: {protocol.trivial}.",
        f"Pixels: {protocol.pixels}.",
    ]
    for name, facts in protocol.extractors.items():
        sure = f", right about {facts['accuracy']:.1%} of unseen real images" if "accuracy" in facts else ""
        described.append(f"Features called {name}: {facts['extractor']}{sure} (weights {facts['hash']}).")
    return described
