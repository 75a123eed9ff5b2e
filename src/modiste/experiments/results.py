"""What became of a study's runs: one tidy table, a row per run and score, and what it comes to per configuration."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from modiste import config, files, paths, runs
from modiste.errors import ModisteError
from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import statistics
from modiste.experiments.study_config import RunSpec
from modiste.metrics import metric_names, transforms
from modiste.metrics.metric_names import MetricName
from modiste.metrics.transforms import Scale

Row = dict[str, Any]

COLUMNS = (
    "study", "configuration", "seed", "recipe_hash", "status", "reason", "images", "seconds", "gflop",
    "score", "value", "uncertainty", "real", "trivial", "better", "protocol_hash",
)  # fmt: skip
"""Of the table. `seconds` and `gflop` are what the training took; a run without scores has one row without a score."""

HEADLINE = ("frechet", "kernel", "inception_style", "precision_k3", "recall_k3", "label_agreement")
"""Kinds of scores that the printed table shows, each in the features of the first extractor; the first one decides."""


def is_trained(run: RunSpec) -> bool:
    """Whether the run folder holds the finished training of exactly this recipe.

    The recipes are compared and not their hashes, which change when a new version knows more keys.
    """
    if not runs.exists(run.folder):
        return False
    there = runs.Run(run.folder)
    return there.read_manifest().status == "finished" and not config.differences(there.read_recipe(), run.recipe)


def measured(run: RunSpec, judging: Mapping[str, Any]) -> Record | None:
    """The record of the run's generator as it is now, measured as the study asks; None if there is none yet."""
    if not is_trained(run) or not run.record.is_file():
        return None
    record = records.read(run.record)
    fitting = (
        record.protocol.generated == judging["count"]
        and record.protocol.reference.part == judging["reference"]
        and is_of(record, run.folder)
    )
    return record if fitting else None


def is_of(record: Record, folder: Path) -> bool:
    """Whether the record is of the last generator in the run folder as it is now, sampled as it comes."""
    weights = folder / "generator.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else ""
    return digest.startswith(str(record.source.get("hash") or "none")) and records.is_usual(record)


def rows_of(study: str, run: RunSpec, record: Record | None, reason: str = "") -> list[Row]:
    """The table's rows of one run: one per score, or a single one that says why there is none."""
    manifest = runs.Run(run.folder).read_manifest() if runs.exists(run.folder) else runs.Manifest()
    images = manifest.images
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "study": study,
        "configuration": run.configuration,
        "seed": run.seed,
        "recipe_hash": config.content_hash(run.recipe),
        "status": "finished" if record else "failed" if reason else "waiting",
        "reason": paths.without_folders(reason, (run.folder, run.recipe.data.name)),
        "images": images,
        "seconds": manifest.seconds,
        "gflop": None if images is None else round(run.gflop_per_image * images, 3),
    }
    if record is None:
        return [row]
    return score_rows(row, record)


def score_rows(run: Row, record: Record) -> list[Row]:
    """A row per score of the record, each with what is known of its run."""
    parts = ("value", "uncertainty", "real", "trivial", "better")
    shared = {**run, "protocol_hash": records.protocol_hash(record)}
    return [
        {**shared, "score": name, **{part: getattr(score, part) for part in parts}}
        for name, score in record.scores.items()
    ]


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write records.csv and records.jsonl, each atomically."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write_text(folder / "records.csv", text.getvalue())
    files.write_text(folder / "records.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path) -> list[Row]:
    """The rows of a study folder's table, also of one by an older version."""
    place = folder / "records.jsonl"
    try:
        return [records.renamed(json.loads(line)) for line in place.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModisteError(f"cannot read {place} ({error}); run the study again, finished runs are reused") from None


def headline(rows: Sequence[Row]) -> list[str]:
    """The scores that the printed table shows, by full name; the first one decides. Empty if nothing is measured."""
    scores = dict.fromkeys(row["score"] for row in rows if row["score"])
    return [name for kind in HEADLINE if (name := metric_names.of_kind(scores, kind))]


def values(rows: Sequence[Row], score: str) -> dict[str, dict[int, float | None]]:
    """A score by configuration and seed, in the table's order; None for a failed run, nothing for one to come."""
    found: dict[str, dict[int, float | None]] = {}
    for row in rows:
        seeds = found.setdefault(row["configuration"], {})
        if row["score"] == score or row["status"] == "failed":
            seeds[row["seed"]] = row["value"]
    return found


def scale_of(score: str, table: Mapping[str, Mapping[int, float | None]]) -> Scale:
    """The scale on which all of a score's values are averaged and compared: its own, or plain if that fits not all."""
    wanted = MetricName.parse(score).meaning.scale
    return transforms.usable(wanted, [value for seeds in table.values() for value in seeds.values()])


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Per configuration: runs finished and failed, cost, and mean ± deviation over seeds of the headline scores."""
    shown = headline(rows)
    scores = {name: values(rows, name) for name in shown}
    used = {name: scale_of(name, scores[name]) for name in shown}
    body = []
    for configuration in dict.fromkeys(row["configuration"] for row in rows):
        runs_here = {row["seed"]: row for row in rows if row["configuration"] == configuration}.values()
        counts = {status: sum(row["status"] == status for row in runs_here) for status in ("finished", "failed")}
        images = [row["images"] for row in runs_here if row["images"]]
        seconds = [row["seconds"] for row in runs_here if row["seconds"]]
        body.append(
            [
                configuration,
                f"{counts['finished']}/{len(runs_here)}" + (f", {counts['failed']} failed" if counts["failed"] else ""),
                records.format_number(mean(images)) if images else "-",
                records.format_number(mean(seconds)) if seconds else "-",
                *(mean_and_deviation(scores[name][configuration].values(), used[name]) for name in shown),
            ]
        )
    better = {row["score"]: row["better"] for row in rows}
    return ["configuration", "runs", "images", "seconds", *(f"{name} ({better[name]})" for name in shown)], body


def mean_and_deviation(of: Iterable[float | None], scale: Scale) -> str:
    """`0.412 ± 0.006` over the seeds that have a value; one value alone, as it has no deviation."""
    found = statistics.summary(of, scale)
    return records.with_uncertainty(found.mean, found.deviation)


def notes(rows: Sequence[Row]) -> list[str]:
    """What the printed table's means and deviations are, in a sentence; none without a score."""
    kinds: dict[str, list[str]] = {}
    for name in headline(rows):
        kinds.setdefault(transforms.MEANS[scale_of(name, values(rows, name))], []).append(MetricName.parse(name).kind)
    told = "; ".join(f"{', '.join(names)}: {kind}" for kind, names in kinds.items())
    return [f"means over seeds ± deviation between seeds ({told})"] if told else []


def failures(rows: Sequence[Row]) -> list[str]:
    """One sentence per failed run."""
    failed = [row for row in rows if row["status"] == "failed"]
    return [f"{row['configuration']} seed {row['seed']} failed: {row['reason']}" for row in failed]
