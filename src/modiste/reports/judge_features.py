"""Real and generated images in the judge's features, and their nearest training images, for a report's galleries.

What takes longer than a moment is cached by the content that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from modiste import cache
from modiste.config import Data
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError
from modiste.evaluation import class_matching
from modiste.metrics import features, manifold, suite
from modiste.metrics.features import Extractor, Features
from modiste.metrics.nearest_neighbours import nearest, nearest_pixels
from modiste.plotting import tiles
from modiste.reports.inputs import Comparison
from modiste.runs import Run
from modiste.sampling import generators

EXAMINED = 1_000
"""Real images, and generated ones of each configuration."""
EMBEDDED, ITERATIONS = 400, 500
"""Images of each kind in a cloud, and steps of t-SNE: a picture of more looks the same and takes ten times as long."""
SEARCHED = 300
"""Images whose nearest training image is looked for."""
PERPLEXITY = 30.0
BALL = 3
"""Neighbours to which the ball around a generated image reaches, as in recall."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class RunFeatures:
    """Images of a run's generator (seeds 0, 1, ...) and their features."""

    run: Run
    images: Images
    features: Features


@dataclass(frozen=True)
class ReportFeatures:
    """The first unseen real images of each class with their features, and those of each configuration's generator."""

    dataset: Data
    judge: Extractor
    real: Images
    features: Features
    runs: Mapping[str, RunFeatures] = field(default_factory=dict)
    """By configuration, of those that have a generator."""


def compute(comparison: Comparison, dataset: Data, log: Log) -> ReportFeatures:
    """The features of real images and of every configuration's generator."""
    log("real images")
    real = real_features(dataset)
    runs = {}
    for configuration in comparison.configurations:
        if (member := configuration.find_representative()) is not None and member.run is not None:
            log(f"images of {configuration.name}")
            runs[configuration.name] = run_features(member.run, real)
    return replace(real, runs=runs)


def real_features(dataset: Data) -> ReportFeatures:
    """The features of the first unseen real images of each class."""
    part: Part = "test" if has_test(dataset) else "heldout"
    judge = features.primary_extractor(dataset)
    images = open_data(dataset, part=part)
    chosen = images.select(first_of_each(images, EXAMINED))
    return ReportFeatures(dataset, judge, chosen, features.extract(judge, chosen, cached=True))


def run_features(run: Run, real: ReportFeatures) -> RunFeatures:
    """The features of the run's first images, whose classes are as frequent as those of the real ones."""
    generator = generators.load(run)
    counts = class_matching.counts_of(generator.class_names, real.real)
    images = generator.sample_set(seeds=range(EXAMINED), class_counts=counts)
    return RunFeatures(run, images, features.extract(real.judge, images, cached=True))


