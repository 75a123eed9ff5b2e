"""Checks of feature matrices [images, features], and the nearest neighbours of their rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from modiste.errors import ModisteError
from modiste.wording import counted

QUERY_ROWS = 250  # rows of a slice of queries, and of the base: 4 MB in float32
BASE_ROWS = 4_000
LANES = 16  # a row of distances is first searched in this many parts at once
EXACT_ROWS = 50
SPARE = 8  # candidates beyond k that the search in float32 passes to the exact one

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class NearestNeighbours:
    """Euclidean distances float64 [N, k], ascending, and the rows int64 [N, k] of the base that they lead to."""

    distances: Matrix
    indices: Labels


def nearest(queries: ArrayLike, base: ArrayLike, k: int = 1, *, exclude_self: bool = False) -> NearestNeighbours:
    """The k nearest rows of base [M, D] to each of queries [N, D], ascending; equal distances by row number.

    `exclude_self`: queries and base are the same rows, and no row is its own neighbour. Candidates come from a search
    in float32, or in whole numbers where both are pixels (uint8); the distances of these are then computed anew from
    the given numbers, so that an identical row is at exactly 0, and rows for which rounding might have hidden a nearer
    one are searched again in float64.
    """
    points, others = checked(queries, "the queries"), checked(base, "the base")
    if points.shape[1] != others.shape[1]:
        raise ModisteError(
            f"the queries have {points.shape[1]} features and the base {others.shape[1]}; give equal ones"
        )
    if exclude_self and len(points) != len(others):
        raise ModisteError(f"exclude_self needs queries equal to the base, not {len(points)} rows and {len(others)}")
    available = len(others) - exclude_self
    if not 1 <= k <= available:
        raise ModisteError(f"k = {k} neighbours were asked for among {available}; give a k from 1 to that")
    rows, first = np.arange(len(points)), torch.int8 if _suit_integers(points, others) else torch.float32
    candidates, horizon = _candidates(points, others, rows, min(k + SPARE, available), exclude_self, first)
    found = _exact(points, others, rows, candidates, k)
    unsure = np.flatnonzero(found.distances[:, -1] ** 2 > horizon)
    if len(unsure) and k + SPARE < available:
        candidates, _ = _candidates(points, others, unsure, k + SPARE, exclude_self, torch.float64)
        again = _exact(points, others, unsure, candidates, k)
        found.distances[unsure], found.indices[unsure] = again.distances, again.indices
    return found


def nearest_pixels(queries: NDArray[np.uint8], base: NDArray[np.uint8], k: int = 1) -> NearestNeighbours:
    """`nearest` of images as rows of pixels, by the Euclidean distance of their brightness from 0 to 1."""
    found = nearest(queries, base, k)
    return NearestNeighbours(found.distances / 255, found.indices)


def _candidates(
    points: NDArray[Any], others: NDArray[Any], rows: Labels, count: int, exclude_self: bool, dtype: torch.dtype
) -> tuple[Labels, Vector]:
    """The rows [len(rows), count] that seem nearest, and the squared distance within which none is missed.

    int8: of pixels, whose products in whole numbers are exact.
    """
    whole = dtype == torch.int8
    centre = others.mean(axis=0, dtype=np.float64) if not whole else np.uint8(128)
    wanted = _centred(points[rows], centre, dtype)
    own, places = _squared_lengths(wanted), torch.from_numpy(rows)
    if not whole:
        wanted = torch.cat([wanted.mul_(-2), torch.ones((len(rows), 1), dtype=dtype)], 1)
    values = torch.empty((len(rows), 0), dtype=own.dtype)
    indices = torch.empty((len(rows), 0), dtype=torch.int64)
    longest = torch.zeros((), dtype=own.dtype)
    for start in range(0, len(others), BASE_ROWS):
        part = _centred(others[start : start + BASE_ROWS], centre, dtype)
        norms = _squared_lengths(part)
        longest = torch.maximum(longest, norms.max())
        part = part if whole else torch.cat([part, norms[:, None]], 1)
        near, place = [], []
        for first in range(0, len(rows), QUERY_ROWS):
            some = wanted[first : first + QUERY_ROWS]  # and then squared distances less own
            block = torch._int_mm(some, part.T).mul_(-2).add_(norms) if whole else some @ part.T
            if exclude_self:
                column = places[first : first + QUERY_ROWS] - start
                hit = (column >= 0) & (column < len(part))
                block[hit.nonzero().flatten(), column[hit]] = torch.iinfo(torch.int32).max if whole else math.inf
            least, columns = _smallest(block, min(count, len(part)))
            near.append(least)
            place.append(columns + start)
        values, indices = torch.cat([values, torch.cat(near)], 1), torch.cat([indices, torch.cat(place)], 1)
        if values.shape[1] > count:
            values, order = values.topk(count, largest=False)
            indices = indices.gather(1, order)
    horizon = (values[:, -1] + own).double()
    if not whole:
        horizon -= rounding(dtype, points.shape[1]) * (own.sqrt() + longest.sqrt()).double() ** 2
    return indices.numpy(), horizon.numpy()


def _suit_integers(points: NDArray[Any], others: NDArray[Any]) -> bool:
    """Whether both are pixels whose products fit into 32 bits, on a processor with fast products of whole numbers."""
    pixels = points.dtype == others.dtype == np.uint8 and points.shape[1] <= 2**14
    return pixels and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"  # type: ignore[no-untyped-call]


def _centred(matrix: NDArray[Any], centre: Any, dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.int8:
        return torch.from_numpy((matrix - centre).view(np.int8))  # modulo 256, which is exact
    return tensor(matrix - centre).to(dtype)


def _squared_lengths(rows: torch.Tensor) -> torch.Tensor:
    if rows.dtype == torch.int8:
        # In slices: larger blocks leave a hundred megabytes of holes in the memory of the process.
        parts = (rows[start : start + QUERY_ROWS] for start in range(0, len(rows), QUERY_ROWS))
        return torch.cat([(part.short() ** 2).sum(1, dtype=torch.int32) for part in parts])
    return (rows * rows).sum(1)


def rounding(dtype: torch.dtype, width: int) -> float:
    """A bound on the error of |x|² + |y|² - 2 x·y in that precision, over (|x| + |y|)² (Higham 2002, section 3.1)."""
    return float((width + 8) * torch.finfo(dtype).eps)


def _smallest(block: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` smallest numbers of each row, ascending, and their columns.

    They lie in the `count` groups of columns with the smallest minima, and those are quicker to find.
    """
    groups = block.shape[1] // LANES
    if block.shape[1] % LANES or groups <= count:
        values, columns = block.topk(count, largest=False)
        return values, columns
    best = block.view(len(block), LANES, groups).amin(1).topk(count, largest=False, sorted=False).indices
    within = (best[:, :, None] + torch.arange(0, block.shape[1], groups)).flatten(1)
    values, order = block.gather(1, within).topk(count, largest=False)
    return values, within.gather(1, order)


