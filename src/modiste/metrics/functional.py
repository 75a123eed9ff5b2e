"""Scores of a set of images: pure functions of feature matrices [images, features], logits and labels.

Each docstring gives the score's range, the direction that is better, and the paper and equation. Matrices are processed
in slices of rows, so that no image-by-image matrix is held whole; sums are float64. Every random choice comes from a
seed: the same features give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from modiste.errors import ModisteError
from modiste.metrics import standard_errors
from modiste.metrics.nearest_neighbours import (
    BASE_ROWS,
    Labels,
    Matrix,
    Vector,
    checked,
    checked_labels,
    checked_pair,
    checked_vector,
    tensor,
    width_sentence,
)

KERNEL_ROWS = 100  # 100 x 1,000 stay in the processor's cache
INFINITE, KERNEL, SPLITS = range(0x5C1, 0x5C4)  # keep the random streams apart


@dataclass(frozen=True)
class Score:
    """A number, its standard error where the field has one, and further results of the computation (JSON values)."""

    value: float
    uncertainty: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Moments:
    """The moments of a set for the Fréchet distance: mean [D], unbiased covariance [D, D], and the number of images."""

    mean: Vector
    covariance: Matrix
    count: int


# --- Fréchet


def moments(features: ArrayLike, name: str = "the features") -> Moments:
    """Mean and unbiased covariance (divisor N - 1) of features [N, D], summed in float64; N at least 2."""
    matrix = checked(features, name, least=2)
    mean = matrix.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(matrix), BASE_ROWS):
        centred = matrix[start : start + BASE_ROWS] - mean
        covariance += centred.T @ centred
    return Moments(mean, covariance / (len(matrix) - 1), len(matrix))


def frechet(reference: Moments, generated: Moments) -> float:
    """Fréchet distance of the two Gaussians with these moments: 0 (same moments) and up, lower is better.

    |m1 - m2|² + Tr(C1 + C2 - 2 (C1 C2)^½): Dowson and Landau 1982, eq. 4; Heusel et al. 2017, eq. 6. The trace of the
    root comes from the symmetric C1^½ C2 C1^½, which has the same eigenvalues, so that singular covariances (fewer
    images than features, constant features) are fine. The value is biased upwards by about 1/N: compare equal counts.
    """
    if reference.mean.shape != generated.mean.shape:
        raise ModisteError(width_sentence(len(reference.mean), len(generated.mean)))
    return _frechet(reference, _root(reference.covariance), generated.mean, generated.covariance)


def frechet_score(reference: ArrayLike | Moments, generated: ArrayLike, *, strata: Labels | None = None) -> Score:
    """The Fréchet distance of two feature sets, one or its moments, with its standard error over generated images.

    That is the deviation of the distance's influence function (`_frechet_error`), by `strata` if the images were made
    class by class. A bootstrap, whose draws have fewer distinct images, gives two to four times too much.
    """
    fake = checked(generated, "the generated features", least=2)
    known = reference if isinstance(reference, Moments) else moments(reference, "the reference features")
    if fake.shape[1] != len(known.mean):
        raise ModisteError(width_sentence(len(known.mean), fake.shape[1]))
    measured, root = moments(fake), _root(known.covariance)
    value = _frechet(known, root, measured.mean, measured.covariance)
    return Score(value, _frechet_error(known, root, fake, measured, strata))


def frechet_infinite(reference: Moments, generated: ArrayLike, *, seed: int = 0, points: int = 15) -> Score:
    """The Fréchet distance extrapolated to infinitely many generated images: lower is better.

    The distance of random subsets of N images, N from half to all, is a straight line in 1/N to first order; its
    intercept is free of the bias (Chong and Forsyth 2020, section 4). Not clipped: of a perfect generator it scatters
    about minus the bias that the reference's own finite count leaves. The uncertainty is the standard error of the
    intercept; the subsets overlap, so it is rather too small. Below about ten images per feature the line bends.
    """
    fake = checked(generated, "the generated features", least=6)
    if fake.shape[1] != len(reference.mean):
        raise ModisteError(width_sentence(len(reference.mean), fake.shape[1]))
    root, random = _root(reference.covariance), random_stream(seed, INFINITE)
    counts = np.unique(np.linspace(len(fake) // 2, len(fake), points).round().astype(int))
    if len(counts) < 3:
        raise ModisteError(f"points = {points} gives {len(counts)} subset sizes, and a line with an error needs 3")
    found = []
    for count in counts:
        part = moments(fake[random.permutation(len(fake))[:count]])
        found.append(_frechet(reference, root, part.mean, part.covariance))
    x, y = 1 / counts, np.array(found)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    variance = float(np.sum((y - intercept - slope * x) ** 2)) / (len(x) - 2)
    error = math.sqrt(variance * (1 / len(x) + x.mean() ** 2 / float(centred @ centred)))
    details = {"points": len(x), "smallest": int(counts[0]), "largest": int(counts[-1]), "slope": slope}
    return Score(intercept, error, {**details, "images_per_feature": len(fake) / fake.shape[1]})


def class_frechet(
    reference: ArrayLike,
    reference_labels: ArrayLike,
    generated: ArrayLike,
    generated_labels: ArrayLike,
    *,
    classes: int,
    dimensions: int = 32,
) -> Score:
    """The mean over classes of the Fréchet distance within the class: 0 and up, lower is better.

    In the first principal directions of the reference, since a class has few images for a full covariance (intra-class
    distance of Miyato and Koyama 2018, section 5). A class with fewer than two images on a side has None in
    `per_class`, is listed in `skipped` and is not part of the mean: read the value together with that list.
    """
    real, fake = checked_pair(reference, generated, least=2)
    real_labels = checked_labels(reference_labels, classes, len(real), "the reference labels")
    fake_labels = checked_labels(generated_labels, classes, len(fake), "the generated labels")
    centre, axes = principal_axes(real, dimensions)
    real, fake = (real - centre) @ axes, (fake - centre) @ axes
    found: list[Score | None] = []
    for label in range(classes):
        one, other = real[real_labels == label], fake[fake_labels == label]
        found.append(frechet_score(one, other) if min(len(one), len(other)) > 1 else None)
    per_class = [score and score.value for score in found]
    known = [score.value for score in found if score is not None]
    errors = [score.uncertainty or 0.0 for score in found if score is not None]
    if not known:
        raise ModisteError("no class has two reference and two generated images, so no class has a Fréchet distance")
    skipped = [label for label, value in enumerate(per_class) if value is None]
    details = {"per_class": per_class, "skipped": skipped, "dimensions": axes.shape[1]}
    return Score(float(np.mean(known)), math.hypot(*errors) / len(errors), details)


def principal_axes(features: NDArray[Any], dimensions: int) -> tuple[Vector, Matrix]:
    """The mean [D] and the directions [D, min(D, dimensions)] of greatest variance, in that order."""
    found = moments(features)
    vectors = np.linalg.eigh(found.covariance)[1]
    return found.mean, np.ascontiguousarray(vectors[:, ::-1][:, :dimensions])


def _root(covariance: Matrix) -> Matrix:
    """The symmetric square root, rounding below zero cut off."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)


