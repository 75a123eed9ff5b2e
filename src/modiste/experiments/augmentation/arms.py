"""The arms of an augmentation experiment: one small classifier, trained alike on real, changed and synthetic images.

All arms of a budget and a seed share the images, the initial weights, the order of the real images and the number of
gradient steps, so that what differs is the training images. Nothing is selected: the last weights count, in every arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from modiste import environment
from modiste.data.images import Images
from modiste.data.subsets import batch_indices
from modiste.experiments.augmentation import subsets
from modiste.metrics import classifier_training
from modiste.networks.classifier import Classifier

BATCH = 64
WARM_SHARE = 0.1
FEWEST_STEPS, MOST_STEPS = 600, 4000

REAL, CLASSICAL, REPEATS = "real only", "real + classical", "real + classical + repeats"
MIXED, BOTH, ALONE = "real + synthetic", "real + both", "synthetic only"
WITHOUT_SYNTHETIC = (REAL, CLASSICAL, REPEATS)

Filter = Literal["none", "confidence", "distance"]


@dataclass(frozen=True)
class Arm:
    """What the classifier of an arm is trained on."""

    name: str
    classical: bool = False
    """Shifted, partly erased and, where that is valid, mirrored images, synthetic ones too."""
    repeats: bool = False
    """Rare classes' images repeated to balance."""
    ratio: float | None = 0.0
    """The share of synthetic images in what is trained on; None: as many as fill the rare classes to balance."""
    filter: Filter = "none"


def arms_for(ratios: Sequence[float], filters: Sequence[Filter], rare: bool) -> list[Arm]:
    """All arms, the synthetic ones once per ratio and filter; with rare classes they fill these to balance instead."""
    arms = [Arm(REAL), Arm(CLASSICAL, classical=True)]
    arms += [Arm(REPEATS, classical=True, repeats=True)] if rare else []
    shares: Sequence[float | None] = [None] if rare else ratios
    for kind in filters:
        filtered = f", filter {kind}" if len(filters) > 1 else ""
        for ratio in shares:
            mixed = f", ratio {ratio:g}" if ratio is not None and len(shares) > 1 else ""
            arms.append(Arm(f"{MIXED}{mixed}{filtered}", ratio=ratio, filter=kind))
            arms.append(Arm(f"{BOTH}{mixed}{filtered}", classical=True, ratio=ratio, filter=kind))
        arms.append(Arm(f"{ALONE}{filtered}", ratio=1.0, filter=kind))
    return arms


def default_steps(images: int) -> int:
    """Gradient steps of every arm of a budget: 60 times the root of its images, from 600 to 4,000."""
    return min(MOST_STEPS, max(FEWEST_STEPS, round(60 * math.sqrt(images))))


def learn(real: Images, synthetic: Images | None, arm: Arm, *, steps: int, seed: int, flip: bool) -> Classifier:
    """The classifier of an arm after so many steps on batches of 64, in eval mode.

    The learning rate rises to 0.1 over a tenth of the steps and falls to zero along a cosine.
    """

    def tensors() -> Iterator[classifier_training.Batch]:
        for step, batch in enumerate(batches(real, synthetic, arm, steps=steps, seed=seed)):
            if arm.classical:
                yield from classifier_training.augmented_batches(batch, BATCH, seed, step, flip)
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


def batches(real: Images, synthetic: Images | None, arm: Arm, *, steps: int, seed: int) -> Iterator[Images]:
    """Every step's 64 images: the arm's share of synthetic ones, to the image over any number of steps.

    Both kinds come in endless shuffled orders, that of the real ones alike in all arms.
    """
    real, synthetic, ratio = materials(real, synthetic, arm)
    for step in range(steps):
        before, after = (math.floor(k * BATCH * ratio + 1e-6) for k in (step, step + 1))
        parts = []
        if count := BATCH - (after - before):
            parts.append(real.select(batch_indices(len(real), seed, step * BATCH - before, count)))
        if synthetic is not None and after > before:
            order = environment.seed_for(seed, "synthetic order")
            parts.append(synthetic.select(batch_indices(len(synthetic), order, before, after - before)))
        yield parts[0] if len(parts) == 1 else _joined(*parts)


def materials(real: Images, synthetic: Images | None, arm: Arm) -> tuple[Images, Images | None, float]:
    """Real and synthetic images of an arm, and the share of the latter in its batches."""
    if arm.repeats:
        real = subsets.balanced(real)
    if arm.ratio is not None:
        return real, synthetic if arm.ratio else None, arm.ratio
    assert real.labels is not None and synthetic is not None and synthetic.labels is not None
    missing = subsets.missing_to_balance(real.labels, len(real.class_names))
    chosen = [np.flatnonzero(synthetic.labels == label)[:count] for label, count in enumerate(missing)]
    filling = synthetic.select(np.concatenate(chosen))
    return real, filling, len(filling) / (len(filling) + len(real))


def _joined(first: Images, second: Images) -> Images:
    assert first.labels is not None and second.labels is not None
    pixels, labels = np.concatenate([first.pixels, second.pixels]), np.concatenate([first.labels, second.labels])
    return replace(first, pixels=pixels, labels=labels)


def measure(network: Classifier, test: Images) -> dict[str, Any]:
    """Accuracy in [0, 1] over all and by class name (None: no test image), and the confusion matrix (rows: true)."""
    confusion = classifier_training.confusion_matrix(network, test)
    right, there = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    return {
        "accuracy": sum(right) / len(test),
        "per_class": {name: r / n if n else None for name, r, n in zip(test.class_names, right, there, strict=True)},
        "confusion": confusion.tolist(),
    }


def outcome(
    real: Images,
    synthetic: Images | None,
    test: Images,
    arm: Arm,
    *,
    steps: int,
    seed: int,
    flip: bool,
    network: Classifier | None = None,
) -> dict[str, Any]:
    """The record of one arm: what it was trained on and how well its classifier (or `network`) does on the test."""
    network = network or learn(real, synthetic, arm, steps=steps, seed=seed, flip=flip)
    of_real, of_synthetic, ratio = materials(real, synthetic, arm)
    return {
        "arm": arm.name,
        "steps": steps,
        "real": len(of_real) if ratio < 1 else 0,
        "synthetic": len(of_synthetic) if of_synthetic is not None else 0,
        "ratio": round(ratio, 6),
        **measure(network, test),
    }


def filtered(synthetic: Images, kind: Filter, keep: float, network: Classifier, real: Images) -> Images:
    """The share `keep` of each class that is best by a classifier which learned from the budget's images alone.

    confidence: those to whose label it gives the highest probability. distance: those whose features are nearest to
    those of a real image of their class, which prefers near copies where the generator makes them.
    """
    assert synthetic.labels is not None and real.labels is not None
    labels = torch.from_numpy(synthetic.labels)
    features, logits = map(torch.from_numpy, classifier_training.classify(network, synthetic.pixels))
    if kind == "confidence":
        merit = logits.log_softmax(1)[torch.arange(len(labels)), labels]
    else:
        merit = torch.zeros(len(labels))
        known = torch.from_numpy(classifier_training.classify(network, real.pixels)[0])
        for label in range(len(real.class_names)):
            mine = labels == label
            merit[mine] = -torch.cdist(features[mine], known[torch.from_numpy(real.labels == label)]).amin(1)
    kept = []
    for label in range(len(real.class_names)):
        mine = (labels == label).nonzero()[:, 0]
        best = merit[mine].argsort(descending=True, stable=True)[: math.ceil(keep * len(mine))]
        kept.append(mine[best])
    return synthetic.select(torch.cat(kept).sort().values.numpy())
