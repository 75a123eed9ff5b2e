"""The trials of a search: how workers share them, Optuna's choice, the monitoring of a training and its result.

A worker holds a lock in workers/ and leaves a sign of life with its trial; a trial whose worker is gone is marked
failed and queued again under another number, and continues from the state in its folder.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console

from modiste import files, progress, runs
from modiste.data.classes import check_learnable
from modiste.data.images import Note
from modiste.data.sets import check_varied, open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.experiments import monitor, plan, results, runner, study_config
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.plan import RunSpec
from modiste.experiments.runner import Job, JobResult
from modiste.experiments.search import spaces
from modiste.experiments.search.spaces import DISCRIMINATOR, Space
from modiste.metrics import metric_names
from modiste.training import setup

BEAT_SECONDS = 15.0
GRACE_SECONDS = 120.0
"""A worker elsewhere is gone when it was seen to leave no sign of life for so long."""
WAITING_SECONDS = 1.0
UNPRUNED_TRIALS = 4
"""So many trials are finished before one is pruned."""
MOST_RETRIES = 3
OF_A_WORKER = ("worker", "beat", "retries", "folder", "place")
"""Attributes of a trial on who carries it out and where, not on its result."""
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class TrialRow:
    """One trial: a line of trials.csv."""

    number: int
    name: str
    state: str
    """A value of STATES, or `queued again`."""
    score: str | None
    """The full name of the objective as it was measured."""
    value: float | None
    uncertainty: float | None
    reason: str
    """Why it failed or was pruned, or which trial has the same point."""
    folder: str
    """Of its run, from the search's folder."""
    images: int | None
    seconds: float | None
    gflop: float | None
    gflop_per_image: float | None
    settings: dict[str, Any]
    """The point, by dotted key."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Search:
    """One worker of a search: its settings, its folder, and the Optuna study that all workers share."""

    space: Space
    path: Path
    optuna: Any
    storage: Any
    study: Any
    console: Console
    worker: str = ""
    seen: dict[int, tuple[Any, float]] = field(default_factory=dict)
    """Per trial of another worker its last sign of life, and when it was first seen here."""

    def read_trials(self) -> list[Any]:
        """Optuna's trials as they are now."""
        return list(self.study.get_trials(deepcopy=False))

    def read_rows(self) -> list[TrialRow]:
        """The trials as they are now, in the order of their numbers."""
        return [_row(self.space, trial) for trial in self.read_trials()]


def _row(space: Space, trial: Any) -> TrialRow:
    attributes = trial.user_attrs
    choices = {key: {category(value): value for value in axis.choices or ()} for key, axis in space.space.items()}
    point = {key: choices[key].get(value, value) for key, value in trial.params.items()}
    return TrialRow(
        number=trial.number,
        name=trial_name(trial.number),
        state=STATES[trial.state.name] if counts(trial) else "queued again",
        score=attributes.get("score"),
        value=trial.value if trial.state.name == "COMPLETE" else None,
        uncertainty=attributes.get("uncertainty"),
        reason=attributes.get("reason", ""),
        folder=f"runs/{folder_name(trial)}",
        images=attributes.get("images"),
        seconds=attributes.get("seconds"),
        gflop=attributes.get("gflop"),
        gflop_per_image=attributes.get("gflop_per_image"),
        settings={key: point[key] for key in space.space if key in point},
    )


def trial_name(number: int) -> str:
    return f"trial-{number:04d}"


# --- sharing the trials among workers


def run_trials(worker: Search, stopped: Callable[[], bool]) -> None:
    """Carry out trials until all are done; wait for those of other workers, which may leave one to this worker."""
    states, announced = worker.optuna.trial.TrialState, False
    while not stopped():
        _take_back(worker)
        every = worker.read_trials()
        trials = [trial for trial in every if counts(trial)]
        places = {place(trial, every) for trial in trials}
        if len(places) >= worker.space.trials and all(trial.state != states.WAITING for trial in trials):
            running = sum(trial.state == states.RUNNING for trial in trials)
            if not running:
                return
            if not announced:
                progress.log(worker.console, f"waiting for {running} trials of other workers")
                announced = True
            time.sleep(WAITING_SECONDS)
            continue
        trial = worker.study.ask()
        if places_before(trial, worker.read_trials()) >= worker.space.trials:  # another worker was faster
            _end(worker, trial.number, again="", reason="one trial too many")
        else:
            run_trial(worker, trial, stopped)


