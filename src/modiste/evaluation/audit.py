"""The audit: scores class by class, how unequal they are, and near-duplicates of training images.

Real images that are not in the reference go through the same functions and give every number its real baseline. Images
of a generator without classes count as the class that the judge sees in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modiste import cache
from modiste.data.images import Images, content_digest
from modiste.errors import UsageError
from modiste.metrics import features, functional, manifold, memorisation, suite
from modiste.metrics.features import Extractor, Features
from modiste.metrics.functional import Score
from modiste.metrics.nearest_neighbours import (
    Labels,
    NearestNeighbours,
    Vector,
    checked_labels,
    checked_pair,
    checked_vector,
    nearest,
    nearest_pixels,
)
from modiste.metrics.suite import Memory, Reference

Log = Callable[[str], None]
K_PRECISION, K_COVERAGE = 3, 5
NAMES = FREQUENCY, PRECISION, COVERAGE, AGREEMENT = "frequency", "precision_k3", "coverage_k5", "label_agreement"
PAIRS = 6
"""Nearest images that the picture shows."""
LEVEL = 0.01
"""A count of near-duplicates is called other than that of real images when chance gives one so extreme more seldom."""
MORE, FEWER, ALIKE = (
    "more than unseen real images show",
    "fewer than unseen real images show",
    "as many as unseen real images show",
)
ASKED_FOR, SEEN = "class asked for", "class the judge sees"
"""By which class images are grouped."""
ALL_KNOWN = "the judge learned from every real image outside of the reference, so none are new to it"


# --- classes


def check(reference: Reference) -> None:
    """UsageError unless the reference has classes and a judge that knows them."""
    if reference.images.labels is None:
        raise UsageError(f"an audit needs classes, and {reference.images.name} has none; give labelled data")
    if reference.classes == 0:
        raise UsageError(
            f"an audit needs a judge, and none was trained on {reference.images.name}; "
            "`modiste judge train --data ...` trains one"
        )


def verdicts(made: Features) -> Labels:
    """The class int64 [N] that the judge sees in each image."""
    assert made.logits is not None  # `check` refuses extractors that are no judges
    return np.asarray(made.logits.argmax(1), np.int64)


def verdict_scores(predicted: Labels, labels: Labels | None, classes: int) -> dict[str, list[Score | None]]:
    """Frequency and label agreement of each class, 0 to 1 each, from the classes [N] that the judge sees.

    frequency: the share of all images in which the judge sees the class. label_agreement: the share of the images with
    that label in which it does; None for a class without images, and left out where images have no labels.
    Without any image every value is None.
    """
    seen = [int((predicted == label).sum()) for label in range(classes)]
    scores: dict[str, list[Score | None]] = {
        FREQUENCY: [functional.share_score(hits, len(predicted)) if len(predicted) else None for hits in seen]
    }
    if labels is not None:
        right = [predicted[labels == label] == label for label in range(classes)]
        scores[AGREEMENT] = [functional.share_score(int(one.sum()), len(one)) if len(one) else None for one in right]
    return scores


def manifold_by_class(
    reference: ArrayLike, reference_labels: ArrayLike, generated: ArrayLike, groups: ArrayLike, *, classes: int
) -> dict[str, list[Score | None]]:
    """Precision (k = 3) and coverage (k = 5) of each class among the real images of that class alone, 0 to 1 each.

    As `manifold.manifold_scores` (Kynkäänniemi et al. 2019, eq. 1; Naeem et al. 2020, eq. 4), class by class;
    `groups` [N] are the classes of the generated images. None where a class has too few images: 6 real
    ones are needed, and for precision 6 generated ones. The coverage of a class that is never made is 0.
    """
    real, fake = checked_pair(reference, generated, least=1)
    real_labels = checked_labels(reference_labels, classes, len(real), "the reference labels")
    fake_labels = checked_labels(groups, classes, len(fake), "the classes of the generated images")
    pairs = [_manifold(real[real_labels == label], fake[fake_labels == label]) for label in range(classes)]
    return {PRECISION: [precision for precision, _ in pairs], COVERAGE: [coverage for _, coverage in pairs]}


def _manifold(real: NDArray[Any], fake: NDArray[Any]) -> tuple[Score | None, Score | None]:
    """Precision and coverage of one class; None where it has too few images."""
    if len(real) <= K_COVERAGE:
        return None, None
    if len(fake) > K_COVERAGE:
        both = manifold.manifold_scores(real, fake, k_precision=K_PRECISION, k_density=K_COVERAGE)
        return both["precision"], both["coverage"]
    if not len(fake):
        return None, functional.share_score(0, len(real))
    radii = nearest(real, real, K_COVERAGE, exclude_self=True).distances[:, -1]
    return None, functional.share_score(int((nearest(real, fake).distances[:, 0] <= radii).sum()), len(real))


@dataclass(frozen=True)
class Disparity:
    """How unequal the values of the classes are; equal ones have index and gap 0 and ratio 1."""

    index: float
    uncertainty: float | None
    """One standard error of the index over images, by the delta method."""
    by_chance: float
    """The index that equal classes would show, by the counts of images alone."""
    gap: float
    ratio: float
    mean: float
    worst: int
    best: int
    left_out: tuple[int, ...]
    """Classes without a value."""


def disparity(values: Sequence[float | None], errors: Sequence[float | None]) -> Disparity | None:
    """The inequality of values s_k >= 0 of the classes; None unless two classes have one.

    index: the coefficient of variation sqrt(1/K Σ (s_k / m - 1)²) with the mean m, which is sqrt(2 GE(2)) of the
    generalised entropy that Speicher et al. 2018 (section 2) take for unfairness between groups; 0 if all are equal,
    at most sqrt(K - 1). gap: max - min. ratio: min / max (disparate impact, Feldman et al. 2015, definition 1.1). All
    of these miss a generator that is equally bad at every class: read them beside the mean. `errors` are the values'
    standard errors, taken as independent.
    """
    pairs = [(value, error or 0.0) for value, error in zip(values, errors, strict=True) if value is not None]
    if len(pairs) < 2:
        return None
    places = [k for k, value in enumerate(values) if value is not None]
    known, error = np.array(pairs).T
    count, mean = len(known), float(known.mean())
    worst, best = int(known.argmin()), int(known.argmax())
    high, low = float(known[best]), float(known[worst])
    index = by_chance = 0.0
    uncertainty = None
    if high > low:
        relative = known / mean
        index = float(np.sqrt(np.mean((relative - 1) ** 2)))
        slopes = (relative - 1 - index**2) / (count * index * mean)
        uncertainty = float(np.sqrt(np.sum((slopes * error) ** 2)))
    if mean:
        by_chance = math.sqrt((count - 1) / count * float(np.mean(error**2))) / mean
    ratio = low / high if high else 1.0
    left_out = tuple(k for k, value in enumerate(values) if value is None)
    return Disparity(index, uncertainty, by_chance, high - low, ratio, mean, places[worst], places[best], left_out)


def of_frequencies(shares: Sequence[float], due: Sequence[float], count: int) -> Disparity | None:
    """The disparity of the frequency of each class over its due share: equal if all classes come as often as is due.

    Representational fairness of Kenfack et al. 2022 (equal shares for all groups) where the due shares are equal.
    Shares of `count` images have the errors sqrt(share / count) of independent counts: the index does not depend on
    their sum. A class to which nothing is due is left out.
    """
    ratios = [share / part if part else None for share, part in zip(shares, due, strict=True)]
    errors = [math.sqrt(share / count) / part if part else None for share, part in zip(shares, due, strict=True)]
    return disparity(ratios, errors)


# --- memory


def copies(generated_to_train: ArrayLike, unseen_to_train: ArrayLike) -> dict[str, Any]:
    """The number of near-duplicates of training images among generated images, beside that among unseen real ones.

    One is as near to a training image as only 1 % of the unseen real images are (`memorisation.duplicates`).
    `expected` is the count that as many real images would give, `uncertainty` the standard deviation of `near` about
    it, which the finite counts of both kinds leave. The verdict is Fisher's exact test in each direction at 1 %.
    """
    fake = checked_vector(generated_to_train, memorisation.GENERATED)
    real = checked_vector(unseen_to_train, memorisation.HELD_OUT)
    near = memorisation.duplicates(fake, real).details
    real_near = int((real <= near["threshold"]).sum())
    share = real_near / len(real)
    more, fewer = tails(near["near"], len(fake), near["near"] + real_near, len(fake) + len(real))
    return {
        "near": near["near"],
        "exact": near["exact"],
        "generated": len(fake),
        "real_near": real_near,
        "real_exact": int((real == 0).sum()),
        "real": len(real),
        "expected": near["expected_near"],
        "uncertainty": math.sqrt(len(fake) * share * (1 - share) * (1 + len(fake) / len(real))),
        "threshold": near["threshold"],
        "percentile": near["percentile"],
        "chance_of_so_many": more,
        "chance_of_so_few": fewer,
        "verdict": MORE if more < LEVEL else FEWER if fewer < LEVEL else ALIKE,
    }


def tails(hits: int, draws: int, marked: int, total: int) -> tuple[float, float]:
    """The chances of at least and at most so many hits in draws without replacement from `total`, some of them marked.

    The counts of two samples that are drawn alike follow this hypergeometric distribution (Fisher 1935).
    """
    from scipy.stats import hypergeom

    drawn = hypergeom(total, marked, draws)
    return float(drawn.sf(hits - 1)), float(drawn.cdf(hits))


@dataclass(frozen=True)
class Nearness:
    """The nearest training image of every generated image, and the unseen real images that are nearest to theirs."""

    generated: NearestNeighbours
    unseen_distances: Vector
    closest_unseen: Labels
    """Rows of the unseen images, closest first."""
    their_nearest: Labels
    """Rows of the training images."""


def nearness(
    generated: NDArray[Any],
    unseen: NDArray[Any],
    train: NDArray[Any],
    unseen_distances: Vector,
    search: Callable[..., NearestNeighbours] = nearest,
) -> Nearness:
    """The nearest training rows of generated and unseen ones; `unseen_distances` [M] are those of unseen rows."""
    closest = np.argsort(unseen_distances, kind="stable")[:PAIRS]
    return Nearness(search(generated, train), unseen_distances, closest, search(unseen[closest], train).indices[:, 0])


def unseen_feature_distances(
    train: Images, train_vectors: NDArray[Any], unseen: Images, unseen_vectors: NDArray[Any], judge: Extractor
) -> Vector:
    """Distances [N] of unseen real images to their nearest training image in the judge's features; kept on disk."""
    key = {"judge": judge.fingerprint, "train": content_digest(train), "unseen": content_digest(unseen)}
    return cache.cached_array(key, lambda: nearest(unseen_vectors, train_vectors).distances[:, 0])


