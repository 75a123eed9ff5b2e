"""The default suite: what is measured on a set of images against real ones, under which name, and what it means.

One function measures every candidate alike, so that floor (real images), ceiling (noise and the mean image) and the
generated images differ in the images only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste import cache
from modiste.data.images import Images, content_digest
from modiste.data.proportions import class_counts, label_of
from modiste.errors import ModisteError
from modiste.metrics import features, functional, memorisation
from modiste.metrics.features import Extractor, Features
from modiste.metrics.functional import Score
from modiste.metrics.nearest_neighbours import nearest
from modiste.metrics.transforms import Scale
from modiste.networks.build import Shape

Say = Callable[[str], None]
Named = Iterator[tuple[str, Callable[[], Score]]]
Group = Callable[[Images, Mapping[str, Features], "Reference"], Named]


EDITION = 2
"""Raised when a score of the same name is computed in another way, so that values kept on disk are not taken for it."""


@dataclass(frozen=True)
class Meaning:
    """Which way is better and what the score says, in words. `near`: the nearer to the floor the better."""

    better: str
    words: str
    scale: Scale = "plain"
    """On which it is averaged and compared over training seeds: `log` for distances above 0, `share` in [0, 1]."""


MEANINGS: dict[str, Meaning] = {
    "frechet": Meaning("lower", "distance between real and generated features; real images get the floor", "log"),
    "frechet_infinite": Meaning("lower", "the same, extrapolated to endlessly many generated images"),
    "kernel": Meaning("lower", "squared kernel distance, unbiased; 0 = same distribution"),
    "inception_style": Meaning("higher", "sure of each image and varied over all; blind inside a class"),
    "precision_k3": Meaning("higher", "share of generated images that look real", "share"),
    "recall_k3": Meaning("higher", "share of real images that the generator could make", "share"),
    "density_k5": Meaning("higher", "how crowded real neighbourhoods are with generated images; can exceed 1"),
    "coverage_k5": Meaning(
        "higher", "share of real images with a generated one nearby; falls when modes are missing", "share"),
    "class_frechet": Meaning("lower", "mean Fréchet distance within classes, 32 dimensions", "log"),
    "label_agreement": Meaning("higher", "the judge sees the class that was asked for", "share"),
    "class_balance_tv": Meaning("lower", "classes too often or too seldom; 0 = as often as in the reference", "share"),
    "two_sample_1nn": Meaning("near", "can a neighbour tell real from generated? 0.5 = no", "share"),
    "nearest_ratio_pixels": Meaning("near", "distance to training images over unseen real ones'; low = copies", "log"),
    "authenticity": Meaning("near", "share of images no closer to training images than those to each other", "share"),
    "data_copying": Meaning("near", "far below 0 = closer to training images than unseen real ones are"),
    "near_duplicates_pixels": Meaning(
        "near", "share nearer to a training image than 99 % of unseen real images are", "share"),
    "discriminator_accuracy_real": Meaning(
        "near", "the run's discriminator on unseen real images; 0.5 = fooled", "share"),
    "discriminator_accuracy_fake": Meaning(
        "near", "the run's discriminator on generated images; 0.5 = fooled", "share"),
    "classifier_accuracy": Meaning("higher", "a classifier trained on generated images, tested on real ones", "share"),
}  # fmt: skip


def metric_kind(name: str) -> str:
    """The score's kind, as `frechet` of `frechet_garment_10k_test`: the longest known beginning."""
    return max((known for known in MEANINGS if name == known or name.startswith(f"{known}_")), key=len)


@dataclass(frozen=True)
class MetricName:
    """A score's name in its parts, as `frechet_garment_10k_test`."""

    kind: str
    """The score, as in MEANINGS."""
    extractor: str = ""
    """In whose features; empty for scores of pixels and of the run's own discriminator."""
    count: int | None = None
    """How many images were measured, where the name says it."""
    part: str = ""
    """Of the real images: test or heldout; empty where the name does not say it."""


def parts(name: str) -> MetricName:
    """The parts of a score's name: KIND[_EXTRACTOR][_COUNT][_PART], COUNT as `features.count_word` writes it."""
    kind = metric_kind(name)
    rest = name.removeprefix(kind).strip("_").split("_") if name != kind else []
    part = rest.pop() if rest and rest[-1] in ("test", "heldout") else ""
    extractor = rest.pop(0) if rest and not kind.endswith("_pixels") else ""
    counted = re.fullmatch(r"(\d+)(k?)", rest[0]) if rest else None
    return MetricName(kind, extractor, int(counted[1]) * (1000 if counted[2] else 1) if counted else None, part)


