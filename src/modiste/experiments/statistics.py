"""Statistics over training seeds: intervals, paired differences, verdicts, ranks.

A table is {configuration: {seed: value}}; a value of None or NaN is a run that failed. Seed k of every configuration is
paired. A verdict is about one score: Holm's promise over several scores would take one more correction. Everything is
computed on the score's scale (`metrics.transforms`) and reported in its units; `conclusions` words it.

How often a study has a false verdict when nothing differs is simulated by `benchmarks/false_verdicts.py`; 5 % are
promised, over the laws of noise there. Not covered: shares about 0.01 of equal means, one three times as scattered (6,
7, 7 % with 3, 5, 10 seeds), and a mean that is not the scale's: equal arithmetic means, one strongly skewed (log
deviation 1 against 0.1), give 10, 12, 9 % as they are, and their logarithms truly differ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modiste.errors import ModisteError
from modiste.metrics import transforms
from modiste.metrics.transforms import Scale

Runs = Mapping[int, float | None]
Table = Mapping[str, Runs]
Reason = Literal["", "no run", "one seed", "two seeds", "nothing learned"]

CONFIDENCE = 0.95
POWER = 0.8  # "likely" in a sentence
MOST_SEEDS = 100
FEWEST_SEEDS = 3  # two differences have no spread that could be seen to be wrong
LEAP = (2 / 3, 4 / 3)  # of a difference: a gap between runs of one configuration that is as wide as that
LEVEL_WIDTH = 1 / 3  # of a difference: how much the runs on both sides of such a gap may differ in all
FEWEST_RESAMPLED = 8  # below, a bootstrap interval cannot reach beyond the extremes, which are too near
RESAMPLES = 10_000
LEAST_FLIPPED = 6  # of fewer differences no mean of a part is an end of a 95 % interval
MOST_FLIPPED = 16  # 2^16 sign patterns are all tried in milliseconds; beyond, the t test is as good
ROUNDING = 1e-12  # a spread that is smaller, relative to the values, is rounding and not a spread

METHOD = (
    "Runs of equal seed share noise, data order and evaluation seeds and are compared in pairs: by the paired t test, "
    "or by trying all sign patterns where there are enough seeds for that to decide; by Welch's test where fewer than "
    "three seeds are shared. Fewer than three seeds of a side have no verdict. Where another configuration's own runs "
    "fall into two groups about as far apart as a pair is, chance alone may have put the sides of the pair on two "
    "levels: its p value is then no smaller than permuting its runs can give, 2^(1 - n) of n pairs. The p values of "
    "all pairs are corrected together by Holm's method; intervals of differences are 95 %, each for itself. Fréchet "
    "distances are averaged and tested as logarithms, since their spread grows with their size: means are geometric, "
    "and two of them differ by a factor. Shares are averaged and tested as angles asin √p, so that no interval leaves "
    "0 to 1; their differences are given without an interval. Other scores, and differences from real images, are "
    "tested as they are; so is a score with a value that has no logarithm, as a distance of 0. Failed runs are left "
    "out of means and tests and come last in the ranks."
)


@dataclass(frozen=True)
class Summary:
    """Mean, sample deviation (n - 1) and 95 % interval of the mean over the runs that finished; None: not known.

    All in the score's units. On the log scale the mean is geometric; the deviation is that on the scale times the slope
    of the way back, which is about the plain one while it is small against the mean.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    count: int
    method: str
    """`Student t`, `bootstrap`, or `none` below two values."""


@dataclass(frozen=True)
class Difference:
    """How much better the first is than the second, positive when it is better, on the scale."""

    mean: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, not corrected; None when no test is possible."""
    pairs: int
    """Seeds that both have; 0 when the two were not paired."""
    test: str
    """`paired t`, `sign flips`, `Welch` or `none`."""
    means: tuple[float | None, float | None]
    """Of the values used, in the score's units; with better = "near" their distance to the target."""
    counts: tuple[int, int]
    deviation: float | None
    """Of the difference at one seed."""
    left_out: tuple[int, ...]
    """Seeds that a paired test could not use, because a run failed or is missing on one side."""
    scale: Scale = "plain"
    """That of mean, interval and deviation: `plain` in the score's units, `log` a logarithm of a factor."""

    @property
    def shown(self) -> tuple[float | None, float | None, float | None]:
        """For a reader: a factor with its interval (log), a difference of shares (no interval), or as it is (plain)."""
        first, second = self.means
        if self.scale == "share":
            apart = None if first is None or second is None else first - second
            return apart if apart is None or self.mean is None else math.copysign(apart, self.mean), None, None
        mean, low, high = (
            None if value is None else transforms.back(value, self.scale) for value in (self.mean, self.low, self.high)
        )
        return mean, low, high


