"""Labelled synthetic images, and whether they help: a classifier with and without them, over budgets and seeds."""

from __future__ import annotations

import functools
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from modiste import config, environment, files, progress, runs
from modiste.config import Data, Recipe
from modiste.data.images import Images, content_digest
from modiste.data.sets import list_warnings, open_data
from modiste.errors import ModisteError, UsageError
from modiste.experiments import monitor, runner, studies
from modiste.experiments.augmentation import analysis, arms, experiment, subsets
from modiste.experiments.augmentation.arms import Filter
from modiste.experiments.augmentation.experiment import Measurement, Settings
from modiste.experiments.augmentation.subsets import Budget
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.runner import Job
from modiste.networks.classifier import Classifier
from modiste.provenance import metadata
from modiste.sampling import generators as trained_generators
from modiste.sampling import writers

Say = Callable[[str], None]
GENERATOR_SHARE = 0.5
"""Of a piece's way: where its generator is trained and the arms are left."""


@dataclass(frozen=True)
class Experiment:
    """The folder of an experiment, as far as it has come."""

    path: Path

    @property
    def settings(self) -> Settings:
        """What was asked."""
        return experiment.read(self.path)[0]

    @property
    def rows(self) -> list[analysis.Row]:
        """One row per budget, seed and arm that is measured."""
        settings, found = self.settings, []
        for piece in experiment.pieces(settings, self.path):
            for one in piece.outcomes:
                recalls = list(one["per_class"].values())
                of_rare = [recalls[k] for k in settings.rare if recalls[k] is not None]
                rare = sum(of_rare) / len(of_rare) if of_rare else None
                found.append({"budget": str(piece.budget), "seed": piece.seed, **one, "rare": rare})
        return found

    @property
    def finished(self) -> bool:
        """Whether every arm of every piece is measured."""
        settings = self.settings
        return all(_finished(piece, settings) for piece in experiment.pieces(settings, self.path))

    @property
    def answer(self) -> list[str]:
        """Whether synthetic images help: a sentence per budget."""
        rows = self.rows
        return analysis.answer(rows, analysis.decisive(rows), self.path)


def augment(
    what: str | Path,
    out: str | Path | None = None,
    *,
    budgets: Sequence[Budget] | None = None,
    seeds: Sequence[int] | None = None,
    rare: Sequence[str] | None = None,
    recipe: str | Path | None = None,
    length: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    ratio: Sequence[float] | None = None,
    filter: Sequence[Filter] | None = None,
    keep: float | None = None,
    count: int | None = None,
    steps: int | None = None,
    flip: bool | None = None,
    resize: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    jobs: int = 1,
    ray: str | None = None,
    console: Console | None = None,
) -> Experiment:
    """Find out whether a generator's labelled images help a classifier, or go on with an experiment that was stopped.

    `what` is a data set (a name, a folder, an .npz file), of which every budget and seed trains a generator of its own
    on the budget's images alone; a run, whose training images are then the only budget; or an experiment's folder.
    The classifier has the same weights to start from, the same steps and the same real images in every arm. `rare`
    keeps a tenth of these classes, and synthetic images fill them to balance. `ratio` and `filter` may have several
    values, whose effect is measured. `jobs` pieces go on at a time, here or, with `ray`, on a Ray cluster that shares
    the folder. Finished pieces are reused; the same call gives the same numbers on one machine.

    >>> found = augment("toy", budgets=[100, 300], seeds=range(5), length="60000 images")  # doctest: +SKIP
    >>> found.answer[-1]  # doctest: +SKIP
    'no gain over real + classical is shown at any budget; do not use it'
    """
    console = console or progress.console()
    if ray:
        runner.ray_package()
    settings, generators, path, parts = experiment.resolve_experiment(
        what, out, budgets=budgets, seeds=seeds, rare=rare, recipe=recipe, length=length, overrides=overrides,
        ratio=ratio, filter=filter, keep=keep, count=count, steps=steps, flip=flip, resize=resize,
        fit=fit, background=background, jobs=jobs,
    )  # fmt: skip
    for note in list_warnings(parts.images):
        progress.log(console, f"warning: {note}")
    found = experiment.chosen(settings, generators, path, parts)
    if ray in (None, "local"):
        jobs = studies.at_a_time(jobs, experiment.processes_of(settings.run, generators), console)
    with _locked(path, generators), environment.interruptible() as stopped:
        made = experiment.prepare(settings, generators, path, parts, found)
        todo = [piece for piece in made if not _finished(piece, settings)]
        if reused := len(made) - len(todo):
            progress.log(console, f"{reused} of {len(made)} pieces are finished already")
        errands = [_errand(piece, path, settings, generators, len(found[piece.name][0])) for piece in todo]
        failed = {}
        with telling(console, path.name, todo, len(experiment.all_arms(settings))) as (glance, say):
            if ray:
                results = runner.on_ray(ray, errands, jobs, stopped, glance)
            else:
                results = runner.locally(errands, jobs, stopped, glance)
            for number, outcome in results:
                piece = todo[number]
                if outcome and outcome != runner.INTERRUPTED:
                    failed[piece.name] = outcome
                if outcome != runner.INTERRUPTED:
                    say(f"{piece.name}: {'failed: ' + outcome if outcome else 'done'}")
        if rows := Experiment(path).rows:
            analysis.write(path, settings, rows)
    if failed:
        name, reason = next(iter(failed.items()))
        raise ModisteError(
            f"{len(failed)} of {len(made)} pieces failed, {name} because: {reason}; the others are kept, "
            f"and `modiste augment {shlex.quote(str(path))}` tries again"
        )
    return Experiment(path)