def counts(trial: Any) -> bool:
    """Whether the trial counts: it was not queued again under another number."""
    return trial.state.name != "FAIL" or "again" not in trial.user_attrs


def _take_back(worker: Search) -> None:
    """Queue running trials again whose workers are gone."""
    for trial in worker.read_trials():
        if trial.state.name != "RUNNING":
            continue
        lock = worker.path / "workers" / str(trial.user_attrs.get("worker"))
        if lock.is_file():
            with suppress(filelock.Timeout), filelock.FileLock(lock).acquire(timeout=0):
                lock.unlink(missing_ok=True)
                _queue_again(worker, trial, "its worker was killed")
            continue
        sign = trial.user_attrs.get("beat")
        since = worker.seen.get(trial.number)
        if since is None or since[0] != sign:
            worker.seen[trial.number] = (sign, time.monotonic())
        elif time.monotonic() - since[1] > GRACE_SECONDS:
            _queue_again(worker, trial, "its worker leaves no sign of life")


def _queue_again(worker: Search, trial: Any, reason: str, blame: bool = True) -> None:
    """Mark a trial failed and queue its point again, to continue in its folder; at most MOST_RETRIES times."""
    retries = int(trial.user_attrs.get("retries", 0)) + blame
    if retries > MOST_RETRIES:
        _end(worker, trial.number, reason=f"{reason} {retries} times")
        return
    every = worker.read_trials()
    own = place(trial, every)
    # Queued before it is ended, so that no point is lost if this worker dies in between; and once only.
    if not any(other.user_attrs.get("place") == own and other.number > trial.number for other in every):
        attributes = {"folder": folder_name(trial), "retries": retries, "place": own}
        complete = trial.params.keys() >= worker.space.space.keys()  # else it is drawn again, to the same values
        worker.study.enqueue_trial(dict(trial.params) if complete else {}, user_attrs=attributes)
    _end(worker, trial.number, again=reason, reason=reason)


def place(trial: Any, all_trials: Sequence[Any]) -> int:
    """The trial's index among different trials, from 0; a retry keeps the index of its first attempt."""
    queued = sum("place" in other.user_attrs for other in all_trials if other.number < trial.number)
    return int(trial.user_attrs.get("place", trial.number - queued))


def places_before(trial: Any, all_trials: Sequence[Any]) -> int:
    """How many other positions are before this trial; one that was queued again may still seem to be running."""
    earlier = {place(one, all_trials) for one in all_trials if one.number < trial.number and counts(one)}
    return len(earlier - {place(trial, all_trials)})


def folder_name(trial: Any) -> str:
    """The name of the trial's run folder, which it keeps when it is queued again."""
    return str(trial.user_attrs.get("folder", trial_name(trial.number)))


def _end(worker: Search, number: int, **facts: Any) -> bool:
    """Mark a trial failed with these attributes; returns whether this worker did it."""
    trial_id = next(trial._trial_id for trial in worker.read_trials() if trial.number == number)
    try:
        for key, value in facts.items():
            worker.storage.set_trial_user_attr(trial_id, key, value)
        worker.study.tell(number, state=worker.optuna.trial.TrialState.FAIL)
    except (ValueError, RuntimeError, KeyError):  # Optuna: the trial has ended meanwhile
        return False
    return True


# --- one trial