@dataclass(frozen=True)
class Memory:
    """What memorisation is measured with: the training images, and unseen real images to compare with."""

    train: Images
    train_features: Features
    unseen: Images
    unseen_features: Features
    unseen_pixel_distances: NDArray[np.float64]
    """Of each unseen image to its nearest training image."""
    train_feature_distances: NDArray[np.float64]
    """Of each training image to its nearest other one."""


@dataclass(frozen=True)
class Reference:
    """Real images of one part of a data set as every extractor sees them; the first extractor is the judge."""

    part: str
    images: Images
    extractors: tuple[Extractor, ...]
    features: Mapping[str, Features]
    memory: Memory | None
    count: int
    """Of the images to be measured, for the names of scores; floor and ceiling go by the same names."""
    seed: int = 0
    no_memory: str = ""
    """Why there is none."""

    @property
    def count_word(self) -> str:
        return features.count_word(self.count)

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
    seen = {extractor.name: features.extract(extractor, images, cached=True) for extractor in extractors}
    memory = None
    if train is not None and unseen is not None:
        memory = make_memory(train, unseen, extractors[0])
    return Reference(part, images, tuple(extractors), seen, memory, count, seed, no_memory)


def make_memory(train: Images, unseen: Images, judge: Extractor) -> Memory:
    """Training images with the distances that every candidate's are compared with."""
    train_features = features.extract(judge, train, cached=True)
    unseen_features = features.extract(judge, unseen, cached=True)
    key = {"train": content_digest(train), "size": judge.shape.size}

    def train_to_train() -> NDArray[np.float64]:
        vectors = train_features.vectors
        return nearest(vectors, vectors, exclude_self=True).distances[:, 0]

    return Memory(
        train,
        train_features,
        unseen,
        unseen_features,
        unseen_to_train(train, unseen, judge.shape),
        cache.cached_array({**key, "judge": judge.fingerprint}, train_to_train),
    )


def unseen_to_train(train: Images, unseen: Images, shape: Shape) -> NDArray[np.float64]:
    """Distances [N] of unseen real images to their nearest training image, in pixels of that shape; kept on disk."""
    key = {
        "train": content_digest(train),
        "size": shape.size,
        "channels": shape.channels,
        "unseen": content_digest(unseen),
    }
    return cache.cached_array(key, lambda: nearest(flat(unseen, shape), flat(train, shape)).distances[:, 0])


def flat(images: Images, shape: Shape) -> NDArray[np.float32]:
    """Pixels as rows of brightness in [0, 1], brought to that shape."""
    pixels = features.fit_pixels(images.pixels, shape)
    return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Measured:
    """Scores by full name, and a reason for each one that these images do not allow."""

    scores: dict[str, Score]
    missing: dict[str, str]


def measure(
    candidate: Images, reference: Reference, *, only: Sequence[Group] = (), say: Say = lambda _: None
) -> Measured:
    """Every score of the suite on these images (or those of some groups)."""
    seen: dict[str, Features] = {}
    for extractor in reference.extractors:
        if not only or extractor is reference.judge:
            say(f"features: {extractor.name}")
            seen[extractor.name] = features.extract(extractor, candidate)
    found: dict[str, Score] = {}
    missing: dict[str, str] = {}
    for group in only or GROUPS:
        for name, score in group(candidate, seen, reference):
            say(name)
            try:
                found[name] = score()
            except ModisteError as error:
                missing[name] = str(error)
    return Measured(found, missing)


def by_quota(candidate: Images, reference: Reference) -> NDArray[np.int64] | None:
    """The labels of images that are in equal shares of the classes, or in the reference's, to the image; else None.

    Chance does not bring such shares about, so the images were made or chosen class by class (`standard_errors`).
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


def judge_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Named:
    """The two distributions of the judge's features against each other."""
    judge, seed, strata = reference.judge.name, reference.seed, by_quota(candidate, reference)
    real, made, logits = reference.features[judge].vectors, seen[judge].vectors, seen[judge].logits
    count, part = reference.count_word, reference.part
    yield f"frechet_{judge}_{count}_{part}", lambda: functional.frechet_score(real, made, strata=strata)
    yield (
        f"frechet_infinite_{judge}_{part}",
        lambda: functional.frechet_infinite(functional.moments(real), made, seed=seed),
    )
    yield f"kernel_{judge}_{count}_{part}", lambda: functional.kernel_distance(real, made, seed=seed, strata=strata)
    if logits is not None:
        yield f"inception_style_{judge}_{count}", lambda: functional.inception_style(logits)
    manifold = functools.cache(lambda: functional.manifold_scores(real, made, strata=strata))
    for key, neighbours in (("precision", 3), ("recall", 3), ("density", 5), ("coverage", 5)):
        yield f"{key}_k{neighbours}_{judge}_{count}_{part}", functools.partial(lambda key: manifold()[key], key)
    yield f"two_sample_1nn_{judge}_{part}", lambda: functional.two_sample_1nn(real, made, seed=seed)


