"""The default suite: every score of a set of images against real ones, under its name.

`measure` treats all images alike: generated ones, real ones (the real baseline), noise and the mean image (the trivial
baseline).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste import cache, environment
from modiste.data.classes import class_counts, label_of
from modiste.data.images import Images, content_digest
from modiste.errors import ModisteError
from modiste.metrics import features, functional, manifold, memorisation
from modiste.metrics.features import Extractor, Features
from modiste.metrics.functional import Moments, Score
from modiste.metrics.memorisation import Cells
from modiste.metrics.metric_names import MEANINGS, MetricName
from modiste.metrics.nearest_neighbours import nearest, nearest_pixels
from modiste.networks.layers import ImageShape

Log = Callable[[str], None]
Jobs = Iterator[tuple[tuple[MetricName, ...], Callable[[], Sequence[Score]]]]
"""Names of scores and the function that computes these together; every job may have a thread of its own."""
Group = Callable[[Images, Mapping[str, Features], "Reference"], Jobs]

EDITION = 2
"""Raised when a score is added, or computed otherwise under the same name: baselines on disk are then made anew."""


@dataclass(frozen=True)
class Memory:
    """What memorisation is measured with: the training images, and unseen real images to compare with."""

    train: Images
    train_features: Features
    unseen: Images
    unseen_features: Features
    unseen_pixel_distances: NDArray[np.float64]
    """Of each unseen image to its nearest training image; in float32, as it ships for published sets."""
    cells: Cells
    """Of the training images' features, for the test of data copying."""


@dataclass(frozen=True)
class Reference:
    """Real images of one part of a data set as every extractor sees them; the first extractor is the judge."""

    part: str
    images: Images
    extractors: tuple[Extractor, ...]
    features: Mapping[str, Features]
    """Of the judge, and where the kernel distance is measured, too; for the others `moments` are enough."""
    moments: Mapping[str, Moments]
    """Of the features of every extractor."""
    memory: Memory | None
    count: int
    """Of the images to be measured, for the names of scores; those of the baselines have the same names."""
    seed: int = 0
    no_memory: str = ""
    """Why there is none."""

    @property
    def judge(self) -> Extractor:
        return self.extractors[0]

    @property
    def classes(self) -> int:
        logits = self.features[self.judge.name].logits
        return 0 if logits is None else logits.shape[1]


def make_reference(
    images: Images,
    part: str,
    extractors: Sequence[Extractor],
    *,
    train: Images | None = None,
    unseen: Images | None = None,
    no_memory: str = "",
    count: int,
    seed: int = 0,
) -> Reference:
    """The reference with features and distances from the cache, or computed once."""
    seen = {
        extractor.name: features.extract(extractor, images, cached=True)
        for extractor in extractors
        if extractor is extractors[0] or extractor.kernel
    }
    moments = {
        extractor.name: functional.moments(seen[extractor.name].vectors, f"the features of {images.name}")
        if extractor.name in seen
        else features.moments(extractor, images)
        for extractor in extractors
    }
    memory = None
    if train is not None and unseen is not None:
        memory = make_memory(train, unseen, extractors[0], seed)
    return Reference(part, images, tuple(extractors), seen, moments, memory, count, seed, no_memory)


def make_memory(train: Images, unseen: Images, judge: Extractor, seed: int = 0) -> Memory:
    """Training and unseen images with the distances that those of measured images are compared with."""
    learned = features.extract(judge, train, cached=True)
    of_unseen = features.extract(judge, unseen, cached=True)
    key = {
        "cells": EDITION,
        "train": content_digest(train),
        "unseen": content_digest(unseen),
        "judge": judge.fingerprint,
        "seed": seed,
    }
    cells = cache.cached_arrays(
        key, lambda: vars(memorisation.training_cells(of_unseen.vectors, learned.vectors, seed=seed))
    )
    unseen_distances = unseen_to_train(train, unseen, judge.shape)
    return Memory(train, learned, unseen, of_unseen, unseen_distances, Cells(**cells))


