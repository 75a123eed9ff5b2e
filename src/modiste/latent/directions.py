"""Directions in a generator's noise along which its images change, found four ways.

- *attribute*: what raises a measured number (`attributes.py`) and leaves the others, and the class that the judge sees,
  as they are;
- *example*: what leads from the pictures of one folder to those of another;
- *features*: the principal components of the judge's features (Härkönen et al. 2020, section 2.2);
- *closed form*: the noise that the first layer amplifies most (Shen & Zhou 2021, equation 6).

The noise is standard normal, so the mean slope of a number f(G(z)) over all images is the least-squares slope of f on
z (Stein's lemma). With the slopes of k numbers as the columns of C [z_dim, k], the shortest step that raises number i
by one and leaves the others alone is column i of C (C'C)^-1. Each class has slopes of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modiste.data.images import Images, content_digest
from modiste.errors import UsageError
from modiste.latent import attributes
from modiste.metrics import features, logistic
from modiste.metrics.features import Extractor
from modiste.networks.layers import ClassNoise
from modiste.sampling.generators import TrainedGenerator, seed_noise

Kind = Literal["attribute", "example", "features", "closed form", "random"]
Vectors = NDArray[np.float32]  # [max(1, classes), z_dim]
Numbers = NDArray[np.float64]  # [N]

FIRST_SEED = 2 * 10**9
"""Image seeds that neither samples nor scores use."""
COMPONENTS = 3
"""Directions of the kinds that have no name of their own: features-1, closed-form-1 and so on."""
STILL = 1e-9
"""A number that varies less within a class does not vary: nothing moves it there."""
RIDGE = 1e-3
"""Added to the least squares, as a share of the number of images."""
PENALTY = 0.02
"""Of the logistic regression, for each picture."""
RIDGE_BETWEEN = 1e-2
"""Added to C'C, as a share of its mean diagonal: numbers that always change together are not forced apart."""


@dataclass(frozen=True)
class Direction:
    """A change of the noise, one vector per class (one in all without classes), each half as long as typical noise.

    Noise of z_dim numbers is about sqrt(z_dim) long, so the vectors have the length sqrt(z_dim) / 2.
    """

    name: str
    kind: Kind
    vectors: Vectors


def find(generator: TrainedGenerator, judge: Extractor | None, per_class: int) -> list[Direction]:
    """The directions of a generator by attribute, features and closed form, from `per_class` images of each class.

    Without a judge there are none by features, and the class is not held.
    """
    noise, images = _drawn(generator, per_class)
    measured = attributes.measure(images.pixels)
    beside: dict[str, Numbers] = {}
    found = []
    if judge is not None:
        seen = features.extract(judge, images)
        beside = class_numbers(seen, images)
        components = principal_components(seen.vectors, images.labels)
        found += [_of_numbers(generator, noise, images, {name: values}, "features")[0] for name, values in components]
    named = _of_numbers(generator, noise, images, {**measured, **beside}, "attribute")
    by_attribute = [direction for direction in named if direction.name in measured and direction.vectors.any()]
    return [*by_attribute, *found, *closed_form(generator)]


def by_example(
    generator: TrainedGenerator, judge: Extractor, name: str, pictures: Mapping[bool, Images], per_class: int
) -> Direction:
    """The direction from the pictures without something (False) to those with it (True).

    A logistic regression in the judge's features tells the two apart; its logit of generated images is the number
    that the direction raises. UsageError where there are fewer than two pictures of either kind, or both are the same.
    """
    for images in pictures.values():
        if len(images) < 2:
            raise UsageError(f"{images.name} holds one picture, and two are needed to tell the two folders apart")
    if content_digest(pictures[False]) == content_digest(pictures[True]):
        raise UsageError(f"{pictures[True].name} and {pictures[False].name} hold the same pictures, so nothing differs")
    lacking, having = (features.extract(judge, pictures[key]).vectors.astype(np.float64) for key in (False, True))
    count = len(lacking) + len(having)
    labels = np.repeat([0, 1], [len(lacking), len(having)])
    weights, bias = logistic.fit(np.concatenate([lacking, having]), labels, 2, PENALTY * count)
    noise, images = _drawn(generator, per_class)
    seen = features.extract(judge, images)
    numbers = {name: (seen.vectors @ weights + bias) @ [-1, 1]}
    others = {key: values for key, values in class_numbers(seen, images).items() if key != name}
    return _of_numbers(generator, noise, images, numbers | others, "example")[0]


def random_direction(generator: TrainedGenerator) -> Direction:
    """A direction drawn at random, which shows what any step of this length does."""
    drawn = np.random.Generator(np.random.PCG64(0)).standard_normal((_classes(generator), generator.z_dim))
    return Direction("random", "random", _scaled(drawn))


