"""The arms of an augmentation experiment: one small classifier, trained alike on real, augmented and synthetic images.

All arms of a budget and a seed share the images, the initial weights, the order of the real images and the number of
gradient steps, so that only the training images differ. Nothing is selected: the last weights count, in every arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LambdaLR

from modiste import environment
from modiste.data.images import Images
from modiste.data.subsets import batch_indices
from modiste.experiments.augmentation import subsets
from modiste.experiments.augmentation.subsets import Budget
from modiste.metrics import classifier_training
from modiste.networks.classifier import Classifier

BATCH = 64
WARM_SHARE = 0.1
FEWEST_STEPS, MOST_STEPS = 600, 4000

Kind = Literal[
    "real only",
    "real + classical",
    "real + classical + repeats",
    "real + synthetic",
    "real + both",
    "synthetic only",
    "linear on pixels",
    "linear on discriminator",
    "linear on judge",
]
REAL: Final = "real only"
CLASSICAL: Final = "real + classical"
REPEATS: Final = "real + classical + repeats"
MIXED: Final = "real + synthetic"
BOTH: Final = "real + both"
ALONE: Final = "synthetic only"

LinearFeatures = Literal["pixels", "discriminator", "judge"]
LINEAR: Final[Mapping[Kind, LinearFeatures]] = {
    "linear on pixels": "pixels",
    "linear on discriminator": "discriminator",
    "linear on judge": "judge",
}
"""The arms of a linear classifier on frozen features, see `linear`."""

Filter = Literal["none", "confidence", "distance"]


@dataclass(frozen=True)
class Arm:
    """What the classifier of an arm is trained on."""

    kind: Kind
    ratio: float | None = 0.0
    """The share of synthetic images in each batch; None: as many as fill the rare classes to balance."""
    filter: Filter = "none"
    variant: str = ""
    """What tells the arm from others of its kind: `, ratio 0.25, filter none`."""

    @property
    def name(self) -> str:
        """The kind and the variant, as in records and tables."""
        return self.kind + self.variant

    @property
    def augments(self) -> bool:
        """Whether images are shifted, partly erased and, where that is valid, mirrored; synthetic ones too."""
        return self.kind in (CLASSICAL, REPEATS, BOTH)

    @property
    def uses_synthetic(self) -> bool:
        """Whether synthetic images are among those it is trained on."""
        return self.kind in (MIXED, BOTH, ALONE)

    @property
    def is_linear(self) -> bool:
        """Whether its classifier is a linear one on frozen features, and not the small network of the other arms."""
        return self.kind in LINEAR


def arms_for(
    ratios: Sequence[float], filters: Sequence[Filter], rare: bool, features: Sequence[LinearFeatures] = ()
) -> list[Arm]:
    """All arms, the synthetic ones once per ratio and filter, and the linear ones on these features.

    With rare classes synthetic images fill these to balance, whatever the ratio.
    """
    arms = [Arm(REAL), Arm(CLASSICAL)]
    arms += [Arm(REPEATS)] if rare else []
    shares: Sequence[float | None] = [None] if rare else ratios
    for kind in filters:
        filtered = f", filter {kind}" if len(filters) > 1 else ""
        for ratio in shares:
            mixed = f", ratio {ratio:g}" if ratio is not None and len(shares) > 1 else ""
            arms += [Arm(MIXED, ratio, kind, mixed + filtered), Arm(BOTH, ratio, kind, mixed + filtered)]
        arms.append(Arm(ALONE, 1.0, kind, filtered))
    return arms + [Arm(kind) for kind, of in LINEAR.items() if of in features]


@dataclass(frozen=True)
class Conditions:
    """What all arms of one budget and seed share."""

    budget: Budget
    seed: int
    steps: int
    flip: bool
    """Whether a mirrored image keeps its label."""


@dataclass(frozen=True)
class ArmRow:
    """The result of one arm at one budget and seed."""

    budget: str
    seed: int
    arm: Arm
    steps: int
    real: int
    """Real images that it was trained on, repeated ones counted again."""
    synthetic: int
    ratio: float
    """The share of synthetic images in each batch."""
    accuracy: float
    per_class: dict[str, float | None]
    """Accuracy by class name; None without test images of the class."""
    confusion: list[list[int]]
    """Counts of test images; rows are true classes."""
    images: int
    """Labelled images of the budget."""
    tested: int
    """Test images."""
    rare: float | None = None
    """The mean accuracy of the rare classes; None where there are none."""

    def to_json(self) -> dict[str, Any]:
        """The row as plain values: a line of records.jsonl."""
        return {**vars(self), "arm": self.arm.name}

    @staticmethod
    def from_json(tree: Mapping[str, Any], arms: Mapping[str, Arm]) -> ArmRow:
        """The row that `to_json` wrote, with its arm by name."""
        return ArmRow(**{**tree, "arm": arms[tree["arm"]]})


def default_steps(images: int) -> int:
    """Gradient steps of every arm of a budget: 60 times the root of its images, from 600 to 4,000."""
    return min(MOST_STEPS, max(FEWEST_STEPS, round(60 * math.sqrt(images))))


def learn(real: Images, synthetic: Images | None, arm: Arm, conditions: Conditions) -> Classifier:
    """The classifier of an arm after so many steps on batches of 64, in eval mode.

    The learning rate rises to 0.1 over a tenth of the steps and falls to zero along a cosine.
    """
    steps, seed = conditions.steps, conditions.seed

    def tensors() -> Iterator[classifier_training.Batch]:
        for step, batch in enumerate(batches(training_set(real, synthetic, arm), steps=steps, seed=seed)):
            if arm.augments:
                yield from classifier_training.augmented_batches(batch, BATCH, seed, step, conditions.flip)
            else:
                assert batch.labels is not None
                yield torch.from_numpy(batch.pixels), torch.from_numpy(batch.labels)

    return classifier_training.run_training(
        classifier_training.new_classifier("small", real, environment.seed_for(seed, "classifier")),
        [tensors()],
        lambda optimizer: LambdaLR(optimizer, lambda step: rate_factor(min(step, steps - 1), steps)),
        device=environment.choose_device("auto"),
    )


def rate_factor(step: int, steps: int) -> float:
    """The learning rate's factor at a step, from 0 to 1: a linear rise, then half a cosine down to zero."""
    warm = max(1, round(WARM_SHARE * steps))
    return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step + 1 - warm) / (steps - warm))


