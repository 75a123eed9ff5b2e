"""Progress of a study: the stage of every run and the time left, read from the run folders alone.

Training is counted by the clock of each run, evaluations by the mean of those that have ended. What is not known yet is
named and never guessed, so that a forecast does not grow while nothing goes wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from modiste import progress, runs
from modiste.errors import ModisteError
from modiste.experiments import results
from modiste.experiments.plan import RunSpec

READ_SECONDS = 2.0
START_SECONDS = 5.0
"""For a process to start and to open the images."""
TRAINING_SHARE = 0.9
"""Of the time of a run, as long as it is not known how long an evaluation takes."""

Stage = Literal["waiting", "training", "judging", "done"]


@dataclass(frozen=True)
class StudyProgress:
    """How far a run is."""

    stage: Stage
    share: float = 0.0
    """Of its training, 0 to 1."""
    seconds: float | None = None
    """Of training that are left; None while unknown."""
    gflop_per_second: float | None = None
    """Its speed so far."""


def study_progress(run: RunSpec) -> StudyProgress:
    """How far a run is, by its folder; its training is taken to have continued since its last log line."""
    train = run.recipe.train
    try:
        if not runs.exists(run.folder):
            return StudyProgress("waiting", 0.0, train.budget_seconds)
        if results.is_trained(run):
            return StudyProgress("judging", 1.0, 0.0)
        record = runs.read_last_record(runs.Run(run.folder))
    except ModisteError:
        return StudyProgress("waiting")
    if not record or not record["images"] or not record["seconds"]:
        return StudyProgress("training", 0.0, train.budget_seconds)
    images, total, seconds = record["images"], train.images or 1, record["seconds"]
    left = (total - images) * seconds / images
    if train.budget_seconds:
        left = min(left, train.budget_seconds - seconds)
    tick = seconds * min(1.0, train.tick_images / images)
    since_line = time.time() - (run.folder / "log.jsonl").stat().st_mtime
    left = max(0.0, left - min(max(0.0, since_line), tick))
    speed = images * run.gflop_per_image / seconds
    return StudyProgress("training", seconds / (seconds + left) if seconds + left else 1.0, left, speed)


@dataclass(frozen=True)
class TimeLeft:
    """What is left of a study."""

    training: float | None
    """Seconds, divided by the runs at a time; None while unknown."""
    evaluations: int
    judging: float | None
    """Seconds of an evaluation; None before the first."""
    jobs: int
    begun: float = 0.0
    """Seconds that have passed in the evaluations under way."""

    def __str__(self) -> str:
        if not self.evaluations:
            return ""
        if self.judging is not None and self.training is not None:
            judging = max(0.0, self.evaluations * self.judging - self.begun)
            seconds = self.training + judging / min(self.jobs, self.evaluations)
            return f"about {progress.duration(seconds)} left"
        evaluations = f"{self.evaluations} evaluation{'s' if self.evaluations > 1 else ''} left"
        if not self.training:
            return evaluations
        return f"about {progress.duration(self.training)} of training and {evaluations}"


def time_left(
    open_runs: Sequence[RunSpec],
    standings: Mapping[str, StudyProgress],
    judging: Sequence[float],
    jobs: int,
    begun: Sequence[float] = (),
) -> TimeLeft:
    """What is left of the open runs; `judging` are the seconds of evaluations seen, `begun` those of ones under way.

    A run whose time is unknown takes as long as its operations do at the speed of the others.
    """
    speeds = [one.gflop_per_second for one in standings.values() if one.gflop_per_second]
    seconds: float | None = 0.0
    for run in open_runs:
        left = standings[run.name].seconds
        if left is None and speeds:
            left = run.gflop_per_image * (run.recipe.train.images or 0) * len(speeds) / sum(speeds)
        start = START_SECONDS if standings[run.name].stage == "waiting" else 0.0
        seconds = None if seconds is None or left is None else seconds + start + left
    at_a_time = max(1, min(jobs, len(open_runs)))
    mean = sum(judging) / len(judging) if judging else None
    behind = sum(min(mean, one) for one in begun) if mean is not None else 0.0
    return TimeLeft(None if seconds is None else seconds / at_a_time, len(open_runs), mean, jobs, behind)


class StudyReporter:
    """Reports the progress of a study: a line when a run begins its training or its evaluation, and when it ends.

    Between them a bar in a terminal, a line per minute elsewhere.
    """

    def __init__(self, name: str, planned: Sequence[RunSpec], todo: Sequence[RunSpec], jobs: int) -> None:
        self.name, self.total, self.jobs = name, len(planned), jobs
        self.open_runs = {run.name: run for run in todo}
        self.progress = {run.name: study_progress(run) for run in todo}
        self.reported: dict[str, Stage] = {run.name: "waiting" for run in todo}
        self.since: dict[str, float] = {}
        """When each run began the stage that was reported last."""
        self.evaluations: list[float] = []
        """Seconds of those that have ended."""
        self.last_read = time.monotonic()
        self.output: progress.Reporter

    def share(self) -> float:
        """How much of the study is done, 0 to 1."""
        mean = sum(self.evaluations) / len(self.evaluations) if self.evaluations else None
        shares = [1.0] * (self.total - len(self.open_runs))
        for run in self.open_runs.values():
            one = self.progress[run.name]
            length = one.seconds / (1 - one.share) if one.seconds and one.share < 1 else run.recipe.train.budget_seconds
            training = length / (length + mean) if length and mean is not None else TRAINING_SHARE
            shares.append(training * one.share)
        return sum(shares) / max(1, len(shares))

    def text(self) -> str:
        """The study's progress in words."""
        now = time.monotonic()
        under_way = [now - self.since[name] for name in self.open_runs if self.reported[name] == "judging"]
        left = time_left(list(self.open_runs.values()), self.progress, self.evaluations, self.jobs, under_way)
        text = f"{self.total - len(self.open_runs)} of {self.total} runs, {self.share():.0%}"
        return ", ".join(filter(None, [text, str(left)]))

    def poll(self) -> None:
        """Read the run folders and report, if it is time; called several times per second."""
        now = time.monotonic()
        if now - self.last_read < READ_SECONDS:
            return
        self.last_read = now
        for name, run in self.open_runs.items():
            self.progress[name] = study_progress(run)
            stage = self.progress[name].stage
            if stage not in (self.reported[name], "waiting"):
                self.reported[name], self.since[name] = stage, time.monotonic()
                doing = "training" if stage == "training" else "trained; judging its images"
                self.output.log(f"{name}: {doing}", passing=True)
        self.output.update(self.share(), f"{self.name}: {self.text()}")

    def end(self, run: RunSpec, text: str) -> None:
        """Report the end of a run with its result in words."""
        self.open_runs.pop(run.name, None)
        if self.reported.get(run.name) == "judging":
            self.evaluations.append(time.monotonic() - self.since[run.name])
        self.output.log(f"{run.name}: {text}  ({self.text()})", passing=True)


@contextmanager
def progress_reporter(
    console: Console, name: str, planned: Sequence[RunSpec], todo: Sequence[RunSpec], jobs: int
) -> Iterator[StudyReporter]:
    """The reporter of a study of the planned runs, of which some are left to do."""
    study = StudyReporter(name, planned, todo, jobs)
    begin = f"{name}: {study.text()}"
    with progress.reporter(console, begin, live=bool(todo)) as study.output:
        if todo and not study.output.is_live:
            study.output.log(begin)
        yield study
