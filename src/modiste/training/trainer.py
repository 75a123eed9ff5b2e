"""Train a recipe into a run folder, from its newest state to the last image.

Four calls lead from the command to a loss:

    cli.train.train -> trainer.train -> trainer.loop -> step.step -> losses

`train` opens the run, `loop` counts images and time and decides what a step is followed by, `tick` logs, draws, scores
and saves. How `step` is bound to its arguments, directly or as a CUDA graph, is a detail of `cuda_graph.make_step`.

Everything random is a function of position. The order of the data follows from (seed, epoch), the noise from
(seed, images shown), dropout from (seed, images shown, rank). So a state holds no random-number state, a resumed run
repeats the uninterrupted one bit for bit on the CPU, and several processes give what one gives, but for rounding and
for what each computes from its own part of the batch: batch norm, dropout, augmentation, the points of gradient
penalties on lines, gradients clipped by class.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from modiste import config, environment, files, parts, progress, runs
from modiste.config import Recipe
from modiste.data.images import Images
from modiste.environment import interruptible, peak_memory_bytes
from modiste.errors import ModisteError, is_out_of_memory
from modiste.networks.layers import ImageShape
from modiste.sampling import generators, grids
from modiste.training import (
    callbacks,
    checkpoint_selection,
    cuda_graph,
    diagnostics,
    distributed,
    finetune,
    flat,
    overfitting,
    resume,
    setup,
)
from modiste.training.callbacks import Callbacks, Listener
from modiste.training.checkpoint_selection import Selector
from modiste.training.distributed import ProcessGroup
from modiste.training.setup import resolve_run
from modiste.training.step import METER, Diverged, State, make_step_functions, stop_unless_sums_finite

STATE_FORMAT = 2
SAVE_SECONDS = 120.0
"""How often the state is saved between ticks, so that a slow training never loses more."""


@dataclass
class LogSummary:
    """What ticks need to know of the log, so that none has to read it."""

    history: diagnostics.History = field(default_factory=diagnostics.History)

    @property
    def best(self) -> runs.BestCheckpoint | None:
        """The best checkpoint so far; None without a score on held-out images."""
        return self.history.best

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The newest record; None if there is none."""
        return self.history.recent[-1] if self.history.recent else None

    def add(self, record: Mapping[str, Any]) -> list[diagnostics.Sign]:
        """Take the log's next record; returns the signs of a failing training that appear for the first time."""
        return self.history.add(record)


@dataclass(frozen=True)
class Session:
    """What stays the same while this process trains."""

    recipe: Recipe
    run: runs.Run
    dataset_size: int
    shape: ImageShape
    group: ProcessGroup
    advance: Callable[[], None]
    """Takes one step; it holds the state that the loop is given."""
    stop: Callable[[], bool]
    """Whether the user asks to stop."""
    log: LogSummary = field(default_factory=LogSummary)
    selector: Selector | None = None
    measure: overfitting.Measure | None = None


