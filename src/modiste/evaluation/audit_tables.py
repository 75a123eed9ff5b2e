"""Audits for the eye: tables and sentences of one record's audit, and of several side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.audit import ASKED_FOR
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
    "% ± one standard error; real images: others than the reference, split the same way",
    "disparity: coefficient of variation over classes, 0 = equal; of frequency: of seen over due shares; by chance: "
    "what equal classes would show; read it beside the mean, since all classes may be equally bad",
)


def per_class(audit: Audit) -> Table:
    """A row per class: images, the share seen and due, then each score beside that of real images, in per cent."""
    groups, rows = audit["protocol"]["groups"], audit["scores"]
    due = "asked" if groups == ASKED_FOR else "in reference"
    heads = [groups, "images", "frequency", due, "real images"]
    others = [key for key in rows if key != "frequency"]
    for key in others:
        heads += [WORDS[key], "real images"]
    body = []
    for k, name in enumerate(audit["classes"]):
        seen = rows["frequency"]
        line = [name, f"{audit['images'][k]:,}", _cell(seen, k), percent(seen["due"][k]), percent(seen["real"][k])]
        for key in others:
            line += [_cell(rows[key], k), percent(rows[key]["real"][k])]
        body.append(line)
    return heads, body


def disparities(audit: Audit) -> Table:
    """A row per score: mean, worst class beside real images, gap, ratio, and the index with its comparisons."""
    heads = ["score", "mean", "worst class", "value", "real images", "max - min", "min / max"]
    heads += ["disparity", "of real images", "by chance"]
    body = []
    for key, found in audit["disparity"].items():
        if found is None:
            body.append([WORDS[key], *["-"] * (len(heads) - 1)])
            continue
        worst, row = found["worst"], audit["scores"][key]
        scale = records.format_number if key == "frequency" else percent  # seen / due is a ratio
        body.append(
            [
                WORDS[key] if key != "frequency" else "frequency / due",
                scale(found["mean"]),
                audit["classes"][worst],
                percent(row["values"][worst]),
                percent(row["real"][worst]),
                scale(found["gap"]),
                f"{found['ratio']:.2f}",
                index(found),
                "-" if found["real"] is None else f"{found['real']:.3f}",
                f"{found['by_chance']:.3f}",
            ]
        )
    return heads, body


def memory(audit: Audit) -> list[str]:
    """Sentences on near-duplicates, in pixels and in the judge's features."""
    said = []
    for space, found in audit["memory"].items():
        where = "pixels" if space == "pixels" else "the judge's features"
        exact = f"; {found['exact']:,} exact copies" if space == "pixels" else ""
        said.append(
            f"near-duplicates of training images in {where}: {found['near']:,} of {found['generated']:,}, and "
            f"{found['expected']:,.0f} ± {found['uncertainty']:,.0f} of as many unseen real images: "
            f"{found['verdict']}{exact}"
        )
    return said


def side_by_side(found: Sequence[Record]) -> list[tuple[str, Table]]:
    """Per score a title and a table: a row per class and one with the disparity, a column per record."""
    audits = check_comparable(found)
    names = [record.name for record in found]
    first = audits[0]
    tables = []
    for key, row in first["scores"].items():
        heads = [first["protocol"]["groups"], *names, "real images"]
        body = [
            [name, *[_cell(audit["scores"][key], k) for audit in audits], percent(row["real"][k])]
            for k, name in enumerate(first["classes"])
        ]
        unequal = [audit["disparity"][key] for audit in audits]
        real = next((one["real"] for one in unequal if one), None)
        body.append(["worst class", *["-" if one is None else first["classes"][one["worst"]] for one in unequal], ""])
        body.append(["disparity", *map(index, unequal), "-" if real is None else f"{real:.3f}"])
        tables.append((f"{WORDS[key]}, %", (heads, body)))
    return tables


def changes(found: Sequence[Record]) -> list[str]:
    """For each record after the first and each score, a sentence on whether the classes are more equal than there."""
    first, *others = zip(found, check_comparable(found), strict=True)
    said = []
    for record, audit in others:
        for key, old in first[1]["disparity"].items():
            new = audit["disparity"].get(key)
            if old is None or new is None:
                continue
            error = math.hypot(old["uncertainty"] or 0.0, new["uncertainty"] or 0.0)
            less = old["index"] - new["index"]
            verdict = "more equal" if less > 0 else "less equal"
            if abs(less) <= 2 * error:
                verdict = "no difference that stands out"
            means = "" if key == "frequency" else f"; mean {percent(old['mean'])} % and {percent(new['mean'])} %"
            said.append(
                f"{WORDS[key]}: disparity {index(old)} in {first[0].name} and {index(new)} in "
                f"{record.name}: {verdict}{means}"
            )
    return said


def check_comparable(found: Sequence[Record]) -> list[Audit]:
    """The records' audits; UsageError if a record has none or two were not made alike."""
    audits: list[Audit] = []
    for record in found:
        if record.audit is None:
            raise UsageError(f"the record of {record.name} holds no audit; evaluate its images again with --audit")
        audits.append(record.audit)
    records.check_comparable(found)
    for (first, one), (second, other) in itertools.pairwise(zip(found, audits, strict=True)):
        records.refuse_differences(first, second, records.unlike(one["protocol"], other["protocol"]))
    return audits


def index(found: Mapping[str, Any] | None) -> str:
    """`0.214 ± 0.012`."""
    if found is None:
        return "-"
    error = found["uncertainty"]
    return f"{found['index']:.3f}" + (f" ± {error:.3f}" if error else "")


def percent(value: float | None) -> str:
    """A share as `81.2`, without the sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def _cell(row: Mapping[str, Sequence[float | None]], k: int) -> str:
    value, error = row["values"][k], row["uncertainties"][k]
    return percent(value) if value is None or not error else f"{percent(value)} ± {percent(error)}"
