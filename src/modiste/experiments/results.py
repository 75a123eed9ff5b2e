"""The results of a study: a table with one row per run and score, and its summary per configuration."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from modiste import config, files, paths, runs
from modiste.errors import ModisteError
from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import statistics
from modiste.experiments.plan import RunSpec
from modiste.metrics import metric_names, transforms
from modiste.metrics.metric_names import MetricName
from modiste.metrics.transforms import Scale

Status = Literal["finished", "failed", "waiting"]


@dataclass(frozen=True)
class StudyRow:
    """One score of one run: a line of records.csv. A run without scores has one row without a score."""

    study: str
    configuration: str
    seed: int
    recipe_hash: str | None = None
    status: Status = "waiting"
    reason: str = ""
    """Why the run failed."""
    images: int | None = None
    """Images shown in training."""
    seconds: float | None = None
    """Of training."""
    gflop: float | None = None
    """Of training."""
    score: str | None = None
    value: float | None = None
    uncertainty: float | None = None
    real: float | None = None
    """The real baseline: the score of real images under the same protocol."""
    trivial: float | None = None
    """The trivial baseline: the worse of noise and the mean image."""
    better: str | None = None
    protocol_hash: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> StudyRow:
        """The row; older names of columns are read, unknown columns are left out."""
        return cls(**{key: value for key, value in records.renamed(tree).items() if key in COLUMNS})


COLUMNS = tuple(field.name for field in fields(StudyRow))

HEADLINE = ("frechet", "kernel", "inception_style", "precision_k3", "recall_k3", "label_agreement")
"""Kinds of scores that the printed table shows, each in the features of the first extractor; the first one decides."""

RECORDS = ("metrics.json", "metrics-heldout.json")
"""Files of a run's record; the second for data sets without test images."""


def is_trained(run: RunSpec) -> bool:
    """Whether the run folder holds the finished training of exactly this recipe.

    Recipes are compared, not their hashes, which change when a new version has more keys.
    """
    if not runs.exists(run.folder):
        return False
    there = runs.Run(run.folder)
    return there.read_manifest().status == "finished" and not config.differences(there.read_recipe(), run.recipe)


def read_record(run: RunSpec) -> Record | None:
    """The record of the run's generator as it is now, evaluated as the run asks; None if there is none yet."""
    if run.evaluate is None or not is_trained(run) or not run.record.is_file():
        return None
    record = records.read(run.record)
    fitting = (
        record.protocol.generated == run.evaluate.count
        and record.protocol.reference.part == run.evaluate.reference
        and is_current(record, run.folder)
    )
    return record if fitting else None


def is_current(record: Record, folder: Path) -> bool:
    """Whether the record is of the last generator in the run folder as it is now, sampled as it comes."""
    weights = folder / "generator.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else ""
    return digest.startswith(str(record.source.get("hash") or "none")) and records.is_usual(record)


@dataclass(frozen=True)
class Scores:
    """The record of a run's last generator as it is now, sampled as it comes."""

    record: Record | None = None
    reason: str = ""
    """Why there is none."""


def read_scores(run: runs.Run) -> Scores:
    """The scores that the run has now."""
    places = [folder / name for folder in run.folders for name in RECORDS if (folder / name).is_file()]
    for place in places:
        record = records.read(place)
        if is_current(record, run.path):
            return Scores(record)
    outdated = "its scores are of other weights, or of images made in another way"
    return Scores(reason=outdated if places else "it was not evaluated")


def run_rows(study: str, run: RunSpec, record: Record | None, reason: str = "") -> list[StudyRow]:
    """The table's rows of one run: one per score, or a single one with the reason why there is none."""
    manifest = runs.Run(run.folder).read_manifest() if runs.exists(run.folder) else runs.Manifest()
    images = manifest.images
    row = StudyRow(
        study=study,
        configuration=run.configuration,
        seed=run.seed,
        recipe_hash=config.content_hash(run.recipe),
        status="finished" if record else "failed" if reason else "waiting",
        reason=paths.without_folders(reason, (run.folder, run.recipe.data.name)),
        images=images,
        seconds=manifest.seconds,
        gflop=None if images is None else round(run.gflop_per_image * images, 3),
    )
    return score_rows(row, record) if record else [row]


