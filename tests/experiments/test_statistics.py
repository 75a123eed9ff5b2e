"""Statistics over seeds against closed forms and scipy, at the edges, and by simulation: what verdicts promise."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from modiste.errors import ModisteError
from modiste.experiments import statistics
from modiste.experiments.ranks import rank_table
from modiste.metrics import transforms

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def runs(*values: float | None) -> dict[int, float | None]:
    return dict(enumerate(values))


def table(values: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"c{row}": dict(enumerate(seeds.tolist())) for row, seeds in enumerate(values)}


SWIFT, ROH = (2.24, 2.53, 2.54), (68.1, 58.7, 52.3)  # Fréchet distances of two systems over three seeds


def words(table: statistics.Table, **options: object) -> list[str]:
    return [verdict.word for verdict in statistics.verdicts(table, **{"better": "lower", **options})]  # type: ignore[arg-type]


def test_an_interval_of_few_pairs_is_never_reversed() -> None:
    for pairs in range(2, 8):
        ones, zeros = runs(*range(1, pairs + 1)), runs(*[0.0] * pairs)
        found = statistics.compare(ones, zeros, better="lower", level=0.5)
        assert found.low is not None and found.high is not None and found.low < found.high


# --- Student's t


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 9, 60, 999])
def test_t_agrees_with_scipy(freedom: float) -> None:
    for t in (0.0, 0.01, 0.7, 2.0, 4.3, 30.0, 1e4):
        assert statistics.t_two_sided(-t, freedom) == pytest.approx(2 * scipy.stats.t.sf(t, freedom), rel=1e-9)
    for probability in (0.5, 0.6, 0.975, 0.9999):
        expected = scipy.stats.t.ppf(probability, freedom)
        assert statistics.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_t_in_closed_form() -> None:
    assert statistics.t_two_sided(1.0, 1) == pytest.approx(0.5, rel=1e-12)  # Cauchy: quartiles at 1
    assert statistics.t_two_sided(3.0, 2) == pytest.approx(1 - 3 / math.sqrt(11), rel=1e-12)
    assert statistics.t_quantile(0.975, 1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-11)


@pytest.mark.parametrize(
    ("effect", "count", "level"), [(1, 3, 0.05), (5, 3, 0.05 / 6), (1, 10, 0.01), (0.3, 100, 0.05)]
)
def test_power_is_the_noncentral_t(effect: float, count: int, level: float) -> None:
    critical = scipy.stats.t.ppf(1 - level / 2, count - 1)
    expected = scipy.stats.nct.sf(critical, count - 1, effect * math.sqrt(count))
    assert statistics.t_power(effect, count, level) == pytest.approx(expected, abs=1e-4)


# --- one configuration


def test_summary_of_few_values_is_student() -> None:
    values = [0.41, 0.52, 0.38]
    found = statistics.summary(values)
    error = scipy.stats.sem(values)
    assert (found.low, found.high) == pytest.approx(scipy.stats.t.interval(0.95, 2, np.mean(values), error))
    assert (found.mean, found.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.count, found.method) == (3, "Student t")


def test_summary_of_many_values_is_a_bootstrap_as_wide_as_student() -> None:
    values = np.random.default_rng(0).normal(5, 1, 12).tolist()
    found = statistics.summary(values)
    low, high = scipy.stats.t.interval(0.95, 11, np.mean(values), scipy.stats.sem(values))
    assert found.method == "bootstrap"
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)
    assert found == statistics.summary(values)
    skewed = statistics.summary([*[1.0 + 0.01 * k for k in range(9)], 3.0])
    assert skewed.low is not None and skewed.high is not None and skewed.mean is not None
    assert min(1.0, skewed.mean) <= skewed.low and skewed.high - skewed.mean > 1.3 * (skewed.mean - skewed.low)


def test_summary_leaves_failed_runs_out() -> None:
    assert statistics.summary([1.0, None, float("nan"), 3.0, float("inf")]) == statistics.summary([1.0, 3.0])
    assert statistics.summary([2.0]) == statistics.Summary(2.0, None, None, None, 1, "none")
    assert statistics.summary([None]) == statistics.Summary(None, None, None, None, 0, "none")
    same = statistics.summary([0.1 + 0.2, 0.3, 0.3])
    assert same.deviation == 0 and same.low == same.high == same.mean


@pytest.mark.parametrize(("count", "least"), [(3, 0.93), (5, 0.93), (10, 0.92)])
def test_the_interval_covers_the_mean(count: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random, times, covered = np.random.default_rng(count), 800, 0
    for _ in range(times):
        found = statistics.summary(random.normal(7, 2, count).tolist())
        assert found.low is not None and found.high is not None
        covered += found.low <= 7 <= found.high
    assert least < covered / times < 0.975


def test_the_mean_on_the_log_scale_is_geometric_and_its_interval_is_of_factors() -> None:
    values = [1.0, 2.0, 4.0]
    found = statistics.summary(values, "log")
    reach = scipy.stats.t.ppf(0.975, 2) * math.log(2) / math.sqrt(3)  # the logarithms are 0, 1 and 2 times ln 2
    assert found.mean == pytest.approx(2.0) and found.deviation == pytest.approx(2 * math.log(2))
    assert (found.low, found.high) == pytest.approx((2 / math.exp(reach), 2 * math.exp(reach)))
    assert found.mean == pytest.approx(scipy.stats.gmean(values))
    assert statistics.summary([0.3], "log").mean == 0.3
    same = statistics.summary([0.1 + 0.2, 0.3, 0.3], "log")
    assert same.deviation == 0 and same.low == same.high == same.mean


def test_the_mean_of_shares_is_that_of_angles() -> None:
    values = [0.9, 0.97, 1.0]
    angles = np.arcsin(np.sqrt(values))
    low, high = scipy.stats.t.interval(0.95, 2, angles.mean(), scipy.stats.sem(angles))
    found = statistics.summary(values, "share")
    assert found.mean == pytest.approx(math.sin(angles.mean()) ** 2)
    assert found.low == pytest.approx(math.sin(low) ** 2)
    assert high > math.pi / 2 and found.high == 1.0  # cut off where the share ends
    assert statistics.summary([0.0, 0.0, 0.0], "share") == statistics.Summary(0.0, 0.0, 0.0, 0.0, 3, "Student t")


@pytest.mark.parametrize("count", [2, 3, 7, 8, 12])
def test_no_interval_leaves_the_range_of_its_score(count: int) -> None:
    random = np.random.default_rng(count)
    for spread in (0.1, 1.0, 5.0):
        distances = statistics.summary(np.exp(spread * random.normal(size=count)).tolist(), "log")
        assert distances.mean is not None and distances.low is not None and distances.high is not None
        assert 0 < distances.low < distances.mean < distances.high < math.inf
    for near in (0.0, 0.001, 0.5, 0.999, 1.0):
        shares = statistics.summary((random.binomial(1000, near, count) / 1000).tolist(), "share")
        assert shares.mean is not None and shares.low is not None and shares.high is not None
        assert 0 <= shares.low <= shares.mean <= shares.high <= 1


def test_a_value_that_the_scale_does_not_know_leaves_all_of_the_score_as_it_is() -> None:
    assert transforms.usable("log", [1.0, None, 2.0, math.nan]) == "log"
    assert [transforms.usable("log", [1.0, bad]) for bad in (0.0, -0.1)] == ["plain"] * 2
    assert transforms.usable("share", [0.0, 1.0, None]) == "share"
    assert [transforms.usable("share", [0.5, bad]) for bad in (-0.1, 1.1)] == ["plain"] * 2
    assert statistics.summary([0.0, 1.0, 5.0], "log") == statistics.summary([0.0, 1.0, 5.0])
    study = {"a": runs(1.0, 1.1, 1.3), "b": runs(2.0, 2.5, 2.2), "zero": runs(0.0, 0.1, 0.2)}
    assert statistics.verdicts(study, better="lower", scale="log") == statistics.verdicts(study, better="lower")
    assert rank_table(study, better="lower", scale="log") == rank_table(study, better="lower")
    without = {name: study[name] for name in ("a", "b")}
    assert statistics.verdicts(without, better="lower", scale="log")[0].difference.scale == "log"


@pytest.mark.parametrize(("scale", "values"), [("log", (1e-9, 0.3, 1.0, 7e8)), ("share", (0.0, 1e-6, 0.5, 1.0))])
def test_the_way_back_leads_back(scale: transforms.Scale, values: tuple[float, ...]) -> None:
    places = [transforms.forward(value, scale) for value in values]
    assert places == sorted(places)
    assert [transforms.back(place, scale) for place in places] == pytest.approx(values, rel=1e-12)
    step = 1e-6
    for place in places[1:3]:
        slope = (transforms.back(place + step, scale) - transforms.back(place - step, scale)) / (2 * step)
        assert transforms.slope(place, scale) == pytest.approx(slope, rel=1e-5)


# --- two configurations


def test_paired_t_agrees_with_scipy() -> None:
    first, second = [0.41, 0.52, 0.38, 0.44], [0.61, 0.93, 0.50, 0.75]
    found = statistics.compare(runs(*first), runs(*second), better="lower")
    oracle = scipy.stats.ttest_rel(second, first)
    assert found.test == "paired t" and found.pairs == 4 and found.left_out == ()
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(second) - np.mean(first))
    assert found.means == pytest.approx((np.mean(first), np.mean(second)))


def test_the_direction_is_what_better_says() -> None:
    low, high = runs(1.0, 1.1, 0.9), runs(2.0, 2.3, 1.9)
    lower, higher = (statistics.compare(low, high, better=better) for better in ("lower", "higher"))
    assert lower.mean == pytest.approx(3.2 / 3) and higher.mean == pytest.approx(-3.2 / 3)
    assert lower.p_value == higher.p_value
    turned = statistics.compare(high, low, better="lower")
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-lower.mean, -lower.high, -lower.low))  # type: ignore[operator]


def test_near_compares_distances_to_the_target() -> None:
    around, off = runs(0.48, 0.53, 0.49), runs(0.7, 0.2, 0.8)
    found = statistics.compare(around, off, better="near", target=0.5)
    distances = statistics.compare(runs(0.02, 0.03, 0.01), runs(0.2, 0.3, 0.3), better="lower")
    assert (found.mean, found.p_value) == pytest.approx((distances.mean, distances.p_value))
    assert found.means == pytest.approx((0.02, 0.8 / 3))


def brute_force(differences: list[float]) -> float:
    total = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    sums = [abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) for signs in patterns]
    return sum(value >= total - 1e-12 for value in sums) / len(patterns)


def test_sign_flips_are_exact_and_agree_with_their_interval() -> None:
    random = np.random.default_rng(3)
    seen = set()
    for shift in (0.0, 0.4, 0.6, 0.8, 1.0, 1.5) * 3:
        differences = random.normal(shift, 1, 9).tolist()
        found = statistics.compare(runs(*differences), runs(*[0.0] * 9), better="higher")
        assert found.test == "sign flips" and found.p_value == pytest.approx(brute_force(differences), rel=1e-12)
        assert found.low is not None and found.high is not None
        assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0)
        seen.add(found.p_value <= 0.05)
    assert seen == {True, False}
    library = scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p_value == pytest.approx(library.pvalue, rel=1e-9)


def test_the_number_of_seeds_and_the_level_choose_the_test() -> None:
    def test(pairs: int, level: float) -> str:
        values = np.random.default_rng(pairs).normal(0, 1, pairs)
        return statistics.compare(table(values[None])["c0"], runs(*[0.0] * pairs), better="lower", level=level).test

    assert [test(pairs, 0.05) for pairs in (2, 7, 8, 16, 17)] == ["paired t"] * 2 + ["sign flips"] * 2 + ["paired t"]
    assert [test(pairs, 0.05 / 6) for pairs in (9, 10)] == ["paired t", "sign flips"]


def test_without_common_seeds_it_is_welch() -> None:
    first, second = [1.0, 1.4, 1.1], [2.0, 3.5, 2.2, 2.6]
    found = statistics.compare(dict(enumerate(first)), dict(enumerate(second, start=10)), better="higher")
    oracle = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert found.test == "Welch" and found.pairs == 0 and found.counts == (3, 4)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-9)
    constant = statistics.compare({0: 1.0, 1: 1.0}, {2: 2.0, 3: 2.0}, better="lower")
    assert constant.p_value == pytest.approx(2 / 6) and constant.low is None


def test_failed_and_missing_runs_are_left_out_and_named() -> None:
    first = {0: 1.0, 1: 1.2, 2: None, 3: 1.1, 4: 9.0}
    second = {0: 2.0, 1: 2.1, 2: 2.2, 3: 2.4, 5: float("nan")}
    found = statistics.compare(first, second, better="lower")
    assert found.left_out == (2, 4, 5) and found.pairs == 3
    assert found.p_value == statistics.compare(runs(1.0, 1.2, 1.1), runs(2.0, 2.1, 2.4), better="lower").p_value


def test_no_spread_is_no_certainty() -> None:
    found = statistics.compare(runs(0.1, 0.1, 0.1), runs(0.3, 0.3, 0.1 + 0.2), better="lower")
    assert (found.p_value, found.deviation, found.low) == (0.25, 0.0, None)
    same = statistics.compare(runs(1.0, 2.0, 3.0), runs(1.0, 2.0, 3.0), better="lower")
    assert (same.p_value, same.mean) == (1.0, 0.0)


def test_one_pair_has_a_difference_and_no_p_value() -> None:
    found = statistics.compare(runs(1.0), runs(3.0), better="lower")
    assert (found.mean, found.p_value, found.test, found.means) == (2.0, None, "none", (1.0, 3.0))
    empty = statistics.compare(runs(None), runs(3.0), better="lower")
    assert (empty.mean, empty.p_value, empty.means, empty.left_out) == (None, None, (None, 3.0), (0,))


def test_a_wrong_direction_and_a_missing_target_are_told() -> None:
    with pytest.raises(ModisteError, match="not 'best'"):
        statistics.compare(runs(1.0), runs(2.0), better="best")
    with pytest.raises(ModisteError, match="needs theirs, not None"):
        statistics.verdicts({"a": runs(1.0), "b": runs(2.0)}, better="near")


def test_logarithms_are_compared_as_scipy_compares_them() -> None:
    found = statistics.compare(runs(*SWIFT), runs(*ROH), better="lower", scale="log")
    oracle = scipy.stats.ttest_rel(np.log(ROH), np.log(SWIFT))
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9) and found.test == "paired t"
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-9)
    assert found.means == pytest.approx((scipy.stats.gmean(SWIFT), scipy.stats.gmean(ROH)))
    factor = scipy.stats.gmean(ROH) / scipy.stats.gmean(SWIFT)
    assert found.shown == pytest.approx((factor, *np.exp(oracle.confidence_interval(0.95))))
    apart = statistics.compare(runs(*SWIFT), dict(enumerate(ROH, start=5)), better="lower", scale="log")
    oracle = scipy.stats.ttest_ind(np.log(ROH), np.log(SWIFT), equal_var=False)
    assert apart.test == "Welch" and apart.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    many = [1 + 0.1 * k for k in range(9)], [(1 + 0.1 * k) * (0.9 + 0.05 * k) for k in range(9)]
    flipped = statistics.compare(runs(*many[0]), runs(*many[1]), better="lower", scale="log")
    assert flipped.test == "sign flips"
    assert flipped.p_value == pytest.approx(brute_force((np.log(many[1]) - np.log(many[0])).tolist()), rel=1e-12)


def test_shares_are_compared_as_angles_and_told_as_shares() -> None:
    first, second = [0.90, 0.95, 0.93], [0.41, 0.35, 0.52]
    found = statistics.compare(runs(*first), runs(*second), better="higher", scale="share")
    angles = [np.arcsin(np.sqrt(values)) for values in (first, second)]
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(*angles).pvalue, rel=1e-9)
    shares = [math.sin(angle.mean()) ** 2 for angle in angles]
    assert found.means == pytest.approx(shares) and found.shown == (pytest.approx(shares[0] - shares[1]), None, None)
    worse = statistics.compare(runs(*second), runs(*first), better="higher", scale="share")
    assert worse.shown[0] == -found.shown[0]  # type: ignore[operator]
    lower = statistics.compare(runs(*second), runs(*first), better="lower", scale="share")
    assert lower.shown == found.shown
    never = statistics.compare(runs(0.0, 0.0, 0.0), runs(1.0, 1.0, 1.0), better="higher", scale="share")
    assert (never.shown, never.p_value) == ((-1.0, None, None), 0.25)


@pytest.mark.parametrize("seeds", [3, 9])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_no_verdict_hangs_on_the_unit_of_a_distance(better: str, seeds: int) -> None:
    values = np.exp(np.random.default_rng(seeds).normal([[0], [1], [1.2], [4]], 0.2, (4, seeds)))
    small, large = (table(values * unit) for unit in (1.0, 1000.0))
    one, other = (statistics.verdicts(each, better=better, scale="log") for each in (small, large))
    assert [verdict.word for verdict in one] == [verdict.word for verdict in other]
    assert len({verdict.word for verdict in one}) > 1
    assert [verdict.p_value for verdict in one] == pytest.approx([verdict.p_value for verdict in other], rel=1e-6)
    for first, second in zip(one, other, strict=True):
        assert first.difference.shown == pytest.approx(second.difference.shown)
    ranked = [rank_table(each, better=better, scale="log") for each in (small, large)]
    assert [(row.name, row.groups) for row in ranked[0]] == [(row.name, row.groups) for row in ranked[1]]
    swapped = statistics.compare(runs(*SWIFT), runs(*ROH), better="higher", scale="log")
    assert swapped.mean == -statistics.compare(runs(*SWIFT), runs(*ROH), better="lower", scale="log").mean  # type: ignore[operator]


def test_distances_to_a_target_have_no_scale() -> None:
    around, off = runs(0.48, 0.53, 0.49), runs(0.7, 0.2, 0.8)
    plain = statistics.compare(around, off, better="near", target=0.5)
    assert statistics.compare(around, off, better="near", target=0.5, scale="share") == plain
    assert plain.scale == "plain"


# --- many configurations


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_the_seeds_that_are_needed_are_the_fewest_with_that_power() -> None:
    found = statistics.compare(runs(1.0, 2.1, 2.9), runs(1.9, 2.2, 3.9), better="lower")
    needed = statistics.seeds_needed(found, 0.01)
    assert needed is not None and found.mean is not None and found.deviation is not None
    effect = found.mean / found.deviation
    assert statistics.t_power(effect, needed, 0.01) >= 0.8 > statistics.t_power(effect, needed - 1, 0.01)


def test_the_seeds_that_are_needed_allow_for_the_other_open_pairs() -> None:
    study = {"a": runs(1.0, 2.1, 2.9), "b": runs(1.9, 2.2, 3.9), "c": runs(2.0, 1.6, 4.1)}
    found = statistics.verdicts(study, better="lower")
    assert [verdict.word for verdict in found] == ["cannot be told apart"] * 3
    for verdict in found:
        assert verdict.seeds_needed == statistics.seeds_needed(verdict.difference, 0.05 / 3)
    assert found[0].seeds_needed != statistics.seeds_needed(found[0].difference, 0.05)


# --- by simulation


def normal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(size=shape)


def lognormal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.exp(random.normal(size=shape))


def shared_noise(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(size=shape) + 3 * random.normal(size=(1, shape[1]))


def uneven(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(size=shape) * np.array([[0.1], [1], [1], [10]])


def coarse(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.round(random.normal(size=shape) * 2) / 2


def positive(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return 1 + 0.2 * random.normal(size=shape).clip(-4, 4)


def uneven_lognormal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.exp(0.1 * uneven(random, shape))


def shares(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.binomial(10_000, random.beta(9, 1, shape)) / 10_000


def rare_shares(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.binomial(10_000, random.beta(1, 3000, shape)) / 10_000


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("draw", "scale"),
    [
        *((draw, "plain") for draw in (normal, lognormal, shared_noise, uneven, coarse)),
        *((draw, "log") for draw in (lognormal, positive, uneven_lognormal)),
        *((draw, "share") for draw in (shares, rare_shares)),
    ],
)
def test_without_a_difference_few_studies_see_one(
    draw: Draw, scale: transforms.Scale, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "seeds_needed", lambda *_, **__: None)  # most of the time, and no verdict
    random, studies = np.random.default_rng(seeds), 400
    values = [draw(random, (4, seeds)) for _ in range(studies)]
    false = sum(bool({"better", "worse"} & set(words(table(drawn), scale=scale))) for drawn in values)
    assert false / studies <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / studies)


def test_the_log_scale_finds_what_spread_that_grows_with_the_distance_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "seeds_needed", lambda *_, **__: None)
    random, studies = np.random.default_rng(0), 60
    sizes = np.array([[1.0], [3.0], [9.0], [27.0]])
    values = [table(sizes * np.exp(0.2 * random.normal(size=(4, 3)))) for _ in range(studies)]
    log, plain = (sum(words(drawn, scale=scale).count("better") for drawn in values) for scale in ("log", "plain"))
    assert log > 1.5 * plain and log > 0.7 * 6 * studies


@pytest.mark.parametrize(
    ("configurations", "seeds", "deviations", "found"),
    [(2, 3, 5, 0.75), (4, 3, 15, 0.9), (4, 5, 5, 0.93), (4, 10, 2, 0.75)],
)
def test_large_differences_are_found(
    configurations: int, seeds: int, deviations: float, found: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "seeds_needed", lambda *_, **__: None)
    random, seen = np.random.default_rng(0), []
    for _ in range(100):
        values = random.normal(size=(configurations, seeds))
        values[0] -= deviations
        seen += words(table(values))[: configurations - 1]  # the pairs of the first one
    assert seen.count("better") / len(seen) > found
    assert "worse" not in seen


def test_statistics_load_numpy_and_nothing_heavier() -> None:
    code = "import sys, modiste.experiments.statistics; print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "set()"


@pytest.mark.parametrize(("ones", "count"), [(0, 9), (3, 9), (9, 9), (34, 100)])
def test_the_interval_of_a_share_is_scipys(ones: int, count: int) -> None:
    expected = scipy.stats.binomtest(ones, count).proportion_ci(0.95, "exact")
    assert statistics.clopper_pearson(ones, count) == pytest.approx((expected.low, expected.high))