@dataclass(frozen=True)
class Verdict:
    """The verdict on a pair by one score; `word` is about the first of the two."""

    first: str
    second: str
    word: str
    """`better`, `worse`, `cannot be told apart` or `no verdict possible`."""
    difference: Difference
    p_value: float | None = None
    """After Holm's correction over all pairs of the table."""
    seeds_needed: int | None = None
    """Where nothing is decided: seeds that would likely decide it; None when 100 would not."""
    reason: Reason = ""
    """Why no verdict is possible."""
    leaping: tuple[str, ...] = ()
    """Configurations whose own runs fall into two groups about as far apart as these two are, which raised p."""
    tests: int = 1
    """Pairs whose p values were corrected together."""
    target: float | None = None
    """The value to which the means are distances; None for scores that are compared as they are."""

    @property
    def decided(self) -> bool:
        """Whether one of the two is better."""
        return self.word in ("better", "worse")

    @property
    def possible(self) -> bool:
        """Whether the pair could be compared at all; `reason` says why not."""
        return self.word != "no verdict possible"

    @property
    def winner(self) -> str:
        """The better one; empty where nothing is decided."""
        return {"better": self.first, "worse": self.second}.get(self.word, "")


# --- one configuration


def summary(values: Iterable[float | None], scale: Scale = "plain") -> Summary:
    """Mean, deviation and a 95 % interval of the mean over seeds; None and NaN are failed runs and left out.

    Computed on the scale (if it holds all values) and given in the score's units, so that an interval of a distance is
    above 0 and one of a share within [0, 1].

    Below eight values the interval is Student's, from eight on the bootstrap's percentiles, taken as far out as makes
    up for the few values (Hesterberg 2015, expanded percentiles; 10,000 resamples, seeded). Coverage of this choice by
    simulation with 3, 5 and 10 values, 95 % promised: 95, 95, 95 % on normal values, 92, 91, 92 % on mildly (log
    deviation 0.5) and 83, 82, 86 % on strongly skewed ones (1.0). Plain percentiles cover 75, 82, 90 % of normal ones;
    the studentised bootstrap covers 91 % of strongly skewed ones with 10 values, but its intervals are ten times
    as long as these when one or two runs of ten collapsed.
    """
    finished = [float(value) for value in values if value is not None and math.isfinite(value)]
    count, scale = len(finished), transforms.usable(scale, finished)
    if count < 2:
        return Summary(finished[0] if count else None, None, None, None, count, "none")
    known = np.array([transforms.forward(value, scale) for value in finished])
    middle, spread, reach = float(known.mean()), _deviation(known, scale), t_quantile((1 + CONFIDENCE) / 2, count - 1)
    mean, deviation = transforms.back(middle, scale), spread * transforms.slope(middle, scale)
    if count < FEWEST_RESAMPLED:
        half = reach * spread / math.sqrt(count)
        low, high = transforms.back(middle - half, scale), transforms.back(middle + half, scale)
        return Summary(mean, deviation, low, high, count, "Student t")
    tail = 0.5 * math.erfc(reach * math.sqrt(count / (count - 1)) / math.sqrt(2))
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    ends = np.quantile(known[drawn].mean(axis=1), [tail, 1 - tail]).tolist()
    return Summary(
        mean, deviation, transforms.back(ends[0], scale), transforms.back(ends[1], scale), count, "bootstrap"
    )


def _deviation(values: NDArray[np.float64], scale: Scale) -> float:
    """The sample deviation of values on the scale, exactly 0 where only rounding differs."""
    deviation = float(values.std(ddof=1))
    return deviation if deviation > ROUNDING * transforms.rounding(values, scale) else 0.0


def clopper_pearson(ones: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper & Pearson 1934)."""
    from scipy import special

    tail = (1 - CONFIDENCE) / 2
    low = float(special.betaincinv(ones, count - ones + 1, tail)) if ones else 0.0
    high = float(special.betaincinv(ones + 1, count - ones, 1 - tail)) if ones < count else 1.0
    return low, high


# --- Student's t


def t_two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's t."""
    from scipy import special

    return float(2 * special.stdtr(freedom, -abs(t)))