def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    fresh: bool = False,
    extend: bool = False,
    console: Console | None = None,
    follow: Callable[[runs.Run], AbstractContextManager[Listener]] | None = None,
) -> runs.Run:
    """Train a recipe into a run folder, or resume the run in that folder; returns the run.

    `recipe` is a shipped recipe's name, a TOML file, a Recipe, or the folder of a run to resume. `overrides` changes
    keys, as in {"train.epochs": 3, "data.name": "toy"}. `fresh` numbers a new folder instead of resuming, `extend` lets
    the run in the folder go on to a greater length. `follow` adds a listener to the ticks, such as TensorBoard's.
    SIGINT, SIGTERM and SIGHUP end the training after the current step with its state saved (status "interrupted").
    PyTorch's random numbers on the CPU are as before when it ends. ModisteError says in one sentence what went wrong,
    also where another thread of this process is training.

    >>> run = train("swift", out="runs/toy", overrides={"data.name": "toy", "train.images": 640})  # doctest: +SKIP
    >>> modiste.load(run).sample(4).shape  # doctest: +SKIP
    (4, 1, 28, 28)
    """
    recipe, path = resolve_run(recipe, out, overrides or {})
    path = runs.fresh_path(path) if fresh else path
    device = environment.choose_device(recipe.train.device)
    group = distributed.plan_group(device, recipe.train.processes)
    with ExitStack() as stack:
        stack.enter_context(environment.own_random_numbers())
        console = (console or progress.console()) if group.is_main else progress.console(quiet=True)
        if group.is_main:
            runs.refuse_foreign_folder(path)
        recipe, dataset, notes = setup.fit_to_data(recipe, path, overrides or {})
        if group.is_main:
            runs.refuse_foreign_folder(path, recipe)
            stack.enter_context(runs.locked(path))
        group = stack.enter_context(distributed.join_group(group, device, partial(_worker_command, recipe, path)))
        opened = resume.open_folder(recipe, path, dataset, device, group, extend, console) if group.is_main else None
        opened = distributed.broadcast_from_main(opened, group)
        if opened.finished:
            return runs.Run(path)
        if device == "cuda":  # tries kernels once per size of feature maps, of which a training has few
            stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
            torch.backends.cudnn.benchmark = True
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stop = stack.enter_context(interruptible())  # until here an interruption has nothing to save
        with _failure_recorded(runs.Run(path), group):
            if group.is_main:  # at once: who lists runs reads it
                shape = setup.image_shape(recipe, dataset)
                names = dataset.class_names if shape.classes else ()
                generators.describe_network(runs.Run(path), recipe.network, shape, names)
            session, state, begun = _prepare(recipe, dataset, opened, group, stop)
            for note in [*notes, *begun]:
                progress.log(console, note)
            images, budget = recipe.train.images or 0, recipe.train.budget_seconds
            watcher = stack.enter_context(callbacks.progress_callbacks(console, images, budget, state.images))
            if follow and group.is_main:
                watcher = watcher.and_also(stack.enter_context(follow(session.run)))
            status = loop(session, state, watcher)
        if group.is_main:
            _finish(session, state, status)
        distributed.barrier(group)
        return session.run


@contextmanager
def _failure_recorded(run: runs.Run, group: ProcessGroup) -> Iterator[None]:
    """Write the reason of a failure into the manifest, and word it for the user where no traceback is needed."""
    try:
        yield
    except Exception as error:
        failure = _as_sentence(error, run)
        if not isinstance(error, (ModisteError, MemoryError, RuntimeError)) and failure is None:
            raise
        if group.is_main:
            reason = str(failure or f"{type(error).__name__}: {error}")
            runs.update_manifest(run, status="failed", end=environment.utc_now(), reason=reason)
        if failure is None:
            raise
        raise failure from None


def _as_sentence(error: Exception, run: runs.Run) -> ModisteError | None:
    """The error that ended a training, worded for the user; None where only a traceback explains it."""
    if isinstance(error, Diverged):
        good = runs.states(run)
        return Diverged(f"{error}; the last good state is {good[0] if good else 'the start'}")
    if is_out_of_memory(error):
        return ModisteError(
            f"the training in {run.path} needs more memory than there is; go on when more is "
            "free, or train anew with --fresh and a larger train.accumulate, a smaller train.batch_size or network"
        )
    if isinstance(error, ModisteError):
        return error
    own = parts.worded(error)
    return parts.PartError(own) if own else None


def _worker_command(recipe: Recipe, path: Path, folder: Path) -> list[str]:
    """The command of another process of this training; its recipe is written into the folder."""
    files.write_text(folder / "recipe.toml", config.to_toml(recipe))
    return ["train", str(folder / "recipe.toml"), "--out", str(path)]


