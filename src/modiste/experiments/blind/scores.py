"""The results of a blind test: shares with intervals, verdicts, attention; `phrases` words them.

Sides are independent tosses of a coin, so where the two sources of a pair do not differ, each trial is decided by one
toss, whoever answers and whatever they like: all who see a pair may then err together. The test therefore flips the
signs of trials, each with the answers of all persons (for one person the binomial test), and is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modiste.errors import UsageError
from modiste.experiments.blind.answers import Key, KeyTrial, Sheet
from modiste.experiments.blind.trials import Question
from modiste.experiments.statistics import CONFIDENCE, POWER, RESAMPLES, clopper_pearson, holm

TOO_FAST_MS = 300
"""Nobody compares two pictures in less: such an answer is a slip of a finger and is left out."""
MOST_TOO_FAST = 0.1
"""The share of too fast answers from which on a person is left out."""
MOST_WRONG_CHECKS = 1
"""Attention checks that a person may miss; who tosses a coin at 8 of them passes in 3.5 % of cases."""
MOST_TRIALS = 10_000

Word = Literal["told apart", "not told apart", "first better", "second better", "no verdict"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairResult:
    """The answers to one pair of sources, in all or of one class."""

    first: str
    second: str
    class_name: str
    """Empty for all classes together."""
    people: int
    answers: int
    share: float | None
    """Of errors where the question is which picture is generated; else of answers that prefer the first source."""
    low: float | None
    high: float | None
    """95 % interval of the share: Clopper and Pearson's; of several persons one that resamples persons and pairs."""
    p_value: float | None
    """After Holm's correction over all tests of this result; None where this part was not tested."""
    word: Word
    further: int | None
    """Where nothing is decided: further trials by such persons that would likely decide it; None if none up to 10,000
    would."""


@dataclass(frozen=True)
class PersonResult:
    """The answers of one person, and how attentively they were given."""

    name: str
    place: str
    counted: bool
    reason: Literal["", "attention checks", "too fast", "no answers"]
    """Why the answers do not count."""
    answered: int
    trials: int
    """Both without attention checks."""
    share: float | None
    low: float | None
    high: float | None
    """As of a pair; None where several pairs ask for a preference."""
    seconds: float | None
    """Median per answer."""
    checks: int
    checks_wrong: int
    too_fast: int


@dataclass(frozen=True)
class BlindResult:
    """The result of a blind test."""

    test: str
    question: Question
    per_class: bool
    pairs: tuple[PairResult, ...]
    classes: tuple[PairResult, ...]
    """Each pair by class; with verdicts where the test was made `per_class`."""
    people: tuple[PersonResult, ...]
    tests: int
    """P values that were corrected together."""

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def score(key: Key, sheets: Sequence[Sheet]) -> BlindResult:
    """The result of these answers; UsageError where a sheet answers another test or a trial that there is not."""
    for sheet in sheets:
        if sheet.test != key.test:
            raise UsageError(f"{sheet.place} answers another page than this key is of; give that page's key")
        if beyond := [answer.trial for answer in sheet.answers if answer.trial >= len(key.trials)]:
            raise UsageError(
                f"{sheet.place} answers trial {beyond[0] + 1} of a page with {len(key.trials)}; give a file as the "
                "page saves it"
            )
    people = [_person(key, sheet) for sheet in sheets]
    counted = [sheet for sheet, person in zip(sheets, people, strict=True) if person.counted]
    outcomes = _outcomes(key, counted)
    pairs, classes = [], []
    for number in range(len(key.pairs)):
        names = dict.fromkeys(trial.class_name for trial in key.trials if trial.pair == number)
        pairs.append(_pair(key, number, "", outcomes))
        classes += [_pair(key, number, name, outcomes) for name in sorted(names) if name]
    tested = [*pairs, *(classes if key.per_class else [])]
    judged = _with_verdicts(key, tested, outcomes)
    classes = judged[len(pairs) :] if key.per_class else classes
    tests = sum(one.p_value is not None for one in judged)
    return BlindResult(
        key.test, key.question, key.per_class, tuple(judged[: len(pairs)]), tuple(classes), tuple(people), tests
    )


