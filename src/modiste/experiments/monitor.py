"""How far the runs of a study are, what each does now, and how long the rest takes: from their folders alone.

Training is counted by the clock of each run, evaluations by those that were seen. What is not known yet is said to be
missing and never guessed, so that a forecast does not grow while nothing goes wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn

from modiste import progress, runs
from modiste.errors import ModisteError
from modiste.experiments import results
from modiste.experiments.study_config import RunSpec

LINE_SECONDS = 60.0
LOOK_SECONDS = 2.0
START_SECONDS = 5.0
"""For a process to start and to open the images."""
TRAINING_SHARE = 0.9
"""Of a run's way, as long as it is not known how long an evaluation takes."""

Stage = Literal["waiting", "training", "judging", "done"]


@dataclass(frozen=True)
class StudyProgress:
    """Where a run is."""

    stage: Stage
    share: float = 0.0
    """Of its training, 0 to 1."""
    seconds: float | None = None
    """Of training that are left; None where nothing tells yet."""
    gflop_per_second: float | None = None
    """Its speed so far."""


def study_progress(run: RunSpec) -> StudyProgress:
    """Where a run is by what its folder says; its training is taken to have gone on since its last word."""
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
    silent = time.time() - (run.folder / "log.jsonl").stat().st_mtime
    left = max(0.0, left - min(max(0.0, silent), tick))
    speed = images * run.gflop_per_image / seconds
    return StudyProgress("training", seconds / (seconds + left) if seconds + left else 1.0, left, speed)


@dataclass(frozen=True)
class TimeLeft:
    """What is left of a study."""

    training: float | None
    """Seconds, shared by the runs at a time; None where nothing tells yet."""
    evaluations: int
    judging: float | None
    """Seconds of an evaluation; None before the first."""
    jobs: int
    begun: float = 0.0
    """Seconds that evaluations under way have behind them."""

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

    A run of which nothing tells takes as long as its operations do at the speed of the others.
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


@contextmanager
def progress_reporter(
    console: Console, name: str, planned: Sequence[RunSpec], todo: Sequence[RunSpec], jobs: int
) -> Iterator[tuple[Callable[[], None], Callable[[RunSpec, str], None]]]:
    """`glance`, which shows from time to time how far the study is, and `say`, for the end of a run.

    A line when a run begins its training or its evaluation; a bar in a terminal, a line per minute elsewhere.
    """
    open_runs = {run.name: run for run in todo}
    seen: dict[str, StudyProgress] = {run.name: study_progress(run) for run in todo}
    said: dict[str, Stage] = {run.name: "waiting" for run in todo}
    since: dict[str, float] = {}
    judging: list[float] = []
    last_look = last_line = time.monotonic()

    def share() -> float:
        mean = sum(judging) / len(judging) if judging else None
        found = [1.0] * (len(planned) - len(open_runs))
        for run in open_runs.values():
            one = seen[run.name]
            whole = one.seconds / (1 - one.share) if one.seconds and one.share < 1 else run.recipe.train.budget_seconds
            part = whole / (whole + mean) if whole and mean is not None else TRAINING_SHARE
            found.append(part * one.share)
        return sum(found) / max(1, len(found))

    def state() -> str:
        under_way = [time.monotonic() - since[name] for name in open_runs if said[name] == "judging"]
        left = str(time_left(list(open_runs.values()), seen, judging, jobs, under_way))
        text = f"{len(planned) - len(open_runs)} of {len(planned)} runs, {share():.0%}"
        return f"{text}, {left}" if left else text

    def look() -> None:
        for run in open_runs.values():
            seen[run.name] = study_progress(run)
            stage = seen[run.name].stage
            if stage != said[run.name] and stage != "waiting":
                said[run.name] = stage
                since[run.name] = time.monotonic()
                doing = "training" if stage == "training" else "trained; judging its images"
                progress.log(console, f"{run.name}: {doing}")

    with ExitStack() as stack:
        live = console.is_terminal and bool(todo)
        bar = stack.enter_context(progress.bar(console, BarColumn())) if live else None
        task = bar.add_task(f"{name}: {state()}", total=1.0) if bar else None

        def glance() -> None:
            nonlocal last_look, last_line
            now = time.monotonic()
            if now - last_look < LOOK_SECONDS:
                return
            last_look = now
            look()
            if bar and task is not None:
                bar.update(task, completed=share(), description=f"{name}: {state()}")
            elif now - last_line >= LINE_SECONDS:
                last_line = now
                progress.log(console, f"{name}: {state()}")

        def say(run: RunSpec, text: str) -> None:
            open_runs.pop(run.name, None)
            if said.get(run.name) == "judging" and run.name in since:
                judging.append(time.monotonic() - since[run.name])
            progress.log(console, f"{run.name}: {text}  ({state()})")

        if todo and not live:
            progress.log(console, f"{name}: {state()}")
        yield glance, say