def _spaces(images: Images, made: Features, memory: Memory, judge: Extractor) -> dict[str, Nearness]:
    """Pixels and the judge's features, in which nearness to the training images is measured."""
    unseen, train = memory.unseen_features.vectors, memory.train_features.vectors
    distances = unseen_feature_distances(memory.train, train, memory.unseen, unseen, judge)
    ours, theirs, learned = (suite.flat(one, judge.shape) for one in (images, memory.unseen, memory.train))
    return {
        "pixels": nearness(ours, theirs, learned, memory.unseen_pixel_distances, nearest_pixels),
        "features": nearness(made.vectors, unseen, train, distances),
    }


# --- both


@dataclass(frozen=True)
class Audit:
    """The numbers of an audit as JSON values, and what its picture is drawn from."""

    numbers: dict[str, Any]
    """For a record's key `audit`."""
    made: Features
    """Of the audited images, by the judge."""
    spaces: Mapping[str, Nearness]
    """Nearness to training images in pixels and in features; empty where there is no memory."""


def audit(images: Images, reference: Reference, real: Images, unseen: int, picture: str, log: Log) -> Audit:
    """The audit of these images, which names its picture.

    `images` have labels in the reference's numbering, or none. `real` are images that are not in the reference, of
    which the first `unseen` are new to the judge, too: the real baselines of agreement and frequency come from these.
    """
    check(reference)
    log("audit: classes")
    made = features.extract(reference.judge, images)
    held = features.extract(reference.judge, real, cached=True)
    missing: dict[str, str] = {}
    if not unseen:
        missing |= dict.fromkeys((FREQUENCY, AGREEMENT), f"no real baseline: {ALL_KNOWN}")
    if images.labels is None:
        missing[AGREEMENT] = "the images come without labels"
    spaces: dict[str, Nearness] = {}
    if reference.memory is None:
        missing["memory"] = reference.no_memory
    else:
        log("audit: nearest training images")
        spaces = _spaces(images, made, reference.memory, reference.judge)
    numbers = {
        "protocol": _protocol(reference, real, unseen, images.labels is not None),
        "classes": list(reference.images.class_names),
        **_by_class(images, made, reference, real, held, unseen),
        "memory": {space: copies(near.generated.distances, near.unseen_distances) for space, near in spaces.items()},
        "not_measured": missing,
        "picture": picture,
    }
    return Audit(numbers, made, spaces)