def _frechet(reference: Moments, root: Matrix, mean: Vector, covariance: Matrix) -> float:
    product = root @ covariance @ root
    crossed = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    apart = reference.mean - mean
    value = apart @ apart + np.trace(reference.covariance) + np.trace(covariance) - 2 * crossed
    return max(0.0, float(value))


def _frechet_error(
    reference: Moments, root: Matrix, generated: NDArray[Any], measured: Moments, strata: Labels | None
) -> float:
    """The standard error of the Fréchet distance over generated images.

    Its influence function at an image y is 2 (m2 - m1)·(y - m2) + (y - m2)ᵀ (1 - T)(y - m2), with
    T = C1^½ (C1^½ C2 C1^½)^-½ C1^½, which carries the generated Gaussian to the real one: the derivative of the
    distance by mean and covariance (Rippl, Munk and Sturm 2016). Directions without variance are left out.
    """
    values, vectors = np.linalg.eigh(root @ measured.covariance @ root)
    least = values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    roots = np.zeros_like(values)
    roots[values > least] = 1 / np.sqrt(values[values > least])
    unlike = np.eye(len(values)) - root @ ((vectors * roots) @ vectors.T) @ root
    apart, influence = 2 * (measured.mean - reference.mean), np.empty(len(generated))
    for start in range(0, len(generated), BASE_ROWS):
        centred = generated[start : start + BASE_ROWS] - measured.mean
        influence[start : start + BASE_ROWS] = centred @ apart + ((centred @ unlike) * centred).sum(1)
    return standard_errors.of_mean(influence, strata)


