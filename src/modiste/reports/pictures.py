"""Pictures for a report: sheets of what a run has drawn, and what the judge and the nearest training images say of it.

What takes longer than a moment is kept in the cache of `modiste.features`, by the content that it depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modiste import cache
from modiste.config import Data
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError
from modiste.evaluation import class_matching
from modiste.metrics import features, suite
from modiste.metrics.features import Extractor, Features
from modiste.metrics.nearest_neighbours import nearest
from modiste.plotting import tiles
from modiste.reports.inputs import trained_shape
from modiste.runs import Run
from modiste.sampling import generators
from modiste.sampling.grids import gif

EXAMINED = 1_000
"""Images per side of a cloud."""
SEARCHED = 300
"""Images whose nearest training image is looked for."""
PERPLEXITY = 30.0


@dataclass(frozen=True)
class ReportFeatures:
    """Real test images as the judge sees them, against which everything else is shown."""

    dataset: Data
    judge: Extractor
    real: Images
    seen: Features


@dataclass(frozen=True)
class RunFeatures:
    """Images of a run's generator (seeds 0, 1, ...) as the judge sees them."""

    images: Images
    seen: Features


def open_features(dataset: Data) -> ReportFeatures:
    """The judge of the data set and the first unseen real images of each class."""
    part: Part = "test" if has_test(dataset) else "heldout"
    judge = features.primary_extractor(dataset)
    images = open_data(dataset, part=part)
    chosen = images.select(first_of_each(images, EXAMINED))
    return ReportFeatures(dataset, judge, chosen, features.extract(judge, chosen, cached=True))


def first_of_each(images: Images, count: int) -> NDArray[np.int64]:
    """Sorted indices of about `count` images: the first ones of each class, equally many, or drawn ones of own sets."""
    order = np.arange(len(images))
    if not images.is_shuffled:
        order = np.random.Generator(np.random.PCG64(0)).permutation(order)
    if images.labels is None:
        return np.sort(order[:count])
    share = -(-count // len(images.class_names))
    found = [order[images.labels[order] == label][:share] for label in range(len(images.class_names))]
    return np.sort(np.concatenate(found))


def examine(run: Run, eyes: ReportFeatures) -> RunFeatures:
    """The run's first images as the judge sees them."""
    generator = generators.load(run)
    counts = class_matching.counts_of(generator.class_names, eyes.real)
    images = generator.sample_set(seeds=range(EXAMINED), class_counts=counts)
    return RunFeatures(images, features.extract(eyes.judge, images, cached=True))


def training_images(run: Run, dataset: Data) -> Images:
    """The images the run learned from, at their own size."""
    used = run.read_recipe().data
    return open_data(dataset.model_copy(update={"count": used.count}), part=used.split)


def nearest_training(images: Images, train: Images, judge: Extractor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per image the distance in brightness (black 0, white 1; Euclidean over pixels) and the index of the nearest."""
    key = {"nearest": content_digest(images), "train": content_digest(train), "size": judge.shape.size}

    def search() -> NDArray[np.float64]:
        found = nearest(suite.flat(images, judge.shape), suite.flat(train, judge.shape))
        return np.stack([found.distances[:, 0], found.indices[:, 0].astype(np.float64)])

    distances, indices = cache.cached_array(key, search)
    return distances, indices.astype(np.int64)


def pairs(above: Images, below: NDArray[np.uint8], judge: Extractor) -> NDArray[np.uint8]:
    """Each image above its partner, at the judge's size: uint8 [N, C, 2 H + 2, W]."""
    upper, lower = features.fit_pixels(above.pixels, judge.shape), features.fit_pixels(below, judge.shape)
    gap = np.full((len(upper), upper.shape[1], tiles.GAP, upper.shape[3]), 255, np.uint8)
    return np.concatenate([upper, gap, lower], axis=2)


def embedding(eyes: ReportFeatures, look: RunFeatures) -> NDArray[np.float64]:
    """Places [real + generated, 2] by t-SNE (van der Maaten and Hinton 2008) of the judge's features.

    ModisteError where scikit-learn is missing.
    """
    key = {
        "t-sne": PERPLEXITY,
        "judge": eyes.judge.fingerprint,
        "real": content_digest(eyes.real),
        "generated": content_digest(look.images),
    }

    def compute() -> NDArray[np.float64]:
        try:
            from sklearn.manifold import TSNE
        except ImportError:
            raise ModisteError(
                "scikit-learn draws it; run pip install 'modiste[report]' and write the report again"
            ) from None
        both = np.concatenate([eyes.seen.vectors, look.seen.vectors]).astype(np.float64)
        perplexity = min(PERPLEXITY, (len(both) - 1) / 4)
        plan = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0, n_jobs=1)
        return np.asarray(plan.fit_transform(both), np.float64)

    return cache.cached_array(key, compute)


def chances(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The judge's probabilities [N, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    found: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return found


# sheets of the grids that a run draws at its ticks


def stages(run: Run) -> dict[str, Path]:
    """The run's grids at `start` (after its first tick), `middle` and `end`; of two start and end, of one the end.

    With one tick only, the start is the grid from before training, if there is one. No two show the same picture.
    """
    grids = run.list_grids()
    drawn = [grid for grid in grids if int(grid.stem)]
    if len(drawn) < 2:
        found = dict(zip(("start", "end"), grids, strict=False)) if len(grids) > 1 or not drawn else {"end": drawn[0]}
    else:
        half = int(drawn[-1].stem) / 2
        middle = min(drawn[1:-1], key=lambda grid: abs(int(grid.stem) - half), default=None)
        found = {"start": drawn[0], **({"middle": middle} if middle else {}), "end": drawn[-1]}
    once: dict[bytes, str] = {}
    for stage, grid in found.items():
        once.setdefault(grid.read_bytes(), stage)
    return {stage: found[stage] for stage in once.values()}


def chosen_tiles(run: Run, per_class: int) -> list[int]:
    """Which tiles of a run's grids a report shows: so many noises of each class, or ten times as many without."""
    classes = trained_shape(run).classes
    if not classes:
        return list(range(min(64, 10 * per_class)))
    return [10 * label + noise for label in range(min(10, classes)) for noise in range(min(10, per_class))]


def film(run: Run, frames: int, per_class: int) -> bytes | None:
    """A GIF of a few of the same noises through training, class by class; None while there is no grid.

    Greys are as they are; of colours each frame keeps the 256 that a GIF can hold.
    """
    grids = run.list_grids()
    if not grids:
        return None
    kept = sorted({round(k) for k in np.linspace(0, len(grids) - 1, min(frames, len(grids)))})
    chosen = np.array(chosen_tiles(run, per_class))
    order = chosen if not trained_shape(run).classes else chosen.reshape(-1, per_class).T.ravel()
    columns = -(-len(order) // per_class)
    side = trained_shape(run).size
    frames_ = [tiles.picture_of(tiles.read_grid(grids[k], side)[order], columns) for k in kept]
    return gif(frames_, seconds=4.0)
