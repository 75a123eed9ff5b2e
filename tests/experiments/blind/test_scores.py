"""Results of people whose skill is known: what is found, how often chance is taken for skill, what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from blind_lab import answered, other, plain_key, right_with
from scipy import stats

from modiste.errors import UsageError
from modiste.experiments.blind import phrases, scores
from modiste.experiments.blind.answers import KeyTrial
from modiste.experiments.statistics import clopper_pearson

TRIALS = 85


def net(right: int, count: int) -> np.ndarray:
    return np.array([1] * right + [-1] * (count - right))


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("right", [0, 20, 42, 43, 51, 85])
def test_for_one_person_the_test_is_the_binomial_one(right: int, two_sided: bool) -> None:
    way = "two-sided" if two_sided else "greater"
    expected = stats.binomtest(right, TRIALS, alternative=way).pvalue
    assert scores.flip_p(net(right, TRIALS), two_sided) == pytest.approx(expected, abs=1e-12)


def test_of_several_persons_it_is_what_all_flips_give() -> None:
    values = np.array([3, -1, 2, 0, 2, 1, -3, 2])
    sums = np.array([np.dot(signs, np.abs(values)) for signs in itertools.product((-1, 1), repeat=8)])
    assert scores.flip_p(values, False) == pytest.approx(np.mean(sums >= values.sum()))
    assert scores.flip_p(values, True) == pytest.approx(min(1, 2 * np.mean(sums >= values.sum())))


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("count", [10, 40, TRIALS, 100])
def test_guessing_is_taken_for_skill_in_at_most_five_percent(count: int, two_sided: bool) -> None:
    found = [scores.flip_p(net(right, count), two_sided) <= 0.05 for right in range(count + 1)]
    assert 0.01 < sum(stats.binom.pmf(range(count + 1), count, 0.5)[found]) <= 0.05


def shares_found(share: float, people: int, tests: int) -> float:
    """How often such people tell the source apart, from sheets to verdict."""
    random, key, found = np.random.default_rng(3), plain_key(TRIALS), 0
    for _ in range(tests):
        sheets = [answered(key, right_with(share, random), name=str(k)) for k in range(people)]
        found += scores.score(key, sheets).pairs[0].word == "told apart"
    return found / tests


def test_simulated_raters_find_what_they_see_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares_found(0.65, 1, 300) >= 0.8  # 86 % by the binomial law
    assert shares_found(0.5, 1, 400) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    monkeypatch.setattr(scores, "RESAMPLES", 20)
    assert shares_found(0.5, 3, 200) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_people_of_one_taste_make_no_false_verdict_where_nothing_differs() -> None:
    """Six people who all choose the same picture of a pair are right together, by one toss of a coin for each trial."""
    random, tests, false, pooled = np.random.default_rng(5), 1_000, 0, 0
    for _ in range(tests):
        together = np.where(random.random(TRIALS) < 0.5, 1, -1)
        table = np.where(random.random((6, TRIALS)) < 0.85, together, -together)
        values = table.sum(axis=0)
        false += scores.flip_p(values, False) <= 0.05
        pooled += stats.binom.sf((table == 1).sum() - 1, table.size, 0.5) <= 0.05
    assert false / tests <= 0.06 < 0.15 < pooled / tests  # and answers taken as independent would make many


def test_errors_are_counted_in_all_by_class_and_by_person() -> None:
    trials = tuple(KeyTrial(0, name, "left") for name in ("bag", "coat") for _ in range(20))
    key = plain_key(trials=trials)
    sheet = answered(key, lambda k, trial: "right" if k in (0, 1, 2, 3, 20) else "left")
    result = scores.score(key, [sheet])
    (pair,), (bag, coat), (person,) = result.pairs, result.classes, result.people
    assert (pair.answers, pair.share, pair.word) == (40, 5 / 40, "told apart")
    assert (pair.low, pair.high) == pytest.approx(clopper_pearson(5, 40))
    assert (bag.class_name, bag.answers, bag.share, bag.p_value) == ("bag", 20, 0.2, None)
    assert (coat.class_name, coat.answers, coat.share, coat.word) == ("coat", 20, 0.05, "no verdict")
    assert (person.share, person.answered, person.seconds, person.counted) == (5 / 40, 40, 1.5, True)


def test_per_class_corrects_verdicts_over_pairs_and_classes() -> None:
    trials = tuple(KeyTrial(pair, name, "left") for pair in (0, 1) for name in ("bag", "coat") for _ in range(10))
    key = plain_key(pairs=2, trials=trials, per_class=True)
    sheet = answered(key, lambda k, trial: "left" if trial.pair == 0 or k % 2 else "right")
    result = scores.score(key, [sheet])
    assert result.tests == 6 and [one.word for one in result.pairs] == ["told apart", "not told apart"]
    raw = [2.0**-20, 0.5 + stats.binom.pmf(10, 20, 0.5) / 2, 2.0**-10, 2.0**-10, stats.binom.sf(4, 10, 0.5)]
    assert result.pairs[0].p_value == pytest.approx(6 * raw[0]) and result.pairs[1].p_value == 1
    assert [one.p_value for one in result.classes[:2]] == pytest.approx([5 * raw[2]] * 2)
    assert {one.word for one in result.classes} == {"told apart", "not told apart"}


def test_a_preference_has_two_sides() -> None:
    key = plain_key(40, question="better")
    for share, word in ((0.9, "first better"), (0.1, "second better"), (0.5, "not told apart")):
        sheet = answered(key, lambda k, trial, share=share: trial.first if k % 10 < 10 * share else other(trial.first))
        (pair,) = scores.score(key, [sheet]).pairs
        assert (pair.share, pair.word) == (share, word)
        low, high = clopper_pearson(round(40 * share), 40)
        assert (pair.low, pair.high) == pytest.approx((low, high))
    assert pair.further is None  # without any difference nothing would show one


def wrong_checks(count: int) -> Callable[..., object]:
    """A sheet in which so many attention checks are missed."""

    def make(key: object, sheet: object) -> object:
        chosen, missed = list(sheet.answers), 0  # type: ignore[attr-defined]
        for k, trial in enumerate(key.trials):  # type: ignore[attr-defined]
            if trial.pair is None and missed < count:
                chosen[k], missed = replace(chosen[k], choice=other(chosen[k].choice)), missed + 1
        return replace(sheet, answers=tuple(chosen))  # type: ignore[type-var]

    return make


@pytest.mark.parametrize("question", ["generated", "better"])
@pytest.mark.parametrize(("missed", "counted"), [(0, True), (1, True), (2, False)])
def test_who_misses_attention_checks_does_not_count(question: str, missed: int, counted: bool) -> None:
    key = plain_key(30, question=question)
    sheet = wrong_checks(missed)(key, answered(key, lambda _, trial: trial.first))
    result = scores.score(key, [sheet])  # type: ignore[list-item]
    (person,) = result.people
    assert (person.checks, person.checks_wrong, person.counted) == (8, missed, counted)
    assert result.pairs[0].answers == (30 if counted else 0)
    if not counted:
        assert person.reason == "attention checks" and person.share is not None
        assert result.pairs[0].word == "no verdict" and "no answers count" in phrases.sentences(result)[0]
        assert "ada missed 2 of 8 attention checks: the answers do not count" in phrases.sentences(result)[-1]


def with_times(times: list[int], key: object) -> object:
    sheet = answered(key, lambda _, trial: trial.first)  # type: ignore[arg-type]
    chosen = [replace(one, ms=ms) for one, ms in zip(sheet.answers, times, strict=True)]
    return replace(sheet, answers=tuple(chosen))


def test_answers_that_are_too_fast_are_left_out_and_said() -> None:
    key = plain_key(40, checks=0)
    result = scores.score(key, [with_times([299] * 3 + [300] * 37, key)])  # type: ignore[list-item]
    assert result.pairs[0].answers == 37 and result.people[0].too_fast == 3 and result.people[0].counted
    assert "3 answers in less than 300 ms, left out" in "\n".join(phrases.sentences(result))
    result = scores.score(key, [with_times([299] * 5 + [300] * 35, key)])  # type: ignore[list-item]
    assert result.people[0].reason == "too fast" and result.pairs[0].answers == 0
    assert "5 of 40 answers in less than 300 ms: the answers do not count" in "\n".join(phrases.sentences(result))


def test_the_interval_of_several_people_is_wider_where_they_differ() -> None:
    key = plain_key(100, checks=0)
    random = np.random.default_rng(0)
    alike = [answered(key, right_with(0.7, random), name=str(k)) for k in range(6)]
    unlike = [answered(key, right_with(share, random), name=f"{share}") for share in (0.45, 0.5, 0.6, 0.8, 0.9, 0.95)]
    one, two = (scores.score(key, sheets).pairs[0] for sheets in (alike, unlike))
    assert one.people == two.people == 6 and one.answers == 600
    width, wider = (pair.high - pair.low for pair in (one, two))  # type: ignore[operator]
    pooled = clopper_pearson(round(600 * (one.share or 0)), 600)
    assert pooled[1] - pooled[0] <= width < 0.14 < wider


def test_intervals_of_several_people_cover_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of people and pairs that differ, by simulation: near the 95 % that are promised, where answers taken as
    independent would cover about two thirds."""
    monkeypatch.setattr(scores, "RESAMPLES", 1_000)
    random, inside, pooled, tests = np.random.default_rng(1), 0, 0, 200
    for _ in range(tests):
        skill = 0.7 + random.normal(0, 0.08, (8, 1)) + random.normal(0, 0.15, (1, 60))
        table = (random.random((8, 60)) < skill).astype(float)
        _, low, high = scores._share(table)
        inside += low <= 0.7 <= high  # type: ignore[operator]
        ends = clopper_pearson(int(table.sum()), table.size)
        pooled += ends[0] <= 0.7 <= ends[1]
    assert inside / tests >= 0.9 > pooled / tests