# --- kernel and classifier scores


def kernel_distance(
    reference: ArrayLike,
    generated: ArrayLike,
    *,
    seed: int = 0,
    subsets: int = 100,
    subset_size: int = 1000,
    strata: Labels | None = None,
) -> Score:
    """The unbiased squared maximum mean discrepancy, mean over random subsets: about 0 at best, lower is better.

    k(x, y) = (x·y / D + 1)³ (Bińkowski et al. 2018, section 4; U-statistic of Gretton et al. 2012, eq. 3). Unbiased,
    so it may fall below 0. The uncertainty is the standard error over generated images, by `strata` if these were made
    class by class, and over the choice of subsets; `sd` is the deviation over subsets (divisor `subsets`, as the field
    prints it), in which all draw from the same images. Sets smaller than `subset_size` give smaller subsets, as
    `subset_size` says.
    """
    real, fake = checked_pair(reference, generated, least=2)
    size = min(subset_size, len(real), len(fake))
    if size == len(real) == len(fake):
        subsets = 1  # every subset would hold all images
    x, y, random = _kernel_rows(real), _kernel_rows(fake), random_stream(seed, KERNEL)
    found = []
    influence, times = np.zeros(len(y)), np.zeros(len(y))
    for _ in range(subsets):
        ours = random.choice(len(x), size, replace=False)
        theirs = random.choice(len(y), size, replace=False)
        one, other = x[torch.from_numpy(ours)], y[torch.from_numpy(theirs)]
        within, across = _kernel_within(other), _kernel_sums(one, other)
        both = float(_kernel_within(one).sum()) + float(within.sum())
        found.append(both / (size * (size - 1)) - 2 * float(across.sum()) / size**2)
        influence[theirs] += 2 * (within / (size - 1) - across / size).numpy()
        times[theirs] += 1
    spread, seen = float(np.std(found)), times > 0
    error = standard_errors.of_mean(influence[seen] / times[seen], None if strata is None else strata[seen])
    details = {"subsets": subsets, "subset_size": size, "sd": spread}
    return Score(float(np.mean(found)), math.hypot(error, spread / math.sqrt(subsets)), details)


def _kernel_rows(matrix: NDArray[Any]) -> torch.Tensor:
    """Rows whose products are the kernel's cube root: x / sqrt(D), and a one."""
    return torch.cat([tensor(matrix) / math.sqrt(matrix.shape[1]), torch.ones((len(matrix), 1)).double()], 1)


def _kernel_within(x: torch.Tensor) -> torch.Tensor:
    """Per row the sum of k with every other row: each slice with the rows after it, for both."""
    sums = -((x * x).sum(1) ** 3)
    for start in range(0, len(x), KERNEL_ROWS):
        part, later = x[start : start + KERNEL_ROWS], x[start + KERNEL_ROWS :]
        sums[start : start + KERNEL_ROWS] += _kernel(part, part).sum(1)
        values = _kernel(part, later)
        sums[start : start + KERNEL_ROWS] += values.sum(1)
        sums[start + KERNEL_ROWS :] += values.sum(0)
    return sums


