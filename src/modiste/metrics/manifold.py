"""Scores of nearest neighbours: precision, recall, density and coverage of manifolds, and the two-sample test.

Pure functions of feature matrices [images, features], as in `functional`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from modiste.metrics import standard_errors
from modiste.metrics.functional import Score, random_stream, share_score
from modiste.metrics.nearest_neighbours import SPARE, Labels, Vector, checked_pair, nearest, rounding, tensor

ROWS = 250  # rows of a slice; 250 x 10,000 in float64 is 20 MB
MANY = 50  # neighbours per row from which on a whole product is quicker than one by one
TWO_SAMPLE = 0x5C4  # keeps the random stream apart from others


def manifold_scores(
    reference: ArrayLike,
    generated: ArrayLike,
    *,
    k_precision: int = 3,
    k_density: int = 5,
    strata: Labels | None = None,
) -> dict[str, Score]:
    """Precision, recall, density and coverage of the manifolds made of balls that reach to the k-th neighbour.

    precision: share of generated images in the balls of reference ones, 0 to 1; recall: the reverse (Kynkäänniemi et
    al. 2019, eq. 1-2). density: mean number of reference balls about a generated image / k, 0 and up, 1 is usual;
    coverage: share of reference balls with a generated image in them, 0 to 1 (Naeem et al. 2020, eq. 3-4). Higher is
    better. Perfect generators do not reach 1: two draws of equal count have an expected coverage of 1 - 2^-k, .969 at
    k = 5, and no fixed precision; compare with real against real. A ball includes its edge (eq. 1), so identical sets
    have precision, recall and coverage 1 and density (k + 1) / k. Standard errors are over generated images: binomial
    for precision, of the mean for density; of recall and coverage, where one image matters for many others, by leaving
    out groups of them, each with its share of the `strata` in which they were made.
    """
    most = max(k_precision, k_density)
    real, fake = checked_pair(reference, generated, least=most + 1)
    centre = real.mean(axis=0, dtype=np.float64)
    x, y = tensor(real - centre), tensor(fake - centre)
    x_norms, y_norms = (x * x).sum(1, keepdim=True), (y * y).sum(1, keepdim=True)
    real_radii = _squared_radii(nearest(real, real, most, exclude_self=True).distances, x_norms)
    near = nearest(fake, fake, min(k_precision + SPARE, len(fake) - 1), exclude_self=True)
    fake_radii = _squared_radii(near.distances[:, :k_precision], y_norms)
    left_out = standard_errors.LeftOut(near, k_precision, standard_errors.groups(len(fake), strata), len(real))
    x, y = torch.cat([x, torch.ones_like(x_norms)], 1), torch.cat([y.mul_(-2), y_norms], 1)
    longest = y_norms.max().sqrt() + fake_radii.max().sqrt()
    unsure = rounding(torch.float32, x.shape[1]) * (x_norms.sqrt() + real_radii[:, -1:].sqrt() + longest) ** 2
    rough_x, rough_y, rough_radii = x.float(), y.float(), fake_radii[:, -1].float()
    precise, balls = np.zeros(len(y), bool), np.zeros(len(y), np.int64)
    covered, recalled = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        block = rough_x[part] @ rough_y.T  # squared distances less x_norms
        edges = real_radii[part] - x_norms[part]
        row, column, lengths = _pairs(x[part], y, block, edges[:, -1:] + unsure[part])
        depth = (lengths[:, None] <= edges.numpy()[row]).T
        precise[column[depth[k_precision - 1]]] = True
        balls += np.bincount(column[depth[k_density - 1]], minlength=len(y))
        covered[start + row[depth[k_density - 1]]] = True
        left_out.cover(start + row[depth[k_density - 1]], column[depth[k_density - 1]])
        left_out.recall(start, block, x_norms[part], rough_radii)
        outside = block.sub_(rough_radii).amin(1).double() + x_norms[part, 0]
        close = (outside.abs() <= unsure[part, 0]).nonzero().flatten()
        outside[close] = (x[part][close] @ y.T - fake_radii[:, -1]).amin(1) + x_norms[part, 0][close]
        recalled[part] = (outside <= 0).numpy()
    density = balls / k_density
    error = standard_errors.of_mean(density)
    return {
        "precision": share_score(int(precise.sum()), len(y), {"k": k_precision}),
        "recall": Score(float(recalled.mean()), left_out.recall_error, {"k": k_precision}),
        "density": Score(float(density.mean()), error, {"k": k_density}),
        "coverage": Score(float(covered.mean()), left_out.coverage_error, {"k": k_density}),
    }


def uncovered(reference: ArrayLike, generated: ArrayLike, *, k: int = 3) -> NDArray[np.bool_]:
    """Which reference images [N] lie outside of all balls about generated ones that reach to their k-th neighbour.

    The share of the others is the recall of `manifold_scores` (Kynkäänniemi et al. 2019, eq. 2).
    """
    real, fake = checked_pair(reference, generated, least=k + 1)
    centre = real.mean(axis=0, dtype=np.float64)
    x, y = tensor(real - centre), tensor(fake - centre)
    x_norms, y_norms = (x * x).sum(1, keepdim=True), (y * y).sum(1, keepdim=True)
    radii = _squared_radii(nearest(fake, fake, k, exclude_self=True).distances[:, -1:], y_norms)
    edges = (radii - y_norms).T
    parts = (slice(start, start + ROWS) for start in range(0, len(x), ROWS))
    return torch.cat([(x_norms[part] - 2 * x[part] @ y.T > edges).all(1) for part in parts]).numpy()


def _pairs(x: torch.Tensor, y: torch.Tensor, block: torch.Tensor, edges: torch.Tensor) -> tuple[Labels, Labels, Vector]:
    """Rows and columns of the block (x @ y.T in float32) up to the edge of the row, and their products in float64."""
    pairs = np.flatnonzero(block.numpy() <= edges.float().numpy())
    row, column = np.divmod(pairs, len(y))
    if len(pairs) > MANY * len(x):
        return row, column, (x @ y.T).numpy().ravel()[pairs]
    return row, column, np.einsum("pd,pd->p", x.numpy()[row], y.numpy()[column])


def _squared_radii(radii: NDArray[np.float64], norms: torch.Tensor) -> torch.Tensor:
    """Squared distances [N, k] to the nearest others, larger by what rounding may take from a point on the edge."""
    found = torch.from_numpy(radii)
    return found**2 + 1e-13 * (norms.sqrt() + found) ** 2


def two_sample_1nn(reference: ArrayLike, generated: ArrayLike, *, seed: int = 0, most: int = 5000) -> Score:
    """Leave-one-out accuracy of telling the two sets apart by the nearest neighbour: 0 to 1, one half is ideal.

    Lopez-Paz and Oquab 2017, section 3; Xu et al. 2018, section 3. 1: the sets are apart; towards 0: generated images
    are copies of reference ones. Equal counts (at most `most` a side) by a random choice; equal distances are decided
    by a random order. `reference` and `generated` in the details are the accuracies on the two kinds.
    """
    real, fake = checked_pair(reference, generated, least=2)
    random, count = random_stream(seed, TWO_SAMPLE), min(len(real), len(fake), most)
    both = np.concatenate([part[random.permutation(len(part))[:count]] for part in (real, fake)])
    order = random.permutation(2 * count)
    kind = order >= count
    right = kind[nearest(both[order], both[order], exclude_self=True).indices[:, 0]] == kind
    details = {"reference": float(right[~kind].mean()), "generated": float(right[kind].mean()), "each": count}
    return share_score(int(right.sum()), 2 * count, details)