def _by_class(
    images: Images, made: Features, reference: Reference, others: Images, held: Features, unseen: int
) -> dict[str, Any]:
    """Images per class, and per score the values and disparity of these and of real images."""
    classes, asked = reference.classes, images.labels is not None
    real, real_labels = reference.features[reference.judge.name].vectors, reference.images.labels
    assert real_labels is not None and others.labels is not None  # see `check`; all parts of a data set are labelled
    predicted, held_predicted, new = verdicts(made), verdicts(held), others.labels[:unseen]
    groups = predicted if images.labels is None else images.labels
    held_groups = others.labels if asked else held_predicted
    scores = verdict_scores(predicted, images.labels, classes)
    scores |= manifold_by_class(real, real_labels, made.vectors, groups, classes=classes)
    of_real = verdict_scores(held_predicted[:unseen], new if asked else None, classes)
    of_real |= manifold_by_class(real, real_labels, held.vectors, held_groups, classes=classes)
    due, new_due = _shares(real_labels if images.labels is None else images.labels, classes), _shares(new, classes)
    rows: dict[str, Any] = {}
    unequal: dict[str, Any] = {}
    for key in (key for key in NAMES if key in scores):
        rows[key] = {
            "values": _values(scores[key]),
            "uncertainties": _errors(scores[key]),
            "real": _values(of_real[key]),
        }
        one, other = _disparity(key, scores[key], due, len(images)), _disparity(key, of_real[key], new_due, unseen)
        unequal[key] = one and {**asdict(one), "real": other and other.index}
    seen = rows[FREQUENCY]["real"]  # of real images in other shares: what is seen of each class, at the shares due
    rows[FREQUENCY]["real"] = [f * d / n if n else None for f, d, n in zip(seen, due, new_due, strict=True)]
    rows[FREQUENCY]["due"] = due
    return {"images": np.bincount(groups, minlength=classes).tolist(), "scores": rows, "disparity": unequal}