def own_distances(memory: Memory, judge: Extractor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances [M] of training images to their nearest other one in the judge's features; 0 but for those of `rows`.

    Those that were asked for before are on disk.
    """
    key = {"nearest to": content_digest(memory.train), "judge": judge.fingerprint}
    vectors = memory.train_features.vectors
    known = np.full(len(vectors), np.nan)
    with suppress(*cache.UNREADABLE):
        known = cache.read_arrays(key)["distances"]
    wanted = np.unique(rows)
    if len(new := wanted[np.isnan(known[wanted])]):
        known[new] = nearest(vectors[new], vectors, 2).distances[:, 1]  # the first is the image itself, or its copy
        cache.write_arrays(key, {"distances": known})
    found = np.zeros(len(known))
    found[wanted] = known[wanted]
    return found


def unseen_to_train(train: Images, unseen: Images, shape: ImageShape) -> NDArray[np.float64]:
    """Distances [N] of unseen real images to their nearest training image, in pixels of that shape; kept on disk."""
    key = {
        "train": content_digest(train),
        "size": shape.size,
        "channels": shape.channels,
        "unseen": content_digest(unseen),
    }
    return cache.cached_array(
        key, lambda: nearest_pixels(flat(unseen, shape), flat(train, shape)).distances[:, 0].astype(np.float32)
    )


def flat(images: Images, shape: ImageShape) -> NDArray[np.uint8]:
    """Pixels as rows, brought to that shape; `nearest_pixels` compares them."""
    return features.fit_pixels(images.pixels, shape).reshape(len(images), -1)


@dataclass(frozen=True)
class Measured:
    """Scores by name, and a reason for each one that these images do not allow."""

    scores: dict[MetricName, Score]
    missing: dict[MetricName, str]


def measure(candidate: Images, reference: Reference, *, only: str = "", log: Log = lambda _: None) -> Measured:
    """Every score of the suite on these images, or those of one group."""
    extracted: dict[str, Features] = {}
    for extractor in reference.extractors:
        if not only or extractor is reference.judge:
            log(f"features: {extractor.name}")
            extracted[extractor.name] = features.extract(extractor, candidate)
    groups = [list(group(candidate, extracted, reference)) for group in ([GROUPS[only]] if only else GROUPS.values())]

    def compute(job: tuple[tuple[MetricName, ...], Callable[[], Sequence[Score]]]) -> Measured:
        names, scores = job
        log(", ".join(map(str, names)))
        try:
            return Measured(dict(zip(names, scores(), strict=True)), {})
        except ModisteError as error:
            return Measured({}, dict.fromkeys(names, str(error)))

    jobs = sorted((job for group in groups for job in group), key=lambda job: job[0][0].kind not in LONGEST)
    found = environment.in_parallel(compute, jobs)
    kinds = list(MEANINGS)
    order = [
        name
        for group in groups
        for name in sorted((name for names, _ in group for name in names), key=lambda name: kinds.index(name.kind))
    ]
    scores = {name: score for one in found for name, score in one.scores.items()}
    missing = {name: reason for one in found for name, reason in one.missing.items()}
    return Measured(
        {name: scores[name] for name in order if name in scores},
        {name: missing[name] for name in order if name in missing},
    )


def by_quota(candidate: Images, reference: Reference) -> NDArray[np.int64] | None:
    """The labels, if every class has exactly an equal share of the images or its share of the reference; else None.

    Such shares do not come about by chance: the images were made or chosen class by class (`standard_errors`).
    """
    labels, classes = candidate.labels, len(reference.images.class_names)
    if labels is None or reference.images.labels is None or not classes:
        return None
    counts = np.bincount(labels, minlength=classes)
    real = np.bincount(reference.images.labels, minlength=classes) / len(reference.images)
    for shares in (np.full(classes, 1 / classes), real):
        if len(counts) == classes and (np.abs(counts - shares * len(labels)) <= 1).all():
            return labels
    return None


def judge_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Jobs:
    """The distributions of the judge's features against each other."""
    judge, seed, strata = reference.judge.name, reference.seed, by_quota(candidate, reference)
    real, made, logits = reference.features[judge].vectors, seen[judge].vectors, seen[judge].logits
    moments = reference.moments[judge]
    name = partial(MetricName, extractor=judge, count=reference.count, part=reference.part)
    yield (name("frechet"),), lambda: [functional.frechet_score(moments, made, strata=strata)]
    yield (name("frechet_infinite", count=None),), lambda: [functional.frechet_infinite(moments, made, seed=seed)]
    yield (name("kernel"),), lambda: [functional.kernel_distance(real, made, seed=seed, strata=strata)]
    if logits is not None:
        yield (name("inception_style", part=""),), lambda: [functional.inception_style(logits, seed=seed)]
    four = tuple(map(name, ("precision_k3", "recall_k3", "density_k5", "coverage_k5")))
    yield four, lambda: list(manifold.manifold_scores(real, made, strata=strata).values())
    yield (name("two_sample_1nn", count=None),), lambda: [manifold.two_sample_1nn(real, made, seed=seed)]


def class_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Jobs:
    """Scores of classes by the judge's verdicts; images without labels count as what the judge sees in them."""
    judge, classes = reference.judge.name, reference.classes
    real, made = reference.features[judge].vectors, seen[judge]
    real_labels, asked = reference.images.labels, candidate.labels
    if made.logits is None or real_labels is None:
        return
    predicted = made.logits.argmax(1)
    labels = predicted if asked is None else asked
    name = partial(MetricName, extractor=judge, count=reference.count)
    yield (
        (name("class_frechet", part=reference.part),),
        lambda: [functional.class_frechet(real, real_labels, made.vectors, labels, classes=classes)],
    )
    if asked is not None:
        yield (name("label_agreement"),), lambda: [functional.label_agreement(predicted, asked, classes)]
    yield (name("class_balance_tv"),), lambda: [_balance(predicted, candidate, reference, real_labels)]


def _balance(predicted: NDArray[np.int64], candidate: Images, reference: Reference, labels: NDArray[np.int64]) -> Score:
    """Class balance against the shares of the reference's labels; the details have how often the judge sees each."""
    wanted = np.array(class_counts(labels, reference.classes)) / len(labels)
    score = functional.class_balance(predicted, reference.classes, wanted, by_quota(candidate, reference))
    logits = reference.features[reference.judge.name].logits
    assert logits is not None  # the judge's, which has classes
    seen = np.bincount(logits.argmax(1), minlength=reference.classes) / len(labels)
    return replace(score, details={**score.details, "reference_frequencies": seen.tolist()})


def second_opinions(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Jobs:
    """The Fréchet distance in the features of every other extractor; Inception's other scores, too."""
    for extractor in reference.extractors[1:]:
        name = partial(MetricName, extractor=extractor.name, count=reference.count, part=reference.part)
        yield from _opinion(extractor, seen[extractor.name], reference, name, by_quota(candidate, reference))


def _opinion(
    extractor: Extractor,
    made: Features,
    reference: Reference,
    name: Callable[..., MetricName],
    strata: NDArray[np.int64] | None,
) -> Jobs:
    moments, vectors, logits = reference.moments[extractor.name], made.vectors, made.logits
    yield (name("frechet"),), lambda: [functional.frechet_score(moments, vectors, strata=strata)]
    if extractor.kernel:
        real = reference.features[extractor.name].vectors
        yield (
            (name("kernel"),),
            lambda: [functional.kernel_distance(real, vectors, seed=reference.seed, strata=strata)],
        )
        if logits is not None:
            yield (
                (name("inception_style", part=""),),
                lambda: [functional.inception_style(logits, seed=reference.seed)],
            )


def memorisation_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Jobs:
    """Whether the images are nearer to the training images than unseen real images are."""
    memory, judge = reference.memory, reference.judge
    if memory is None:
        return
    made, learned = seen[judge.name].vectors, memory.train_features.vectors
    name = partial(MetricName, count=reference.count)

    def of_pixels() -> Iterator[Score]:
        rows = flat(candidate, judge.shape), flat(memory.train, judge.shape)
        unseen = memory.unseen_pixel_distances
        distances = nearest_pixels(*rows).distances[:, 0].astype(unseen.dtype)  # so that ties remain ties
        yield memorisation.nearest_ratio(distances, unseen, seed=reference.seed)
        yield memorisation.duplicates(distances, unseen)

    def authenticity() -> Score:
        found = nearest(made, learned)
        return memorisation.authenticity(found, own_distances(memory, judge, found.indices[:, 0]))

    yield (name("nearest_ratio_pixels"), name("near_duplicates_pixels")), lambda: list(of_pixels())
    yield (name("authenticity", judge.name),), lambda: [authenticity()]
    yield (name("data_copying", judge.name),), lambda: [memorisation.data_copying(made, learned, memory.cells)]


LONGEST = frozenset(("nearest_ratio_pixels", "authenticity", "data_copying", "precision_k3", "kernel"))
"""What takes a second or more is begun first, so that all cores have work to the end."""
GROUPS: dict[str, Group] = {
    "judge_scores": judge_scores,
    "class_scores": class_scores,
    "second_opinions": second_opinions,
    "memorisation_scores": memorisation_scores,
}
"""By the names under which their scores are kept on disk."""


def trivial(kind: str, count: int, like: Images, mean_of: Images, seed: int) -> Images:
    """Images of a generator that learned nothing: `noise`, uniform in every pixel, or always the mean training image.

    Labels come as often as those of the real images, where these have any.
    """
    shape = (count, *like.pixels.shape[1:])
    if kind == "noise":
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x0153])))
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
    else:
        mean = np.round(mean_of.pixels.mean(0, dtype=np.float64)).astype(np.uint8)
        pixels = np.broadcast_to(mean, shape).copy()
    counts = None if like.labels is None else class_counts(like.labels, len(like.class_names))
    labels = None if counts is None else label_of(range(count), counts)
    return Images(pixels, labels, like.class_names, kind)


def as_plain(measured: Measured) -> dict[str, Any]:
    """A measurement as JSON values; `from_plain` is the inverse."""
    scores = {str(name): asdict(score) for name, score in measured.scores.items()}
    return {"scores": scores, "missing": {str(name): reason for name, reason in measured.missing.items()}}


def from_plain(tree: Mapping[str, Any]) -> Measured:
    """The measurement that `as_plain` wrote."""
    return Measured(
        {MetricName.parse(name): Score(**score) for name, score in tree["scores"].items()},
        {MetricName.parse(name): reason for name, reason in tree["missing"].items()},
    )