def _kernel_sums(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Per row of y the sum of k with all rows of x."""
    sums = torch.zeros(len(y), dtype=torch.float64)
    for start in range(0, len(x), KERNEL_ROWS):
        sums += _kernel(x[start : start + KERNEL_ROWS], y).sum(0)
    return sums


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    root = x @ y.T
    return (root * root).mul_(root)


def inception_style(logits: ArrayLike, *, splits: int = 10, seed: int = 0) -> Score:
    """exp of the mean KL(p(y|x) ‖ p(y)), mean over splits: 1 to the number of classes, higher is better.

    Salimans et al. 2016, section 4, with a judge in place of Inception. Images are shuffled by `seed` before they are
    split, since sorted ones would have one class per split. Blind to collapse within a class, and small splits pull it
    down. The uncertainty is the standard error over splits; `sd` is the deviation (divisor `splits`) that papers print.
    """
    from scipy.special import log_softmax

    matrix = checked(logits, "the logits").astype(np.float64)
    count = len(matrix)
    splits = min(splits, count)
    matrix = matrix[random_stream(seed, SPLITS).permutation(count)]
    log_p = log_softmax(matrix, axis=1)
    found = []
    for part in range(splits):
        logs = log_p[part * count // splits : (part + 1) * count // splits]
        p = np.exp(logs)
        marginal = np.log(p.mean(axis=0), where=p.any(axis=0), out=np.zeros(p.shape[1]))
        found.append(math.exp((p * (logs - marginal)).sum(axis=1).mean()))
    error = float(np.std(found, ddof=1)) / math.sqrt(splits) if splits > 1 else None
    return Score(float(np.mean(found)), error, {"splits": splits, "sd": float(np.std(found))})


def label_agreement(predicted: ArrayLike, labels: ArrayLike, classes: int) -> Score:
    """The share of images in which the judge sees the requested class: 0 to 1, higher is better.

    GAN-test of Shmelkov et al. 2018, section 3. High under collapse, too: a value above the judge's accuracy on real
    images means easy images, not better ones. `confusion` has requested classes as rows and predicted ones as columns.
    """
    requested = checked_labels(labels, classes, None, "the labels")
    seen = checked_labels(predicted, classes, len(requested), "the predicted labels")
    confusion = np.bincount(requested * classes + seen, minlength=classes * classes).reshape(classes, classes)
    per_class = [float(row[k] / row.sum()) if row.sum() else None for k, row in enumerate(confusion)]
    score = share_score(int(np.trace(confusion)), len(requested))
    return Score(score.value, score.uncertainty, {"confusion": confusion.tolist(), "per_class": per_class})


def class_balance(
    predicted: ArrayLike, classes: int, wanted: ArrayLike | None = None, strata: Labels | None = None
) -> Score:
    """Total variation between the predicted classes and the wanted shares [K]: 0 to 1 less the least of these.

    ½ Σ |f - p|, lower is better; by default all shares are equal. N fair draws are not exactly like p:
    `expected_if_fair` is what they give on average (normal approximation). The uncertainty is the delta method's, which
    holds well above that value; by `strata`, the requested classes, if these were in fixed shares.
    """
    seen = checked_labels(predicted, classes, None, "the predicted labels")
    shares = np.bincount(seen, minlength=classes) / len(seen)
    fair = np.full(classes, 1 / classes) if wanted is None else checked_vector(wanted, "the wanted shares")
    signs = np.sign(shares - fair)
    error = standard_errors.of_mean(signs[seen] / 2, strata)
    expected = float(np.sqrt(2 / math.pi * fair * (1 - fair) / len(seen)).sum() / 2)
    details = {
        "images": len(seen),
        "frequencies": shares.tolist(),
        "wanted": fair.tolist(),
        "expected_if_fair": expected,
    }
    return Score(float(np.abs(shares - fair).sum() / 2), error, details)


def discriminator_accuracy(
    logits_real: ArrayLike, logits_fake: ArrayLike, boundary: float = 0.0
) -> tuple[Score, Score]:
    """The shares of real images above and of generated ones below the boundary: 0 to 1 each, one half is ideal.

    At the optimum the discriminator can only guess (Goodfellow et al. 2014, proposition 2). Ties count half.
    """
    scores = []
    for logits, sign, name in ((logits_real, 1, "the real logits"), (logits_fake, -1, "the generated logits")):
        values = sign * (checked_vector(logits, name) - boundary)
        scores.append(share_score(float(np.sum(values > 0) + np.sum(values == 0) / 2), len(values)))
    return scores[0], scores[1]


# --- what scores are made with


def share_score(hits: float, count: int, details: Mapping[str, Any] | None = None) -> Score:
    """The share of hits with its binomial standard error."""
    share = hits / count
    return Score(share, math.sqrt(share * (1 - share) / count), details or {})


def random_stream(seed: int, purpose: int) -> np.random.Generator:
    """Random numbers that depend on the seed and on their purpose."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose])))