def score_rows(run: StudyRow, record: Record) -> list[StudyRow]:
    """A row per score of the record, each with the facts of its run."""
    shared = replace(run, protocol_hash=records.protocol_hash(record))
    return [
        replace(
            shared,
            score=name,
            value=score.value,
            uncertainty=score.uncertainty,
            real=score.real,
            trivial=score.trivial,
            better=score.better,
        )
        for name, score in record.scores.items()
    ]


def write(folder: Path, rows: Sequence[StudyRow]) -> None:
    """Write records.csv and records.jsonl, each atomically."""
    trees = [row.to_json() for row in rows]
    files.write_text(folder / "records.csv", as_csv(trees, COLUMNS))
    files.write_text(folder / "records.jsonl", "".join(json.dumps(tree) + "\n" for tree in trees))


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table as CSV with a line of heads."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def read(folder: Path) -> list[StudyRow]:
    """The rows of a study folder's table, also of an older version."""
    place = folder / "records.jsonl"
    try:
        return [StudyRow.from_json(json.loads(line)) for line in place.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModisteError(f"cannot read {place} ({error}); run the study again, finished runs are reused") from None


def headline(rows: Sequence[StudyRow]) -> list[str]:
    """The scores that the printed table shows, by full name; the first one decides. Empty if nothing is measured."""
    scores = dict.fromkeys(row.score for row in rows if row.score)
    return [name for kind in HEADLINE if (name := metric_names.of_kind(scores, kind))]


def values(rows: Sequence[StudyRow], score: str) -> dict[str, dict[int, float | None]]:
    """A score by configuration and seed, in the table's order; None for a failed run, nothing for one to come."""
    found: dict[str, dict[int, float | None]] = {}
    for row in rows:
        seeds = found.setdefault(row.configuration, {})
        if row.score == score or row.status == "failed":
            seeds[row.seed] = row.value
    return found


def scale_of(score: str, table: Mapping[str, Mapping[int, float | None]]) -> Scale:
    """The scale on which all of a score's values are averaged and compared: its own, or plain if that fits not all."""
    wanted = MetricName.parse(score).meaning.scale
    return transforms.usable(wanted, [value for seeds in table.values() for value in seeds.values()])


def table(rows: Sequence[StudyRow]) -> tuple[list[str], list[list[str]]]:
    """Per configuration: runs finished and failed, cost, and mean ± deviation over seeds of the headline scores."""
    names = headline(rows)
    scores = {name: values(rows, name) for name in names}
    used = {name: scale_of(name, scores[name]) for name in names}
    body = []
    for configuration in dict.fromkeys(row.configuration for row in rows):
        runs_here = {row.seed: row for row in rows if row.configuration == configuration}.values()
        counts = {status: sum(row.status == status for row in runs_here) for status in ("finished", "failed")}
        images = [row.images for row in runs_here if row.images]
        seconds = [row.seconds for row in runs_here if row.seconds]
        body.append(
            [
                configuration,
                f"{counts['finished']}/{len(runs_here)}" + (f", {counts['failed']} failed" if counts["failed"] else ""),
                records.format_number(mean(images)) if images else "-",
                records.format_number(mean(seconds)) if seconds else "-",
                *(mean_and_deviation(scores[name][configuration].values(), used[name]) for name in names),
            ]
        )
    better = {row.score: row.better for row in rows}
    return ["configuration", "runs", "images", "seconds", *(f"{name} ({better[name]})" for name in names)], body


def mean_and_deviation(seeds: Iterable[float | None], scale: Scale) -> str:
    """`0.412 ± 0.006` over the seeds that have a value; one value alone, as it has no deviation."""
    found = statistics.summary(seeds, scale)
    return records.with_uncertainty(found.mean, found.deviation)


def notes(rows: Sequence[StudyRow]) -> list[str]:
    """A sentence on the kinds of means in the printed table; none without a score."""
    kinds: dict[str, list[str]] = {}
    for name in headline(rows):
        kinds.setdefault(transforms.MEANS[scale_of(name, values(rows, name))], []).append(MetricName.parse(name).kind)
    listed = "; ".join(f"{', '.join(names)}: {kind}" for kind, names in kinds.items())
    return [f"means over seeds ± deviation between seeds ({listed})"] if listed else []


def failures(rows: Sequence[StudyRow]) -> list[str]:
    """One sentence per failed run."""
    failed = [row for row in rows if row.status == "failed"]
    return [f"{row.configuration} seed {row.seed} failed: {row.reason}" for row in failed]