def _finished(piece: Measurement, settings: Settings) -> bool:
    return {one["arm"] for one in piece.outcomes} >= {arm.name for arm in experiment.all_arms(settings)}


def _errand(piece: Measurement, path: Path, settings: Settings, recipe: Recipe, images: int) -> Job:
    """What is left to do for a piece, in the commands that a person would type."""
    train = ["train", str(path / "recipe.toml"), "--data", str(piece.folder / "subset.npz")]
    train += ["--out", str(piece.generator), "--seed", str(piece.seed)]
    for key, value in experiment.fitting(recipe, images).items():
        train += ["--set", f"{key}={value}"]
    measure = ("augment", str(path), "--only", piece.name)
    trained = runs.exists(piece.generator) and runs.Run(piece.generator).read_manifest().status == "finished"
    log = ExperimentFolder(path, "experiment").log(piece.name)
    variables = {"OMP_NUM_THREADS": str(settings.threads)}
    commands = (measure,) if trained else (tuple(train), measure)
    cores = max(settings.threads, experiment.processes_of(settings.run, recipe))
    return Job(piece.generator.absolute(), commands, log.absolute(), Path.cwd(), variables, cores)


def measure_piece(path: Path, name: str, say: Say | None = None) -> None:
    """Train and measure the classifiers of one piece whose generator is trained, each arm written when it is done."""
    settings, _ = experiment.read(path)
    made = {piece.name: piece for piece in experiment.pieces(settings, path)}
    if name not in made:
        raise UsageError(f"{path} has no piece {name!r}; there are {', '.join(made)}")
    piece = made[name]
    with filelock.FileLock(piece.folder / ".lock"):  # the process of an experiment that was killed does the same work
        real, (_, test) = piece.subset, subsets.split(experiment.opened(settings, path), piece.seed)
        steps, flip = settings.steps or arms.default_steps(len(real)), settings.flip
        plain = experiment.all_arms(settings)[1]
        judge_network = functools.cache(
            lambda: arms.learn(real, None, plain, steps=steps, seed=piece.seed, flip=flip)
        )  # the arm real + classical is the one that filters: it has seen the budget's images and no others
        sets = functools.cache(lambda kind: synthetic_set(piece, settings, real, kind, judge_network))
        for arm in experiment.all_arms(settings):
            done = piece.outcomes
            if arm.name in {one["arm"] for one in done}:
                continue
            synthetic = None if arm.ratio == 0 else sets(arm.filter)
            network = judge_network() if arm == plain else None
            with progress.stage(f"a classifier of {arm.name}, {steps} steps"):
                one = arms.outcome(real, synthetic, test, arm, steps=steps, seed=piece.seed, flip=flip, network=network)
            lines = [json.dumps(each) for each in [*done, {**one, "images": len(real), "tested": len(test)}]]
            files.write_text(piece.folder / "arms.jsonl", "\n".join(lines) + "\n")
            if say:
                say(f"{arm.name}: {one['accuracy']:.2%} right after {steps} steps")


