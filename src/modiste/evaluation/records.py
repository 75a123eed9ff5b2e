"""Records: what `metrics.json` holds, how it is written and read, and when two may stand in one table.

A record is {"protocol": ..., "scores": {NAME: {"value", "uncertainty", "floor", "ceiling", "better", ...}}, "subject":
..., "not_measured": ...}, and "audit" where one was asked for. Two records are comparable when their protocols agree in
everything but how the images were made (`protocol.generator`) and the versions of libraries; else a table of both is
refused, and the difference named.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modiste import files, runs
from modiste.data import readers
from modiste.errors import ModisteError, UsageError
from modiste.evaluation.sources import IN_EQUAL_SHARES
from modiste.metrics import suite

Record = dict[str, Any]

FORMAT = 1
OWN = (
    "generator", "versions", "reference.data", "floor", "settings.frechet_resamples", "settings.standard_errors",
)  # fmt: skip
"""The parts of a protocol in which records of one table may differ: how images were made, mere names of images, and how
the numbers after ± were estimated, which changes no value."""
USUAL = {"classes": IN_EQUAL_SHARES}
"""What the protocols of older versions were and do not say."""


def write(path: Path, record: Record) -> None:
    """Write a record atomically."""
    files.write_json(path, _finite(record))


def write_with_picture(place: Path, record: Record, drawn: bytes) -> None:
    """Write a record and, after it, the picture of its audit: no interruption leaves a picture without its record."""
    picture = place.with_name(picture_name(place.stem))
    if files.is_named(picture.name, place):
        with files.errors_name_place(picture):
            picture.unlink(missing_ok=True)  # of an earlier audit, whose record goes
    write(place, record)
    if drawn:
        files.write_bytes(picture, files.with_mark(drawn))


def checked_place(
    what: str | Path,
    reference: str,
    checkpoint: str,
    truncation: float | None,
    batch_norm: str,
    seed: int,
    out: str | Path | None,
    audit: bool,
) -> Path:
    """Where the record goes: to `out`, or under the name that other tools know, unusual ones under longer names.

    UsageError where a file that is not Modiste's lies there or where the audit's picture goes.
    """
    variant = "" if checkpoint == "last" else f"-{checkpoint}"
    variant += "" if truncation is None else f"-truncation-{truncation:g}"
    variant += ("" if batch_norm == "running" else f"-{batch_norm}") + (f"-seed-{seed}" if seed else "")
    variant += "" if reference == "test" else f"-{reference}"
    path, run = readers.expanded(what).resolve(), runs.find_run(readers.expanded(what))
    beside = path.with_name(f"{path.stem if path.is_file() else path.name}.metrics{variant}.json")
    place = Path(out) if out else run.outputs / f"metrics{variant}.json" if run else beside
    if run is None and not path.exists():  # which is said where it is opened
        return place
    if out or run is None or run.shipped:  # in a run's folder these names are Modiste's
        files.refuse_foreign_file(place)
        if audit or files.is_named(picture_name(place.stem), place):
            files.refuse_foreign_file(place.with_name(picture_name(place.stem)), named_in=place)
    files.check_writable(place)
    return place


def picture_name(record: str) -> str:
    """The picture that goes with a record of that stem: audit-worst.png with metrics, NAME.audit-worst.png else."""
    before, metrics, after = record.rpartition("metrics")
    return f"{before}audit-worst{after}.png" if metrics else f"{record}.audit-worst.png"


def _finite(tree: Any) -> Any:
    """JSON knows no infinities and no NaN; both become null."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read(path: Path) -> Record:
    """The record in that file; ModisteError when it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModisteError(f"cannot read the record {path} ({error}); evaluate its images again") from None
    if not isinstance(record, dict) or not {"protocol", "scores", "subject"} <= record.keys():
        raise ModisteError(f"{path} holds no record of `modiste evaluate`; evaluate its images again")
    if record.get("format") != FORMAT:
        raise ModisteError(
            f"{path} is a record of format {record.get('format')} and this Modiste reads {FORMAT}; "
            "evaluate its images again"
        )
    return record


def differences(first: Record, second: Record) -> list[str]:
    """What keeps two records apart, as `reference.part: test here, heldout there`; empty when nothing does."""
    one, other = how_measured(first), how_measured(second)
    keys = sorted(one.keys() | other.keys())
    return [f"{key}: {one.get(key)} and {other.get(key)}" for key in keys if one.get(key) != other.get(key)]


def how_measured(record: Record) -> dict[str, Any]:
    """All of a record's protocol that must agree before it stands in a table with another, by dotted key."""
    parts = _flat({**USUAL, **record["protocol"]})
    return {key: part for key, part in parts if key not in OWN and key.partition(".")[0] not in OWN}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def is_usual(record: Record) -> bool:
    """Whether a run's images were made as they come: noise not cut, batch norm as kept, image seeds from 0 on."""
    made, seed = record["protocol"].get("generator", {}), record["protocol"].get("seed", 0)
    return not made.get("truncation") and not str(made.get("batch_norm")).startswith("standing") and seed == 0


