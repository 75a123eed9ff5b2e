"""The trials of a search: who makes which, what Optuna chooses, how a training is watched and what came of it.

A worker holds a lock in workers/ and leaves a sign of life with its trial; a trial whose worker is gone is marked
failed and queued again under another number, and goes on from the state in its folder.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from modiste.experiments import monitor, results, runner, study_config
from modiste.experiments.runner import Job
from modiste.experiments.search import finalists, spaces
from modiste.experiments.search.spaces import DISCRIMINATOR, Space
from modiste.experiments.study_config import RunSpec
from modiste.training import setup

BEAT_SECONDS = 15.0
GRACE_SECONDS = 120.0
"""A worker elsewhere is gone when it was seen to leave no sign of life for so long."""
WAITING_SECONDS = 1.0
UNPRUNED_TRIALS = 4
"""So many trials are finished before one is pruned."""
MOST_RETRIES = 3
OF_A_WORKER = ("worker", "beat", "retries", "folder", "place")
"""Facts of a trial that say who makes it and where, not what came of it."""


@dataclass(frozen=True)
class Search:
    """One worker of a search: what is asked, its folder, and the Optuna study that all workers share."""

    space: Space
    path: Path
    optuna: Any
    storage: Any
    study: Any
    console: Console
    worker: str = ""
    seen: dict[int, tuple[Any, float]] = field(default_factory=dict)
    """Per trial of another worker its last sign of life, and when it was first seen here."""

    @property
    def trials(self) -> list[Any]:
        """Optuna's trials as they are now."""
        return list(self.study.get_trials(deepcopy=False))

    @property
    def judging(self) -> dict[str, Any]:
        """How trials are evaluated, as `outcomes.measured` wants to know it."""
        return {"count": self.space.evaluate.count, "reference": "heldout"}


# --- who does what


def run_trials(mine: Search, stopped: Callable[[], bool]) -> None:
    """Make trials until all are done; wait for those of other workers, as one of them may be left to this one."""
    states, told = mine.optuna.trial.TrialState, False
    while not stopped():
        _take_back(mine)
        every = mine.trials
        trials = [trial for trial in every if counts(trial)]
        places = {place(trial, every) for trial in trials}
        if len(places) >= mine.space.trials and all(trial.state != states.WAITING for trial in trials):
            running = sum(trial.state == states.RUNNING for trial in trials)
            if not running:
                return
            if not told:
                progress.log(mine.console, f"waiting for {running} trials of other workers")
                told = True
            time.sleep(WAITING_SECONDS)
            continue
        trial = mine.study.ask()
        if asked_before(trial, mine.trials) >= mine.space.trials:  # another worker was faster
            _end(mine, trial.number, again="", reason="one trial too many")
        else:
            run_trial(mine, trial, stopped)


def counts(trial: Any) -> bool:
    """Whether it is one of the trials asked for, and not one that was queued again under another number."""
    return trial.state.name != "FAIL" or "again" not in trial.user_attrs


def _take_back(mine: Search) -> None:
    """Queue the running trials again whose workers are gone."""
    for trial in mine.trials:
        if trial.state.name != "RUNNING":
            continue
        lock = mine.path / "workers" / str(trial.user_attrs.get("worker"))
        if lock.is_file():
            with suppress(filelock.Timeout), filelock.FileLock(lock).acquire(timeout=0):
                lock.unlink(missing_ok=True)
                _queue_again(mine, trial, "its worker was killed")
            continue
        sign = trial.user_attrs.get("beat")
        since = mine.seen.get(trial.number)
        if since is None or since[0] != sign:
            mine.seen[trial.number] = (sign, time.monotonic())
        elif time.monotonic() - since[1] > GRACE_SECONDS:
            _queue_again(mine, trial, "its worker leaves no sign of life")


def _queue_again(mine: Search, trial: Any, reason: str, blame: bool = True) -> None:
    """Mark a trial failed and queue its point again; it goes on in its folder. Not for ever: some points kill."""
    retries = int(trial.user_attrs.get("retries", 0)) + blame
    if retries > MOST_RETRIES:
        _end(mine, trial.number, reason=f"{reason} {retries} times")
        return
    of = place(trial, mine.trials)
    # First, so that no point is lost whatever dies in between; and once only.
    if not any(other.user_attrs.get("place") == of and other.number > trial.number for other in mine.trials):
        attributes = {"folder": folder(trial), "retries": retries, "place": of}
        whole = trial.params.keys() >= mine.space.space.keys()  # else it is drawn anew, and comes out the same
        mine.study.enqueue_trial(dict(trial.params) if whole else {}, user_attrs=attributes)
    _end(mine, trial.number, again=reason, reason=reason)


def place(trial: Any, all_trials: Sequence[Any]) -> int:
    """The trial's place among those asked for, from 0: its number, but for trials that were queued again before it.

    One that was queued again has the place of the first.
    """
    queued = sum("place" in other.user_attrs for other in all_trials if other.number < trial.number)
    return int(trial.user_attrs.get("place", trial.number - queued))


