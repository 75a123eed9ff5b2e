"""Studies: recipes by seeds, each run a process of its own, all scores in one table.

    studies/NAME/study.toml      the resolved study; `modiste study studies/NAME` continues it
                 recipes/        copies of recipe files that are not shipped
                 plan.json       every configuration's settings, every run's folder and commands
                 records.csv     one row per run and score; records.jsonl is the same
                 logs/           the output of the commands
                 runs/           a run folder per configuration and seed

A run is done when its training is finished and its record fits its weights; nothing else is stored. So a study that was
killed continues, and runs that failed are tried again when the study is started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from modiste import config, environment, files, parts, progress, runs
from modiste.environment import cores
from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import monitor, plan, results, runner, study_config, trackers
from modiste.experiments.folder import ExperimentFolder, RecipeCopy, recipe_copies
from modiste.experiments.plan import Plan, RunSpec
from modiste.experiments.results import StudyRow
from modiste.experiments.runner import Job, JobResult
from modiste.experiments.study_config import Study
from modiste.experiments.trackers import Tracker


@dataclass(frozen=True)
class StudyFolder:
    """A study folder, for the report and the statistics."""

    path: Path

    def read_study(self) -> Study:
        """The settings of the study."""
        return study_config.load(self.path / "study.toml")

    def read_plan(self) -> Plan:
        """Its configurations with all settings, and its runs."""
        return plan.read(self.path)

    def read_rows(self) -> list[StudyRow]:
        """The table: one row per run and score."""
        return results.read(self.path)

    def is_finished(self) -> bool:
        """Whether every run is evaluated or has failed."""
        return all(row.status != "waiting" for row in self.read_rows())

    def run(self, configuration: str, seed: int) -> runs.Run:
        """The run folder of a configuration and a seed."""
        return runs.Run(ExperimentFolder(self.path, "study").runs / plan.run_name(configuration, seed))


@dataclass(frozen=True)
class StudyOptions:
    """What a call of `modiste study` changes in a study and how it carries it out; None leaves the study's own."""

    seeds: int | Sequence[int] | None = None
    """How many training seeds, or which."""
    budget: str | None = None
    """The length of each run: 5min, 3 epochs or 60000 images."""
    overrides: Mapping[str, Any] | None = None
    """Changes of every configuration by dotted key."""
    count: int | None = None
    """Generated images per evaluation."""
    reference: Literal["test", "heldout"] | None = None
    """The real images to compare with."""
    jobs: int = 1
    """Runs at a time."""
    ray: str | None = None
    """The address of a Ray cluster that shares the folder, or local."""
    track: str | None = None
    """A tracker that mirrors every run and its scores."""


def open_study(path: str | Path) -> StudyFolder:
    """The study in that folder; UsageError when there is none."""
    path = Path(path)
    if not (path / plan.FILE).is_file():
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
    """Carry out a study, or continue the one in the folder; returns the folder with its table.

    `what` is a shipped study's name, a TOML file, a Study, or the folder of a study to continue. `seeds` is a count
    or a list, `budget` the length of each run (5min, 3 epochs, 60000 images), `overrides` changes every configuration;
    `count` and `reference` are evaluate's, instead of the study's own.
    `jobs` runs are carried out at a time, here or, with `ray` (an address, or local), on a Ray cluster that shares the
    folder; at an address the cluster decides how many have room.
    Finished runs are reused, interrupted ones continue, failed ones are kept with their reason. `track` names a tracker
    that mirrors every run and its scores, those of reused runs too where it lacks them.

    >>> folder = study("diaz", seeds=3, budget="5min")  # doctest: +SKIP
    >>> folder.read_rows()[0].score  # doctest: +SKIP
    'frechet_garment_10k_test'
    """
    console = console or progress.console()
    options = StudyOptions(seeds, budget, overrides, count, reference, jobs, ray, track)
    resolved, path = resolve_study(what, out, options, console)
    return run_study(resolved, path, options, console)


