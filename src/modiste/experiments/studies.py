"""Studies: recipes by seeds, each run a process of its own, all outcomes in one tidy table.

    studies/NAME/study.toml      the resolved study; `modiste study studies/NAME` goes on with it
                 recipes/        copies of recipe files that are not shipped
                 plan.json       every configuration's settings, every run's folder and commands
                 records.csv     one row per run and score; records.jsonl is the same
                 logs/           what the commands said
                 runs/           a run folder per configuration and seed

The folders are the only memory: a run is done when its training is finished and its metrics.json fits its weights. So
a study that was killed goes on by itself, and runs that failed are tried again when the study is started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from modiste import config, environment, files, progress, runs
from modiste.environment import cores
from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import monitor, runner, study_config, trackers
from modiste.experiments import results as study_results
from modiste.experiments.folder import ExperimentFolder, RecipeCopy, recipe_copies
from modiste.experiments.results import Row
from modiste.experiments.runner import Job
from modiste.experiments.study_config import RunSpec, Study

FORMAT = 1


@dataclass(frozen=True)
class StudyFolder:
    """A study folder, as the report and the statistics read it."""

    path: Path

    @property
    def study(self) -> Study:
        """What was asked."""
        return study_config.load(self.path / "study.toml")

    @property
    def plan(self) -> dict[str, Any]:
        """plan.json: hash, configurations with all settings, and per run its folder, recipe hash and commands."""
        return study_config.read(self.path)

    @property
    def rows(self) -> list[Row]:
        """The table: one row per run and score."""
        return study_results.read(self.path)

    @property
    def finished(self) -> bool:
        """Whether every run is measured or has failed."""
        return all(row["status"] != "waiting" for row in self.rows)

    def run(self, configuration: str, seed: int) -> runs.Run:
        """The run folder of a configuration and a seed."""
        return runs.Run(self.path / "runs" / f"{configuration}-seed{seed}")


def open_study(path: str | Path) -> StudyFolder:
    """The study in that folder; UsageError when there is none."""
    path = Path(path)
    if not (path / "plan.json").is_file():
        raise UsageError(f"{path} is no study folder (it has no plan.json); `modiste study diaz` makes one")
    return StudyFolder(path)


def study(
    what: Study | str | Path,
    out: str | Path | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    budget: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    count: int | None = None,
    reference: Literal["test", "heldout"] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    track: str | None = None,
    console: Console | None = None,
) -> StudyFolder:
    """Carry out a study, or go on with the one in the folder; the folder with its table comes back.

    `what` is a shipped study's name, a TOML file, a Study, or the folder of a study to go on with. `seeds` is a count
    or a list, `budget` the length of each run (5min, 3 epochs, 60000 images), `overrides` changes every configuration;
    `count` and `reference` are evaluate's, instead of the study's own.
    `jobs` runs go on at a time, here or, with `ray` (an address, or local), on a Ray cluster that shares the folder;
    at an address the cluster decides how many have room.
    Runs that are finished are reused, interrupted ones continue, failed ones are kept with their reason. `track` names
    a tracker that mirrors every run and its scores, those of reused runs too where it has not got them.

    >>> folder = study("diaz", seeds=3, budget="5min")  # doctest: +SKIP
    >>> folder.rows[0]["score"]  # doctest: +SKIP
    'frechet_garment_10k_test'
    """
    console = console or progress.console()
    asked, path = resolve_study(
        what, out, seeds=seeds, budget=budget, overrides=overrides, jobs=jobs, count=count, reference=reference,
        console=console,
    )  # fmt: skip
    tracker = trackers.choose(track) if track else None
    if ray:
        runner.ray_package()
    held = ExperimentFolder(path, "study")
    with _locked(held, asked), environment.interruptible() as stopped:
        asked, planned = _prepare(held, asked, track)
        if ray in (None, "local"):
            jobs = at_a_time(jobs, max(run.processes for run in planned), console)
        for note in dict.fromkeys(note for run in planned for note in run.notes):
            progress.log(console, f"warning: {note}")
        judging = asked.evaluate.model_dump(mode="json")
        found = {run.name: study_results.measured(run, judging) for run in planned}
        rows = {run.name: study_results.rows_of(asked.name, run, found[run.name]) for run in planned}
        todo = [run for run in planned if found[run.name] is None]
        if reused := len(planned) - len(todo):
            progress.log(console, f"{reused} of {len(planned)} runs are finished already")
        study_results.write(path, [row for run in planned for row in rows[run.name]])

        def tell(run: RunSpec) -> None:
            if tracker and found[run.name]:
                tracker.judged(runs.Run(run.folder), run.record, _whose(asked, run))

        for run in planned:
            tell(run)

        def carry_out(todo: Sequence[RunSpec]) -> None:
            errands = [_errand(run, path, asked.threads) for run in todo]
            with monitor.progress_reporter(console, asked.name, planned, todo, jobs) as (glance, say):
                results = partial(runner.on_ray, ray) if ray else runner.locally
                for number, outcome in results(errands, jobs, stopped, glance):
                    run = todo[number]
                    if outcome == runner.INTERRUPTED:
                        continue
                    record = None if outcome else study_results.measured(run, judging)
                    if record is None:
                        outcome = outcome or f"its record does not fit its weights; see {errands[number].log}"
                    found[run.name] = record
                    rows[run.name] = study_results.rows_of(asked.name, run, record, outcome)
                    study_results.write(path, [row for run in planned for row in rows[run.name]])
                    tell(run)
                    say(run, f"failed: {outcome}" if outcome else _first_score(rows[run.name]))

        carry_out(todo)
        for _ in range(2):  # the newest record may be as old as the others: then they are what it is compared with next
            odd = _unlike_the_newest([(run, record) for run in planned if (record := found[run.name])])
            if odd and not stopped():
                number = f"{len(odd)} run was" if len(odd) == 1 else f"{len(odd)} runs were"
                progress.log(console, f"{number} measured otherwise than the newest, to be measured again")
                carry_out(odd)
    return StudyFolder(path)


def _unlike_the_newest(measured: Sequence[tuple[RunSpec, Record]]) -> list[RunSpec]:
    """The runs whose records cannot stand in one table with the one that was written last."""
    newest = max(measured, key=lambda one: one[0].record.stat().st_mtime_ns, default=None)
    return [run for run, record in measured if newest and records.differences(record, newest[1])]


def _whose(asked: Study, run: RunSpec) -> dict[str, Any]:
    """What a tracker is told of a run beside its recipe."""
    return {"study": asked.name, "configuration": run.configuration}


def resolve_study(
    what: Study | str | Path,
    out: str | Path | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    budget: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int = 1,
    count: int | None = None,
    reference: str | None = None,
    console: Console | None = None,
) -> tuple[Study, Path]:
    """The study with its changes and threads, and its folder: `out`, the folder it was read from, or studies/NAME."""
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} does nothing; give at least 1")
    asked = what if isinstance(what, Study) else study_config.load(what)
    if out is None and not isinstance(what, Study) and (Path(what) / "plan.json").is_file():
        out = what
    path = Path("studies") / asked.name if out is None else Path(out)
    chosen = tuple(seeds) if isinstance(seeds, Sequence) else seeds
    asked = study_config.revise(asked, seeds=chosen, budget=budget, set=dict(overrides or {}))
    judging = {key: value for key, value in (("count", count), ("reference", reference)) if value is not None}
    if judging:
        asked = study_config.revise(asked, evaluate={**asked.evaluate.model_dump(exclude_unset=True), **judging})
    if "count" not in asked.evaluate.model_fields_set:
        asked = _with_count(asked, path, console)
    if asked.threads is None and (path / "plan.json").is_file():  # sums depend on threads: they stay as they were
        threads = study_config.read(path)["threads"]
        if threads is None and jobs > 1:
            raise UsageError(
                f"the runs of {path} use all processor threads, one run at a time; go on with --jobs 1, "
                "or choose another folder with --out"
            )
        asked = study_config.revise(asked, threads=threads)
    elif asked.threads is None and jobs > 1:
        asked = study_config.revise(
            asked, threads=max(1, cores() // at_a_time(jobs, study_config.most_processes(asked, path)))
        )
    return asked, path


def _with_count(asked: Study, path: Path, console: Console | None) -> Study:
    """The study with the count that its folder has, or that its budget allows where nobody has said one."""
    there = (path / "plan.json").is_file()
    count = study_config.read(path)["evaluate"]["count"] if there else study_config.judged_count(asked)
    if console and count != asked.evaluate.count and not there:
        progress.log(
            console,
            f"runs of {asked.budget} are short, so {count:,} generated images of each are judged and not "
            f"{asked.evaluate.count:,}; --count {asked.evaluate.count} asks for those",
        )
    return study_config.revise(asked, evaluate={**asked.evaluate.model_dump(exclude_unset=True), "count": count})


def at_a_time(jobs: int, processes: int, console: Console | None = None) -> int:
    """How many runs of up to so many processes go on at a time here: no more than have a core for every process."""
    fitting = min(jobs, max(1, cores() // processes)) if processes > 1 else jobs
    if console and fitting < jobs:
        told = f"each has up to {processes} processes, and there are {cores()} cores"
        progress.log(console, f"{fitting} at a time and not {jobs}: {told}")
    return fitting


@contextmanager
def _locked(folder: ExperimentFolder, study: Study) -> Iterator[None]:
    """Hold the study folder; UsageError where it holds no study and more than an interrupted start of this one."""
    if (folder.path / "plan.json").is_file():
        study_config.read(folder.path)
    else:
        copies = recipe_copies(study_config.recipe_names(study))
        texts = {copy.portable: copy.text for copy in copies}
        folder.refuse_foreign_files({"study.toml": study_config.to_toml(_portable(study, copies)), **texts})
    with folder.locked():
        yield


def _portable(study: Study, copies: Sequence[RecipeCopy]) -> Study:
    """The study as its folder holds it: recipe files by their paths in the folder."""
    return study_config.with_recipes(study, {copy.source: copy.portable for copy in copies})


def _prepare(folder: ExperimentFolder, study: Study, track: str | None) -> tuple[Study, list[RunSpec]]:
    """Check the study against the one in the folder and write its files; the study with the folder's recipes."""
    path, copies = folder.path, recipe_copies(study_config.recipe_names(study))
    planned = study_config.expand(study, path, track)
    identity = study_config.identity(study, planned)
    if (path / "plan.json").is_file():
        before = study_config.read(path)
        if before["hash"] != study_config.content_hash(identity):  # which also changes when recipes get new keys
            folder.refuse_other_settings(study_config.differences(before, identity), "seeds")
    folder.make()
    folder.write_recipes(copies)
    local = study_config.with_recipes(study, {copy.source: str(folder.recipes / copy.name) for copy in copies})
    planned = study_config.expand(local, path, track) if copies else planned
    files.write_text(path / "study.toml", study_config.to_toml(_portable(study, copies)))
    files.write_json(path / "plan.json", {
        "format": FORMAT,
        "study": study.name,
        "hash": study_config.content_hash(identity),
        "threads": study.threads,
        **identity,
        "runs": [
            {
                "configuration": run.configuration,
                "seed": run.seed,
                "folder": f"runs/{run.name}",
                "recipe_hash": config.content_hash(run.recipe),
                "gflop_per_image": round(run.gflop_per_image, 6),
                "commands": [study_config.shown(command, study.threads) for command in run.commands],
            }
            for run in planned
        ],
    })  # fmt: skip
    return local, planned


def _errand(run: RunSpec, path: Path, threads: int | None) -> Job:
    """What is left to do for a run."""
    commands = run.commands[1:] if study_results.is_trained(run) else run.commands
    variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    log = ExperimentFolder(path, "study").log(run.name)
    cores = max(threads or 1, run.processes)
    return Job(run.folder.absolute(), commands, log.absolute(), Path.cwd(), variables, cores)


def _first_score(rows: Sequence[Row]) -> str:
    row = rows[0]
    return f"{row['score']} {records.with_uncertainty(row['value'], row['uncertainty'])}"
