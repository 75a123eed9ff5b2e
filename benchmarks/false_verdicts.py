"""How often a study has a false verdict where nothing differs, by laws of noise, configurations and seeds, simulated.

    python benchmarks/false_verdicts.py [--studies 20000]

A verdict of a study is false if it calls any configuration better than another though all runs of all configurations
are drawn from one law (or from laws of one mean, where a line says so). 5 % of studies may have one. The arithmetic of
`modiste.experiments.statistics.verdicts` is done here for thousands of studies at once;
tests/experiments/test_false_verdicts.py holds that it says the same of single ones. Laws are drawn as scores are
measured, logarithms of distances as their exponentials.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modiste.evaluation import records
from modiste.experiments import statistics
from modiste.experiments.statistics import t_quantile
from modiste.metrics.transforms import Scale

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Floats]
PROMISED = 0.05
CONFIGURATIONS, SEEDS = (2, 3, 4), (3, 5, 10)


class Law(NamedTuple):
    """What runs are drawn from: [studies, configurations, seeds], all of one expectation on the scale."""

    name: str
    scale: Scale
    draw: Draw


def levels(share: float, apart: float, narrow: float, wide: float | None = None) -> Draw:
    """Distances whose logarithms have two humps: that share of all runs lies higher, each hump normal."""

    def draw(random: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
        fallen, noise = random.random(shape) < share, random.normal(size=shape)
        return np.exp(np.where(fallen, apart + (wide or narrow) * noise, narrow * noise))

    return draw


def beta(a: float, b: float) -> Draw:
    """Shares of 10,000 images whose expectation differs from run to run."""
    return lambda random, shape: random.binomial(10_000, random.beta(a, b, shape)) / 10_000


def unequal(random: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Normal, the first configuration a tenth and the last ten times as scattered as the others."""
    spread = np.array([0.1, *[1.0] * (shape[1] - 2), 10.0])
    return random.normal(size=shape) * spread[:, None]


