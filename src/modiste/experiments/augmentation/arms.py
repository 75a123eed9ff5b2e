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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modiste import environment
from modiste.data.images import Images, batch_indices, to_unit
from modiste.experiments.augmentation import subsets
from modiste.metrics import classifier_training
from modiste.networks.convolution import Conv2d

BATCH = 64
CHUNK = 500
PEAK_LEARNING_RATE = 0.1
WARM_SHARE = 0.1
FEWEST_STEPS, MOST_STEPS = 600, 4000
WIDTHS = (32, 64, 128)

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


class Network(nn.Module):
    """Images [N, C, H, W] in [-1, 1] to features [N, 128] (after global average pooling) and logits [N, classes]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for k, width in enumerate(WIDTHS):
            layers += [nn.MaxPool2d(2)] if k else []
            layers += [Conv2d(before, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images).mean((2, 3))
        return features, self.head(features)


def learn(real: Images, synthetic: Images | None, arm: Arm, *, steps: int, seed: int, flip: bool) -> Network:
    """The classifier of an arm after so many steps on batches of 64, in eval mode.

    Stochastic gradient descent with Nesterov momentum 0.9, weight decay 5e-4 on the layers' weights, a learning rate
    that rises to 0.1 over a tenth of the steps and falls to zero along a cosine. On the processor it repeats bit for
    bit with the same seed and threads.
    """
    device = environment.choose_device("auto")
    with environment.own_random_numbers():
        torch.manual_seed(environment.seed_for(seed, "classifier"))
        network = Network(real.pixels.shape[1], len(real.class_names))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=PEAK_LEARNING_RATE, momentum=0.9, nesterov=True)
    low = environment.choose_precision("auto", device) == "bfloat16"
    for step, batch in enumerate(batches(real, synthetic, arm, steps=steps, seed=seed)):
        if arm.classical:
            pixels, labels = next(classifier_training.augmented_batches(batch, BATCH, seed, step, flip))
        else:
            assert batch.labels is not None
            pixels, labels = torch.from_numpy(batch.pixels), torch.from_numpy(batch.labels)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * schedule(step, steps)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            _, logits = network(_on(pixels, device))
        loss = F.cross_entropy(logits.float(), labels.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def schedule(step: int, steps: int) -> float:
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


def _on(pixels: Tensor, device: str) -> Tensor:
    return to_unit(pixels.to(device)).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def examine(network: Network, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Features [N, 128] and logits [N, classes], float32 on the processor, of pixels uint8 [N, C, H, W]."""
    device = str(next(network.parameters()).device)
    found = [
        network(_on(torch.from_numpy(pixels[start : start + CHUNK]), device)) for start in range(0, len(pixels), CHUNK)
    ]
    features, logits = zip(*found, strict=True)
    return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()


def measure(network: Network, test: Images) -> dict[str, Any]:
    """Accuracy in [0, 1] over all and by class name (None: no test image), and the confusion matrix (rows: true)."""
    assert test.labels is not None
    classes = len(test.class_names)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (test.labels, examine(network, test.pixels)[1].argmax(1).numpy()), 1)
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
    network: Network | None = None,
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


def filtered(synthetic: Images, kind: Filter, keep: float, network: Network, real: Images) -> Images:
    """The share `keep` of each class that is best by a classifier which learned from the budget's images alone.

    confidence: those to whose label it gives the highest probability. distance: those whose features are nearest to
    those of a real image of their class, which prefers near copies where the generator makes them.
    """
    assert synthetic.labels is not None and real.labels is not None
    labels = torch.from_numpy(synthetic.labels)
    features, logits = examine(network, synthetic.pixels)
    if kind == "confidence":
        merit = logits.log_softmax(1)[torch.arange(len(labels)), labels]
    else:
        merit = torch.zeros(len(labels))
        known, _ = examine(network, real.pixels)
        for label in range(len(real.class_names)):
            mine = labels == label
            merit[mine] = -torch.cdist(features[mine], known[torch.from_numpy(real.labels == label)]).amin(1)
    kept = []
    for label in range(len(real.class_names)):
        mine = (labels == label).nonzero()[:, 0]
        best = merit[mine].argsort(descending=True, stable=True)[: math.ceil(keep * len(mine))]
        kept.append(mine[best])
    return synthetic.select(torch.cat(kept).sort().values.numpy())
