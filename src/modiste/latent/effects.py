"""What a direction does, measured on images that it was not found on: which attributes move, and whether the class
stays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste import progress
from modiste.data.images import Images, Pixels
from modiste.latent import attributes, directions
from modiste.latent.directions import Direction, Kind
from modiste.metrics import features, standard_errors
from modiste.metrics.features import Extractor
from modiste.sampling.generators import TrainedGenerator, generate, seed_noise

FIRST_SEED = 3 * 10**9
"""Image seeds that neither samples, nor scores, nor the search for directions use."""
NORMAL_95 = 1.959964
CLEAR = 0.2
"""A move of so many standard deviations counts as one, if its interval does not reach 0."""


@dataclass(frozen=True)
class Interval:
    """A mean over images with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What one step along a direction does to images."""

    name: str
    kind: Kind
    moves: Mapping[str, Interval]
    """By attribute: its change over a step of 1, in its standard deviations within a class."""
    class_kept: Interval | None
    """The share of images in which the judge sees the same class a step before and after as at first; None without a
    judge of classes."""

    @property
    def clear_moves(self) -> dict[str, Interval]:
        """The attributes that move clearly, the farthest first; an attribute of the direction's name before them."""
        clear = {
            key: one
            for key, one in self.moves.items()
            if key == self.name or (abs(one.value) >= CLEAR and not one.low <= 0 <= one.high)
        }
        return dict(sorted(clear.items(), key=lambda pair: (pair[0] != self.name, -abs(pair[1].value))))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Effect:
        moves = {name: Interval(**one) for name, one in tree["moves"].items()}
        kept = tree["class_kept"]
        return cls(tree["name"], tree["kind"], moves, None if kept is None else Interval(**kept))


def measure(
    generator: TrainedGenerator, judge: Extractor | None, chosen: Sequence[Direction], count: int
) -> list[Effect]:
    """The effect of each direction on `count` images, classes in turn, a step of 1 to either side of each."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    noise, labels = seed_noise(seeds, generator.z_dim), generator.labels(None, seeds)
    before = generate(generator.network, noise, labels)
    first = _classes_seen(judge, before)
    scales = {name: _within(values, labels) for name, values in attributes.measure(before).items()}
    scales = {name: scale for name, scale in scales.items() if scale > directions.STILL}
    effects = []
    for direction in chosen:
        with progress.stage(f"measuring what the direction {direction.name} does"):
            sides = [
                generate(generator.network, noise + directions.shift(direction, step, labels, count), labels)
                for step in (-1.0, 1.0)
            ]
        back, forth = map(attributes.measure, sides)
        moves = {name: _interval((forth[name] - back[name]) / (2 * scale)) for name, scale in scales.items()}
        kept = None
        if first is not None:
            kept = _share(np.mean([_classes_seen(judge, side) == first for side in sides], axis=0))
        effects.append(Effect(direction.name, direction.kind, moves, kept))
    return effects


def _classes_seen(judge: Extractor | None, pixels: Pixels) -> NDArray[np.int64] | None:
    if judge is None:
        return None
    logits = features.extract(judge, Images(pixels, None, (), "generated")).logits
    return None if logits is None else np.asarray(logits.argmax(1))


def _within(values: NDArray[np.float64], labels: NDArray[np.int64] | None) -> float:
    """The standard deviation within a class."""
    groups = np.zeros(len(values), np.int64) if labels is None else labels
    return float(np.sqrt(np.mean([values[groups == k].var() for k in np.unique(groups)])))


def _interval(values: NDArray[np.float64]) -> Interval:
    mean, error = float(values.mean()), standard_errors.of_mean(values)
    return Interval(mean, mean - NORMAL_95 * error, mean + NORMAL_95 * error)


def _share(values: NDArray[np.float64]) -> Interval:
    """The mean of numbers from 0 to 1 with Wilson's interval (1927), which stays between them."""
    mean, odd = float(values.mean()), NORMAL_95**2 / len(values)
    centre, half = mean + odd / 2, math.sqrt(odd * (mean * (1 - mean) + odd / 4))
    return Interval(mean, (centre - half) / (1 + odd), (centre + half) / (1 + odd))
