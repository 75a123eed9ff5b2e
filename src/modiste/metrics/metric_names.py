"""Names of scores, their parts, and what each kind of score means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modiste.errors import ModisteError
from modiste.metrics.transforms import Scale

Better = Literal["lower", "higher", "near"]


@dataclass(frozen=True)
class Meaning:
    """Which values of a kind of score are better, and what it says."""

    better: Better
    """`near`: the nearer to the real baseline the better."""
    words: str
    scale: Scale = "plain"
    """On which it is averaged and compared over training seeds: `log` for distances above 0, `share` in [0, 1]."""
    in_features: bool = True
    """Whether it is measured in the features of an extractor, which its names then have."""


MEANINGS: dict[str, Meaning] = {
    "frechet": Meaning("lower", "distance between real and generated features; above 0 for real images, too", "log"),
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
    "nearest_ratio_pixels": Meaning(
        "near", "distance to training images over unseen real ones'; low = copies", "log", in_features=False),
    "authenticity": Meaning("near", "share of images no closer to training images than those to each other", "share"),
    "data_copying": Meaning("near", "far below 0 = closer to training images than unseen real ones are"),
    "near_duplicates_pixels": Meaning(
        "near", "share nearer to a training image than 99 % of unseen real images are", "share", in_features=False),
    "discriminator_accuracy_real": Meaning(
        "near", "the run's discriminator on unseen real images; 0.5 = fooled", "share", in_features=False),
    "discriminator_accuracy_fake": Meaning(
        "near", "the run's discriminator on generated images; 0.5 = fooled", "share", in_features=False),
    "reconstruction_error": Meaning(
        "lower", "how far the best it can make of unseen real images is off, of 255; real: the nearest training image",
        "log", in_features=False),
    "classifier_accuracy": Meaning(
        "higher", "a classifier trained on generated images, tested on real ones", "share", in_features=False),
}  # fmt: skip
"""By kind of score, in the order of tables."""

OF_ONNX = "onnx-"
"""How the names of extractors begin that are ONNX models of the user's own."""
WITHOUT_JUDGE = {"random": "a network with random weights", "patches": "patches learned from the data set"}
"""What takes the place of a judge, by the names of extractors."""
DISCRIMINATOR = ("discriminator_accuracy_real", "discriminator_accuracy_fake")
MEMORISATION = ("nearest_ratio_pixels", "authenticity", "data_copying", "near_duplicates_pixels")
JUDGED_CLASSES = ("inception_style", "class_frechet", "label_agreement", "class_balance_tv")
"""Kinds of scores that need a judge which knows classes."""


@dataclass(frozen=True)
class MetricName:
    """A score's name: KIND[_EXTRACTOR][_COUNT][_PART], as `frechet_garment_10k_test`."""

    kind: str
    """The score, as in MEANINGS."""
    extractor: str = ""
    """In whose features; empty for scores of pixels and of the run's own discriminator."""
    count: int | None = None
    """How many images were measured, where the name has it."""
    part: str = ""
    """Of the real images: test, heldout or train; empty where the name does not have it."""

    def __str__(self) -> str:
        """10,000 images are written as `10k`, 1,234 as `1234`."""
        count = "" if self.count is None else str(self.count)
        if self.count and self.count % 1000 == 0:
            count = f"{self.count // 1000}k"
        return "_".join(filter(None, (self.kind, self.extractor, count, self.part)))

    @classmethod
    def parse(cls, text: str) -> MetricName:
        """The parts of a name from a file or a user; ModisteError for an unknown kind."""
        if not (found := _NAME.fullmatch(text)):
            raise ModisteError(f"no score is named {text!r}; its kinds are {', '.join(MEANINGS)}")
        count = int(found["count"].replace("k", "000")) if found["count"] else None
        return cls(found["kind"] or found["bare"], found["extractor"] or "", count, found["part"] or "")

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.kind]


def _pattern() -> re.Pattern[str]:
    longest_first = sorted(MEANINGS, key=len, reverse=True)
    kinds = "|".join(kind for kind in longest_first if MEANINGS[kind].in_features)
    bare = "|".join(kind for kind in longest_first if not MEANINGS[kind].in_features)
    of_features = rf"(?P<kind>{kinds})(?:_(?P<extractor>[^_]+))?"
    return re.compile(rf"(?:{of_features}|(?P<bare>{bare}))(?:_(?P<count>\d+k?))?(?:_(?P<part>test|heldout|train))?")


_NAME = _pattern()


def whose(extractor: str) -> str:
    """Whose features these are: `the judge garment`, `a network with random weights`."""
    return WITHOUT_JUDGE.get(extractor, f"the judge {extractor}")


def of_kind(names: Iterable[str], kind: str) -> str | None:
    """The first name of a score of that kind, which is the judge's; None if there is none."""
    return next((name for name in names if MetricName.parse(name).kind == kind), None)


def heldout_score(keys: Iterable[str]) -> str | None:
    """The key of the held-out score among those of a line of a run's log; None if there is none."""
    return next((key for key in keys if (found := _NAME.fullmatch(key)) and found["part"] == "heldout"), None)