@pytest.mark.parametrize("share", [0.6, 0.65, 0.75])
def test_further_trials_would_likely_settle_it(share: float) -> None:
    right = round(20 * share)
    table = np.array([[0.0] * right + [1.0] * (20 - right)])  # errors
    needed = 20 + (scores.further_trials(table, "generated", 0.05) or 0)
    critical = next(k for k in range(needed) if stats.binom.sf(k - 1, needed, 0.5) <= 0.05)
    assert 0.72 < stats.binom.sf(critical - 1, needed, share) < 0.88
    assert scores.further_trials(1 - table, "generated", 0.05) is None  # more errors than guessing makes
    again = scores.further_trials(1 - table, "better", 0.025)
    assert again is not None and again > needed - 20


def test_part_of_the_answers_is_enough_and_said() -> None:
    key = plain_key(40)
    sheet = answered(key, lambda _, trial: trial.first)
    result = scores.score(key, [replace(sheet, answers=sheet.answers[:25])])
    assert result.pairs[0].answers == 25 and "15 trials were not answered" in phrases.sentences(result)
    result = scores.score(key, [replace(sheet, answers=())])
    assert result.people[0].reason == "no answers" and "ada gave no answers" in phrases.sentences(result)


def test_answers_of_another_page_are_refused() -> None:
    key = plain_key(10)
    sheet = answered(key, lambda _, trial: trial.first)
    with pytest.raises(UsageError, match="answers another page than this key is of"):
        scores.score(key, [replace(sheet, test="u")])
    with pytest.raises(UsageError, match="answers trial 19 of a page with 18"):
        scores.score(key, [replace(sheet, answers=(replace(sheet.answers[0], trial=18),))])