def run_study(study: Study, path: Path, options: StudyOptions, console: Console) -> StudyFolder:
    """Carry out the resolved study in that folder, or continue it there."""
    tracker = trackers.choose(options.track) if options.track else None
    if options.ray:
        runner.ray_package()
    folder, jobs = ExperimentFolder(path, "study"), options.jobs
    with _locked(folder, study), environment.interruptible() as stopped:
        study, planned = _prepare(folder, study, options.track)
        if options.ray in (None, "local"):
            jobs = jobs_at_a_time(jobs, max(run.processes for run in planned), console)
        for note in dict.fromkeys(note for run in planned for note in run.notes):
            progress.log(console, f"warning: {note}")
        table = _Table(study, folder, planned, tracker)
        todo = [run for run in planned if run.name not in table.records]
        if reused := len(planned) - len(todo):
            progress.log(console, f"{reused} of {len(planned)} runs are finished already")
        table.write()
        for run in planned:
            table.track(run)

        def run_all(todo: Sequence[RunSpec]) -> None:
            run_jobs = partial(runner.run_on_ray, options.ray) if options.ray else runner.run_locally
            waiting = [_job(run, folder, study.threads) for run in todo]
            with monitor.progress_reporter(console, study.name, planned, todo, jobs) as reporter:
                for position, result in run_jobs(waiting, jobs, stopped, reporter.poll):
                    if result.status != "interrupted":
                        reporter.end(todo[position], table.add(todo[position], result))

        run_all(todo)
        for _ in range(2):  # the newest record may be the odd one: then the others are evaluated again to fit it
            unlike = table.unlike_the_newest()
            if unlike and not stopped():
                number = f"{len(unlike)} run was" if len(unlike) == 1 else f"{len(unlike)} runs were"
                progress.log(console, f"{number} measured otherwise than the newest, to be measured again")
                run_all(unlike)
    return StudyFolder(path)


class _Table:
    """The records and rows of a study while its runs are carried out, and their mirror in a tracker."""

    def __init__(
        self, study: Study, folder: ExperimentFolder, planned: Sequence[RunSpec], tracker: Tracker | None
    ) -> None:
        self.study, self.folder, self.planned, self.tracker = study, folder, planned, tracker
        found = {run.name: results.read_record(run) for run in planned}
        self.records: dict[str, Record] = {name: record for name, record in found.items() if record is not None}
        self.rows = {run.name: results.run_rows(study.name, run, found[run.name]) for run in planned}

    def write(self) -> None:
        """Write the table into the study folder."""
        results.write(self.folder.path, [row for run in self.planned for row in self.rows[run.name]])

    def add(self, run: RunSpec, result: JobResult) -> str:
        """Add the result of a run's job; returns the first score or the reason of the failure, for a line of text."""
        record = results.read_record(run) if result.status == "finished" else None
        self.records.pop(run.name, None)
        if record is not None:
            self.records[run.name] = record
        unfit = f"its record does not fit its weights; see {self.folder.log(run.name)}"
        reason = "" if record else result.reason or unfit
        self.rows[run.name] = rows = results.run_rows(self.study.name, run, record, reason)
        self.write()
        self.track(run)
        first = rows[0]
        return f"failed: {reason}" if reason else (
            f"{first.score} {records.with_uncertainty(first.value, first.uncertainty)}"
        )  # fmt: skip

    def track(self, run: RunSpec) -> None:
        """Send the run's scores to the tracker."""
        if self.tracker and run.name in self.records:
            tags = {"study": self.study.name, "configuration": run.configuration}
            self.tracker.judged(runs.Run(run.folder), run.record, tags)

    def unlike_the_newest(self) -> list[RunSpec]:
        """The runs whose records cannot be compared with the newest one."""
        measured = [run for run in self.planned if run.name in self.records]
        newest = max(measured, key=lambda run: run.record.stat().st_mtime_ns, default=None)
        if newest is None:
            return []
        return [run for run in measured if records.differences(self.records[run.name], self.records[newest.name])]


