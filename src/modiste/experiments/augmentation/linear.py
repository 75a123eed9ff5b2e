"""The arms that learn from few labels on frozen features: a linear classifier on pixels, or on what a network sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data.images import Images, Pixels
from modiste.errors import ModisteError
from modiste.experiments import discriminator_features
from modiste.experiments.augmentation.arms import LINEAR, Arm, ArmRow, Conditions, LinearFeatures, row_of
from modiste.metrics import features, logistic
from modiste.sampling import discriminators

PENALTY = 1.0
"""As scikit-learn's C = 1, chosen before any measurement."""

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
    weights, bias = logistic.fit(extract(real.pixels), real.labels, classes, PENALTY)
    predicted = (extract(test.pixels) @ weights + bias).argmax(1)
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
