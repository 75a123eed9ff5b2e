"""Selection of the best checkpoint: the one whose images are closest to the held-out training images.

A recipe with `data.split = "fit"` does not train on that part. With "train", as in the published systems, it does, and
the choice favours generators that copy a little. The test images are used in neither case, so that a score on them
remains a score on unseen images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from modiste.config import Recipe
from modiste.data.classes import class_counts, label_of
from modiste.data.images import Images
from modiste.data.sets import native_data, open_data
from modiste.data.subsets import drawn_subset
from modiste.errors import UsageError
from modiste.metrics import features, functional, metric_names
from modiste.metrics.metric_names import MetricName
from modiste.networks.layers import ImageShape
from modiste.runs import BestCheckpoint
from modiste.sampling import generators

VARIETY_IMAGES = 20
"""With fewer images of a class its spread says little."""
SPREAD_IMAGES = 1_000
FIRST_SEED = 10**9  # image seeds that neither samples nor evaluations use


@dataclass(frozen=True)
class Selector:
    """A score of generators (lower is better) and its name in the log; `score` may return further entries."""

    name: str
    every_images: int
    score: Callable[[nn.Module], dict[str, float]]

    def due(self, images_before: int, images: int) -> bool:
        """Whether a multiple of `every_images` lies between two ticks."""
        return images // self.every_images > images_before // self.every_images


def make_selector(recipe: Recipe, shape: ImageShape) -> Selector | None:
    """The Fréchet distance to the held-out images in the judge's features; None if the recipe asks for no selection.

    Classes are as frequent as in the held-out images. Where no judge was trained on the data set, a random network or
    learned patches take its place, and the score's name says so.
    """
    settings = recipe.evaluate
    if not settings.every_images:
        return None
    heldout = open_heldout(recipe)
    extractor = features.primary_extractor(native_data(recipe.data), settings.without_judge)
    reference = features.moments(extractor, heldout)
    seeds = range(FIRST_SEED, FIRST_SEED + settings.count)
    noise = generators.seed_noise(seeds, recipe.network.z_dim)
    labels = None
    if shape.classes:
        in_turn = (1,) * shape.classes
        older = recipe.data.heldout == "last"  # runs started when classes took turns
        known = None if older else heldout.labels
        counts = in_turn if known is None else class_counts(known, shape.classes)
        labels = label_of(range(settings.count), counts)

    real = _spreads(extractor, heldout, shape.classes)
    name = str(MetricName("frechet", extractor.name, settings.count, "heldout"))

    def score(generator: nn.Module) -> dict[str, float]:
        pixels = generators.generate(generator, noise, labels)
        made = features.extract(extractor, Images(pixels, None, (), "generated"))
        distance = functional.frechet(reference, functional.moments(made.vectors))
        return {name: distance, **variety(spreads(made.vectors, labels, shape.classes), real)}

    return Selector(name, settings.every_images, score)


def open_heldout(recipe: Recipe) -> Images:
    """The held-out images that generators are scored on; UsageError where they are too few."""
    heldout = open_data(native_data(recipe.data), part="heldout")
    if len(heldout) < 2:
        raise UsageError(
            f"{heldout.name} holds one image, too few to judge a training by; give more images, or do without with "
            "--set evaluate.every_images=0"
        )
    return heldout


def variety(made: NDArray[np.float64], real: NDArray[np.float64]) -> dict[str, float]:
    """The log's entries on variety: the spread of generated images over that of held-out ones, of the class with the
    least, and its number; of all images without classes. Empty where no class has images enough."""
    shares = made / np.where(real > 0, real, np.nan)
    if np.isnan(shares).all():
        return {}
    least = int(np.nanargmin(shares))
    return {"variety": float(shares[least]), **({"variety_class": least} if len(shares) > 1 else {})}


def spreads(vectors: NDArray[np.floating[Any]], labels: NDArray[np.int64] | None, classes: int) -> NDArray[np.float64]:
    """Half the mean squared distance between two images' features [N, D], by class [classes]; NaN of a class with
    fewer than VARIETY_IMAGES. Without classes [1], of all images."""
    groups = [vectors[labels == k] for k in range(classes)] if classes and labels is not None else [vectors]
    return np.array(
        [group.var(0, dtype=np.float64).sum() if len(group) >= VARIETY_IMAGES else np.nan for group in groups]
    )


def _spreads(extractor: features.Extractor, heldout: Images, classes: int) -> NDArray[np.float64]:
    """The spreads of at most SPREAD_IMAGES held-out images, kept on disk."""
    some = heldout.select(drawn_subset(len(heldout), heldout.labels, SPREAD_IMAGES, seed=0))
    return spreads(features.extract(extractor, some, cached=True).vectors, some.labels, classes)


def best(records: Iterable[Mapping[str, Any]]) -> BestCheckpoint | None:
    """The checkpoint of the log with the lowest held-out score; None if there is no such score."""
    return functools.reduce(better, records, None)


def better(before: BestCheckpoint | None, record: Mapping[str, Any]) -> BestCheckpoint | None:
    """The better of the best checkpoint so far and the log's next record.

    A run resumed after a judge was trained has scores of two names, which cannot be compared: the newer one counts.
    """
    name = metric_names.heldout_score(record)
    if name is None or (before is not None and before.score == name and not record[name] < before.value):
        return before
    return BestCheckpoint(record["images"], name, record[name])