def class_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Named:
    """What the judge's verdicts say about classes; images without labels are taken for what the judge sees in them."""
    judge = reference.judge.name
    real, made = reference.features[judge].vectors, seen[judge]
    real_labels, asked = reference.images.labels, candidate.labels
    if made.logits is None or real_labels is None:
        return
    predicted = made.logits.argmax(1)
    labels = predicted if asked is None else asked
    classes, count = reference.classes, reference.count_word
    yield (
        f"class_frechet_{judge}_{count}_{reference.part}",
        lambda: functional.class_frechet(real, real_labels, made.vectors, labels, classes=classes),
    )
    if asked is not None:
        yield f"label_agreement_{judge}_{count}", lambda: functional.label_agreement(predicted, asked, classes)
    yield f"class_balance_tv_{judge}_{count}", lambda: _balance(predicted, candidate, reference, real_labels)


def _balance(predicted: NDArray[np.int64], candidate: Images, reference: Reference, labels: NDArray[np.int64]) -> Score:
    """Class balance against the shares of the reference's labels; the details have how often the judge sees each."""
    wanted = np.array(class_counts(labels, reference.classes)) / len(labels)
    score = functional.class_balance(predicted, reference.classes, wanted, by_quota(candidate, reference))
    logits = reference.features[reference.judge.name].logits
    assert logits is not None  # the judge's, which has classes
    seen = np.bincount(logits.argmax(1), minlength=reference.classes) / len(labels)
    return replace(score, details={**score.details, "reference_frequencies": seen.tolist()})


def second_opinions(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Named:
    """The Fréchet distance in the features of every other extractor; Inception's other scores too."""
    count, part, seed = reference.count_word, reference.part, reference.seed
    strata = by_quota(candidate, reference)
    for extractor in reference.extractors[1:]:
        name = extractor.name
        real, made, logits = reference.features[name].vectors, seen[name].vectors, seen[name].logits
        yield f"frechet_{name}_{count}_{part}", functools.partial(functional.frechet_score, real, made, strata=strata)
        if name.startswith("inception"):
            yield (
                f"kernel_{name}_{count}_{part}",
                functools.partial(functional.kernel_distance, real, made, seed=seed, strata=strata),
            )
            if logits is not None:
                yield f"inception_style_{name}_{count}", functools.partial(functional.inception_style, logits)


def memorisation_scores(candidate: Images, seen: Mapping[str, Features], reference: Reference) -> Named:
    """Whether the images are nearer to the training images than unseen real images are."""
    memory, judge = reference.memory, reference.judge
    if memory is None:
        return
    made, count = seen[judge.name].vectors, reference.count_word
    learned, unseen = memory.train_features.vectors, memory.unseen_features.vectors
    pixels = functools.cache(
        lambda: nearest(flat(candidate, judge.shape), flat(memory.train, judge.shape)).distances[:, 0]
    )
    yield (
        f"nearest_ratio_pixels_{count}",
        lambda: memorisation.nearest_ratio(pixels(), memory.unseen_pixel_distances, seed=reference.seed),
    )
    yield (
        f"authenticity_{judge.name}_{count}",
        lambda: memorisation.authenticity(nearest(made, learned), memory.train_feature_distances),
    )
    yield (
        f"data_copying_{judge.name}_{count}",
        lambda: memorisation.data_copying(made, unseen, learned, seed=reference.seed),
    )
    yield f"near_duplicates_pixels_{count}", lambda: memorisation.duplicates(pixels(), memory.unseen_pixel_distances)


GROUPS: tuple[Group, ...] = (judge_scores, class_scores, second_opinions, memorisation_scores)


def trivial(kind: str, count: int, like: Images, mean_of: Images, seed: int) -> Images:
    """Images of a generator that learned nothing: `noise`, uniform in every pixel, or always the mean training image.

    Where the real images have labels, these come as often as there.
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
    return {"scores": {name: asdict(score) for name, score in measured.scores.items()}, "missing": measured.missing}


def from_plain(tree: Mapping[str, Any]) -> Measured:
    """The measurement that `as_plain` wrote."""
    return Measured({name: Score(**score) for name, score in tree["scores"].items()}, dict(tree["missing"]))