def first_of_each(images: Images, count: int) -> NDArray[np.int64]:
    """Sorted indices of about `count` images: the first ones of each class, equally many, or drawn ones of own sets."""
    order = np.arange(len(images))
    if not images.is_shuffled:
        order = np.random.Generator(np.random.PCG64(0)).permutation(order)
    if images.labels is None:
        return np.sort(order[:count])
    share = -(-count // len(images.class_names))
    chosen = [order[images.labels[order] == label][:share] for label in range(len(images.class_names))]
    return np.sort(np.concatenate(chosen))


def training_images(run: Run, dataset: Data) -> Images:
    """The images the run learned from, at their own size."""
    used = run.read_recipe().data
    return open_data(dataset.model_copy(update={"count": used.count}), part=used.split)


def nearest_training(images: Images, train: Images, judge: Extractor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per image the distance in brightness (black 0, white 1; Euclidean over pixels) and the index of the nearest."""
    key = {"nearest": content_digest(images), "train": content_digest(train), "size": judge.shape.size}

    def search() -> NDArray[np.float64]:
        neighbours = nearest_pixels(suite.flat(images, judge.shape), suite.flat(train, judge.shape))
        return np.stack([neighbours.distances[:, 0], neighbours.indices[:, 0].astype(np.float64)])

    distances, indices = cache.cached_array(key, search)
    return distances, indices.astype(np.int64)


def stack_pairs(above: Images, below: NDArray[np.uint8], judge: Extractor) -> NDArray[np.uint8]:
    """Each image above its counterpart, at the judge's size: uint8 [N, C, 2 H + 2, W]."""
    upper, lower = features.fit_pixels(above.pixels, judge.shape), features.fit_pixels(below, judge.shape)
    gap = np.full((len(upper), upper.shape[1], tiles.GAP, upper.shape[3]), 255, np.uint8)
    return np.concatenate([upper, gap, lower], axis=2)


def neighbour_accuracy(real: ReportFeatures, generated: RunFeatures) -> float:
    """How often the nearest neighbour tells rightly whether an image is real or generated."""
    key = {
        "overlap": real.judge.fingerprint,
        "real": content_digest(real.real),
        "made": content_digest(generated.images),
    }
    vectors = real.features.vectors, generated.features.vectors
    return float(cache.cached_json(key, lambda: manifold.two_sample_1nn(*vectors).value))


@dataclass(frozen=True)
class Missed:
    """The real images that lie outside every generated image's ball to its third neighbour, as recall counts them."""

    real: NDArray[np.int64]
    """Their rows, those that are furthest from any generated image first."""
    nearest: NDArray[np.int64]
    """The rows of the generated images nearest to them."""
    of: int
    """Real images that were examined."""


def missed(real: ReportFeatures, generated: RunFeatures) -> Missed:
    """Which of the real images the generator could not make (Kynkäänniemi et al. 2019, eq. 1-2)."""
    x, y = real.features.vectors, generated.features.vectors
    outside = np.flatnonzero(manifold.uncovered(x, y, k=BALL))
    if not len(outside):
        return Missed(outside, outside, len(x))
    found = nearest(x[outside], y, 1)
    order = np.argsort(-found.distances[:, 0], kind="stable")
    return Missed(outside[order], found.indices[order, 0], len(x))


@dataclass(frozen=True)
class Cloud:
    """Places by t-SNE of some real and generated images."""

    real: NDArray[np.float64]
    """[N, 2]."""
    real_labels: NDArray[np.int64] | None
    generated: NDArray[np.float64]


def embedding(real: ReportFeatures, generated: RunFeatures) -> Cloud:
    """Some images of both kinds in two dimensions by t-SNE (van der Maaten and Hinton 2008) of the judge's features.

    ModisteError where scikit-learn is missing.
    """
    some = first_of_each(real.real, EMBEDDED)
    key = {
        "t-sne": [PERPLEXITY, EMBEDDED, ITERATIONS],
        "judge": real.judge.fingerprint,
        "real": content_digest(real.real),
        "generated": content_digest(generated.images),
    }

    def embed() -> NDArray[np.float64]:
        try:
            from sklearn.manifold import TSNE
        except ImportError:
            raise ModisteError(
                "scikit-learn draws it; run pip install 'modiste[report]' and write the report again"
            ) from None
        parts = real.features.vectors[some], generated.features.vectors[:EMBEDDED]
        both = np.concatenate(parts).astype(np.float64)
        perplexity = min(PERPLEXITY, (len(both) - 1) / 4)
        iterations = "max_iter" if "max_iter" in signature(TSNE).parameters else "n_iter"  # before scikit-learn 1.5
        options: dict[str, Any] = {iterations: ITERATIONS}
        method = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0, n_jobs=1, **options)
        return np.asarray(method.fit_transform(both), np.float64)

    places = cache.cached_array(key, embed)
    labels = None if real.real.labels is None else real.real.labels[some]
    return Cloud(places[: len(some)], labels, places[len(some) :])


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The judge's probabilities [N, classes]."""
    return np.asarray(softmax(logits.astype(np.float64), axis=1))
