"""Inputs of a report: a run, or a study's runs by configuration, with their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modiste import paths, progress, runs, subprocesses
from modiste.config import Data
from modiste.data.sets import native_data
from modiste.errors import UsageError
from modiste.evaluation import records, rulers
from modiste.evaluation.records import Record, ScoreEntry
from modiste.evaluation.rulers import Ruler
from modiste.experiments import plan, results, statistics, study_config
from modiste.experiments.results import StudyRow
from modiste.experiments.statistics import Summary
from modiste.metrics import metric_names
from modiste.metrics.transforms import Scale
from modiste.networks import summary
from modiste.networks.layers import ImageShape
from modiste.runs import Run


@dataclass(frozen=True)
class Member:
    """One training: its seed, its folder if it was started, its record if it was measured."""

    seed: int
    path: Path
    run: Run | None
    record: Record | None
    status: str
    reason: str = ""

    def read_log(self) -> list[dict[str, Any]]:
        return self.run.read_log() if self.run else []

    def read_seconds(self) -> float | None:
        """How long it has trained."""
        return self._read_position("seconds")

    def read_images(self) -> int | None:
        """How many images it was shown."""
        images = self._read_position("images")
        return None if images is None else int(images)

    def _read_position(self, key: Literal["seconds", "images"]) -> float | None:
        """By the manifest, which is written where a training begins and ends, or by the log of one that goes on."""
        if self.run is None:
            return None
        last = runs.read_last_record(self.run)
        known: list[float | None] = [getattr(self.run.read_manifest(), key), last[key] if last else None]
        return max((value for value in known if value is not None), default=None)


@dataclass(frozen=True)
class Configuration:
    """Trainings that differ in their seed only."""

    name: str
    members: tuple[Member, ...]

    def find_representative(self) -> Member | None:
        """The training whose pictures stand for all: that of the lowest seed with a generator, not chosen by look."""
        trained = [one for one in self.members if one.run and (one.run.path / "generator.safetensors").is_file()]
        return min(trained, key=lambda one: one.seed, default=None)

    @property
    def records(self) -> list[Record]:
        return [one.record for one in self.members if one.record]

    def values(self, score: str) -> list[float]:
        """The score of every measured seed."""
        entries = [record.scores[score] for record in self.records if score in record.scores]
        return [entry.value for entry in entries if entry.value is not None]


@dataclass(frozen=True)
class Comparison:
    """A study's configurations in the order of a report, or one run as the only member of the only one."""

    name: str
    path: Path
    about: str
    configurations: tuple[Configuration, ...]
    is_study: bool = False
    command: str = ""
    """The command that repeats the study; empty for a single run."""
    palette: tuple[str, ...] = ()
    """The configurations' names in the study's order, whose place fixes their colour in every chart."""

    @property
    def outputs(self) -> Path:
        """The folder for the report, unless the user names another."""
        run = self.members[0].run
        return self.path if self.is_study or run is None else run.outputs

    @property
    def members(self) -> list[Member]:
        return [member for configuration in self.configurations for member in configuration.members]

    @property
    def records(self) -> list[Record]:
        return [member.record for member in self.members if member.record]

    @property
    def extractor(self) -> str:
        """The name of the first extractor that the scores were measured with; empty where nothing was measured."""
        return next((name for record in self.records for name in record.protocol.extractors), "")

    @property
    def measured_by(self) -> str:
        """In whose features, in words."""
        return metric_names.whose(self.extractor)

    @property
    def finished(self) -> bool:
        """Whether no training goes on and none is waiting."""
        return all(member.status in ("finished", "failed", "interrupted") for member in self.members)

    def configuration(self, name: str) -> Configuration:
        """The configuration of that name."""
        return next(one for one in self.configurations if one.name == name)

    def read_dataset(self) -> Data | None:
        """The whole data set that images are measured against; None before anything was started."""
        run = next((member.run for member in self.members if member.run), None)
        return native_data(run.read_recipe().data) if run else None

    @property
    def score_names(self) -> list[str]:
        """Every score that some member has, in the suite's order within each extractor."""
        return list(dict.fromkeys(name for record in self.records for name in record.scores))

    def of_kind(self, kind: str) -> str | None:
        """The full name of the first score of that kind, which is the judge's; None if nothing was measured so."""
        return metric_names.of_kind(self.score_names, kind)

    def read_score_rows(self) -> list[StudyRow]:
        """A row per run and score as in a study's table, of the records as they are now."""
        rows = []
        for configuration in self.configurations:
            for member in configuration.members:
                status: results.Status = (
                    "finished" if member.record else "failed" if member.status == "failed" else "waiting"
                )
                row = StudyRow(
                    self.name, configuration.name, member.seed, status=status, reason=member.reason,
                    images=member.read_images(), seconds=member.read_seconds(),
                )  # fmt: skip
                rows += results.score_rows(row, member.record) if member.record else [row]
        return rows

    def by_seed(self, score: str) -> dict[str, dict[int, float | None]]:
        """A score by configuration and seed; None where the run failed, left out where it is still to come."""
        values: dict[str, dict[int, float | None]] = {}
        for configuration in self.configurations:
            known = {
                member.seed: member.record.scores[score].value if score in member.record.scores else None
                for member in configuration.members
                if member.record
            }
            failed = dict.fromkeys(member.seed for member in configuration.members if member.status == "failed")
            values[configuration.name] = {**failed, **known}
        return values

    def scale(self, score: str) -> Scale:
        """The scale on which a score is averaged and compared over seeds, the same for all configurations."""
        return results.scale_of(score, self.by_seed(score))

    def summary(self, configuration: Configuration, score: str) -> Summary:
        """Mean and interval of a configuration's score over seeds, on the scale of all."""
        return statistics.summary(configuration.values(score), self.scale(score))

    def ruler(self, configuration: Configuration, score: str) -> Ruler | None:
        """A configuration's mean of a score on the score's ruler, which is the same for all."""
        return rulers.ruler(self.entry(score), self.summary(configuration, score).mean)

    def entry(self, score: str) -> ScoreEntry:
        """A score of the first record that has it; its baselines and direction are those of all records."""
        return next(record.scores[score] for record in self.records if score in record.scores)