def resolve_study(
    what: Study | str | Path,
    out: str | Path | None = None,
    options: StudyOptions = StudyOptions(),
    console: Console | None = None,
) -> tuple[Study, Path]:
    """The study with its changes and threads, and its folder: `out`, the folder it was read from, or studies/NAME."""
    jobs = options.jobs
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} does nothing; give at least 1")
    study = what if isinstance(what, Study) else study_config.load(what)
    if not isinstance(what, Study) and str(what) not in study_config.shipped():
        folder = Path(what) if Path(what).is_dir() else Path(what).parent
        if Path(what).is_dir() or (folder / plan.FILE).is_file():
            study_config.require_trusted(study, folder)
    if out is None and not isinstance(what, Study) and (Path(what) / plan.FILE).is_file():
        out = what
    path = Path("studies") / study.name if out is None else Path(out)
    begun = plan.read(path) if (path / plan.FILE).is_file() else None
    seeds = tuple(options.seeds) if isinstance(options.seeds, Sequence) else options.seeds
    study = study_config.revise(study, seeds=seeds, budget=options.budget, set=dict(options.overrides or {}))
    study = study_config.with_own_parts(study, parts.pin)
    judging = {"count": options.count, "reference": options.reference}
    if given := {key: value for key, value in judging.items() if value is not None}:
        study = _with_evaluation(study, given)
    if "count" not in study.evaluate.model_fields_set:
        study = _with_count(study, begun, console)
    if study.threads is None and begun:  # sums depend on the number of threads
        if begun.threads is None and jobs > 1:
            raise UsageError(
                f"the runs of {path} use all processor threads, one run at a time; go on with --jobs 1, "
                "or choose another folder with --out"
            )
        study = study_config.revise(study, threads=begun.threads)
    elif study.threads is None and jobs > 1:
        together = jobs_at_a_time(jobs, plan.most_processes(study, path))
        study = study_config.revise(study, threads=max(1, cores() // together))
    return study, path


def _with_evaluation(study: Study, changes: Mapping[str, Any]) -> Study:
    return study_config.revise(study, evaluate={**study.evaluate.model_dump(exclude_unset=True), **changes})


def _with_count(study: Study, begun: Plan | None, console: Console | None) -> Study:
    """The study with the count of images that its folder has, or that its budget allows where none is given."""
    count = begun.evaluate["count"] if begun else study_config.default_count(study)
    if console and count != study.evaluate.count and not begun:
        progress.log(
            console,
            f"runs of {study.budget} are short, so {count:,} generated images of each are judged and not "
            f"{study.evaluate.count:,}; --count {study.evaluate.count} asks for those",
        )
    return _with_evaluation(study, {"count": count})


def jobs_at_a_time(jobs: int, processes: int, console: Console | None = None) -> int:
    """How many of `jobs` runs with up to so many processes each have a core for every process here."""
    fitting = min(jobs, max(1, cores() // processes)) if processes > 1 else jobs
    if console and fitting < jobs:
        reason = f"each has up to {processes} processes, and there are {cores()} cores"
        progress.log(console, f"{fitting} at a time and not {jobs}: {reason}")
    return fitting


@contextmanager
def _locked(folder: ExperimentFolder, study: Study) -> Iterator[None]:
    """Hold the study folder; UsageError where it holds no study and more than an interrupted start of this one."""
    if (folder.path / plan.FILE).is_file():
        plan.read(folder.path)
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
    planned = plan.expand(study, path, track)
    if (path / plan.FILE).is_file():
        before, now = plan.read(path), plan.make_plan(study, planned)
        if before.hash != now.hash:  # which also changes when recipes get new keys
            folder.refuse_other_settings(now.differences(before), "seeds")
    folder.make()
    folder.write_recipes(copies)
    parts.write_copies(path, (text for run in planned for text in config.own_parts(run.recipe)))
    local = study_config.with_recipes(study, {copy.source: str(folder.recipes / copy.name) for copy in copies})
    planned = plan.expand(local, path, track) if copies else planned
    files.write_text(path / "study.toml", study_config.to_toml(_portable(study, copies)))
    files.write_json(path / plan.FILE, plan.make_plan(study, planned).to_json())
    return local, planned


def _job(run: RunSpec, folder: ExperimentFolder, threads: int | None) -> Job:
    """The commands of a run that remain."""
    commands = () if results.is_trained(run) else (run.argv(),)
    evaluation = run.evaluate_argv() if run.evaluate else ()
    variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    needed = max(threads or 1, run.processes)
    log = folder.log(run.name).absolute()
    sources = tuple(parts.copies(config.own_parts(run.recipe)).values())
    return Job(run.folder.absolute(), commands, log, Path.cwd(), variables, needed, evaluation, sources)