def check_comparable(records: Sequence[Record]) -> None:
    """UsageError that names the first difference, unless all records were measured alike."""
    for first, second in itertools.pairwise(records):
        if found := differences(first, second):
            names = f"{first['subject']['name']} and {second['subject']['name']}"
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UsageError(
                f"{names} were not measured alike, so one table cannot hold both: {found[0]}{more}; "
                "evaluate both again with the same options"
            )


def rows(record: Record) -> list[dict[str, str]]:
    """One record for the eye: score, value ± uncertainty, floor, ceiling, reading, meaning."""
    shown = []
    for name, score in record["scores"].items():
        meaning = suite.MEANINGS[suite.metric_kind(name)]
        shown.append(
            {
                "score": name,
                "value": with_uncertainty(score["value"], score.get("uncertainty")),
                "floor": format_number(score["floor"]),
                "ceiling": format_number(score["ceiling"]),
                "reading": reading(name, score),
                "meaning": meaning.words,
            }
        )
    return shown


ALARMS = {
    "exact copies of training images": "exact copies of training images",
    "some are copies": "more near-duplicates of training images than chance makes",
    "closer to training images": "closer to training images than unseen real images are",
    "fewer images are new": "fewer images are new than of unseen real ones",
    "classes that are hardly ever made": "classes that are hardly ever made",
    "better than real images": "better than real images get",
    "surer of these images": "the judge is surer of them than of real images (little variety)",
}
"""What an alarm is about, whatever its numbers, by words that it has."""


def alarms(
    scores: Mapping[str, Mapping[str, Any]], class_names: Sequence[str], protocol: Mapping[str, Any] | None = None
) -> list[str]:
    """What a careful reader would notice in a record's scores, in sentences; empty when there is nothing."""
    said = []
    if better := [name for name, score in scores.items() if beats_real(name, score)]:
        said.append(_better_than_real(better, scores, protocol or {}))
    for name, score in scores.items():
        kind, value, floor, details = suite.metric_kind(name), score["value"], score["floor"], score["details"]
        if kind == "near_duplicates_pixels":
            near, expected = details["near"], details["expected_near"]
            if details["exact"]:
                said.append(f"{details['exact']:,} images are exact copies of training images")
            if near > 2 * expected + 5 * math.sqrt(expected) + 3:
                said.append(
                    f"{near:,} images are as close to a training image as 1 % of unseen real ones are, and "
                    f"{expected:,.0f} would be by chance: some are copies"
                )
        elif kind == "data_copying" and value < -3:
            said.append(f"images are closer to training images than unseen real ones are (C_T = {value:.1f})")
        elif kind == "authenticity" and floor is not None and value < floor - 5 * score["uncertainty"]:
            said.append(f"fewer images are new ({value:.1%}) than of unseen real ones ({floor:.1%})")
        elif kind == "class_balance_tv":
            equal = [1 / len(class_names)] * len(class_names)  # in records of older versions
            wanted, seen = details.get("wanted", equal), details.get("reference_frequencies", equal)
            shares = zip(class_names, details["frequencies"], wanted, seen, strict=True)
            enough = 20 / details["images"] * (1 - 1e-9)
            missing = [label for label, share, due, usual in shares if share < 0.1 * usual and due >= enough]
            if missing:
                said.append(f"classes that are hardly ever made: {', '.join(missing)}")
        elif kind == "label_agreement" and floor is not None:
            if value <= floor + 3 * math.hypot(score["uncertainty"], score.get("floor_uncertainty") or 0.0):
                continue
            said.append("the judge is surer of these images than of real ones, which speaks of little variety")
    return said


BY_ERRORS, BY_RATIO, BY_SHARE_OF_CEILING = 5.0, {"lower": 1.25, "higher": 1.05}, 0.01
"""A score beats real images if it is better by so many standard errors of the difference, and by this factor too.

Scores that may be 0 or less: by this share of the ceiling. In 200 draws of real images that pose as generated ones, of
40 to 2,000 images each, none did.
"""
ASKED = ("class_balance_tv", "label_agreement")
"""Better than real images where a generator is asked for its classes; label agreement has an alarm of its own."""
TYPICAL = ("precision_k3", "density_k5", "inception_style")
"""Scores that rise where images are typical and alike."""


def beats_real(name: str, score: Mapping[str, Any]) -> bool:
    """Whether a score is better than that of real images by more than chance gives, and by more than a trifle."""
    kind, value, floor = suite.metric_kind(name), score["value"], score["floor"]
    error, real_error = score.get("uncertainty"), score.get("floor_uncertainty")
    if kind in ASKED or score["better"] == "near" or None in (value, floor, error, real_error):
        return False
    gain = floor - value if score["better"] == "lower" else value - floor
    if gain <= BY_ERRORS * math.hypot(error or 0.0, real_error or 0.0):
        return False
    if kind in UNBIASED:
        return bool(gain > BY_SHARE_OF_CEILING * abs(score["ceiling"] or 0.0))
    worse, better = (floor, value) if score["better"] == "lower" else (value, floor)
    return bool(worse > BY_RATIO[score["better"]] * better)