@progress.stage("reading runs")
def open_path(run_or_study: str | Path) -> Comparison:
    """The run or study in that folder; UsageError when it is neither."""
    path = Path(run_or_study)
    if run := runs.find_run(path):
        return _single(run, path)
    if (path / "study.toml").is_file():
        return _study(path)
    raise UsageError(
        f"{path} is neither a run folder (manifest.json) nor a study folder (study.toml); "
        "`modiste train` makes the one and `modiste study` the other (`modiste augment` writes a report.md of its own, "
        "and a search's finalists are a study in its folder)"
    )


def _single(run: Run, path: Path) -> Comparison:
    recipe, manifest = run.read_recipe(), run.read_manifest()
    scores = results.read_scores(run)
    reason = str(manifest.reason or scores.reason)
    member = Member(recipe.seed, path, run, scores.record, manifest.status, reason)
    alone = Configuration(recipe.name, (member,))
    return Comparison(path.resolve().name, path, recipe.about, (alone,), palette=(recipe.name,))


def _study(path: Path) -> Comparison:
    settings = study_config.load(path / "study.toml")  # a folder may have the name of a study that ships
    rows = results.read(path) if (path / "records.jsonl").is_file() else []
    reference = settings.evaluate.reference
    file = plan.record_name(reference)
    known = {(row.configuration, row.seed): row for row in rows}
    labels = [one.name for one in study_config.configurations(settings)]
    configurations = tuple(
        Configuration(name, tuple(_member(path, name, seed, file, known) for seed in settings.seed_list))
        for name in labels
    )
    command = subprocesses.printable(study_config.study_argv(settings, path), settings.threads)
    comparison = Comparison(settings.name, path, settings.about, configurations, True, command, tuple(labels))
    records.check_comparable(comparison.records)
    return comparison


def _member(path: Path, name: str, seed: int, file: str, known: dict[tuple[str, int], StudyRow]) -> Member:
    folder = path / "runs" / plan.run_name(name, seed)
    run = runs.Run(folder) if runs.exists(folder) else None
    row = known.get((name, seed))
    status: str = row.status if row else "waiting"
    if status == "waiting" and run is not None:
        state = run.read_manifest().status
        status = "not measured yet" if state == "finished" else state
    record = records.read(folder / file) if row and row.status == "finished" and (folder / file).is_file() else None
    if record is not None and not results.is_current(record, folder):  # evaluated in another way or trained on since
        record, status = None, "not measured yet"
    return Member(seed, folder, run, record, status, row.reason if row else "")


def gflop_per_image(run: Run) -> float:
    """Floating-point operations (10^9) that training takes per real image shown."""
    return summary.training_flops(run.read_recipe(), trained_shape(run)) / 1e9


def trained_shape(run: Run) -> ImageShape:
    """Channels, side and classes of the images that the run's networks are built for."""
    facts, recipe = run.read_manifest().data, run.read_recipe()
    classes = len(facts.classes) if recipe.network.conditioning != "none" else 0
    return ImageShape(facts.channels, facts.size[0], classes)


def command_of(run: Run) -> str:
    """The command that made the run, as a person would type it."""
    command = run.read_manifest().command
    if run.is_pretrained():  # whose recipe may have been a file that is gone
        return subprocesses.printable(["train", paths.short_path(run.path / "recipe.toml")])
    if command and command[0] in ("modiste", "__main__.py"):
        return paths.published_command(command)
    return subprocesses.printable(["train", str(run.path / "recipe.toml")])


def peaks(log: Sequence[dict[str, Any]], most: int = 3) -> list[tuple[float, float]]:
    """The highest local maxima of the generator's loss as (epoch, value), highest first; ends of the log count too."""
    values = [(record["epoch"], record["loss_g"]) for record in log if math.isfinite(record.get("loss_g", math.nan))]
    maxima = []
    for k, (epoch, value) in enumerate(values):
        before = values[k - 1][1] if k else -math.inf
        after = values[k + 1][1] if k + 1 < len(values) else -math.inf
        if value > before and value >= after:
            maxima.append((epoch, value))
    return sorted(maxima, key=lambda peak: -peak[1])[:most]
