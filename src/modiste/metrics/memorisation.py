"""Whether a generator copies its training images: four scores of distances to them, each against held-out images.

Held-out real images are the standard throughout: they are as near to the training set as chance brings new images. All
distances are those of `nearest_neighbours.nearest`.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modiste.errors import ModisteError
from modiste.metrics.functional import Score, principal_axes, random_stream, share_score
from modiste.metrics.nearest_neighbours import (
    BASE_ROWS,
    Labels,
    Matrix,
    NearestNeighbours,
    Vector,
    checked,
    checked_vector,
    nearest,
)

RATIO, CELLS = range(0x5D0, 0x5D2)  # keep the random streams apart
RATIO_RESAMPLES = 200
NEAR_PERCENTILE = 1.0
LEAST_IN_CELL = 20
LLOYD_STEPS = 100
GENERATED, HELD_OUT = "the generated distances", "the held-out distances"


def nearest_ratio(generated_to_train: ArrayLike, heldout_to_train: ArrayLike, *, seed: int = 0) -> Score:
    """Median distance to the training set of generated images / of held-out ones: 1 is ideal, far below 1 is copying.

    Above 1, images are less typical than new real ones. Blur moves it too, so read it beside the others. The
    uncertainty is the deviation over 200 bootstrap draws of both sides.
    """
    fake, real = checked_vector(generated_to_train, GENERATED), checked_vector(heldout_to_train, HELD_OUT)
    medians = float(np.median(fake)), float(np.median(real))
    details = {"generated_median": medians[0], "heldout_median": medians[1]}
    if medians[1] == 0:
        if medians[0] == 0:
            return Score(1.0, None, details)
        raise ModisteError(
            "half of the held-out images are exact copies of training images, so no ratio of distances can be given; "
            "hold out images that are not in the training set"
        )
    random, draws = random_stream(seed, RATIO), []
    for _ in range(RATIO_RESAMPLES):
        below = float(np.median(real[random.integers(len(real), size=len(real))]))
        draws.append(float(np.median(fake[random.integers(len(fake), size=len(fake))])) / (below or medians[1]))
    return Score(medians[0] / medians[1], float(np.std(draws, ddof=1)), details)


def authenticity(generated_to_train: NearestNeighbours, train_to_train: ArrayLike) -> Score:
    """Share of generated images farther from their nearest training image than that is from its own nearest: 0 to 1.

    Alaa et al. 2022, section 3.3 (A = 1). Higher is better up to what held-out images score, about one half, and
    uncalibrated without them. `train_to_train` [M] are leave-one-out distances within the training set.
    """
    own = checked_vector(train_to_train, "the distances within the training set")
    indices, distances = generated_to_train.indices[:, 0], checked_vector(generated_to_train.distances, GENERATED)
    if indices.max() >= len(own):
        raise ModisteError(
            f"a nearest training image has number {indices.max()}, and the distances within the training set are only "
            f"{len(own)}; give one for each training image"
        )
    return share_score(int((distances > own[indices]).sum()), len(distances))


def duplicates(generated_to_train: ArrayLike, heldout_to_train: ArrayLike) -> Score:
    """The share of generated images as near to a training image as only 1 % of the held-out ones are: 0 to 1.

    The threshold is the first percentile of the held-out distances, so .01 is what chance gives, and more is copying.
    `exact` counts distance 0, `near` distances up to the threshold, `expected_near` what held-out images would give.
    """
    fake, real = checked_vector(generated_to_train, GENERATED), checked_vector(heldout_to_train, HELD_OUT)
    threshold = near_threshold(real)
    near = int((fake <= threshold).sum())
    details = {
        "exact": int((fake == 0).sum()),
        "near": near,
        "expected_near": float((real <= threshold).mean() * len(fake)),
        "threshold": threshold,
        "percentile": NEAR_PERCENTILE,
    }
    return share_score(near, len(fake), details)


def near_threshold(heldout_to_train: ArrayLike) -> float:
    """The distance to a training image up to which an image is a near-duplicate: 1 % of held-out ones are as near."""
    return float(np.percentile(checked_vector(heldout_to_train, HELD_OUT), NEAR_PERCENTILE))


@dataclass(frozen=True)
class Cells:
    """The training images' part in the test of data copying, and held-out ones in the same cells.

    What ships for published sets is small: float32 and int8 where nothing depends on more digits.
    """

    centre: Vector
    """[D]: the mean training image."""
    axes: NDArray[np.float32]
    """[D, dimensions]: the first principal directions of the training set."""
    centres: Matrix
    """[cells, dimensions]."""
    heldout_distances: NDArray[np.float32]
    """[H]: to the nearest training image, in these directions."""
    heldout_cells: NDArray[np.int8]
    """[H]."""


def training_cells(
    heldout: ArrayLike, train: ArrayLike, *, cells: int = 3, dimensions: int = 64, seed: int = 0
) -> Cells:
    """Cells of the training set by k-means in its first principal directions, with the held-out images in them."""
    rows = checked(train, "the training features", least=2)
    real = _checked_like(heldout, rows, "the held-out features")
    centre, exact = principal_axes(rows, dimensions)
    axes = exact.astype(np.float32)
    base, points = _projected(rows, centre, axes), _projected(real, centre, axes)
    centres = _centres(base, cells, random_stream(seed, CELLS))
    far, cell = nearest(points, base).distances[:, 0], _cell(points, centres)
    return Cells(centre, axes, centres, far.astype(np.float32), cell.astype(np.int8))


def data_copying(generated: ArrayLike, train: ArrayLike, known: Cells) -> Score:
    """C_T, the three-sample test of data copying: 0 is ideal, far below 0 is copying, far above 0 is underfitting.

    Meehan et al. 2020, section 4: in each cell of the training set, Z of the Mann-Whitney test whether generated images
    are farther from the training set than held-out ones are; the mean over cells, weighted by the held-out share. Cells
    with fewer than 20 generated or held-out images are skipped (all are too small: an error). Each Z is standard normal
    if the two kinds do not differ; the uncertainty is the deviation of C_T in that case. It grows with the counts, so
    compare equal ones.
    """
    rows = checked(train, "the training features", least=2)
    made = _checked_like(generated, rows, "the generated features")
    fake, base = (_projected(matrix, known.centre, known.axes) for matrix in (made, rows))
    fake_cell = _cell(fake, known.centres)
    fake_far = nearest(fake, base).distances[:, 0].astype(np.float32)  # as the held-out ones, so that ties remain ties
    z, weights, skipped = [], [], []
    for cell in range(len(known.centres)):
        ours, theirs = fake_far[fake_cell == cell], known.heldout_distances[known.heldout_cells == cell]
        if min(len(ours), len(theirs)) < LEAST_IN_CELL:
            skipped.append(cell)
            continue
        z.append(mann_whitney_z(ours, theirs))
        weights.append(len(theirs))
    if not z:
        raise ModisteError(
            f"no cell has {LEAST_IN_CELL} generated and {LEAST_IN_CELL} held-out images "
            f"({len(fake)} and {len(known.heldout_cells)} in all); give more images or fewer cells"
        )
    parts = np.array(weights) / sum(weights)
    details = {"z": z, "weights": parts.tolist(), "skipped": skipped, "dimensions": known.axes.shape[1]}
    return Score(float(parts @ z), math.sqrt(float(parts @ parts)), details)


def _projected(rows: NDArray[Any], centre: Vector, axes: NDArray[np.float32]) -> Matrix:
    """In slices, as float64 has twice the size of features."""
    found = np.empty((len(rows), axes.shape[1]))
    for start in range(0, len(rows), BASE_ROWS):
        found[start : start + BASE_ROWS] = (rows[start : start + BASE_ROWS] - centre) @ axes
    return found


def _checked_like(features: ArrayLike, rows: NDArray[Any], name: str) -> NDArray[Any]:
    matrix = checked(features, name)
    if matrix.shape[1] != rows.shape[1]:
        raise ModisteError(
            f"the training features have {rows.shape[1]} columns and the others {matrix.shape[1]}; "
            "take all from the same extractor"
        )
    return matrix


def mann_whitney_z(ours: Vector, theirs: Vector) -> float:
    """Standard score of the Mann-Whitney U of `ours` being greater; ties count half and leave the variance as it is."""
    m, n, ordered = len(ours), len(theirs), np.sort(theirs)
    u = (np.searchsorted(ordered, ours, "left") + np.searchsorted(ordered, ours, "right")).sum() / 2
    return float((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))


def _centres(points: Matrix, cells: int, random: np.random.Generator) -> Matrix:
    """Centres of k-means: the ++ start (Arthur and Vassilvitskii 2007) from our own stream, then Lloyd's steps."""
    from scipy.cluster.vq import kmeans2

    centres = points[[random.integers(len(points))]]
    while len(centres) < cells:
        away = np.min([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=0)
        if not away.sum():
            break  # fewer different points than cells
        centres = np.concatenate([centres, points[[random.choice(len(points), p=away / away.sum())]]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an empty cell, which keeps its centre
        return np.asarray(kmeans2(points, centres, iter=LLOYD_STEPS, minit="matrix")[0])


def _cell(points: NDArray[np.float64], centres: Matrix) -> Labels:
    return np.asarray(((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1), np.int64)