def t_quantile(probability: float, freedom: float) -> float:
    """The t with P(T <= t) = probability."""
    from scipy import special

    return float(special.stdtrit(freedom, probability))


def t_power(effect: float, count: int, level: float) -> float:
    """The chance that a paired t test at that two-sided level finds an effect (mean over deviation) in its direction.

    With S² = χ²/f the T is (Z + effect √n) / S, so the chance is the mean of Φ(effect √n - t S) over S; scipy's
    noncentral t does not end where the effect is very large.
    """
    from scipy import special

    freedom = count - 1
    critical, shift = t_quantile(1 - level / 2, freedom), effect * math.sqrt(count)
    grid = (np.arange(300) + 0.5) / 300 * (1 + 8 / math.sqrt(freedom))
    weights = np.exp((freedom - 1) * np.log(grid) - freedom / 2 * (grid**2 - 1))
    return float(weights @ special.ndtr(shift - critical * grid) / weights.sum())


# --- two configurations


def compare(
    first: Runs,
    second: Runs,
    *,
    better: str,
    target: float | None = None,
    scale: Scale = "plain",
    level: float = 1 - CONFIDENCE,
) -> Difference:
    """How much better the first is, with 95 % interval and two-sided p value, over the seeds that both have.

    better: "lower", "higher", or "near" with a target, where plain distances to the target are compared. Otherwise
    values are compared on the scale, if it holds them all. The test is chosen
    by the number of seeds and never by the values. All 2^n sign patterns are tried where the least p value that this
    can give, 2^(1-n), is a quarter of `level` or less (8 seeds at 0.05); its interval is that of the means of subsets
    (Hartigan 1969). Below, where it could hardly ever or never decide (n = 3: p at least 0.25), the paired t test,
    which assumes differences about normal. With fewer than two common seeds, or two where each has three or more of its
    own, Welch's test of all values (Welch 1947).
    Differences without any spread have no t value; their p value is the least that permuting could give.
    """
    scale = fitting_scale(scale, better, (first, second))
    one, other = (orient(runs, better, target, scale) for runs in (first, second))
    common = sorted(one.keys() & other.keys())
    fewer = min(len(one), len(other))
    if len(common) < 2 <= fewer or len(common) < FEWEST_SEEDS <= fewer:
        return _welch(np.array(list(one.values())), np.array(list(other.values())), better, scale)
    left_out = tuple(sorted((first.keys() | second.keys()) - set(common)))
    pairs = len(common)
    if pairs < 2:
        seen = [[values[seed] for seed in common] or list(values.values()) for values in (one, other)]
        means = [_shown(float(np.mean(values)), better, scale) if values else None for values in seen]
        mean = one[common[0]] - other[common[0]] if common else None
        counts = (len(seen[0]), len(seen[1]))
        return Difference(mean, None, None, None, pairs, "none", (means[0], means[1]), counts, None, left_out, scale)
    ahead, behind = (np.array([values[seed] for seed in common]) for values in (one, other))
    differences = ahead - behind
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    low: float | None
    high: float | None
    if spread <= ROUNDING * transforms.rounding(np.concatenate([ahead, behind]), scale):
        mean = mean if abs(mean) > ROUNDING * transforms.rounding(ahead, scale) else 0.0
        test, low, high, spread, p_value = "sign flips", None, None, 0.0, 2.0 ** (1 - pairs) if mean else 1.0
    elif LEAST_FLIPPED <= pairs <= MOST_FLIPPED and 2.0 ** (1 - pairs) <= level / 4:
        test, (low, high, p_value) = "sign flips", _sign_flips(differences)
    else:
        test, (low, high, p_value) = "paired t", _t_test(mean, spread / math.sqrt(pairs), pairs - 1)
    means_shown = (_shown(float(ahead.mean()), better, scale), _shown(float(behind.mean()), better, scale))
    return Difference(mean, low, high, p_value, pairs, test, means_shown, (pairs, pairs), spread, left_out, scale)


def unanimous(first: Runs, second: Runs, *, better: str, target: float | None = None) -> int:
    """1 where the first is better at every seed that both have, -1 where the second is; 0 else, or without any."""
    one, other = (orient(runs, better, target, "plain") for runs in (first, second))
    signs = {(one[seed] > other[seed]) - (one[seed] < other[seed]) for seed in one.keys() & other.keys()}
    return signs.pop() if len(signs) == 1 else 0