def _person(key: Key, sheet: Sheet) -> PersonResult:
    checks = [one for one in sheet.answers if key.trials[one.trial].pair is None]
    usual = [one for one in sheet.answers if key.trials[one.trial].pair is not None]
    noise_wanted = key.question == "generated"
    wrong = sum((one.choice == key.trials[one.trial].first) != noise_wanted for one in checks)
    fast = sum(one.ms < TOO_FAST_MS for one in usual)
    reason: Literal["", "attention checks", "too fast", "no answers"] = ""
    if not usual or fast == len(usual):
        reason = "too fast" if usual else "no answers"
    elif wrong > MOST_WRONG_CHECKS:
        reason = "attention checks"
    elif fast > MOST_TOO_FAST * len(usual):
        reason = "too fast"
    share = low = high = None
    if key.question == "generated" or len(key.pairs) == 1:
        share, low, high = _share(_outcomes(key, [sheet]))
    seconds = float(np.median([one.ms for one in usual])) / 1000 if usual else None
    trials = sum(trial.pair is not None for trial in key.trials)
    return PersonResult(
        sheet.name, sheet.place, not reason, reason, len(usual), trials, share, low, high, seconds, len(checks), wrong,
        fast,
    )  # fmt: skip


def _outcomes(key: Key, sheets: Sequence[Sheet]) -> Floats:
    """[persons, trials]: 1 where the share counts the answer, 0 where it does not, NaN without an answer that counts.

    The share counts errors, or choices of the first source. Attention checks stay NaN.
    """
    table = np.full((len(sheets), len(key.trials)), np.nan)
    for row, sheet in zip(table, sheets, strict=True):
        for answer in sheet.answers:
            trial = key.trials[answer.trial]
            if trial.pair is not None and answer.ms >= TOO_FAST_MS:
                row[answer.trial] = (answer.choice == trial.first) == (key.question == "better")
    return table


def _pair(key: Key, number: int, class_name: str, outcomes: Floats) -> PairResult:
    """The shares of a pair without a verdict."""
    table = _part(key, number, class_name, outcomes)
    share, low, high = _share(table)
    people = int((~np.isnan(table)).any(axis=1).sum())
    answers = int((~np.isnan(table)).sum())
    return PairResult(*key.pairs[number], class_name, people, answers, share, low, high, None, "no verdict", None)


def _part(key: Key, number: int, class_name: str, outcomes: Floats) -> Floats:
    def belongs(trial: KeyTrial) -> bool:
        return trial.pair == number and (not class_name or trial.class_name == class_name)

    return outcomes[:, [k for k, trial in enumerate(key.trials) if belongs(trial)]]


def _with_verdicts(key: Key, results: Sequence[PairResult], outcomes: Floats) -> list[PairResult]:
    """The results with p values that are corrected together, verdicts, and what would decide the others."""
    alpha, two_sided = 1 - CONFIDENCE, key.question == "better"
    tables = [
        _part(key, key.pairs.index((result.first, result.second)), result.class_name, outcomes) for result in results
    ]
    raw = [flip_p(net_scores(table, key.question), two_sided) if np.isfinite(table).any() else None for table in tables]
    adjusted = iter(holm([p for p in raw if p is not None]))
    found: list[PairResult] = []
    for result, p_raw in zip(results, raw, strict=True):
        p = None if p_raw is None else next(adjusted)
        found.append(replace(result, p_value=p, word=_word(result, p, alpha, two_sided)))
    undecided = sum(one.word == "not told apart" for one in found)
    for k, one in enumerate(found):
        if one.word == "not told apart":
            level = alpha / undecided / (2 if two_sided else 1)
            found[k] = replace(one, further=further_trials(tables[k], key.question, level))
    return found