def _better_than_real(names: Sequence[str], scores: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """The alarm for scores that are better than real images', with its likely reason."""
    listed = ", ".join(
        f"{name} {format_number(scores[name]['value'])} ({format_number(scores[name]['floor'])})" for name in names
    )
    made, real = protocol.get("generated", 0), protocol.get("floor_count", 0)
    if real and real < 0.9 * made:
        reason = f"only {real:,} real images were measured, and {made:,} generated ones; ask for --count {real}"
    elif all(suite.metric_kind(name) in TYPICAL for name in names):
        reason = "they are more typical than real images, which costs variety: see recall and coverage"
    else:
        reason = (
            f"real images ({protocol.get('floor', 'of the floor')}) and the reference are of different populations, or "
            "too few, or the generator has learned from the reference"
        )
    return f"better than real images ({listed}): {reason}"


UNBIASED = ("frechet_infinite", "kernel")
"""Scores whose floor is 0 but for chance, so that no multiple of it means anything."""


def reading(name: str, score: Mapping[str, Any]) -> str:
    """The score against its floor in a few words."""
    value, floor, ceiling = score["value"], score["floor"], score["ceiling"]
    if value is None or floor is None:
        return ""
    noise = 2 * (score.get("uncertainty") or 0.0)
    if score["better"] == "near":
        margin = max(noise, 0.02 * abs((ceiling if ceiling is not None else 1.0) - floor))
        side = "below" if value < floor else "above"
        return "like real images" if abs(value - floor) <= margin else f"{side} real images"
    upwards = 1 if score["better"] == "higher" else -1
    # Unless the ceiling is no worse than the floor, as precision's: noise may lie within a real image's neighbourhood.
    if ceiling is not None and (floor - ceiling) * upwards > 0 and (value - ceiling) * upwards <= 0:
        return "no better than a generator that learned nothing"
    if score["better"] == "higher":
        return f"{value / floor:.0%} of real" if floor > 0 else ""
    if value - noise <= floor:
        return "like real images"
    if suite.metric_kind(name) not in UNBIASED and floor > 0:
        return f"{value / floor:,.1f} x floor"
    return f"{value / ceiling:.2%} of ceiling" if ceiling else ""


def comparison(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """A table of several records: the heads, and per score a row of its name, the values, floor and ceiling."""
    check_comparable(records)
    names = list(dict.fromkeys(name for record in records for name in record["scores"]))
    names.sort(key=lambda name: (list(suite.MEANINGS).index(suite.metric_kind(name)), "_garment_" not in name, name))
    heads = ["score", *[record["subject"]["name"] for record in records], "floor", "ceiling"]
    body = []
    for name in names:
        found = [record["scores"].get(name) for record in records]
        values = [with_uncertainty(s["value"], s.get("uncertainty")) if s else "-" for s in found]
        known = next(score for score in found if score)
        body.append(
            [f"{name} ({known['better']})", *values, format_number(known["floor"]), format_number(known["ceiling"])]
        )
    return heads, body


def agreement(records: Sequence[Record]) -> str:
    """Whether all extractors put the records in the same order by Fréchet distance, in one sentence."""
    orders: dict[str, list[str]] = {}
    shared = [name for name in records[0]["scores"] if all(name in record["scores"] for record in records)]
    for name in shared:
        if suite.metric_kind(name) == "frechet":
            ranked = sorted(records, key=lambda record: record["scores"][name]["value"])
            orders[name.split("_")[1]] = [record["subject"]["name"] for record in ranked]
    if len(orders) < 2:
        return ""
    first, *others = orders.values()
    listed = " < ".join(first)
    if all(order == first for order in others):
        return f"all extractors ({', '.join(orders)}) agree on the order by Fréchet distance: {listed}"
    told = "; ".join(f"{name}: {' < '.join(order)}" for name, order in orders.items())
    return f"the extractors do not agree on the order by Fréchet distance: {told}"


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [heads, ["---"] * len(heads), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_uncertainty(value: float | None, uncertainty: float | None) -> str:
    """`0.412 ± 0.006`; the value alone where its uncertainty is unknown."""
    return format_number(value) if not uncertainty else f"{format_number(value)} ± {format_number(uncertainty, 2)}"


def format_number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits that count, never in exponents for everyday sizes."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 5)}f}"


def flat_items(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as dotted names and texts."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def describe_protocol(protocol: Mapping[str, Any]) -> list[str]:
    """The protocol in sentences."""
    reference = protocol["reference"]
    said = [
        f"{protocol['generated']:,} images per generator, one noise seed each, were compared with "
        f"{reference['count']:,} real images of {reference['data']}.",
        f"Floor: {protocol['floor_count']:,} real images of {protocol['floor']}, measured in the same way; "
        f"ceiling: {protocol['ceiling']}.",
        f"Pixels: {protocol['pixels']}.",
    ]
    for name, facts in protocol["extractors"].items():
        sure = f", right about {facts['accuracy']:.1%} of unseen real images" if "accuracy" in facts else ""
        said.append(f"Features called {name}: {facts['extractor']}{sure} (weights {facts['hash']}).")
    return said
