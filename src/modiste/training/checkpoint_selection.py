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

from torch import nn

from modiste.config import Recipe
from modiste.data.classes import class_counts, label_of
from modiste.data.images import Images
from modiste.data.sets import native_data, open_data
from modiste.errors import UsageError
from modiste.metrics import features, functional, metric_names
from modiste.metrics.metric_names import MetricName
from modiste.networks.layers import ImageShape
from modiste.runs import BestCheckpoint
from modiste.sampling import generators

FIRST_SEED = 10**9  # image seeds that neither samples nor evaluations use


@dataclass(frozen=True)
class Selector:
    """A score of generators (lower is better) and its name in the log."""

    name: str
    every_images: int
    score: Callable[[nn.Module], float]

    def due(self, images_before: int, images: int) -> bool:
        """Whether a multiple of `every_images` lies between two ticks."""
        return images // self.every_images > images_before // self.every_images


def make_selector(recipe: Recipe, shape: ImageShape) -> Selector | None:
    """The Fréchet distance to the held-out images in the judge's features; None if the recipe asks for no selection.

    Classes are as frequent as in the held-out images. Where no judge was trained on the data set, a random network
    takes its place, and the score's name says so.
    """
    settings = recipe.evaluate
    if not settings.every_images:
        return None
    dataset = native_data(recipe.data)
    heldout = open_data(dataset, part="heldout")
    if len(heldout) < 2:
        raise UsageError(
            f"{heldout.name} holds one image, too few to judge a training by; give more images, or do without with "
            "--set evaluate.every_images=0"
        )
    extractor = features.primary_extractor(dataset)
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

    def score(generator: nn.Module) -> float:
        pixels = generators.generate(generator, noise, labels)
        made = features.extract(extractor, Images(pixels, None, (), "generated"))
        return functional.frechet(reference, functional.moments(made.vectors))

    name = MetricName("frechet", extractor.name, settings.count, "heldout")
    return Selector(str(name), settings.every_images, score)


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