@dataclass(frozen=True)
class TrainingSet:
    """The images that an arm is trained on, and the share of synthetic ones in each batch."""

    real: Images
    synthetic: Images | None
    ratio: float


def training_set(real: Images, synthetic: Images | None, arm: Arm) -> TrainingSet:
    """The images of an arm: all, those that fill the rare classes to balance, or rare ones repeated to balance."""
    if arm.kind == REPEATS:
        real = subsets.balanced(real)
    if arm.ratio is not None:
        return TrainingSet(real, synthetic if arm.ratio else None, arm.ratio)
    assert real.labels is not None and synthetic is not None and synthetic.labels is not None
    missing = subsets.missing_to_balance(real.labels, len(real.class_names))
    indices = [np.flatnonzero(synthetic.labels == label)[:count] for label, count in enumerate(missing)]
    filling = synthetic.select(np.concatenate(indices))
    return TrainingSet(real, filling, len(filling) / (len(filling) + len(real)))


def batches(images: TrainingSet, *, steps: int, seed: int) -> Iterator[Images]:
    """Every step's 64 images: the share of synthetic ones, to the image over any number of steps.

    Both kinds come in endless shuffled orders, that of the real ones alike in all arms.
    """
    for step in range(steps):
        before, after = (math.floor(k * BATCH * images.ratio + 1e-6) for k in (step, step + 1))
        parts = []
        if count := BATCH - (after - before):
            parts.append(images.real.select(batch_indices(len(images.real), seed, step * BATCH - before, count)))
        if images.synthetic is not None and after > before:
            order = environment.seed_for(seed, "synthetic order")
            indices = batch_indices(len(images.synthetic), order, before, after - before)
            parts.append(images.synthetic.select(indices))
        yield parts[0] if len(parts) == 1 else _joined(*parts)


def _joined(first: Images, second: Images) -> Images:
    assert first.labels is not None and second.labels is not None
    pixels, labels = np.concatenate([first.pixels, second.pixels]), np.concatenate([first.labels, second.labels])
    return replace(first, pixels=pixels, labels=labels)


def measure_arm(
    real: Images,
    synthetic: Images | None,
    test: Images,
    arm: Arm,
    conditions: Conditions,
    network: Classifier | None = None,
) -> ArmRow:
    """The result of one arm on the test images, by `network` or by a classifier that is trained for it."""
    network = network or learn(real, synthetic, arm, conditions)
    images = training_set(real, synthetic, arm)
    row = row_of(classifier_training.confusion_matrix(network, test), real, test, arm, conditions)
    return replace(
        row,
        real=len(images.real) if images.ratio < 1 else 0,
        synthetic=len(images.synthetic) if images.synthetic is not None else 0,
        ratio=round(images.ratio, 6),
    )


def row_of(confusion: NDArray[np.int64], real: Images, test: Images, arm: Arm, conditions: Conditions) -> ArmRow:
    """The row of an arm that learned from all real images and no other, by its counts of test images."""
    correct, counts = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    return ArmRow(
        budget=str(conditions.budget),
        seed=conditions.seed,
        arm=arm,
        steps=conditions.steps,
        real=len(real),
        synthetic=0,
        ratio=0.0,
        accuracy=sum(correct) / len(test),
        per_class={name: k / n if n else None for name, k, n in zip(test.class_names, correct, counts, strict=True)},
        confusion=confusion.tolist(),
        images=len(real),
        tested=len(test),
    )


def filtered(synthetic: Images, kind: Filter, keep: float, network: Classifier, real: Images) -> Images:
    """The share `keep` of each class that is best by a classifier which learned from the budget's images alone.

    confidence: those to whose label it gives the highest probability. distance: those whose features are nearest to
    those of a real image of their class, which prefers near copies where the generator makes them.
    """
    assert synthetic.labels is not None and real.labels is not None
    labels = torch.from_numpy(synthetic.labels)
    features, logits = map(torch.from_numpy, classifier_training.classify(network, synthetic.pixels))
    known = torch.from_numpy(classifier_training.classify(network, real.pixels)[0]) if kind == "distance" else None
    kept = []
    for label in range(len(real.class_names)):
        of_class = (labels == label).nonzero()[:, 0]
        if known is None:
            merit = logits[of_class].log_softmax(1)[:, label]
        else:
            merit = -torch.cdist(features[of_class], known[torch.from_numpy(real.labels == label)]).amin(1)
        best = merit.argsort(descending=True, stable=True)[: math.ceil(keep * len(of_class))]
        kept.append(of_class[best])
    return synthetic.select(torch.cat(kept).sort().values.numpy())