def _exact(points: NDArray[Any], others: NDArray[Any], rows: Labels, candidates: Labels, k: int) -> NearestNeighbours:
    distances, indices = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), EXACT_ROWS):
        part = slice(start, start + EXACT_ROWS)
        apart = others[candidates[part]].astype(np.float64) - points[rows[part], None].astype(np.float64)
        lengths = np.sqrt(np.einsum("nkd,nkd->nk", apart, apart))
        order = np.lexsort((candidates[part], lengths), axis=-1)[:, :k]
        distances[part] = np.take_along_axis(lengths, order, 1)
        indices[part] = np.take_along_axis(candidates[part], order, 1)
    return NearestNeighbours(distances, indices)


def checked(features: ArrayLike, name: str, least: int = 1) -> NDArray[Any]:
    """The features as a matrix of finite numbers with at least `least` rows and a column; ModisteError otherwise."""
    matrix = np.asarray(features)
    if matrix.ndim != 2 or not matrix.shape[1] or matrix.dtype.kind not in "fiub":
        raise ModisteError(f"{name} must be a matrix [images, features] of numbers, not {matrix.dtype} {matrix.shape}")
    if len(matrix) < least:
        held = counted(len(matrix))
        raise ModisteError(f"{name} hold {held} and this score needs at least {least}; give more images")
    if matrix.dtype.kind == "f":
        starts = range(0, len(matrix), BASE_ROWS)
        bad = sum(int((~np.isfinite(matrix[start : start + BASE_ROWS]).all(1)).sum()) for start in starts)
        if bad:
            raise ModisteError(f"{name} have NaN or infinite numbers in {bad} of {len(matrix)} rows; find their cause")
    return matrix


def checked_pair(reference: ArrayLike, generated: ArrayLike, least: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both matrices, checked and of equal width."""
    real = checked(reference, "the reference features", least)
    fake = checked(generated, "the generated features", least)
    if real.shape[1] != fake.shape[1]:
        raise ModisteError(width_sentence(real.shape[1], fake.shape[1]))
    return real, fake


def checked_vector(values: ArrayLike, name: str) -> Vector:
    """The values as finite numbers [N], at least one; of a matrix [N, k] the first column."""
    array = np.asarray(values)
    return checked(array if array.ndim == 2 else array.reshape(-1, 1), name)[:, 0].astype(np.float64)


def checked_labels(labels: ArrayLike, classes: int, count: int | None, name: str) -> Labels:
    """Labels int64 [count] from 0 to classes - 1, at least one."""
    array = np.asarray(labels)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ModisteError(f"{name} must be a list of at least one whole number, not {array.dtype} {array.shape}")
    if count is not None and len(array) != count:
        raise ModisteError(f"{name} are {len(array)} for {count} images; give one for each")
    if array.min() < 0 or array.max() >= classes:
        raise ModisteError(f"{name} run from {array.min()} to {array.max()}, outside of 0 to {classes - 1}")
    return array.astype(np.int64)


def tensor(matrix: NDArray[Any]) -> torch.Tensor:
    """A float64 tensor of the matrix that does not share memory with a read-only array."""
    return torch.from_numpy(np.require(matrix, np.float64, ["C", "W"]))


def width_sentence(reference: int, generated: int) -> str:
    """The error of two matrices that come from different extractors."""
    return (
        f"the reference has {reference} features per image and the generated set {generated}; "
        "take both from the same extractor"
    )
