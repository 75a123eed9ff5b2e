"""The arms that learn from few labels on frozen features: a linear classifier on pixels, or on what a network sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modiste.config import Data
from modiste.data.images import Images, Pixels
from modiste.errors import ModisteError
from modiste.experiments import discriminator_features
from modiste.experiments.augmentation.arms import LINEAR, Arm, ArmRow, Conditions, LinearFeatures, row_of
from modiste.metrics import features
from modiste.sampling import discriminators

PENALTY = 1.0
"""On half the squared weights, beside the summed cross entropy: scikit-learn's C = 1, chosen before any measurement."""
MOST_ITERATIONS = 300

Vectors = NDArray[np.float32]


def available(dataset: Data) -> tuple[LinearFeatures, ...]:
    """The features that arms can be made of for this data set: those of a judge only where there is one."""
    return ("pixels", "discriminator", *(("judge",) if features.judge_of(dataset) else ()))


def measure_arm(real: Images, test: Images, arm: Arm, conditions: Conditions, generator: Path, dataset: Data) -> ArmRow:
    """The result of a linear arm: its classifier learns from the real images alone; the generator's run folder has the
    discriminator."""
    extract = extractor(LINEAR[arm.kind], generator, dataset)
    assert real.labels is not None and test.labels is not None
    classes = len(real.class_names)
    predicted = classify(extract(real.pixels), real.labels, extract(test.pixels), classes)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (test.labels, predicted), 1)
    return row_of(confusion, real, test, arm, conditions)


def extractor(kind: LinearFeatures, generator: Path, dataset: Data) -> Callable[[Pixels], Vectors]:
    """A function from pixels to vectors [N, D]."""
    if kind == "pixels":
        return lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32)
    if kind == "discriminator":
        return _vectors(discriminator_features.extractor_of(discriminators.load(generator)))
    judge = features.judge_of(dataset)
    if judge is None:
        raise ModisteError(
            f"the judge of {dataset.name}, with which the experiment was begun, is no longer there; train it again "
            "with `modiste judge train`"
        )
    return _vectors(judge)


def _vectors(extractor: features.Extractor) -> Callable[[Pixels], Vectors]:
    return lambda pixels: features.extract(extractor, Images(pixels, None, (), extractor.name)).vectors


def classify(vectors: Vectors, labels: NDArray[np.int64], others: Vectors, classes: int) -> NDArray[np.int64]:
    """The classes int64 [M] of `others` [M, D] by logistic regression on vectors [N, D] and their labels [N].

    Each feature is brought to mean 0 and deviation 1 over the N. The minimum is the only one, so there is no seed.
    """
    mean, deviation = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
    deviation = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, 1.0)
    known, wanted = (torch.from_numpy(((one - mean) / deviation).astype(np.float32)) for one in (vectors, others))
    targets = torch.from_numpy(labels)
    weights = torch.zeros(known.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, bias], max_iter=MOST_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        entropy = F.cross_entropy(known @ weights + bias, targets, reduction="sum")
        value: Any = (entropy + 0.5 * PENALTY * weights.square().sum()) / len(known)
        value.backward()
        return value  # type: ignore[no-any-return]

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return (wanted @ weights + bias).argmax(1).numpy()