def loop(session: Session, state: State, watcher: Callbacks) -> runs.Status:
    """Train to the last image, to the end of the budget or until asked to stop: "finished" or "interrupted".

    Whether the training is over is decided after each step, before the tick, by all ranks together. So the last tick
    is one like the others, and a budget, however short, buys at least one step.
    """
    train, group = session.recipe.train, session.group
    total_images, budget_seconds = train.images or 0, train.budget_seconds or math.inf
    environment.keep_freed_memory()
    state.generator.train()
    state.discriminator.train()
    if state.images == 0:
        draw_grid(session, state)
    clock = Clock(state.seconds, state.images)
    saved_at = clock.seconds
    # Where a run goes on whose budget is spent, nothing is left to do; all ranks restored the same seconds.
    over = state.images >= total_images or (state.images > 0 and state.seconds >= budget_seconds)
    over = over or is_patience_spent(session)
    (stopped,) = distributed.any_of([session.stop()], group)
    while not (over or stopped):
        ticks_before = state.images // train.tick_images
        session.advance()
        seconds = clock.seconds
        watcher.step(state.images, seconds)
        spent, stopped, due = distributed.any_of(
            [seconds >= budget_seconds, session.stop(), seconds - saved_at >= SAVE_SECONDS], group
        )
        over = spent or state.images >= total_images
        if over or state.images // train.tick_images > ticks_before:
            tick(session, state, clock, watcher, last=over)
            over = over or is_patience_spent(session, watcher)
            saved_at = clock.seconds
        elif due or stopped:
            save_within_tick(session, state, clock)
            saved_at = clock.seconds
    state.seconds = clock.seconds
    return "finished" if over else "interrupted"


def is_patience_spent(session: Session, watcher: Callbacks | None = None) -> bool:
    """Whether the last evaluate.patience scores on held-out images, or more, were no better than the best one."""
    patience, history = session.recipe.evaluate.patience, session.log.history
    (spent,) = distributed.any_of([0 < patience <= history.since_best], session.group)
    if spent and watcher and history.best:
        watcher.log(
            f"stopped: no gain for {history.since_best} evaluations (evaluate.patience = {patience}); the best "
            f"generator is that after {history.best.images:,} images, in best.safetensors"
        )
    return spent


class Clock:
    """Seconds of training over all sessions of a run, and where this session's part of the tick began."""

    def __init__(self, seconds_before: float, images_before: int = 0) -> None:
        self._start = time.perf_counter() - seconds_before
        self.tick_start, self.tick_images = seconds_before, images_before

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


def tick(session: Session, state: State, clock: Clock, watcher: Callbacks, last: bool = False) -> None:
    """Log, draw, score and save. A log line whose state never reaches the disk is dropped when the run is resumed."""
    run, group = session.run, session.group
    distributed.share_buffers([state.generator, state.discriminator, state.ema], group)
    sums = sums_since_tick(state, group)
    state.meter.zero_()
    if group.is_main:
        record = tick_record(session, state.images, sums, clock)
        if session.recipe.augment.policy:
            record["augment_probability"] = round(state.augment_probability.item(), 4)
        record |= accuracies(session, state)
        draw_grid(session, state)
        runs.save_generator(run, state.ema)
        record |= heldout_score(session, state, last)
        runs.append_log(run, record)
        watcher.tick(record)
        for sign in session.log.add(record):
            watcher.log(f"note: {sign}")
    if session.recipe.augment.policy == "auto":
        adapt(session, state, watcher)
    save(session, state, clock)
    keep_best(session, state)
    clock.tick_start, clock.tick_images = clock.seconds, state.images


def save_within_tick(session: Session, state: State, clock: Clock) -> None:
    """Save the state if its sums are finite; log and pictures wait for the tick."""
    sums_since_tick(state, session.group)  # for its check
    save(session, state, clock)