def run_trial(worker: Search, trial: Any, stopped: Callable[[], bool]) -> None:
    """Choose the trial's point, train and evaluate it, and report the result to Optuna."""
    trial.set_user_attr("worker", worker.worker)
    trial.set_user_attr("beat", 0)
    point = _point(worker, trial)
    name = trial_name(trial.number)
    twin = next(
        (other for other in worker.read_trials() if other.state.name == "COMPLETE" and other.params == trial.params),
        None,
    )
    if twin is not None:
        trial.set_user_attr("folder", folder_name(twin))
        facts = {key: value for key, value in twin.user_attrs.items() if key not in OF_A_WORKER}
        _report(worker, trial, name, twin.value, {**facts, "reason": f"the same point as {trial_name(twin.number)}"})
        return
    try:
        planned = planned_trial(worker.space, worker.path, folder_name(trial), point)
    except UsageError as error:
        _report(worker, trial, name, None, {"reason": str(error)})
        return
    result, watch = _train(worker, trial, planned, stopped)
    if watch.lost:
        progress.log(worker.console, f"{name}: another worker has taken it over")
    elif watch.pruned:
        trial.set_user_attr("reason", f"worse than the median after {watch.images:,} images")
        worker.study.tell(trial, state=worker.optuna.trial.TrialState.PRUNED)
        progress.log(worker.console, f"{name}: pruned, {watch.images:,} images")
    elif result.status == "interrupted":
        frozen = next(one for one in worker.read_trials() if one.number == trial.number)
        _queue_again(worker, frozen, "interrupted", blame=not stopped())
    elif result.status == "failed" and not files.has_room(worker.path):  # the disk failed, not the point
        frozen = next(one for one in worker.read_trials() if one.number == trial.number)
        _queue_again(worker, frozen, "no room on the disk", blame=False)
        raise ModisteError(
            f"there is no room on the disk of {worker.path} ({result.reason}); make room and search again"
        )
    elif result.status == "failed":
        _report(worker, trial, name, None, {"reason": result.reason})
    else:
        try:
            value, facts = measured(worker, planned)
        except ModisteError as error:  # it would be the same with every trial
            _end(worker, trial.number, reason=str(error))
            raise
        _report(worker, trial, name, value, facts)


def _point(worker: Search, trial: Any) -> dict[str, Any]:
    """The trial's point. Randomness is a function of (seed, place), so that no two workers try the same point."""
    samplers, space = worker.optuna.samplers, worker.space
    seed = int(np.random.SeedSequence([space.seed, place(trial, worker.read_trials())]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an argument is experimental
        if space.sampler == "random":
            trial.study.sampler = samplers.RandomSampler(seed=seed)
        else:
            trial.study.sampler = samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True)
    point: dict[str, Any] = {}
    for key, axis in space.space.items():
        if axis.choices is not None:  # Optuna keeps plain values only, so lists go by their text
            texts = {category(value): value for value in axis.choices}
            point[key] = texts[trial.suggest_categorical(key, list(texts))]
        elif axis.is_integer:
            point[key] = trial.suggest_int(key, axis.low, axis.high, step=axis.step or 1, log=axis.log)
        else:
            point[key] = trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)
    return point


