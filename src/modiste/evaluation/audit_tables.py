"""Tables and sentences of one record's audit, and of several side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.audit import ASKED_FOR, FREQUENCY
from modiste.evaluation.records import Record

Audit = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]

WORDS = {
    "frequency": "frequency",
    "precision_k3": "precision k3",
    "coverage_k5": "coverage k5",
    "label_agreement": "label agreement",
}
LEGEND = (
    "% ± one standard error; real images: others than the reference, split in the same way",
    "disparity: coefficient of variation over classes, 0 = equal; of frequency: of seen over due shares; by chance: "
    "what equal classes would show; read it beside the mean, since all classes may be equally bad",
)


def per_class(audit: Audit) -> Table:
    """A row per class: images, the share seen and due, then each score beside that of real images, in per cent."""
    groups, seen = audit["protocol"]["groups"], audit["scores"][FREQUENCY]
    heads = [groups, "images", "frequency", "asked" if groups == ASKED_FOR else "in reference", "real images"]
    others = {key: row for key, row in audit["scores"].items() if key != FREQUENCY}
    for key in others:
        heads += [WORDS[key], "real images"]
    body = []
    for k, name in enumerate(audit["classes"]):
        line = [name, f"{audit['images'][k]:,}", _cell(seen, k), percent(seen["due"][k]), percent(seen["real"][k])]
        for row in others.values():
            line += [_cell(row, k), percent(row["real"][k])]
        body.append(line)
    return heads, body


def disparities(audit: Audit) -> Table:
    """A row per score: mean, worst class beside real images, gap, ratio, and the index with its comparisons."""
    heads = ["score", "mean", "worst class", "value", "real images", "max - min", "min / max"]
    heads += ["disparity", "of real images", "by chance"]
    body = []
    for key, unequal in audit["disparity"].items():
        if unequal is None:
            body.append([WORDS[key], *["-"] * (len(heads) - 1)])
            continue
        worst, row = unequal["worst"], audit["scores"][key]
        scale = records.format_number if key == FREQUENCY else percent  # seen / due is a ratio
        body.append(
            [
                "frequency / due" if key == FREQUENCY else WORDS[key],
                scale(unequal["mean"]),
                audit["classes"][worst],
                percent(row["values"][worst]),
                percent(row["real"][worst]),
                scale(unequal["gap"]),
                f"{unequal['ratio']:.2f}",
                index(unequal),
                _three_places(unequal["real"]),
                _three_places(unequal["by_chance"]),
            ]
        )
    return heads, body


def memory(audit: Audit) -> list[str]:
    """Sentences on near-duplicates, in pixels and in the judge's features."""
    sentences = []
    for space, counted in audit["memory"].items():
        where = "pixels" if space == "pixels" else "the judge's features"
        exact = f"; {counted['exact']:,} exact copies" if space == "pixels" else ""
        sentences.append(
            f"near-duplicates of training images in {where}: {counted['near']:,} of {counted['generated']:,}, and "
            f"{counted['expected']:,.0f} ± {counted['uncertainty']:,.0f} of as many unseen real images: "
            f"{counted['verdict']}{exact}"
        )
    return sentences


def side_by_side(audited: Sequence[Record]) -> list[tuple[str, Table]]:
    """Per score a title and a table: a row per class and one with the disparity, a column per record."""
    audits = check_comparable(audited)
    classes, groups = audits[0]["classes"], audits[0]["protocol"]["groups"]
    tables = []
    for key, row in audits[0]["scores"].items():
        heads = [groups, *[record.name for record in audited], "real images"]
        body = [
            [name, *[_cell(audit["scores"][key], k) for audit in audits], percent(row["real"][k])]
            for k, name in enumerate(classes)
        ]
        unequal = [audit["disparity"][key] for audit in audits]
        body.append(["worst class", *["-" if one is None else classes[one["worst"]] for one in unequal], ""])
        real = next((one["real"] for one in unequal if one), None)
        body.append(["disparity", *map(index, unequal), _three_places(real)])
        tables.append((f"{WORDS[key]}, %", (heads, body)))
    return tables


def changes(audited: Sequence[Record]) -> list[str]:
    """A sentence per score and later record on whether its classes are more equal than those of the first record."""
    (first, before), *others = zip(audited, check_comparable(audited), strict=True)
    sentences = []
    for record, audit in others:
        for key, old in before["disparity"].items():
            new = audit["disparity"].get(key)
            if old is None or new is None:
                continue
            less = old["index"] - new["index"]
            verdict = "more equal" if less > 0 else "less equal"
            if abs(less) <= 2 * math.hypot(old["uncertainty"] or 0.0, new["uncertainty"] or 0.0):
                verdict = "no difference that stands out"
            means = "" if key == FREQUENCY else f"; mean {percent(old['mean'])} % and {percent(new['mean'])} %"
            sentences.append(
                f"{WORDS[key]}: disparity {index(old)} in {first.name} and {index(new)} in {record.name}: "
                f"{verdict}{means}"
            )
    return sentences


def check_comparable(audited: Sequence[Record]) -> list[Audit]:
    """The records' audits; UsageError if a record has none or two were not made alike."""
    audits: list[Audit] = []
    for record in audited:
        if record.audit is None:
            raise UsageError(f"the record of {record.name} holds no audit; evaluate its images again with --audit")
        audits.append(record.audit)
    records.check_comparable(audited)
    for (first, one), (second, other) in itertools.pairwise(zip(audited, audits, strict=True)):
        records.refuse_differences(first, second, records.unlike(one["protocol"], other["protocol"]))
    return audits


def index(unequal: Mapping[str, Any] | None) -> str:
    """`0.214 ± 0.012`."""
    if unequal is None:
        return "-"
    error = unequal["uncertainty"]
    return f"{unequal['index']:.3f}" + (f" ± {error:.3f}" if error else "")


def percent(value: float | None) -> str:
    """A share as `81.2`, without the sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def _three_places(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(row: Mapping[str, Sequence[float | None]], k: int) -> str:
    value, error = row["values"][k], row["uncertainties"][k]
    return percent(value) if value is None or not error else f"{percent(value)} ± {percent(error)}"
