"""The nearest training images of a generated one, and whether it counts as a near-copy.

As in `metrics.memorisation`, unseen real images are the standard: an image is a near-copy if it is as near to a
training image as only 1 % of these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modiste.data import published
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.evaluation import audit, references
from modiste.evaluation.sources import Origin
from modiste.metrics import features, memorisation, metric_names, suite
from modiste.metrics.features import Extractor
from modiste.metrics.nearest_neighbours import nearest, nearest_pixels
from modiste.studio import jobs, library, wall
from modiste.studio.jobs import Tell, Working
from modiste.studio.queries import entry_of, numbers

SHOWN = 5
"""Neighbours of an image."""
SPACES = PIXELS, FEATURES = "pixels", "features"


@dataclass(frozen=True)
class RealImages:
    """The images that a run learned from, unseen ones to compare with, and who looks at them."""

    train: Images
    unseen: Images
    judge: Extractor


@dataclass(frozen=True)
class Space:
    """Training images as rows in which distances are measured, and the distance of a near-copy."""

    real: RealImages
    rows: NDArray[Any]
    """[training images, pixels or features]."""
    threshold: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of an image, nearest first."""

    rows: tuple[int, ...]
    distances: tuple[float, ...]
    threshold: float

    @property
    def is_near_copy(self) -> bool:
        return self.distances[0] <= self.threshold


def open_real(entry: library.Entry, tell: Tell) -> RealImages:
    """A run's training images and unseen ones; one sentence as a ModisteError where these are not at hand."""
    tell("reading the data set")
    run = entry.run
    check_at_hand(entry)
    dataset, reason = references.dataset_of(Origin("run", run.path, run.name, run), None)
    part, _ = references.part_of(dataset, None)
    train, unseen, reason = references.training(run, dataset, part, reason, references.opener())
    if train is None or unseen is None:
        raise UsageError(reason)
    return RealImages(train, unseen, features.primary_extractor(dataset))


def check_at_hand(entry: library.Entry) -> None:
    """UsageError where the run's data set would have to be downloaded, which the studio never does."""
    name = entry.run.read_recipe().data.name
    if name in published.PUBLISHED and not published.is_at_hand(published.PUBLISHED[name]):
        raise UsageError(f"{name} is not on this machine; `modiste data {name}` fetches it")


def pixel_space(entry: library.Entry, tell: Tell) -> Space:
    """Distances in brightness, from black 0 to white 1."""
    real = open_real(entry, tell)
    tell("distances of unseen images to the training images")
    unseen = suite.unseen_to_train(real.train, real.unseen, real.judge.shape)
    return Space(real, suite.flat(real.train, real.judge.shape), memorisation.near_threshold(unseen))


def feature_space(entry: library.Entry, tell: Tell) -> Space:
    """Distances in the judge's features."""
    real = open_real(entry, tell)
    tell(f"features of {len(real.train):,} training images, kept for the next time")
    rows = features.extract(real.judge, real.train, cached=True).vectors
    tell(f"features of {len(real.unseen):,} unseen images, kept for the next time")
    unseen = features.extract(real.judge, real.unseen, cached=True).vectors
    tell("distances of unseen images to the training images")
    distances = audit.unseen_feature_distances(real.train, rows, real.unseen, unseen, real.judge)
    return Space(real, rows, memorisation.near_threshold(distances))


def space_of(entry: library.Entry, name: str) -> Space | Working:
    """The space, once it is there."""
    make = pixel_space if name == PIXELS else feature_space
    return jobs.ask((name, entry.run.path), lambda tell: make(entry, tell))


def find(space: Space, name: str, image: Images) -> Neighbours:
    """The nearest training images of one image."""
    judge, count = space.real.judge, min(SHOWN, len(space.rows))
    if name == PIXELS:
        found = nearest_pixels(suite.flat(image, judge.shape), space.rows, count)
        distances = found.distances[0].astype(np.float32)  # as those of unseen images, so that ties remain ties
    else:
        found = nearest(library.compute(features.extract, judge, image).vectors, space.rows, count)
        distances = found.distances[0]
    return Neighbours(tuple(map(int, found.indices[0])), tuple(map(float, distances)), space.threshold)


def describe(found: Neighbours, unseen: int) -> str:
    """Whether the image is a near-copy, in words."""
    far, near = (f"{value:.3g}" for value in (found.distances[0], found.threshold))
    if found.distances[0] == 0:
        return "An exact copy: its distance to a training image is 0."
    if found.is_near_copy:
        return (
            f"A near-copy: its distance of {far} to a training image is one that only 1 in 100 of {unseen:,} unseen "
            f"real images comes within ({near})."
        )
    return (
        f"No near-copy: its nearest training image is {far} away, and 1 in 100 of {unseen:,} unseen real images comes "
        f"within {near}."
    )


def neighbours(request: Request) -> Response:
    """The neighbours of an image in both spaces, or what is being done to find them."""
    entry = entry_of(request)
    generator = library.load(entry, request.query_params.get("checkpoint", "last"))
    point = wall.point_of(request, generator)
    spaces = {name: space_of(entry, name) for name in SPACES}
    image = Images(wall.draw_point(generator, point), None, (), generator.source)
    return JSONResponse({name: _json(space, name, image) for name, space in spaces.items()})


def _json(space: Space | Working, name: str, image: Images) -> dict[str, Any]:
    if isinstance(space, Working):
        return {"working": space.step}
    found, train = find(space, name, image), space.real.train
    labels = None if train.labels is None else [train.class_names[train.labels[row]] for row in found.rows]
    return {
        "rows": found.rows,
        "distances": found.distances,
        "classes": labels,
        "near_copy": found.is_near_copy,
        "sentence": describe(found, len(space.real.unseen)),
        "features_of": metric_names.whose(space.real.judge.name),
    }


def training_images(request: Request) -> Response:
    """Training images side by side, at their own size."""
    space = space_of(entry_of(request), PIXELS)
    if isinstance(space, Working):
        raise UsageError("the training images are still being read; ask again")
    train = space.real.train
    rows = numbers(request, "rows", 0, len(train) - 1)
    if len(rows) > wall.MOST_IMAGES:
        raise UsageError(f"{len(rows)} images are too many; ask for at most {wall.MOST_IMAGES}")
    return Response(wall.encoded(train.pixels[rows], len(rows)), media_type="image/png")


ROUTES = [
    Route("/api/runs/{id}/neighbours", neighbours),
    Route("/api/runs/{id}/training.png", training_images),
]