def _shares(labels: Labels, classes: int) -> list[float]:
    return [float(share) for share in np.bincount(labels, minlength=classes) / max(1, len(labels))]


def _values(row: Sequence[Score | None]) -> list[float | None]:
    return [None if score is None else score.value for score in row]


def _errors(row: Sequence[Score | None]) -> list[float | None]:
    return [None if score is None else score.uncertainty for score in row]


def _disparity(key: str, row: Sequence[Score | None], due: Sequence[float], count: int) -> Disparity | None:
    if key == FREQUENCY:
        return of_frequencies([value or 0.0 for value in _values(row)], due, count)
    return disparity(_values(row), _errors(row))


def _protocol(reference: Reference, real: Images, unseen: int, asked: bool) -> dict[str, Any]:
    """How the audit was made; two audits stand side by side if they agree in this."""
    return {
        "groups": ASKED_FOR if asked else SEEN,
        "due": "shares asked for" if asked else "shares of the reference",
        "judge": reference.judge.name,
        "k_precision": K_PRECISION,
        "k_coverage": K_COVERAGE,
        "disparity": "coefficient of variation over classes",
        "real": real.name,
        "real_count": len(real),
        "real_count_new_to_the_judge": unseen,
        "near_copies": f"nearest training image within percentile {memorisation.NEAR_PERCENTILE:g} of unseen real ones",
        "verdict": f"Fisher's exact test at {LEVEL}",
    }
