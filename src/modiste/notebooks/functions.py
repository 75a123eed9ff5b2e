"""The public functions: the command line's words as arguments, live progress in a notebook, results that show
themselves, and an exception where the user stops the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modiste import environment, progress, runs
from modiste.errors import Interrupted, UsageError
from modiste.notebooks import live
from modiste.notebooks.shown import path_of, upgraded
from modiste.notebooks.words import recipe_changes, with_known_words
from modiste.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from modiste.config import Recipe
    from modiste.evaluation.options import Checkpoint, Split
    from modiste.experiments.detection.detect import Detection
    from modiste.experiments.detection.leave_out import LeaveOut
    from modiste.experiments.studies import StudyFolder
    from modiste.experiments.study_config import Study as StudySettings
    from modiste.notebooks.generated import GeneratedImages, Generator, Projection
    from modiste.notebooks.results import RecipeList, Record, Report, Study
    from modiste.notebooks.run import Run
    from modiste.sampling.generators import Statistics
    from modiste.training.callbacks import Listener

environment.let_threads_sleep()  # here, as the functions below import torch

Log = Callable[[str], None]
Follow = Callable[[runs.Run], "AbstractContextManager[Listener]"]


@with_known_words
def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    from_: str | Path | runs.Run | None = None,
    resize: int | None = None,
    fit: Literal["crop", "pad", "stretch"] | None = None,
    background: str | None = None,
    group_by: str | None = None,
    seed: int | None = None,
    set: Mapping[str, Any] | None = None,
    budget: str | float | None = None,
    patience: int | None = None,
    fresh: bool = False,
    extend: bool = False,
    track: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
    follow: Follow | None = None,
) -> Run:
    """Train a recipe into a run folder, or resume the run in that folder; returns the run.

    `recipe` is a shipped recipe's name, a TOML file, a Recipe, or the folder of a run to resume. The other words are
    those of `modiste train`: `budget` is the length (90s, 5min, 3 epochs, 60000 images; a number is seconds),
    `patience` ends it after so many scores on held-out images without a gain, `set` (or `overrides`) changes keys, as
    in {"train.epochs": 3, "data.name": "toy"}. `fresh` numbers a new folder instead of resuming, `extend` lets the run
    in the folder go on to a greater length. `from_` is a run, or `pretrained`, whose weights a new one starts from.
    `follow` adds a listener to the ticks.
    Interrupted, a KeyboardInterrupt, is raised after SIGINT (a notebook's stop button), SIGTERM or SIGHUP; the state is
    saved then. ModisteError says in one sentence what went wrong.

    >>> run = train("swift", out="runs/toy", data="toy", budget="640 images")  # doctest: +SKIP
    >>> modiste.load(run).sample(4).shape  # doctest: +SKIP
    (4, 1, 28, 28)
    """
    changes = recipe_changes(
        data=data, resize=resize, fit=fit, background=background, group_by=group_by, seed=seed, from_=from_,
        budget=budget, patience=patience, set=set, overrides=overrides,
    )  # fmt: skip
    begun: list[runs.Run] = []
    name = str(recipe) if isinstance(recipe, str | Path) else recipe.name
    with live.shown(f"training {name}", lambda: begun) as remain:
        from modiste.notebooks.run import Run, go_on  # after the display, as importing torch takes seconds
        from modiste.training import trainer

        following = _followed(begun, track, follow)
        try:
            run = upgraded(Run, trainer.train(
                recipe, out, overrides=changes, fresh=fresh, extend=extend, console=console, follow=following
            ))  # fmt: skip
        except KeyboardInterrupt:  # before the first step, or a second SIGINT, which does not wait for a step's end
            saved = begun and runs.states(begun[0])
            state = f"; its last saved state is in {begun[0].path}: {go_on(begun[0])}" if saved else ""
            raise Interrupted(f"the training of {name} was stopped at once{state}") from None
        manifest = run.read_manifest()
        if manifest.status == "interrupted":
            done = f"stopped after {manifest.images or 0:,} images"
            raise Interrupted(f"the training in {run.path} was {done} and its state is saved: {go_on(run)}")
        remain(f"{run.path}: {manifest.images or 0:,} images in {progress.duration(manifest.seconds)}")
    return run


def _followed(begun: list[runs.Run], track: str | None, follow: Follow | None) -> Follow:
    """A listener to a training that notes its run once it has begun, with the tracker of that name and another one."""
    from modiste.experiments import trackers

    mirror = trackers.choose(track).follow if track and environment.is_main_process() else None

    @contextmanager
    def following(run: runs.Run) -> Iterator[Listener]:
        begun.append(run)
        with ExitStack() as stack:
            listeners = [stack.enter_context(one(run)) for one in (mirror, follow) if one]

            def tick(record: Mapping[str, Any]) -> None:
                for listener in listeners:
                    listener(record)

            yield tick

    return following


@with_known_words
def load(run: str | Path | runs.Run, checkpoint: str = "last", batch_norm: Statistics = "running") -> Generator:
    """The generator of a run, or of `pretrained`, ready to sample on the CPU; the data set is not needed.

    `checkpoint` is last, best, or a file of the folder. `batch_norm` says which statistics batch norm uses: those that
    training kept (running), or standing ones, computed anew from generated batches.
    """
    from modiste.notebooks.generated import Generator
    from modiste.sampling import generators

    return upgraded(Generator, generators.load(run, checkpoint, batch_norm))


@with_known_words
def sample(
    run: str | Path | runs.Run,
    out: str | Path | None = None,
    *,
    label: int | str | None = None,
    count: int | None = None,
    per_class: int | None = None,
    seeds: str | Sequence[int] | None = None,
    interpolate: tuple[int, int] | None = None,
    truncation: float | None = None,
    codes: str | Path | None = None,
    direction: Mapping[str, float] | None = None,
    checkpoint: Checkpoint = "last",
    batch_norm: Statistics = "running",
    format: str | None = None,
    keep_duplicates: bool = False,
    columns: int | None = None,
    watermark: str | None = None,
    sign: bool = False,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> GeneratedImages | Path:
    """Images of a run, or of `pretrained`; seed k gives the same image in any count.

    Without `out` they are returned and show themselves; with it they are written as `modiste sample` writes them
    (grid.png, walk.gif, set.npz, set.parquet or a folder), and the path is returned. `label` is the class by name or
    number, all in turn by default; `seeds` are numbers or text like 0-63; `interpolate` names two seeds, and `codes` a
    file of `modiste project`. `direction` has steps by name, as {"brightness": 1.5} (see `modiste directions`).
    """
    from modiste.exports import samples
    from modiste.exports.options import SyntheticSetOptions
    from modiste.notebooks.generated import GeneratedImages
    from modiste.sampling import generators

    options = SyntheticSetOptions(
        kind=format, per_class=per_class, count=count, label=label, truncation=truncation, checkpoint=checkpoint,
        codes=None if codes is None else Path(codes),
        seeds=generators.parse_seeds(seeds) if isinstance(seeds, str) else seeds, batch_norm=batch_norm,
        keep_duplicates=keep_duplicates, watermark=watermark, sign=sign, certificate=certificate,
        private_key=private_key, directions=direction or {},
    )  # fmt: skip
    samples.check_words(options, interpolate)
    if out is None:
        _, images = samples.generate(samples.load(run, options), options, interpolate, "png")
        return upgraded(GeneratedImages, images)
    with (
        live.shown(f"images of {path_of(run)}") as remain,
        live.logged(f"a set of {path_of(run)}") as log,
    ):
        written = samples.write(run, Path(out), options, interpolate, columns, log)
        remain(f"wrote {counted(written.count)} to {written.out}")
    return written.out


@with_known_words
def project(
    run: str | Path | runs.Run,
    images: str | Path,
    out: str | Path,
    *,
    label: int | str | None = None,
    mask: str | Path | None = None,
    count: int = 100,
    steps: int = 100,
    starts: int = 2,
    checkpoint: Checkpoint = "last",
    resize: int | None = None,
    fit: Literal["crop", "pad", "stretch"] | None = None,
    background: str | None = None,
) -> Projection:
    """Find pictures (a file, a folder, a data set) in the generator of a run, or of `pretrained`; returns their codes.

    The noise and the class that make each, what they make and how far off that is are in `codes`. A folder `out` is
    written as `modiste project` does it, with codes.npz, which `sample` draws again. `label` is the class of all
    pictures, by default the set's own, or found; `mask` is a picture in which missing pixels are white, to be filled
    in. The first time, a generator gets an encoder, which takes one to five minutes and is kept.
    """
    changes = recipe_changes(resize=resize, fit=fit, background=background)
    with live.shown(f"looking for {images} in {path_of(run)}") as remain:
        from modiste.exports import projections
        from modiste.exports.projections import ProjectionOptions
        from modiste.notebooks.generated import Projection

        options = ProjectionOptions(
            label, None if mask is None else str(mask), count, steps, starts, checkpoint, changes
        )  # fmt: skip
        with _stopped_without_result(f"the search for {images}"):
            done = projections.project(run, str(images), out, options)
        remain(f"wrote {len(done.codes):,} codes to {done.out}")
        return upgraded(Projection, done)


@with_known_words
def evaluate(
    what: str | Path | runs.Run,
    *,
    count: int = 10_000,
    reference: Split | None = None,
    data: str | Path | None = None,
    data_name: str | None = None,
    judge: str | Path | None = None,
    inception: bool | Path = False,
    inception_weights: str | Path | None = None,
    features: str | Path | Sequence[str | Path] = (),
    checkpoint: Checkpoint = "last",
    truncation: float | None = None,
    batch_norm: Statistics = "running",
    classifier: bool = False,
    audit: bool = False,
    reconstruct: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    log: Log | None = None,
) -> Record:
    """The record of a run (or its folder), a checkpoint, an .npz file, a folder of images or an ONNX generator.

    It is also written: metrics.json in a run's folder, NAME.metrics.json beside a file or folder, or `out`.
    `reference` is the part of the data set `data` (or `data_name`) that the images are compared with: test for
    reporting, heldout for choosing and where nothing is given and there are no test images. `judge` is a file of
    `modiste judge train`; `inception` adds the field's scores, from weights in the cache (True) or in a file, and
    `features` distances in the features of ONNX models of your own, or of `patches` learned from the data set.
    `truncation` and `batch_norm` say how a run is sampled. `classifier` adds the classifier accuracy score, which is
    slow; `audit` adds scores class by class and a picture of the worst cases; `reconstruct` is of how many reference
    images to find the best code. The same call gives the same numbers on one machine. Interrupted is raised where the
    user stops it; nothing is written then.
    """
    if data is not None and data_name is not None and str(data) != data_name:
        raise UsageError(f"data={str(data)!r} and data_name={data_name!r} contradict each other; give one of them")
    place = path_of(what)
    with live.shown(f"evaluating {place}") as remain, live.logged(Path(place).name) as shown_log:
        from modiste.evaluation import evaluate as evaluation
        from modiste.notebooks.results import Record

        with _stopped_without_result(f"the evaluation of {place}"):
            record = evaluation.evaluate(
                what, count=count, reference=reference, data_name=data_name if data is None else str(data),
                judge=None if judge is None else Path(judge),
                features=[features] if isinstance(features, str | Path) else features,
                inception=inception if inception_weights is None else Path(inception_weights),
                checkpoint=checkpoint, truncation=truncation, batch_norm=batch_norm, classifier=classifier, audit=audit,
                reconstruct=reconstruct, seed=seed, out=out, log=log or shown_log,
            )  # fmt: skip
        remain(f"{record.name}: {len(record.scores)} scores, written to {record.written}")
        return upgraded(Record, record)


@with_known_words
def study(
    what: StudySettings | str | Path,
    out: str | Path | None = None,
    *,
    seeds: int | str | Sequence[int] | None = None,
    budget: str | None = None,
    set: Mapping[str, Any] | None = None,
    count: int | None = None,
    reference: Literal["test", "heldout"] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    track: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Study:
    """Carry out a study, or continue the one in the folder; returns the folder with its table.

    `what` is a shipped study's name, a TOML file, a Study, or the folder of a study to continue. `seeds` is a count
    or a list, `budget` the length of each run (5min, 3 epochs, 60000 images), `set` (or `overrides`) changes every
    configuration; `count` and `reference` are evaluate's, instead of the study's own. `jobs` runs are carried out at a
    time, here or, with `ray` (an address, or local), on a Ray cluster that shares the folder. Finished runs are reused,
    interrupted ones continue, failed ones are kept with their reason. `track` names a tracker that mirrors every run.
    Interrupted is raised where the user stops it; the runs save their states then.

    >>> folder = study("diaz", seeds=3, budget="5min")  # doctest: +SKIP
    >>> folder.read_rows()[0].score  # doctest: +SKIP
    'frechet_garment_10k_test'
    """
    place: list[Path] = []

    def begun() -> list[runs.Run]:
        return [runs.Run(one) for folder in place for one in folder.glob("*") if runs.exists(one)]

    with live.shown(f"study {getattr(what, 'name', what)}", begun) as remain:
        from modiste.experiments import studies, study_config
        from modiste.experiments.folder import ExperimentFolder
        from modiste.notebooks.results import Study

        chosen = study_config.parse_seeds(seeds) if isinstance(seeds, str) else seeds
        changes = recipe_changes(set=set, overrides=overrides)
        options = studies.StudyOptions(chosen, budget, changes, count, reference, jobs, ray, track)
        console = console or progress.console()
        resolved, path = studies.resolve_study(what, out, options, console)
        place.append(ExperimentFolder(path, "study").runs)
        found = upgraded(Study, studies.run_study(resolved, path, options, console))
        rows = found.read_rows()
        planned = {(row.configuration, row.seed) for row in rows}
        waiting = {(row.configuration, row.seed) for row in rows if row.status == "waiting"}
        state = f"the study in {path}: {len(planned - waiting)} of {len(planned)} runs are done"
        if waiting:
            go_on = f'go on with modiste.study("{path}")'
            raise Interrupted(f"{state}; it was stopped, and the trainings under way are saved: {go_on}")
        remain(state)
    return found


@with_known_words
def report(
    run_or_study: str | Path | runs.Run | StudyFolder, out: str | Path | None = None, *, log: Log | None = None
) -> Report:
    """Write a report on a run or a study folder as an HTML page, and as Markdown with its pictures beside it.

    The page is report.html in the folder unless `out` names another. UsageError where the folder is neither a run nor
    a study, and where a file would be replaced that Modiste has not written.
    """
    place = path_of(run_or_study)
    with live.shown(f"report on {place}") as remain, live.logged("report") as shown_log:
        from modiste.notebooks.results import Report
        from modiste.reports import report as reports

        with _stopped_without_result(f"the report on {place}"):
            written = reports.report(place, out, log=log or shown_log)
        remain(f"wrote {written.html}")
        return upgraded(Report, written)


@with_known_words
def detect(
    run: str | Path | runs.Run,
    images: str | Path | None = None,
    out: str | Path | None = None,
    *,
    alpha: float = 0.05,
    detector: str | Sequence[str] = (),
    count: int = 1000,
    steps: int = 40,
    leave_out: str | Sequence[str] | None = None,
    budget: str | None = None,
    seed: int = 0,
    set: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> Detection | LeaveOut:
    """Find images that do not belong to what a run was trained on, with a promised rate of false alarms.

    `images` is a picture, a folder of pictures, an .npz, .npy or .parquet file, or a data set's name; `detector` one or
    several of reconstruction, discriminator, judge, neighbours, components, cosine and forest. Each gives every image a
    score and a p-value, which are also written, with pictures of the strangest, into `out` (detect/NAME). With
    `leave_out`, a class, several, or "all", `run` may be a recipe: it is trained without each class (`budget`, `seed`
    and `set` say how), and the area under the curve of each detector is measured on test images.

    >>> found = detect("runs/mine", "./new-photos", alpha=0.01)  # doctest: +SKIP
    >>> found.findings[0].alarms(0.01)  # doctest: +SKIP
    3
    """
    names = (detector,) if isinstance(detector, str) else tuple(detector)
    if leave_out is None and images is None:
        raise UsageError("name the images to look at, or a class with leave_out")
    if leave_out is None and (budget is not None or seed or set):
        raise UsageError("budget, seed and set are for the trainings of leave_out; give it, or leave them out")
    if leave_out is not None and images is not None:
        raise UsageError(f"leave_out measures on test images, so {images} does not fit; leave it out")
    place = path_of(run)
    with live.shown(f"detecting with {place}") as remain, live.logged("detect") as shown_log:
        from modiste.experiments.detection import detect as detection
        from modiste.experiments.detection import leave_out as leaving

        with _stopped_without_result(f"the detection with {place}"):
            if leave_out is None:
                found = detection.detect(
                    run, images or "", out, options=detection.DetectOptions(alpha, names, count, steps),
                    log=log or shown_log,
                )  # fmt: skip
                remain(f"{counted(len(found.names))} scored, written to {found.folder}")
                return found
            classes = (leave_out,) if isinstance(leave_out, str) else tuple(leave_out)
            left = leaving.LeaveOutOptions(
                () if classes == ("all",) else classes, budget, seed, names, count, steps, set
            )
            result = leaving.leave_out(place, out, options=left, log=log or shown_log)
        if result.waiting:
            done = f"{len(result.classes)} of {len(result.classes) + len(result.waiting)} classes are measured"
            raise Interrupted(f"{done}; the training under way is saved in {result.folder}: go on with the same call")
        remain(f"{counted(len(result.classes), 'class')} left out, written to {result.folder}")
        return result


def show(what: str | Path | runs.Run | StudyFolder) -> Run | Study | Record:
    """The run, study or record (metrics.json) in that place, to be looked at; nothing is changed.

    UsageError where it is none of them.
    """
    from modiste.evaluation import records
    from modiste.experiments import studies
    from modiste.notebooks.results import Record, Study
    from modiste.notebooks.run import Run

    place = Path(path_of(what))
    if place.suffix == ".json":
        return upgraded(Record, records.read(place))
    if (place / "plan.json").is_file():
        return upgraded(Study, studies.open_study(place))
    return upgraded(Run, runs.open_run(place))


def recipes() -> RecipeList:
    """The recipes in the package, with their cost: a list of mappings that shows itself as a table."""
    from modiste import config, schema
    from modiste.networks import summary
    from modiste.notebooks.results import RecipeList

    return RecipeList(tuple(summary.describe_recipe(config.load(name)) for name in schema.shipped()))


@contextmanager
def _stopped_without_result(what: str) -> Iterator[None]:
    """Word a KeyboardInterrupt in work that has no state."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"{what} was stopped and nothing was written; start it again") from None
