"""The plan of a study: every run with its resolved recipe, its folder and the commands that train and evaluate it.

Seed k means the same for every configuration: the noise follows from (seed, images shown), the order of the data from
(seed, epoch), and every run is evaluated on images from the same noise seeds. So runs of one seed are paired.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from modiste import config, progress, runs, subprocesses
from modiste.config import Data, Recipe
from modiste.data.images import Images, Note
from modiste.data.sets import has_test, native_data, open_data
from modiste.errors import ModisteError, UsageError
from modiste.experiments import study_config
from modiste.experiments.study_config import Judging, Study
from modiste.networks import summary
from modiste.training import resume, setup

FILE = "plan.json"
FORMAT = 1


@dataclass(frozen=True)
class RunSpec:
    """One run of a study: its resolved recipe and what its commands are made of."""

    configuration: str
    seed: int
    recipe: Recipe
    """As the run folder will hold it."""
    folder: Path
    source: str
    """The name or file of the recipe before its changes."""
    changes: Mapping[str, Any]
    """By dotted key."""
    budget: str | None = None
    """A length of time; lengths in epochs or images are changes."""
    evaluate: Judging | None = None
    """None: the run is not evaluated when it is finished."""
    track: str | None = None
    gflop_per_image: float = 0.0
    notes: tuple[Note, ...] = ()
    """Warnings about its data."""

    @property
    def name(self) -> str:
        """CONFIGURATION-seedK, which is also the run folder's name."""
        return self.folder.name

    @property
    def processes(self) -> int:
        """The processes of its training."""
        return setup.processes_of(self.recipe)

    @property
    def record(self) -> Path:
        """The file that its evaluation writes."""
        reference = "test" if self.evaluate is None else self.evaluate.reference
        return self.folder / record_name(reference)

    def argv(self) -> tuple[str, ...]:
        """The arguments of `modiste` that train the run."""
        options = study_config.set_options(self.changes)
        options += ["--budget", self.budget] if self.budget else []
        options += ["--track", self.track] if self.track else []
        return ("train", self.source, "--out", str(self.folder), "--seed", str(self.seed), *options)

    def evaluate_argv(self) -> tuple[str, ...]:
        """The arguments of `modiste` that evaluate the trained run."""
        judging = self.evaluate or Judging()
        options = ("--count", str(judging.count), "--reference", judging.reference, "--out", str(self.record))
        return ("evaluate", str(self.folder), *options)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The arguments of `modiste`, one command after the other."""
        return (self.argv(), self.evaluate_argv()) if self.evaluate else (self.argv(),)


def record_name(reference: str) -> str:
    """The file name of an evaluation against that part of the real images."""
    return "metrics.json" if reference == "test" else f"metrics-{reference}.json"


def run_name(configuration: str, seed: int) -> str:
    """The name of a run and of its folder."""
    return f"{configuration}-seed{seed}"


def most_processes(study: Study, out: Path) -> int:
    """The largest number of processes that a run of the study has."""
    found = []
    for one in study_config.configurations(study):
        try:
            found.append(setup.processes_of(setup.resolve_run(one.recipe, out, one.set)[0]))
        except UsageError as error:
            raise UsageError(f"{one.name}: {error}") from None
    return max(found)


@progress.stage("checking every configuration")
def expand(study: Study, out: Path, track: str | None = None) -> list[RunSpec]:
    """Every run of the study, seed by seed, checked against its data; folders are OUT/runs/CONFIGURATION-seedK."""
    length = study_config.budget_changes(study.budget) if study.budget else {}
    timed = "train.budget_seconds" in length
    planned: dict[tuple[int, str], RunSpec] = {}
    judged: dict[Data, str] = {}
    opened: dict[Data, Images] = {}
    costs: dict[Any, float] = {}  # what takes time is done once for all that share it
    configurations = study_config.configurations(study)
    for one in configurations:
        if study.budget and (undone := study_config.conflicting_key(study.budget, one.set)):
            raise UsageError(
                f"{one.name}: the budget of {study.budget} would undo {undone} = {one.set[undone]}; "
                "leave one of the two out"
            )
        changes = {**one.set, **({"train.threads": study.threads} if study.threads else {}), **length}
        folders = {seed: out / "runs" / run_name(one.name, seed) for seed in study.seed_list}
        try:
            recipe, _ = setup.resolve_run(one.recipe, out, changes)
            if started := _started(one.name, out, folders.values()):
                changes |= resume.settings_changes(recipe, started, one.set)
                recipe = resume.with_settings_of(recipe, started, one.set)
            dataset = opened.get(recipe.data) or opened.setdefault(recipe.data, open_data(recipe.data))
            notes = setup.noticed(recipe, dataset)
            recipe = setup.resolve(recipe, dataset, changes)
            setup.check_fit(recipe, dataset)
            if study.evaluate.reference == "test" and not has_test(recipe.data):
                raise UsageError(
                    f"{recipe.data.name} has no test images to judge by; use --reference heldout "
                    'or, in a study file, evaluate.reference = "heldout"'
                )
        except UsageError as error:
            raise UsageError(f"{one.name}: {error}") from None
        native = native_data(recipe.data)
        judged[native.model_copy(update={"resize_filter": "box"})] = one.name
        if len(judged) > 1:
            raise UsageError(
                f"{' and '.join(judged.values())} would be judged on different images; a study has one data set, "
                "so compare them in two studies"
            )
        shape = setup.image_shape(recipe, dataset)
        key = (recipe.network, recipe.loss, recipe.train.discriminator_steps, shape)
        gflop = costs.get(key) or costs.setdefault(key, summary.training_flops(recipe, shape) / 1e9)
        typed = {key: value for key, value in changes.items() if not (timed and key == "train.budget_seconds")}
        for seed, folder in folders.items():
            planned[seed, one.name] = RunSpec(
                one.name, seed, recipe.model_copy(update={"seed": seed}), folder, one.recipe, typed,
                study.budget if timed else None, study.evaluate, track, gflop, notes,
            )  # fmt: skip
    return [planned[seed, one.name] for seed in study.seed_list for one in configurations]


def _started(configuration: str, out: Path, folders: Iterable[Path]) -> Recipe | None:
    """The recipe with which the study in that folder was begun: of its plan, or else of a run of the configuration."""
    planned = read(out).configurations if (out / FILE).is_file() else {}
    if configuration in planned:
        return config.build(config.with_older_defaults(planned[configuration]), f"{out / FILE}: {configuration}")
    return next((runs.Run(folder).read_recipe() for folder in folders if runs.exists(folder)), None)


# --- plan.json


@dataclass(frozen=True)
class PlannedRun:
    """A run as plan.json has it."""

    configuration: str
    seed: int
    folder: str
    """From the study's folder."""
    recipe_hash: str
    gflop_per_image: float
    commands: list[str]
    """As typed in a shell."""