def _word(result: PairResult, p: float | None, alpha: float, two_sided: bool) -> Word:
    if p is None or result.share is None:
        return "no verdict"
    if p > alpha:
        return "not told apart"
    if not two_sided:
        return "told apart"
    return "first better" if result.share > 0.5 else "second better"


# --- statistics


def net_scores(table: Floats, question: Question) -> NDArray[np.int64]:
    """Per trial [trials], over persons: right minus wrong answers, or those for the first source minus the others."""
    signs = np.where(np.isnan(table), 0.0, np.where(table == 1, 1.0, -1.0)) * (1 if question == "better" else -1)
    net: NDArray[np.int64] = signs.sum(axis=0).astype(np.int64)
    return net


def flip_p(scores: NDArray[np.int64], two_sided: bool) -> float:
    """The chance that the sum of these scores is as high as it is (or as far from 0) when each sign is a coin's.

    Exact, from the distribution of the sum over all 2^n signs. For scores of 1 and -1 it is the binomial test.
    """
    sizes = np.abs(scores[scores != 0])
    law = np.ones(1)
    for size in sizes.tolist():
        wider = np.zeros(len(law) + 2 * size)
        wider[: len(law)] += law / 2
        wider[2 * size :] += law / 2
        law = wider
    place = int(scores.sum()) + len(law) // 2
    upper, lower = float(law[place:].sum()), float(law[: place + 1].sum())
    return min(1.0, 2 * min(upper, lower) if two_sided else upper)


def _share(table: Floats) -> tuple[float | None, float | None, float | None]:
    """The share of ones among the answers, and its 95 % interval; None without answers.

    Of one person Clopper and Pearson's (1934). Of several persons percentiles of a bootstrap that resamples persons and
    trials, since answers of one person, and answers to one trial, resemble each other (Owen 2007, pigeonhole
    bootstrap); at least as wide as if all answers were independent.
    """
    known = ~np.isnan(table)
    count, ones = int(known.sum()), int(np.nansum(table))
    if not count:
        return None, None, None
    low, high = clopper_pearson(ones, count)
    people, trials = known.any(axis=1), known.any(axis=0)
    if people.sum() > 1:
        random = np.random.default_rng(0)
        answers, values = known[people][:, trials].astype(float), np.nan_to_num(table[people][:, trials])
        by_person = random.multinomial(len(answers), [1 / len(answers)] * len(answers), size=RESAMPLES)
        by_trial = random.multinomial(trials.sum(), [1 / trials.sum()] * int(trials.sum()), size=RESAMPLES)
        counts = np.einsum("rp,pt,rt->r", by_person, answers, by_trial, optimize=True)
        sums = np.einsum("rp,pt,rt->r", by_person, values, by_trial, optimize=True)
        ends = np.quantile(sums[counts > 0] / counts[counts > 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return ones / count, low, high


def further_trials(table: Floats, question: Question, level: float) -> int | None:
    """How many more trials by such persons would show the difference that there seems to be, in four of five tests.

    By the normal law, from mean and deviation of a trial's mean answer; `level` is one-sided. None where more than
    10,000 trials would be needed, as without any difference.
    """
    from scipy import special

    known = ~np.isnan(table)
    answered = known.any(axis=0)
    means = (net_scores(table, question)[answered] / known[:, answered].sum(axis=0)).astype(float)
    mean = float(means.mean()) if question == "generated" else abs(float(means.mean()))
    if mean <= 0:
        return None
    deviation = math.sqrt(max(float((means**2).mean()) - mean**2, 0.0))
    reach = float(special.ndtri(1 - level) + special.ndtri(POWER))
    needed = max(math.ceil((reach * deviation / mean) ** 2), math.ceil(-math.log2(level)))
    return max(1, needed - len(means)) if needed <= MOST_TRIALS else None
