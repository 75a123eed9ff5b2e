"""Pictures found in a generator, as a folder: side by side with what it makes of them, codes, and parts filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modiste import config, files, progress, runs
from modiste.config import Data
from modiste.data.images import Images, as_picture
from modiste.data.sets import native_data
from modiste.data.subsets import first_images
from modiste.errors import ModisteError
from modiste.evaluation import class_matching
from modiste.latent import codes, comparison, encoder, pictures, projection, sheet
from modiste.latent.comparison import TrainingImages
from modiste.latent.projection import Codes, Report
from modiste.metrics import features
from modiste.metrics.features import Extractor
from modiste.networks.layers import ImageShape
from modiste.provenance import metadata
from modiste.sampling import generators, grids
from modiste.sampling.generators import TrainedGenerator
from modiste.wording import counted

SHOWN = 24
"""Pictures on the sheet."""
CODES, SHEET = "codes.npz", "side-by-side.png"
FILLED, MARKED = "filled", "made-up"
"""Folders of the pictures with their missing parts filled in, and of the same with these parts marked."""
OURS = (CODES, SHEET, FILLED, MARKED)
MARK = np.array([230, 120, 0])
"""The colour laid over what was made up."""
MARK_SCALE = 4


@dataclass(frozen=True)
class ProjectionOptions:
    """The options of `modiste project`."""

    label: int | str | None = None
    """The class of all pictures, by number or name; None: the set's own labels, else the class that fits best."""
    mask: str | None = None
    """A picture in which missing pixels are white."""
    count: int = 100
    """Pictures of a set or folder, at most."""
    steps: int = projection.STEPS
    starts: int = projection.STARTS
    checkpoint: Literal["last", "best"] = "last"
    data: Mapping[str, Any] = field(default_factory=dict)
    """Changes of the recipe's keys data.resize, data.fit and data.background."""


@dataclass(frozen=True, eq=False)
class Projected:
    """Pictures, what the generator makes of them, and the folder that holds both."""

    out: Path
    images: Images
    codes: Codes
    class_names: tuple[str, ...]
    classes: Literal["given", "found", "none"]
    training: TrainingImages | None
    reason: str
    """Why there is nothing to compare with; empty where there is."""
    missing: int
    """Pixels of each picture that were made up."""


def project(
    run: str | Path | runs.Run, what: str, out: str | Path, options: ProjectionOptions | None = None
) -> Projected:
    """Find the pictures of a file, folder or data set in a run's generator, and write a folder about it.

    UsageError or ModisteError, before anything is computed, for pictures that do not fit and places not to be written.
    """
    options, out = options or ProjectionOptions(), Path(out)
    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    files.refuse_foreign_folder(out, "folder of projected pictures", OURS)
    generator = generators.load(run, options.checkpoint)
    recipe = run.read_recipe()
    settings = config.override(config.Recipe(data=recipe.data), options.data, "modiste project").data
    images = first_images(pictures.read_pictures(what, settings, generator), options.count)
    missing = pictures.read_mask(options.mask, generator.shape.size) if options.mask else None
    labels, classes = _labels(images, generator, options.label)
    extractor = judge_of(recipe.data, generator.shape)
    with bar(f"learning an encoder of {run.name}, kept for the next time") as report:
        learned = encoder.open_encoder(generator, encoder.folder_of(run, options.checkpoint), report=report)
    with bar(f"looking for {counted(len(images), 'picture')} in {run.name}") as report:
        found = projection.project(
            generator, images.pixels, labels, encoder=learned, extractor=extractor, missing=missing,
            steps=options.steps, starts=options.starts, report=report,
        )  # fmt: skip
    with progress.stage("the nearest training images"):
        training, reason = comparison.compare(run, images.pixels, missing)
    done = Projected(
        out,
        images,
        found,
        generator.class_names,
        classes,
        training,
        reason,
        0 if missing is None else int(missing.sum()),
    )
    _write(done, generator, missing)
    return done


@contextmanager
def bar(text: str) -> Iterator[Report]:
    """A function that is told how much of how much is done, and shows it."""
    with progress.reporter(progress.console(), text) as reporter:
        yield lambda done, total: reporter.update(done / total, f"{text}: {done:,} of {total:,}")


def judge_of(data: Data, shape: ImageShape) -> Extractor:
    """The judge of a run's data set; features of a random network where there is none or the images are gone."""
    try:
        return features.primary_extractor(native_data(data))
    except ModisteError:
        return features.random_network(ImageShape(shape.channels, shape.size))


def _labels(
    images: Images, generator: TrainedGenerator, asked: int | str | None
) -> tuple[NDArray[np.int64] | None, Literal["given", "found", "none"]]:
    if asked is not None:
        return generator.labels(asked, range(len(images))), "given"
    if not generator.shape.classes:
        return None, "none"
    matched, _ = class_matching.match_labels(images, generator.class_names)
    return (matched.labels, "given") if matched.labels is not None else (None, "found")


def _write(done: Projected, generator: TrainedGenerator, missing: NDArray[np.bool_] | None) -> None:
    with files.atomic_folder(done.out) as (place, write):
        write(CODES, codes.encoded(done.codes, generator))
        title = f"Pictures as {generator.source} can make them"
        shown = range(min(SHOWN, len(done.images)))
        write(SHEET, sheet.draw(title, done.images, done.codes, done.class_names, done.training, shown, missing))
        if missing is None:
            return
        for folder in (FILLED, MARKED):
            (place / folder).mkdir()
        filled = np.where(missing, done.codes.reconstructions, done.images.pixels)
        for k, image in enumerate(filled):
            marked = marked_up(image, missing)
            for folder, pixels in ((FILLED, image), (MARKED, marked)):
                content = grids.png(as_picture(pixels))
                facts = {"Title": f"{done.images.name} {k}, filled in by {generator.source}"}
                write(f"{folder}/{k:06d}.png", metadata.stamp(content, facts, metadata.COMPOSITE_TYPE))


def marked_up(image: NDArray[np.uint8], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image in colour [3, 4 H, 4 W], what was made up in another colour."""
    colour = np.broadcast_to(image, (3, *image.shape[1:])).astype(np.float64)
    tinted = np.where(missing, 0.55 * colour + 0.45 * MARK[:, None, None], colour)
    return np.asarray(tinted.round().astype(np.uint8).repeat(MARK_SCALE, 1).repeat(MARK_SCALE, 2))