def sums_since_tick(state: State, group: ProcessGroup) -> dict[str, float]:
    """The meter's sums over all ranks by name; Diverged where one of them is not finite."""
    values = distributed.sum_over_processes(state.meter, group).tolist()
    sums = {term.name: value for term, value in zip(METER, values, strict=True)}
    stop_unless_sums_finite(state.images, sums)
    return sums


def tick_record(session: Session, images: int, sums: Mapping[str, float], clock: Clock) -> dict[str, Any]:
    """The log's line: means since the last tick. Only seconds and images_per_second differ between two equal runs."""
    seconds = clock.seconds
    return {
        "images": images,
        "epoch": round(images / session.dataset_size, 4),
        "seconds": round(seconds, 3),
        "images_per_second": round((images - clock.tick_images) / max(1e-9, seconds - clock.tick_start), 1),
        **{term.name: sums[term.name] / sums[term.over] for term in METER if term.over},
    }


def heldout_score(session: Session, state: State, last: bool) -> dict[str, float]:
    """The generator's score on held-out images by its name; empty where none is due."""
    selector, record = session.selector, session.log.last
    if selector is None or not (last or selector.due(record["images"] if record else 0, state.images)):
        return {}
    return selector.score(state.ema)


def accuracies(session: Session, state: State) -> dict[str, float]:
    """The discriminator's accuracies on training and on held-out images; empty where they are not due."""
    last, every = session.log.last, overfitting.EVERY_IMAGES
    due = state.images // every > (last["images"] if last else 0) // every
    return session.measure(state) if session.measure and due else {}


def adapt(session: Session, state: State, watcher: Callbacks) -> None:
    """Move the probability of an automatic augmentation by what the last line of the log says of over-fitting."""
    before, record = round(state.augment_probability.item(), 4), session.log.last or {}
    after = distributed.broadcast_from_main(overfitting.moved(before, record), session.group)
    state.augment_probability.fill_(after)
    state.augmented = after > 0
    if (after > 0) != (before > 0):
        watcher.log(f"note: augment.policy = 'auto' is {'on from here' if after else 'off again'}")


def keep_best(session: Session, state: State) -> None:
    """Save the current generator as the best one if the log has none better.

    Called when log and state are saved, and again for the state of a resumed run: so best.safetensors always belongs to
    the record that the log calls best, wherever the training was killed.
    """
    best = session.log.best
    if session.group.is_main and best is not None and best.images == state.images:
        runs.save_generator(session.run, state.ema, "best")


def draw_grid(session: Session, state: State) -> None:
    """Write a sample grid: always the same noise, one class per row where there are classes."""
    if session.group.is_main:
        title = f"generated after {state.images:,} images of training"  # without a name: equal trainings, equal files
        picture = grids.fixed_grid(state.ema, session.recipe.network.z_dim, session.shape.classes, title)
        files.write_bytes(session.run.path / "samples" / f"{state.images:09d}.png", picture)


def save(session: Session, state: State, clock: Clock) -> None:
    """Write the state from which the training resumes as if it had not been interrupted."""
    meters = distributed.gather(state.meter, session.group)
    if not session.group.is_main:
        return
    saved = {
        "format": STATE_FORMAT,
        "images": state.images,
        "seconds": clock.seconds,
        "meter": meters.cpu(),
        "augment_probability": state.augment_probability.cpu(),
        "frozen": state.frozen,
        "generator": state.generator.state_dict(),
        "discriminator": state.discriminator.state_dict(),
        "ema": state.ema.state_dict() if state.ema is not state.generator else None,
        "optimizer_g": flat.optimizer_state(state.optimizer_g, state.generator),
        "optimizer_d": flat.optimizer_state(state.optimizer_d, state.discriminator),
    }
    runs.save_state(session.run, state.images, saved)