def by_seed(random: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """A seed collapses, or not, in every configuration alike."""
    fallen = random.random((shape[0], 1, shape[2])) < 0.5
    return np.exp(3 * fallen + 0.1 * random.normal(size=shape))


LAWS = (
    Law("normal", "plain", lambda random, shape: random.normal(size=shape)),
    Law("uniform", "plain", lambda random, shape: random.random(shape)),
    Law("arcsine", "plain", lambda random, shape: np.sin(math.pi * random.random(shape))),
    Law("Laplace", "plain", lambda random, shape: random.laplace(size=shape)),
    Law("Student, 3 degrees", "plain", lambda random, shape: random.standard_t(3, size=shape)),
    Law("Cauchy", "plain", lambda random, shape: random.standard_cauchy(size=shape)),
    Law("exponential", "plain", lambda random, shape: random.exponential(size=shape)),
    Law("rounded to halves of a deviation", "plain", lambda random, shape: np.round(2 * random.normal(size=shape)) / 2),
    Law("shared by seed", "plain",
        lambda random, shape: random.normal(size=shape) + 3 * random.normal(size=(shape[0], 1, shape[2]))),
    Law("unequal scatter, 1 to 100", "plain", unequal),
    Law("lognormal, as it is", "plain", lambda random, shape: np.exp(random.normal(size=shape))),
    Law("lognormal, log deviation 1", "log", lambda random, shape: np.exp(random.normal(size=shape))),
    Law("normal, 25 % of the mean", "log", lambda random, shape: (1 + 0.25 * random.normal(size=shape)).clip(0.05)),
    Law("exponential", "log", lambda random, shape: random.exponential(size=shape)),
    Law("gamma, shape 4", "log", lambda random, shape: random.gamma(4, size=shape)),
    Law("share about 0.9", "share", beta(9, 1)),
    Law("share about 0.5", "share", beta(20, 20)),
    Law("share about 0.01", "share", beta(4, 400)),
    Law("share about 0.0003", "share", beta(1, 3000)),
    Law("1 of 10 runs collapses", "log", levels(0.1, 3, 0.1)),
    Law("3 of 10 runs collapse", "log", levels(0.3, 3, 0.1)),
    Law("half of all runs collapse", "log", levels(0.5, 3, 0.1)),
    Law("half collapse, wide humps", "log", levels(0.5, 3, 0.3)),
    Law("half collapse, only the bad hump wide", "log", levels(0.5, 3, 0.1, 0.5)),
    Law("half collapse, humps nearly meet", "log", levels(0.5, 2, 0.5)),
    Law("half of the seeds collapse for all", "log", by_seed),
    Law("three levels, equally often", "log",
        lambda random, shape: np.exp(2 * random.integers(0, 3, shape) + 0.1 * random.normal(size=shape))),
)  # fmt: skip


def on_scale(values: Floats, scale: Scale) -> Floats:
    """As `scales.forward`, many at once."""
    if scale == "log":
        return np.log(values)
    return np.arcsin(np.sqrt(values)) if scale == "share" else values


def has_verdict(values: Floats, scale: Scale, alpha: float = PROMISED) -> NDArray[np.bool_]:
    """Whether each of the studies [studies, configurations, seeds] calls any configuration better than another.

    Holm's method rejects something exactly if the least p value is at most alpha over the number of pairs.
    """
    known = on_scale(values, scale)
    _, configurations, seeds = known.shape
    pairs = list(itertools.combinations(range(configurations), 2))
    level, least = alpha / len(pairs), 2.0 ** (1 - seeds)
    found = np.zeros(len(known), bool)
    for one, two in pairs:
        differences = known[:, one] - known[:, two]
        if statistics.LEAST_FLIPPED <= seeds <= statistics.MOST_FLIPPED and least <= level / 4:
            found |= _flipped(differences) <= level
            continue
        mean, spread = differences.mean(1), differences.std(1, ddof=1)
        sizes = np.abs(known[:, [one, two]]).max((1, 2))
        spread = np.where(spread > statistics.ROUNDING * np.maximum(sizes, scale == "log"), spread, np.inf)
        beyond = np.abs(mean) > t_quantile(1 - level / 2, seeds - 1) * spread / math.sqrt(seeds)
        found |= beyond & ~(_leaping(known, one, two) & (least > level))
    return found


def _flipped(differences: Floats) -> Floats:
    """The p value of all sign patterns; those that begin with + stand for both."""
    patterns = np.array([(1, *rest) for rest in itertools.product((-1, 1), repeat=differences.shape[1] - 1)]).T
    p_values = []
    for some in np.array_split(differences, max(1, len(differences) // 2000)):
        total, rounding = np.abs(some.sum(1)), statistics.ROUNDING * np.abs(some).sum(1)
        p_values.append((np.abs(some @ patterns) >= (total - rounding)[:, None]).mean(1))
    return np.concatenate(p_values)


def _leaping(known: Floats, one: int, two: int) -> NDArray[np.bool_]:
    """Whether another configuration's runs fall into two groups as far apart as the pair is."""
    apart = np.abs(known[:, one].mean(1) - known[:, two].mean(1))
    found = np.zeros(len(known), bool)
    for other in set(range(known.shape[1])) - {one, two}:
        runs = np.sort(known[:, other])
        gap = np.diff(runs).max(1)
        rest = runs[:, -1] - runs[:, 0] - gap
        low, high = statistics.LEAP
        found |= (low * apart <= gap) & (gap <= high * apart) & (rest <= statistics.LEVEL_WIDTH * apart)
    return found


def rate(law: Law, configurations: int, seeds: int, studies: int) -> float:
    """The share of studies with a false verdict."""
    random = np.random.default_rng([configurations, seeds])
    return float(has_verdict(law.draw(random, (studies, configurations, seeds)), law.scale).mean())


def table(studies: int) -> tuple[list[str], list[list[str]]]:
    """Per law the false verdicts in per cent, a column for each number of configurations and seeds."""
    cells = list(itertools.product(CONFIGURATIONS, SEEDS))
    heads = ["noise", "scale", *(f"{configurations} x {seeds}" for configurations, seeds in cells)]
    body = [[law.name, law.scale, *(f"{100 * rate(law, *cell, studies):.1f}" for cell in cells)] for law in LAWS]
    return heads, body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--studies", type=int, default=20_000)
    studies = parser.parse_args().studies
    print(f"false verdicts in % of {studies:,} studies, configurations x seeds; {PROMISED:.0%} are promised\n")
    print(records.markdown(*table(studies)))


if __name__ == "__main__":
    main()