def fitting_scale(scale: Scale, better: str, table: Iterable[Runs]) -> Scale:
    """The scale on which all of these runs are compared: distances to a target have none."""
    return (
        "plain" if better == "near" else transforms.usable(scale, [value for runs in table for value in runs.values()])
    )


def orient(runs: Runs, better: str, target: float | None, scale: Scale) -> dict[int, float]:
    """The finished runs on the scale, turned so that higher is better."""
    known = {seed: float(value) for seed, value in runs.items() if value is not None and math.isfinite(value)}
    if better in ("higher", "lower"):
        sign = 1 if better == "higher" else -1
        return {seed: sign * transforms.forward(value, scale) for seed, value in known.items()}
    if better != "near":
        raise ModisteError(f"a score is better lower, higher or near, not {better!r}; say one of the three")
    if target is None or not math.isfinite(target):
        raise ModisteError(f"a score that is better near real images needs theirs, not {target}; evaluate it again")
    return {seed: -abs(value - target) for seed, value in known.items()}


def _shown(value: float, better: str, scale: Scale) -> float:
    return transforms.back(value if better == "higher" else -value + 0.0, scale)


def _t_test(mean: float, error: float, freedom: float) -> tuple[float, float, float]:
    """Low, high and p value of a mean with that standard error."""
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    return mean - half, mean + half, t_two_sided(mean / error, freedom)


def _welch(one: NDArray[np.float64], other: NDArray[np.float64], better: str, scale: Scale) -> Difference:
    """Two unpaired groups of unequal spread: Welch 1947."""
    mean, counts = float(one.mean() - other.mean()), (len(one), len(other))
    deviations = _deviation(one, scale), _deviation(other, scale)
    parts = [deviation**2 / count for deviation, count in zip(deviations, counts, strict=True)]
    error = math.sqrt(sum(parts))
    low: float | None
    high: float | None
    if error == 0:
        same = abs(mean) <= ROUNDING * transforms.rounding(one, scale)
        low, high, p_value = None, None, 1.0 if same else min(1.0, 2 / math.comb(sum(counts), counts[0]))
    else:
        shares = [part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)]
        low, high, p_value = _t_test(mean, error, sum(parts) ** 2 / sum(shares))
    means = _shown(float(one.mean()), better, scale), _shown(float(other.mean()), better, scale)
    return Difference(mean, low, high, p_value, 0, "Welch", means, counts, math.hypot(*deviations), (), scale)