def asked_before(trial: Any, all_trials: Sequence[Any]) -> int:
    """How many other places were asked for before this trial; who was queued again may still seem to be running."""
    earlier = {place(one, all_trials) for one in all_trials if one.number < trial.number and counts(one)}
    return len(earlier - {place(trial, all_trials)})


def folder(trial: Any) -> str:
    return str(trial.user_attrs.get("folder", f"trial-{trial.number:04d}"))


def _end(mine: Search, number: int, **facts: Any) -> bool:
    """Mark a trial failed with the reason; whether it was this worker that did."""
    trial_id = next(trial._trial_id for trial in mine.trials if trial.number == number)
    try:
        for key, value in facts.items():
            mine.storage.set_trial_user_attr(trial_id, key, value)
        mine.study.tell(number, state=mine.optuna.trial.TrialState.FAIL)
    except (ValueError, RuntimeError, KeyError):  # what Optuna says of a trial that has ended meanwhile
        return False
    return True


# --- one trial


def run_trial(mine: Search, trial: Any, stopped: Callable[[], bool]) -> None:
    """Choose the trial's point, train and measure it, and tell Optuna what came of it."""
    trial.set_user_attr("worker", mine.worker)
    trial.set_user_attr("beat", 0)
    point = _point(mine, trial)
    name = f"trial-{trial.number:04d}"
    twin = next(
        (other for other in mine.trials if other.state.name == "COMPLETE" and other.params == trial.params), None
    )
    if twin is not None:
        trial.set_user_attr("folder", folder(twin))
        facts = {key: value for key, value in twin.user_attrs.items() if key not in OF_A_WORKER}
        _tell(mine, trial, name, twin.value, {**facts, "reason": f"the same point as trial-{twin.number:04d}"})
        return
    try:
        planned = planned_trial(mine.space, mine.path, folder(trial), point)
    except UsageError as error:
        _tell(mine, trial, name, None, {"reason": str(error)})
        return
    outcome, watch = _train(mine, trial, planned, stopped)
    if watch.lost:
        progress.log(mine.console, f"{name}: another worker has taken it over")
    elif watch.pruned:
        trial.set_user_attr("reason", f"worse than the median after {watch.images:,} images")
        mine.study.tell(trial, state=mine.optuna.trial.TrialState.PRUNED)
        progress.log(mine.console, f"{name}: pruned, {watch.images:,} images")
    elif outcome == runner.INTERRUPTED:
        frozen = next(one for one in mine.trials if one.number == trial.number)
        _queue_again(mine, frozen, "interrupted", blame=not stopped())
    elif outcome and not files.has_room(mine.path):  # which speaks of the disk and not of the point
        frozen = next(one for one in mine.trials if one.number == trial.number)
        _queue_again(mine, frozen, "no room on the disk", blame=False)
        raise ModisteError(f"there is no room on the disk of {mine.path} ({outcome}); make room and search again")
    elif outcome:
        _tell(mine, trial, name, None, {"reason": outcome})
    else:
        try:
            value, facts = measured(mine, planned)
        except ModisteError as error:  # it would be the same with every trial
            _end(mine, trial.number, reason=str(error))
            raise
        _tell(mine, trial, name, value, facts)


def _point(mine: Search, trial: Any) -> dict[str, Any]:
    """The trial's point. Randomness is a function of (seed, place), so that no two workers try the same."""
    samplers, space = mine.optuna.samplers, mine.space
    seed = int(np.random.SeedSequence([space.seed, place(trial, mine.trials)]).generate_state(1)[0])
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
        elif axis.whole:
            point[key] = trial.suggest_int(key, axis.low, axis.high, step=axis.step or 1, log=axis.log)
        else:
            point[key] = trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)
    return point