def restore(state: State, saved: Mapping[str, Any], group: ProcessGroup) -> None:
    """The inverse of `save`."""
    if saved["format"] != STATE_FORMAT:
        raise ModisteError(
            f"the saved state has format {saved['format']} and this Modiste reads {STATE_FORMAT}; "
            "resume with the version that manifest.json names"
        )
    state.images, state.seconds, state.frozen = saved["images"], saved["seconds"], saved.get("frozen", 0)
    meters = saved["meter"].view(-1, len(METER))  # one row per rank; older states have one row, the sum
    if len(meters) == group.size:
        state.meter.copy_(meters[group.rank])
    elif group.is_main:
        state.meter.copy_(meters.sum(0))
    state.augment_probability.copy_(saved["augment_probability"])
    state.augmented = bool(saved["augment_probability"] > 0)
    state.generator.load_state_dict(saved["generator"])
    state.discriminator.load_state_dict(saved["discriminator"])
    if saved["ema"] is not None:
        state.ema.load_state_dict(saved["ema"])
    flat.load_optimizer_state(state.optimizer_g, state.generator, saved["optimizer_g"])
    flat.load_optimizer_state(state.optimizer_d, state.discriminator, saved["optimizer_d"])


@progress.stage("building the networks")
def _prepare(
    recipe: Recipe, dataset: Images, opened: resume.OpenedRun, group: ProcessGroup, stop: Callable[[], bool]
) -> tuple[Session, State, list[str]]:
    """Build networks, optimisers and step functions as the manifest says, and load the saved state or the ancestor's
    weights; also returns lines to log.
    """
    device = environment.choose_device(recipe.train.device)
    torch.set_num_threads(opened.manifest.threads)  # sums depend on their number, so a resumed run keeps it
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, device)
    begun: list[str] = []
    if opened.saved is not None:
        restore(state, opened.saved, group)
    elif opened.manifest.ancestor is not None:
        begun = finetune.start(state, recipe, dataset, shape, opened.manifest.ancestor)
    batch_at = setup.batches(recipe, dataset, shape, group, device)
    selector = checkpoint_selection.make_selector(recipe, shape) if group.is_main else None
    measure = overfitting.make_measure(recipe, dataset, shape) if group.is_main else None
    advance = make_advance(recipe, state, shape, group, batch_at, device, opened.manifest.precision)
    run, log = runs.Run(opened.path), LogSummary()
    for record in run.read_log() if group.is_main else ():
        log.add(record)
    session = Session(recipe, run, len(dataset), shape, group, advance, stop, log, selector, measure)
    if begun:  # from here on the ancestor may go
        save(session, state, Clock(0.0))
        if group.is_main:
            runs.save_generator(run, state.ema)
    keep_best(session, state)
    return session, state, begun


def make_advance(
    recipe: Recipe,
    state: State,
    shape: ImageShape,
    group: ProcessGroup,
    batch_at: cuda_graph.Batches,
    device: str,
    precision: str,
) -> Callable[[], None]:
    """A function that takes the next step; with augment.policy = "auto" that of one of two recipes."""

    def step_of(recipe: Recipe) -> Callable[[], None]:
        functions = make_step_functions(recipe, state, group, device, precision)
        return cuda_graph.make_step(recipe, state, functions, group, batch_at, device)

    if recipe.augment.policy != "auto":
        return step_of(recipe)
    plain = step_of(overfitting.without_policy(recipe))
    augmented = step_of(overfitting.with_policy(recipe, shape))
    return lambda: augmented() if state.augmented else plain()


def _finish(session: Session, state: State, status: runs.Status) -> None:
    run, last = session.run, session.log.last
    grids.write_animation(run)
    facts: dict[str, Any] = {"images": state.images, "peak_memory_bytes": peak_memory_bytes()}
    facts["seconds"] = last["seconds"] if last and status == "finished" else round(state.seconds, 3)
    if session.log.best:
        facts["best"] = session.log.best if (run.path / "best.safetensors").is_file() else None
    runs.update_manifest(run, status=status, end=environment.utc_now(), **facts)