@dataclass(frozen=True)
class Plan:
    """plan.json: what makes the study this one and no other, and its runs."""

    study: str
    hash: str
    """Of configurations and evaluate, as 64 hexadecimal digits."""
    threads: int | None
    configurations: dict[str, dict[str, Any]]
    """All settings of each, without name, prose and seed."""
    evaluate: dict[str, Any]
    runs: list[PlannedRun]
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {"format": self.format, **asdict(self)}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Plan:
        """The plan; KeyError, TypeError or AttributeError where it is none."""
        known = {field.name for field in fields(cls)}
        listed = [PlannedRun(**run) for run in tree["runs"]]
        return cls(**{**{key: value for key, value in tree.items() if key in known}, "runs": listed})

    def differences(self, old: Plan) -> list[str]:
        """One line per setting in which this plan differs from an older one; seeds may differ."""
        lines = [f"no {name} here" for name in old.configurations if name not in self.configurations]
        lines += [f"{name} is new" for name in self.configurations if name not in old.configurations]
        for name in old.configurations.keys() & self.configurations.keys():
            before, now = (
                config.build(config.with_older_defaults(plan.configurations[name]), name) for plan in (old, self)
            )
            lines += [f"{name}: {change}" for change in config.differences(before, now)]
        for key, value in self.evaluate.items():
            if old.evaluate.get(key) != value:
                lines.append(f"evaluate.{key}: {old.evaluate.get(key)} -> {value}")
        return sorted(lines)


def make_plan(study: Study, planned: Sequence[RunSpec]) -> Plan:
    """The plan of the study with these runs."""
    settings = {
        run.configuration: run.recipe.model_dump(mode="json", exclude={"name", "about", "source", "seed"})
        for run in planned
    }
    evaluate = study.evaluate.model_dump(mode="json")
    compared = {name: _without_keys_of_0_3(one) for name, one in settings.items()}
    identity = json.dumps({"configurations": compared, "evaluate": evaluate}, sort_keys=True)
    listed = [
        PlannedRun(
            run.configuration,
            run.seed,
            f"runs/{run.name}",
            config.content_hash(run.recipe),
            round(run.gflop_per_image, 6),
            [subprocesses.printable(words, study.threads) for words in run.commands],
        )
        for run in planned
    ]
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return Plan(study.name, digest, study.threads, settings, evaluate, listed)


def _without_keys_of_0_3(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe's settings without keys of version 0.3 that are not used: the hashes of older plans hold."""
    kept = {key: dict(value) for key, value in tree.items()}
    for section, leaf, before in config.KEYS_OF_0_3:
        if kept[section][leaf] == before:
            del kept[section][leaf]
    if kept["finetune"]["ancestor"] is None:
        del kept["finetune"]
    return kept


def read(folder: Path) -> Plan:
    """The plan in a study folder; ModisteError where it cannot be read."""
    place = folder / FILE
    try:
        return Plan.from_json(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModisteError(f"cannot read {place} ({error}); move the folder away and run the study again") from None
    except (AttributeError, KeyError, TypeError):
        raise ModisteError(f"{place} is no plan of a study; move the folder away and run the study again") from None
