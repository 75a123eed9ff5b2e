"""The result of a blind test in words and tables."""

from __future__ import annotations

from collections import Counter

from modiste.experiments.blind.scores import (
    MOST_TOO_FAST,
    MOST_TRIALS,
    MOST_WRONG_CHECKS,
    TOO_FAST_MS,
    BlindResult,
    PairResult,
)
from modiste.experiments.blind.trials import BlindTest, Giveaway
from modiste.wording import counted

Table = tuple[list[str], list[list[str]]]


def sentences(result: BlindResult) -> list[str]:
    """The result for a reader: verdicts, HYPE-infinity, and what was left out and why."""
    lines = [_verdict(one, result) for one in result.pairs]
    if result.per_class:
        lines += [_verdict(one, result) for one in result.classes if one.word not in ("not told apart", "no verdict")]
        open_classes = sum(one.word in ("not told apart", "no verdict") for one in result.classes)
        lines += (
            [f"{open_classes} of {len(result.classes)} classes have no verdict of their own"] if open_classes else []
        )
    if result.question == "generated":
        found = [f"{one.first} {_percent(one.share)}" for one in result.pairs if one.share is not None]
        if found:
            lines.append(
                f"HYPE-infinity (share of errors without a limit of time): {', '.join(found)}; here in pairs, where "
                "errors are rarer than with one picture at a time, as in Zhou et al. 2019"
            )
    return [*lines, *attention(result)]


def attention(result: BlindResult) -> list[str]:
    """How attentively the answers were given, what was left out, and doubts."""
    lines = []
    counted = [person for person in result.people if person.counted]
    for person in result.people:
        if person.reason == "attention checks":
            lines.append(
                f"{person.name} missed {person.checks_wrong} of {person.checks} attention checks: the answers do not "
                f"count (more than {MOST_WRONG_CHECKS} missed)"
            )
        elif person.reason == "too fast":
            lines.append(
                f"{person.name} gave {person.too_fast} of {person.answered} answers in less than {TOO_FAST_MS} ms: the "
                f"answers do not count (more than {MOST_TOO_FAST:.0%})"
            )
        elif person.reason == "no answers":
            lines.append(f"{person.name} gave no answers")
    if counted:
        missed = sum(person.checks_wrong for person in counted)
        checks = sum(person.checks for person in counted)
        fast = sum(person.too_fast for person in counted)
        lines.append(
            f"of those who count: {missed} of {checks} attention checks missed; {fast} answers in less than "
            f"{TOO_FAST_MS} ms, left out"
        )
        open_trials = sum(person.trials - person.answered for person in counted)
        lines += [f"{open_trials} trials were not answered"] if open_trials else []
    if len(counted) == 1:
        lines.append("one person: this says what that person sees, not what people see")
    names = Counter(person.name for person in result.people if person.name != "anonymous")
    for name, count in names.items():
        if count > 1:
            lines.append(f"{count} files are by {name}: if that is one person, only one of them should count")
    return lines


def _verdict(one: PairResult, result: BlindResult) -> str:
    of_class = f" ({one.class_name})" if one.class_name else ""
    if one.share is None or one.p_value is None:
        return f"no verdict is possible on {one.first} and {one.second}{of_class}: no answers count"
    chance = "p < 0.001" if one.p_value < 0.001 else f"p = {one.p_value:.3f}"
    chance += " after Holm's correction" if result.tests > 1 else ""
    people = counted(one.people, "person")
    answers = f"{counted(one.answers, 'answer')} of {people}"
    span = f"{_percent(one.low, '')} to {_percent(one.high)}"
    if result.question == "generated":
        facts = f"{_percent(one.share)} of {answers} are errors ({span}; guessing gives 50 %), {chance}"
        if one.word == "told apart":
            return f"{one.first} is told from {one.second}{of_class}: {facts}"
        more = "; generated ones pass for real more often than real ones" if (one.low or 0.0) > 0.5 else ""
        return f"{one.first} is not told from {one.second}{of_class}: {facts}{more}; {_enough(one)}"
    if one.word == "second better":
        other = (1 - one.share, None if one.high is None else 1 - one.high, None if one.low is None else 1 - one.low)
        share, span, names = other[0], f"{_percent(other[1], '')} to {_percent(other[2])}", (one.second, one.first)
    else:
        share, names = one.share, (one.first, one.second)
    facts = f"{_percent(share)} of {answers} prefer {names[0]} ({span}), {chance}"
    if one.word == "not told apart":
        return f"{one.first} and {one.second} cannot be told apart{of_class}: {facts}; {_enough(one)}"
    return f"{names[0]} looks better than {names[1]}{of_class}: {facts}"


def _enough(one: PairResult) -> str:
    if one.further is None:
        return f"no number of trials up to {MOST_TRIALS:,} would likely settle it, if the share is what it seems"
    return f"about {one.further:,} further trials would likely settle it, if the share is what it seems"


def pair_table(result: BlindResult) -> Table:
    """The pairs as a table."""
    return ["pair", *_heads(result)], [[f"{one.first}, {one.second}", *_cells(one)] for one in result.pairs]


def class_table(result: BlindResult) -> Table:
    """The classes of every pair as a table."""
    several = len(result.pairs) > 1
    body = [
        [f"{one.class_name}: {one.first}, {one.second}" if several else one.class_name, *_cells(one)]
        for one in result.classes
    ]
    return ["class", *_heads(result)], body


def people_table(result: BlindResult) -> Table:
    """Those who answered as a table."""
    heads = ["person", "answers", _measure(result), "95 % interval", "median", "checks missed", "too fast", "counts"]
    body = [
        [
            person.name,
            f"{person.answered}/{person.trials}",
            _percent(person.share),
            _interval(person.low, person.high),
            "-" if person.seconds is None else f"{person.seconds:.1f} s",
            f"{person.checks_wrong}/{person.checks}",
            str(person.too_fast),
            "yes" if person.counted else "no",
        ]
        for person in result.people
    ]
    return heads, body


def _heads(result: BlindResult) -> list[str]:
    return ["answers", _measure(result), "95 % interval"]


def _cells(one: PairResult) -> list[str]:
    return [str(one.answers), _percent(one.share), _interval(one.low, one.high)]


def _measure(result: BlindResult) -> str:
    return "errors" if result.question == "generated" else "prefer the first"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{_percent(low, '')} to {_percent(high)}"


def _percent(share: float | None, sign: str = " %") -> str:
    return "-" if share is None else f"{100 * share:.1f}{sign}"


def giveaway_sentence(giveaway: Giveaway, test: BlindTest) -> str:
    """How well one number of each picture tells the sources of a pair apart."""
    first, second = test.pair_names(giveaway.pair)
    return (
        f"{first} and {second}: a program would tell {giveaway.share:.0%} of these pairs apart by {giveaway.measure} "
        f"alone (the best of such numbers reaches up to {giveaway.chance:.0%} by chance); pictures are shown as they "
        "are"
    )