def closed_form(generator: TrainedGenerator) -> list[Direction]:
    """The noise that the first layer amplifies most: eigenvectors of A'A for its weights A; none for other networks.

    Where each class multiplies the noise by a matrix M (`ClassNoise`), of the mean of M'A'AM over the classes.
    """
    weights = _first_weights(generator)
    if weights is None:
        return []
    squares = weights.T @ weights
    for layer in generator.network.modules():
        if isinstance(layer, ClassNoise):
            maps = layer.maps.detach().double().numpy()
            squares = np.mean([one.T @ squares @ one for one in maps], axis=0)
            break
    vectors = np.linalg.eigh(squares)[1][:, ::-1].T[:COMPONENTS]
    return [
        Direction(f"closed-form-{k}", "closed form", _scaled(np.tile(_signed(vector), (_classes(generator), 1))))
        for k, vector in enumerate(vectors, 1)
    ]


def shift(direction: Direction, step: float, labels: NDArray[np.int64] | None, count: int) -> torch.Tensor:
    """What a step along the direction adds to the noise of images of these labels: [N, z_dim]."""
    rows = np.zeros(count, np.int64) if labels is None else labels
    return torch.from_numpy(direction.vectors[rows]) * step


def class_numbers(seen: features.Features, images: Images) -> dict[str, Numbers]:
    """Numbers that say which class the judge sees: the log-odds of the image's own class, or all its logits."""
    if seen.logits is None:
        return {}
    logits = seen.logits.astype(np.float64)
    if images.labels is None or logits.shape[1] < 2:
        return {f"class {k}": column for k, column in enumerate(logits.T)}
    if images.labels.max() >= logits.shape[1]:
        return {}
    own = np.arange(logits.shape[1]) == images.labels[:, None]
    others = np.where(own, -np.inf, logits)
    top = others.max(1)
    return {"class": logits[own] - top - np.log(np.exp(others - top[:, None]).sum(1))}


def principal_components(vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> list[tuple[str, Numbers]]:
    """The first principal components [N] of features within their classes, by name."""
    centred = vectors.astype(np.float64)
    groups = np.zeros(len(vectors), np.int64) if labels is None else labels
    for label in np.unique(groups):
        centred[groups == label] -= centred[groups == label].mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T[:COMPONENTS]
    return [(f"features-{k}", centred @ _signed(axis)) for k, axis in enumerate(axes, 1)]


def _drawn(generator: TrainedGenerator, per_class: int) -> tuple[NDArray[np.float64], Images]:
    """Noise [N, z_dim] and the images that it gives, `per_class` of each class."""
    seeds = range(FIRST_SEED, FIRST_SEED + per_class * _classes(generator))
    return seed_noise(seeds, generator.z_dim).double().numpy(), generator.sample_set(seeds=seeds)


def _of_numbers(
    generator: TrainedGenerator, noise: NDArray[np.float64], images: Images, numbers: Mapping[str, Numbers], kind: Kind
) -> list[Direction]:
    """The direction that raises each number and leaves the others as they are."""
    table = np.column_stack(list(numbers.values()))
    groups = np.zeros(len(noise), np.int64) if images.labels is None else images.labels
    vectors = np.stack([_apart(_slopes(noise[groups == k], table[groups == k])) for k in range(_classes(generator))])
    return [Direction(name, kind, _scaled(vectors[:, :, k])) for k, name in enumerate(numbers)]


def _slopes(noise: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slopes [z_dim, k] of numbers [N, k], in their standard deviations, on noise [N, z_dim]."""
    centred = numbers - numbers.mean(0)
    deviations = centred.std(0)
    centred = np.where(deviations > STILL, centred / np.maximum(deviations, STILL), 0)
    squares = noise.T @ noise + RIDGE * len(noise) * np.eye(noise.shape[1])
    return np.asarray(np.linalg.solve(squares, noise.T @ centred), np.float64)


def _apart(slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions [z_dim, k] each of which changes one number: C (C'C)^-1, but for a ridge."""
    products = slopes.T @ slopes
    ridge = RIDGE_BETWEEN * np.trace(products) / len(products) + 1e-12
    return np.asarray(slopes @ np.linalg.inv(products + ridge * np.eye(len(products))))


def _first_weights(generator: TrainedGenerator) -> NDArray[np.float64] | None:
    """The weights [outputs, z_dim] of the first layer, which takes the noise and perhaps the label after it."""
    sizes = (generator.z_dim, generator.z_dim + generator.shape.classes)
    for layer in generator.network.modules():
        if isinstance(layer, nn.Linear) and layer.in_features in sizes:
            weight = layer.weight
        elif isinstance(layer, nn.ConvTranspose2d) and layer.in_channels in sizes:
            weight = layer.weight.flatten(1).T
        else:
            continue
        return np.asarray(weight[:, : generator.z_dim].detach().double().numpy())
    return None


def _classes(generator: TrainedGenerator) -> int:
    return max(1, generator.shape.classes)


def _signed(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector with the sign that makes its largest entry positive."""
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]))


def _scaled(vectors: NDArray[np.float64]) -> Vectors:
    """Vectors of half the length of typical noise; one of nothing stays so."""
    half, lengths = math.sqrt(vectors.shape[1]) / 2, np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(half * vectors / np.where(lengths > 0, lengths, 1), np.float32)