def _sign_flips(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Low, high and p value from all 2^n sign patterns: flipping a set's signs asks for that set's sum."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for difference in differences:
        sums, sizes = np.concatenate([sums, sums + difference]), np.concatenate([sizes, sizes + 1])
    rounding = ROUNDING * float(np.abs(differences).sum())
    tail = min(int((sums <= rounding).sum()), int((sums >= -rounding).sum()))
    means = np.sort(sums[1:] / sizes[1:])  # without the empty set
    skipped = math.floor((1 - CONFIDENCE) / 2 * len(sums))
    return float(means[skipped - 1]), float(means[-skipped]), min(1.0, 2 * tail / len(sums))


# --- many configurations


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, corrected so that all of them together err in at most the share asked for (Holm 1979)."""
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = so_far
    return adjusted


def verdicts(
    table: Table, *, better: str, target: float | None = None, scale: Scale = "plain", alpha: float = 0.05
) -> list[Verdict]:
    """A verdict for every pair of configurations, in the table's order; false ones in at most alpha of all studies.

    A pair with fewer than three seeds has none: two differences cannot tell a small spread from a lucky one. Holm's
    correction runs over all pairs that can be tested. What is found of a difference of 5 deviations (between runs of
    one configuration, normal, no gain from pairing): with two configurations 85 % by 3 seeds and all by 5; with four,
    of which one is off, 30 % by 3 seeds and 98 % by 5. Four distances that grow by factors of three and vary by 20 %:
    79 % by 3 seeds as logarithms, 44 % as they are.
    """
    scale = fitting_scale(scale, better, table.values())
    couples = list(itertools.combinations(table, 2))
    oriented = {name: orient(runs, better, target, scale) for name, runs in table.items()}
    testable = math.comb(sum(len(known) >= FEWEST_SEEDS for known in oriented.values()), 2)
    level = alpha / max(1, testable)
    found: dict[tuple[str, str], Difference] = {}
    leaps: dict[tuple[str, str], tuple[str, ...]] = {}
    raw: dict[tuple[str, str], float] = {}
    for one, two in couples:
        couple = one, two
        found[couple] = compare(table[one], table[two], better=better, target=target, scale=scale, level=level)
        leaps[couple] = ()
        p_value, least = found[couple].p_value, _least_p(found[couple])
        if p_value is None or min(found[couple].counts) < FEWEST_SEEDS:
            continue
        if p_value < least:
            leaps[couple] = _leaping(oriented, one, two)
        raw[couple] = least if leaps[couple] else p_value
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    short = sum(_reason(difference) == "two seeds" for difference in found.values())
    undecided = short + sum(p > alpha for p in adjusted.values())
    results = []
    for couple, difference in found.items():
        p_value, reason = adjusted.get(couple), _reason(difference)
        if p_value is None:
            word = "no verdict possible"
        elif p_value <= alpha:
            word = "better" if (difference.mean or 0.0) > 0 else "worse"
        else:
            word = "cannot be told apart"
        needed = None
        if reason == "two seeds" or word == "cannot be told apart":
            needed = seeds_needed(difference, alpha / undecided, exactly=bool(leaps[couple]))
        near = target if better == "near" else None
        results.append(Verdict(*couple, word, difference, p_value, needed, reason, leaps[couple], len(raw), near))
    return results


def _reason(difference: Difference) -> Reason:
    """Why no test is possible; empty where one is."""
    if None in difference.means:
        return "no run"
    seeds = min(difference.counts)
    return "" if seeds >= FEWEST_SEEDS else "two seeds" if seeds == 2 else "one seed"


def _least_p(difference: Difference) -> float:
    """The least p value that permuting the runs of a pair could give, whatever they are; 1 without runs."""
    if 0 in difference.counts:
        return 1.0
    if difference.pairs:
        return float(2.0 ** (1 - difference.pairs))
    return min(1.0, 2 / math.comb(sum(difference.counts), difference.counts[0]))


def _leaping(oriented: Mapping[str, Mapping[int, float]], one: str, two: str) -> tuple[str, ...]:
    """Other configurations whose runs fall into two groups about as far apart as this pair.

    Where every run may collapse by chance, all of one side and none of the other do so in 1 of 32 pairs of three seeds,
    and the t test takes the small spread on both levels for certainty: 4 configurations, 3 seeds, half of all runs
    collapsed, that made 15 % false verdicts. Then the others mostly have runs on both levels, which shows here.
    """
    sides = [list(oriented[name].values()) for name in (one, two)]
    if not all(sides):
        return ()
    apart = abs(float(np.mean(sides[0])) - float(np.mean(sides[1])))
    found = []
    for name, known in oriented.items():
        values = sorted(known.values())
        if name in (one, two) or len(values) < 2 or not apart:
            continue
        gap = max(after - before for before, after in itertools.pairwise(values))
        rest = values[-1] - values[0] - gap
        if LEAP[0] * apart <= gap <= LEAP[1] * apart and rest <= LEVEL_WIDTH * apart:
            found.append(name)
    return tuple(found)


def seeds_needed(difference: Difference, level: float, *, exactly: bool = False) -> int | None:
    """The least number of paired seeds, at most 100, that shows this difference at that level in four of five studies.

    Power of the paired t test when mean and deviation are what they seem to be; with three seeds the deviation may
    well be twice or half of what it seems, so it is a rough number. `exactly`: so many that permuting alone can show it
    too. None when 100 seeds would not do.
    """
    if difference.mean is None or difference.deviation is None or difference.mean == 0:
        return None
    fewest, permuted = min(difference.counts) + 1, 1 + math.ceil(-math.log2(level))
    if difference.deviation == 0:
        return max(fewest, permuted)
    fewest = max(fewest, permuted) if exactly else fewest
    effect = abs(difference.mean) / difference.deviation
    counts = range(fewest, MOST_SEEDS + 1)
    if not counts or t_power(effect, MOST_SEEDS, level) < POWER:
        return None
    below, enough = fewest - 1, MOST_SEEDS
    while enough - below > 1:  # power rises with the count
        middle = (below + enough) // 2
        below, enough = (below, middle) if t_power(effect, middle, level) >= POWER else (middle, enough)
    return enough