def category(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def check_data(space: Space) -> tuple[Note, ...]:
    """What is to be said of the data that all trials share, before the first; what no trial can learn is an error."""
    base = spaces.base_recipe(space)
    images = open_data(base.data)
    if base.network.conditioning != "none" and "network.conditioning" not in space.space:
        check_learnable(images, limited=base.data.count is not None)
    check_varied(images)
    return setup.noticed(base, images)


def planned_trial(space: Space, path: Path, folder: str, point: Mapping[str, Any]) -> RunSpec:
    """A trial's run: its recipe, folder and the commands that a person would type; discriminators need no measuring."""
    one = spaces.configuration(space, "trial", point)
    judging = study_config.Judging(count=space.evaluate.count, reference="heldout")
    alone = study_config.Study(configuration=(one,), seeds=(space.seed,), budget=space.budget, evaluate=judging)
    place = path / "runs" / folder
    planned = study_config.expand(alone, path)[0]
    words = list(planned.commands[0])
    words[words.index("--out") + 1] = str(place)
    commands: tuple[tuple[str, ...], ...] = (tuple(words),)
    if space.objective != DISCRIMINATOR:
        commands = (*commands, study_config.evaluate_command(alone, place))
    return replace(planned, folder=place, commands=commands, record=place / "metrics-heldout.json")


class TrialMonitor:
    """Looks after a trial while it trains: signs of life, scores at ticks, and whether to end it."""

    def __init__(self, mine: Search, trial: Any, planned: RunSpec) -> None:
        self.mine, self.trial, self.planned = mine, trial, planned
        self.pruned = self.lost = False
        self.images, self.size, self.reported, self.beat = 0, -1, 0, time.monotonic()

    def glance(self) -> None:
        """To be called several times per second."""
        try:
            if time.monotonic() - self.beat > BEAT_SECONDS:
                self.beat = time.monotonic()
                self.trial.set_user_attr("beat", round(time.time()))
            if self.mine.space.pruner != "none" and not self.pruned:
                self._report()
        except (ValueError, RuntimeError):  # Optuna: the trial has ended, so somebody gave it to another worker
            self.lost = True

    def _report(self) -> None:
        log = self.planned.folder / "log.jsonl"
        size = log.stat().st_size if log.is_file() else -1
        if size == self.size:
            return
        self.size = size
        every = self.planned.recipe.evaluate.every_images
        for record in runs.Run(self.planned.folder).read_log():
            value, step = finalists.logged(self.mine.space, record), record["images"] // every
            if value is None or not math.isfinite(value) or step <= self.reported:
                continue
            self.trial.report(value, step)
            self.reported, self.images = step, record["images"]
            if self.trial.should_prune():
                self.pruned = True
                return


def _train(mine: Search, trial: Any, planned: RunSpec, stopped: Callable[[], bool]) -> tuple[str, TrialMonitor]:
    """Carry out what is left of the trial's commands."""
    watch = TrialMonitor(mine, trial, planned)
    commands = planned.commands[1:] if results.is_trained(planned) else planned.commands
    log = mine.path / "logs" / f"{planned.name}.log"
    errand = Job(planned.folder.absolute(), commands, log.absolute(), Path.cwd())
    outcome = ""
    with monitor.progress_reporter(mine.console, planned.name, [planned], [planned], 1) as (bar, _):

        def glance() -> None:
            watch.glance()
            bar()

        def enough() -> bool:
            return stopped() or watch.pruned or watch.lost

        for _, ended in runner.locally([errand] if commands else [], 1, enough, glance):
            outcome = ended
            watch.glance()
    return outcome, watch


def measured(mine: Search, planned: RunSpec) -> tuple[float | None, dict[str, Any]]:
    """The objective of a trained run as Optuna is told it (None: there is none), and the facts to keep with it."""
    space, run = mine.space, runs.Run(planned.folder)
    manifest = run.read_manifest()
    facts = {
        "images": manifest.images,
        "seconds": manifest.seconds,
        "gflop": round(planned.gflop_per_image * (manifest.images or 0), 3),
        "gflop_per_image": planned.gflop_per_image,
    }
    if space.objective == DISCRIMINATOR:
        return (finalists.logged(space, run.read_log()[-1]) if run.read_log() else None), {
            **facts,
            "score": DISCRIMINATOR,
        }
    record = results.measured(planned, mine.judging)
    if record is None:
        return None, {**facts, "reason": "its record does not fit its weights"}
    score = record.first(space.objective)
    if score is None:
        reasons = [reason for name, reason in record.not_measured.items() if name.kind == space.objective]
        why = reasons[0] if reasons else "these images do not allow it"
        raise ModisteError(f"{space.objective} cannot be the objective: {why}")
    protocol = records.protocol_hash(record)
    if mine.study.user_attrs.get("protocol", protocol) != protocol:
        return None, {**facts, "reason": "measured in another way than the trials before, with another judge or data"}
    mine.study.set_user_attr("protocol", protocol)
    name, value = str(score.name), score.value
    if space.better == "near" and value is not None and score.real is not None:
        name, value = f"{name} from real images", abs(value - score.real)
    return value, {**facts, "score": name, "uncertainty": score.uncertainty}


def _tell(mine: Search, trial: Any, name: str, value: float | None, facts: Mapping[str, Any]) -> None:
    """Tell Optuna and the reader what came of a trial."""
    found = value is not None and math.isfinite(value)
    reason = facts.get("reason") or ("" if found else "its score is no number")
    if not found:
        _end(mine, trial.number, **{**facts, "reason": reason})
        progress.log(mine.console, f"{name}: failed: {reason}")
        return
    try:
        for key, fact in facts.items():
            trial.set_user_attr(key, fact)
        mine.study.tell(trial, value)
    except (ValueError, RuntimeError):
        progress.log(mine.console, f"{name}: another worker has taken it over")
        return
    best = mine.study.best_trial
    done = sum(counts(other) and other.state.is_finished() for other in mine.trials)
    lead = "the best so far" if best.number == trial.number else f"trial-{best.number:04d} leads with "
    lead += "" if best.number == trial.number else records.format_number(best.value)
    note = f", {reason}" if reason else ""
    said = (
        f"{name}: {facts['score']} {records.format_number(value)}{note}  ({done} of {mine.space.trials} trials, {lead})"
    )
    progress.log(mine.console, said)
