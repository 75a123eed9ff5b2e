"""Standard errors over images: of means, of scores that are means to first order, and of others by the jackknife.

Images generated class by class, in fixed numbers, vary less than images drawn at random: differences between classes
do not add to the error. `strata` are then their classes [N]; None for images drawn at random.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from modiste.metrics.nearest_neighbours import Labels, NearestNeighbours, Vector

METHOD = 2
"""The version of these estimates, part of the cache key of scores; raise it with every change."""
GROUPS = 10


def of_mean(influence: Vector, strata: Labels | None = None) -> float:
    """The standard error of the mean of one number per image [N], within strata where there are any.

    For a score that is no mean, the numbers are its influence function at the images (Hampel 1974): by how much, to
    first order, it rises per unit of an image's weight. Near a score's least value, where it is flat to first order,
    this comes out up to √2 times too large.
    """
    count = len(influence)
    if count < 2:
        return 0.0
    if strata is None:
        return float(influence.std(ddof=1)) / math.sqrt(count)
    total = 0.0
    for stratum in np.unique(strata):
        of_it = influence[strata == stratum]
        total += len(of_it) * float(of_it.var(ddof=1)) if len(of_it) > 1 else 0.0
    return math.sqrt(total) / count


def groups(count: int, strata: Labels | None = None) -> Labels:
    """The number of the group of each image [N], of GROUPS or fewer; every group has its share of every stratum."""
    order = np.arange(count) if strata is None else np.argsort(strata, kind="stable")
    found = np.empty(count, np.int64)
    found[order] = np.arange(count) % min(GROUPS, count)
    return found


def of_left_out(values: NDArray[np.float64]) -> float:
    """The standard error from a score's values [G] without each group (grouped jackknife, Shao and Wu 1989)."""
    count, apart = len(values), values - values[0]  # from one of them, so that equal values have no spread
    return math.sqrt((count - 1) / count * float(((apart - apart.mean()) ** 2).sum()))


class LeftOut:
    """The jackknife of recall and coverage over groups of generated images; distances in float32.

    Without some images, the balls of others reach farther: to the k-th neighbour among those that are left.
    """

    def __init__(self, near: NearestNeighbours, k: int, groups: Labels, count: int) -> None:
        self.groups, self.order = groups, np.argsort(groups, kind="stable")
        found = int(groups.max()) + 1
        self.starts = np.searchsorted(groups[self.order], np.arange(found))
        self.recalled, self.covered = np.zeros((count, found), bool), np.zeros((count, found), bool)
        # Every image with each group that some of its k neighbours belong to: how far its ball reaches without them.
        of_near = groups[near.indices]
        image, group = np.nonzero(np.apply_along_axis(np.bincount, 1, of_near[:, :k], minlength=found))
        apart = (of_near[image] != group[:, None]) & (groups[image] != group)[:, None]
        place = np.where(apart.sum(1) >= k, np.argmax(apart.cumsum(1) >= k, axis=1), near.indices.shape[1] - 1)
        radii = np.where(groups[image] != group, near.distances[image, place], -1.0)
        by_group = np.argsort(group, kind="stable")
        self.images = torch.from_numpy(image[by_group])
        self.radii = torch.from_numpy(np.sign(radii[by_group]) * radii[by_group] ** 2).float()
        self.grown, self.grown_starts = np.unique(group[by_group], return_index=True)
        self.further = np.zeros((count, found), bool)

    def cover(self, rows: Labels, columns: Labels) -> None:
        """Generated image `columns` lies in the ball of reference image `rows`."""
        self.covered[rows, self.groups[columns]] = True

    def recall(self, start: int, block: torch.Tensor, norms: torch.Tensor, radii: torch.Tensor) -> None:
        """Count which of some reference images recall reaches when each group is left out.

        `block` holds squared distances to all generated images, less the reference images' own norms.
        """
        part, own = slice(start, start + len(block)), norms.float()
        inside = (block <= radii - own).numpy()[:, self.order]
        self.recalled[part] = np.logical_or.reduceat(inside, self.starts, axis=1)
        if len(self.grown):
            inside = (block[:, self.images] <= self.radii - own).numpy()
            self.further[part][:, self.grown] = np.logical_or.reduceat(inside, self.grown_starts, axis=1)

    @property
    def recall_error(self) -> float:
        others = self.recalled.sum(1, keepdims=True) > self.recalled
        return of_left_out((others | self.further).mean(0))

    @property
    def coverage_error(self) -> float:
        return of_left_out((self.covered.sum(1, keepdims=True) > self.covered).mean(0))