def category(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def check_data(space: Space) -> tuple[Note, ...]:
    """Warnings about the data that all trials share; UsageError for data that no trial can learn from."""
    base = spaces.base_recipe(space)
    images = open_data(base.data)
    if base.network.conditioning != "none" and "network.conditioning" not in space.space:
        check_learnable(images, limited=base.data.count is not None)
    check_varied(images)
    return setup.noticed(base, images)


def planned_trial(space: Space, path: Path, folder: str, point: Mapping[str, Any]) -> RunSpec:
    """A trial's run. It is not evaluated where the discriminator's accuracy is the objective."""
    one = spaces.configuration(space, "trial", point)
    judging = study_config.Judging(count=space.evaluate.count, reference="heldout")
    study = study_config.Study(configuration=(one,), seeds=(space.seed,), budget=space.budget, evaluate=judging)
    (planned,) = plan.expand(study, path)
    evaluate = None if space.objective == DISCRIMINATOR else judging
    return replace(planned, folder=ExperimentFolder(path, "search").runs / folder, evaluate=evaluate)


class TrialMonitor:
    """Monitors a trial while it trains: signs of life, scores at ticks, and whether to prune it."""

    def __init__(self, worker: Search, trial: Any, planned: RunSpec) -> None:
        self.worker, self.trial, self.planned = worker, trial, planned
        self.pruned = self.lost = False
        self.images, self.reported, self.beat = 0, 0, time.monotonic()
        self.log = runs.LogReader(runs.Run(planned.folder))

    def poll(self) -> None:
        """Leave a sign of life and report new scores to Optuna; called several times per second."""
        try:
            if time.monotonic() - self.beat > BEAT_SECONDS:
                self.beat = time.monotonic()
                self.trial.set_user_attr("beat", round(time.time()))
            if self.worker.space.pruner != "none" and not self.pruned:
                self._report_scores()
        except (ValueError, RuntimeError):  # Optuna: the trial has ended, so another worker has taken it over
            self.lost = True

    def _report_scores(self) -> None:
        every = self.planned.recipe.evaluate.every_images
        for record in self.log.read_new():
            value, step = logged(self.worker.space, record), record["images"] // every
            if value is None or not math.isfinite(value) or step <= self.reported:
                continue
            self.trial.report(value, step)
            self.reported, self.images = step, record["images"]
            if self.trial.should_prune():
                self.pruned = True
                return


def _train(worker: Search, trial: Any, planned: RunSpec, stopped: Callable[[], bool]) -> tuple[JobResult, TrialMonitor]:
    """Carry out what is left of the trial's commands."""
    watch = TrialMonitor(worker, trial, planned)
    commands = planned.commands[1:] if results.is_trained(planned) else planned.commands
    log = ExperimentFolder(worker.path, "search").log(planned.name)
    jobs = [Job(planned.folder.absolute(), commands, log.absolute(), Path.cwd())] if commands else []
    result = JobResult("finished")
    with monitor.progress_reporter(worker.console, planned.name, [planned], [planned], 1) as reporter:

        def poll() -> None:
            watch.poll()
            reporter.poll()

        def enough() -> bool:
            return stopped() or watch.pruned or watch.lost

        for _, ended in runner.run_locally(jobs, 1, enough, poll):
            result = ended
            watch.poll()
    return result, watch


def measured(worker: Search, planned: RunSpec) -> tuple[float | None, dict[str, Any]]:
    """The objective of a trained run (None: there is none), and the attributes to store with the trial."""
    space, run = worker.space, runs.Run(planned.folder)
    manifest = run.read_manifest()
    facts = {
        "images": manifest.images,
        "seconds": manifest.seconds,
        "gflop": round(planned.gflop_per_image * (manifest.images or 0), 3),
        "gflop_per_image": planned.gflop_per_image,
    }
    if space.objective == DISCRIMINATOR:
        last = runs.read_last_record(run)
        return logged(space, last) if last else None, {**facts, "score": DISCRIMINATOR}
    record = results.read_record(planned)
    if record is None:
        return None, {**facts, "reason": "its record does not fit its weights"}
    score = record.first(space.objective)
    if score is None:
        reasons = [reason for name, reason in record.not_measured.items() if name.kind == space.objective]
        why = reasons[0] if reasons else "these images do not allow it"
        raise ModisteError(f"{space.objective} cannot be the objective: {why}")
    protocol = records.protocol_hash(record)
    if worker.study.user_attrs.get("protocol", protocol) != protocol:
        return None, {**facts, "reason": "measured in another way than the trials before, with another judge or data"}
    worker.study.set_user_attr("protocol", protocol)
    name, value = str(score.name), score.value
    if space.better == "near" and value is not None:
        if score.real is None:
            raise ModisteError(
                f"{space.objective} cannot be the objective: real images have no value that it could come near to"
            )
        name, value = f"{name} from real images", abs(value - score.real)
    return value, {**facts, "score": name, "uncertainty": score.uncertainty}


def logged(space: Space, record: Mapping[str, Any]) -> float | None:
    """The objective in a record of a run's log; None where it has none."""
    if space.objective == DISCRIMINATOR:
        return float(abs((record["d_accuracy_real"] + record["d_accuracy_fake"]) / 2 - 0.5))
    score = metric_names.heldout_score(record)
    return None if score is None else record[score]


def _report(worker: Search, trial: Any, name: str, value: float | None, facts: Mapping[str, Any]) -> None:
    """Report the result of a trial to Optuna and on the console."""
    reason = facts.get("reason", "")
    if value is None or not math.isfinite(value):
        reason = reason or "its score is no number"
        _end(worker, trial.number, **{**facts, "reason": reason})
        progress.log(worker.console, f"{name}: failed: {reason}")
        return
    try:
        for key, fact in facts.items():
            trial.set_user_attr(key, fact)
        worker.study.tell(trial, value)
    except (ValueError, RuntimeError):
        progress.log(worker.console, f"{name}: another worker has taken it over")
        return
    best = worker.study.best_trial
    done = sum(counts(other) and other.state.is_finished() for other in worker.read_trials())
    leading = best.number == trial.number
    lead = "the best so far" if leading else f"{trial_name(best.number)} leads with {records.format_number(best.value)}"
    note = f", {reason}" if reason else ""
    progress.log(
        worker.console,
        f"{name}: {facts['score']} {records.format_number(value)}{note}  "
        f"({done} of {worker.space.trials} trials, {lead})",
    )