def test_sentences() -> None:
    key = plain_key(100, checks=0)

    def first_sentence(right: int, question: str = "generated", **changes: object) -> str:
        own = replace(key, question=question, **changes)  # type: ignore[arg-type]
        sheet = answered(own, lambda k, trial: trial.first if k < right else other(trial.first))
        return phrases.sentences(scores.score(own, [sheet]))[0]

    assert first_sentence(66) == (
        "run-0 is told from real images: 34.0 % of 100 answers of 1 person are errors (24.8 to 44.2 %; guessing gives "
        "50 %), p < 0.001"
    )
    assert first_sentence(54) == (
        "run-0 is not told from real images: 46.0 % of 100 answers of 1 person are errors (36.0 to 56.3 %; guessing "
        "gives 50 %), p = 0.242; about 860 further trials would likely settle it, if the share is what it seems"
    )
    assert "generated ones pass for real more often than real ones; no number of trials" in first_sentence(30)
    assert first_sentence(30, "better") == (
        "real images looks better than run-0: 70.0 % of 100 answers of 1 person prefer real images (60.0 to 78.8 %), "
        "p < 0.001"
    )
    lines = phrases.sentences(scores.score(key, [answered(key, lambda _, trial: trial.first)]))
    assert any(
        line.startswith("HYPE-infinity (share of errors without a limit of time): run-0 0.0 %") for line in lines
    )
    assert "one person: this says what that person sees, not what people see" in lines