def synthetic_set(
    piece: Measurement, settings: Settings, real: Images, kind: Filter, judge_network: Callable[[], Classifier]
) -> Images:
    """The piece's labelled synthetic images, as many of each class, from its folder or made and written there.

    ModisteError unless the generator was trained on exactly the piece's images.
    """
    place = piece.folder / ("synthetic.npz" if kind == "none" else f"synthetic-{kind}.npz")
    if place.is_file():
        return open_data(Data(name=str(place)))
    seen = runs.Run(piece.generator).read_manifest().data.digest
    if seen != content_digest(real):
        raise ModisteError(
            f"{piece.generator} was trained on other images than {piece.folder / 'subset.npz'}, so its set would know "
            "labels outside the budget; move it away and run the experiment again"
        )
    start = piece.seed * experiment.SEED_STRIDE
    seeds = range(start, start + experiment.made_count(settings, real, kind))
    images = trained_generators.load(piece.generator).sample_set(seeds=seeds)
    if kind != "none":
        images = arms.filtered(images, kind, settings.keep, judge_network(), real)
    writers.write(images, None, place, "npz", mark=metadata.stamp)
    return images


@contextmanager
def _locked(path: Path, generators: Recipe) -> Iterator[None]:
    """Hold the experiment's folder, which is new, an experiment's, or holds the recipe of a start that was cut off."""
    folder = ExperimentFolder(path, "experiment")
    if not experiment.is_experiment(path):
        folder.refuse_foreign_files({"recipe.toml": config.to_toml(generators)})
    with folder.locked():
        yield


@contextmanager
def telling(
    console: Console, name: str, todo: Sequence[Measurement], arms_each: int
) -> Iterator[tuple[Callable[[], None], Say]]:
    """`glance`, which moves a bar with time left in a terminal, and `say`, for the end of a piece."""
    start, open_pieces = time.monotonic(), {piece.name: piece for piece in todo}

    def done() -> float:
        shares = [_share_done(piece, arms_each) for piece in open_pieces.values()]
        return (len(todo) - len(open_pieces) + sum(shares)) / max(1, len(todo))

    begun = done()
    with ExitStack() as stack:
        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("left"))
        live = console.is_terminal and bool(todo)
        bar = stack.enter_context(progress.bar(console, *columns)) if live else None
        task = bar.add_task(name, total=1.0) if bar else None
        last = [start]

        def glance() -> None:
            if time.monotonic() - last[0] < (2.0 if bar else monitor.LINE_SECONDS):
                return
            last[0] = time.monotonic()
            if bar and task is not None:
                bar.update(task, completed=done())
            else:
                progress.log(console, f"{name}: {len(todo) - len(open_pieces)} of {len(todo)} pieces, {done():.0%}")

        def say(text: str) -> None:
            open_pieces.pop(text.partition(":")[0], None)
            share, seconds = done(), time.monotonic() - start
            left = progress.duration((1 - share) * seconds / max(1e-3, share - begun))
            ended = len(todo) - len(open_pieces)
            progress.log(console, f"{text}  ({ended} of {len(todo)} pieces, {left} left)")

        if todo and not live:
            pieces = f"{len(todo)} pieces" if len(todo) > 1 else "1 piece"
            progress.log(console, f"{name}: {pieces} to go, a generator and {arms_each} classifiers each")
        yield glance, say


def _share_done(piece: Measurement, arms_each: int) -> float:
    """How much of a piece is done, from 0 to 1, by what its folder says."""
    try:
        run = runs.Run(piece.generator)
        log = run.read_log() if runs.exists(piece.generator) else []
        trained = min(1.0, log[-1]["images"] / (run.read_recipe().train.images or 1)) if log else 0.0
        measured = len(piece.outcomes) / arms_each
    except ModisteError:
        return 0.0
    return GENERATOR_SHARE * max(trained, float(measured > 0)) + (1 - GENERATOR_SHARE) * measured
