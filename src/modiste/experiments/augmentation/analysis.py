"""What the results of an augmentation experiment show: paired comparisons, tables, gains per class, and an answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from modiste.experiments import statistics
from modiste.experiments.augmentation.arms import BOTH, CLASSICAL, LINEAR, MIXED, REAL, REPEATS, Arm, ArmRow
from modiste.experiments.statistics import Difference

ALPHA = 0.05

Score = Literal["accuracy", "rare"]
SCORES: dict[Score, str] = {"accuracy": "accuracy", "rare": "accuracy on the rare classes"}
Table = tuple[list[str], list[list[str]]]
"""Heads and rows."""
Effect = Literal["helps", "harms", "cannot be told apart", "no verdict possible"]


@dataclass(frozen=True)
class Gain:
    """The difference between two arms at one budget, paired by seed."""

    budget: str
    arm: Arm
    against: Arm
    difference: Difference
    """In shares of one, positive where the arm is better."""
    p_value: float | None
    """After Holm's correction over all comparisons of the same kind in the experiment."""
    effect: Effect
    seeds_needed: int | None = None
    """Seeds that might show a difference where none is shown; None: not known, or more than 100."""

    @property
    def verdict(self) -> str:
        """The effect with its numbers: `helps by 1.2 ± 0.4 points`."""
        if self.effect == "no verdict possible":
            return "no verdict possible with fewer than three seeds"
        if self.effect == "cannot be told apart":
            outlook = f"about {self.seeds_needed} might settle it" if self.seeds_needed else "nor likely with 100"
            return f"cannot be told apart with {self.difference.pairs} seeds ({outlook})"
        found = self.difference
        mean, low, high = found.mean, found.low, found.high
        if self.effect == "harms":
            mean, low, high = (None if value is None else -value for value in (mean, high, low))
        return f"{self.effect} by {_span(mean, low, high, found.test == 'paired t')} points"

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values, for `--json`."""
        return {
            "budget": self.budget,
            "arm": self.arm.name,
            "against": self.against.name,
            "difference": asdict(self.difference),
            "p_value": self.p_value,
            "word": self.effect,
            "verdict": self.verdict,
        }


def scores_of(rows: Iterable[ArmRow]) -> list[Score]:
    """The scores that the rows have; the last one decides."""
    return list(get_args(Score)) if any(row.rare is not None for row in rows) else ["accuracy"]


def decisive(rows: Sequence[ArmRow]) -> list[Gain]:
    """The comparisons that decide: by the rare classes where there are any, else by accuracy."""
    return compared(rows, scores_of(rows)[-1])


def compared(rows: Sequence[ArmRow], score: Score) -> list[Gain]:
    """Every arm against real + classical, those with synthetic images against repeated rare ones too, and linear
    classifiers on a network's features against one on pixels."""
    arms = arms_of(rows)
    pairs = [(arm, Arm(CLASSICAL)) for arm in arms if arm.kind != CLASSICAL]
    pairs += [(arm, Arm(REPEATS)) for arm in arms if arm.uses_synthetic and Arm(REPEATS) in arms]
    pixels, *learned = [Arm(kind) for kind in LINEAR]
    pairs += [(arm, pixels) for arm in learned if arm in arms and pixels in arms]
    return _compare(rows, score, pairs)


def compared_variants(rows: Sequence[ArmRow], score: Score) -> list[Gain]:
    """The effect of ratio and filter: every variant of an arm against the first of its kind."""
    kinds: dict[str, list[Arm]] = {}
    for arm in arms_of(rows):
        kinds.setdefault(arm.kind, []).append(arm)
    return _compare(rows, score, [(other, first) for first, *others in kinds.values() for other in others])


def _compare(rows: Sequence[ArmRow], score: Score, pairs: Sequence[tuple[Arm, Arm]]) -> list[Gain]:
    """The comparisons of these pairs at every budget, corrected together by Holm's method."""
    values: dict[tuple[str, Arm], dict[int, float | None]] = {}
    for row in rows:
        values.setdefault((row.budget, row.arm), {})[row.seed] = getattr(row, score)
    cases = [(budget, arm, against) for budget in budgets_of(rows) for arm, against in pairs]
    sides = [(values.get((budget, arm), {}), values.get((budget, against), {})) for budget, arm, against in cases]
    fewest = statistics.FEWEST_SEEDS
    testable = sum(len(first.keys() & second.keys()) >= fewest for first, second in sides)
    level = ALPHA / max(1, testable)
    differences = [statistics.compare(first, second, better="higher", level=level) for first, second in sides]
    raw = {
        k: difference.p_value
        for k, difference in enumerate(differences)
        if difference.p_value is not None and min(difference.counts) >= fewest
    }
    adjusted = dict(zip(raw, statistics.holm(list(raw.values())), strict=True))
    undecided = sum(p > ALPHA for p in adjusted.values())
    gains = []
    for k, (case, difference) in enumerate(zip(cases, differences, strict=True)):
        effect = _effect(difference, adjusted.get(k))
        open_yet = effect == "cannot be told apart"
        needed = statistics.seeds_needed(difference, ALPHA / max(1, undecided)) if open_yet else None
        gains.append(Gain(*case, difference, adjusted.get(k), effect, needed))
    return gains


def _effect(difference: Difference, p_value: float | None) -> Effect:
    if p_value is None or difference.mean is None:
        return "no verdict possible"
    if p_value > ALPHA:
        return "cannot be told apart"
    return "helps" if difference.mean > 0 else "harms"


def _span(mean: float | None, low: float | None, high: float | None, symmetric: bool) -> str:
    """Per cent or points with their 95 % interval, from shares of one."""
    if mean is None:
        return "-"
    if low is None or high is None:
        return f"{100 * mean:.1f}"
    places = 1 if high - low > 0.004 else 2
    if symmetric:
        return f"{100 * mean:.{places}f} ± {50 * (high - low):.{places}f}"
    return f"{100 * mean:.{places}f} ({100 * low:.{places}f} to {100 * high:.{places}f})"


def _signed(difference: Difference) -> str:
    sign = "+" if (difference.mean or 0) > 0 else ""
    return sign + _span(difference.mean, difference.low, difference.high, difference.test == "paired t")


def table(rows: Sequence[ArmRow], gains: Sequence[Gain], budget: str, score: Score) -> Table:
    """Per arm of a budget: the score with its 95 % interval over seeds, the paired difference, the verdict."""
    over_classical = {gain.arm: gain for gain in gains if gain.budget == budget and gain.against.kind == CLASSICAL}
    body = []
    for arm in arms_of(rows):
        values = [getattr(row, score) for row in rows if (row.budget, row.arm) == (budget, arm)]
        if not values:
            continue
        total = statistics.summary(values)
        gain = over_classical.get(arm)
        verdict = "what the others are compared with" if arm.kind == CLASSICAL else gain.verdict if gain else "-"
        mean = _span(total.mean, total.low, total.high, total.method == "Student t")
        body.append([arm.name, str(total.count), mean, _signed(gain.difference) if gain else "-", verdict])
    return ["arm", "seeds", f"{SCORES[score]}, %", f"against {CLASSICAL}, points", "verdict"], body


def per_class(rows: Sequence[ArmRow], budget: str) -> Table:
    """Per class: the accuracy of real + classical in per cent, and the other arms' mean differences in points."""
    here = [row for row in rows if row.budget == budget]
    others = [arm for arm in arms_of(here) if arm.kind != CLASSICAL]
    body = []
    for name in here[0].per_class:
        values: dict[Arm, dict[int, float | None]] = {Arm(CLASSICAL): {}}
        for row in here:
            values.setdefault(row.arm, {})[row.seed] = row.per_class[name]
        classical = values[Arm(CLASSICAL)]
        mean = statistics.summary(classical.values()).mean
        differences = [statistics.compare(values[arm], classical, better="higher") for arm in others]
        body.append([name, "-" if mean is None else f"{100 * mean:.1f}", *map(_signed, differences)])
    return ["class", f"{CLASSICAL}, %", *(arm.name for arm in others)], body


def answer(rows: Sequence[ArmRow], gains: Sequence[Gain], folder: Path) -> list[str]:
    """A sentence per budget, use them or do not, what to doubt, and one for all; empty while nothing is measured."""
    sentences, helpful, unbeaten = [], [], []
    score = scores_of(rows)[-1]
    score_name = "the rare classes' accuracy" if score == "rare" else "accuracy"
    budgets = budgets_of(rows)
    for budget in budgets:
        here = [gain for gain in gains if gain.budget == budget and gain.arm.uses_synthetic]
        labels = f"with {'all ' if budget == 'all' else ''}{count_range(rows, budget, 'images')} labels"
        winners = [arm for arm in arms_of(rows) if _wins(rows, here, budget, arm)]
        if winners:
            helpful.append(labels)
            best = max(winners, key=lambda arm: _mean(rows, budget, arm, score))
            gain = next(one for one in here if one.arm == best and one.against.kind == CLASSICAL)
            chance = "p < 0.001" if (gain.p_value or 0) < 0.001 else f"p = {gain.p_value:.3f}"
            sentences.append(
                f"{labels} synthetic images help: {best.name} {gain.verdict} of {score_name} over {CLASSICAL} "
                f"({chance} after Holm's correction, {gain.difference.pairs} seeds); "
                f"the sets are {folder}/{budget}-seed*/synthetic*.npz"
            )
        elif tested := [gain for gain in here if gain.p_value is not None]:
            rival, reason = _refusal(tested, score_name)
            unbeaten.append(rival)
            sentences.append(
                f"{labels} no gain over {rival} could be shown, so do not use the synthetic images: {reason}"
            )
        else:
            one = len({row.seed for row in rows if row.budget == budget}) == 1
            why = "with one seed; ask for five with --seeds 5" if one else "before three seeds are measured in all arms"
            sentences.append(f"{labels} no verdict is possible {why}")
    sentences += _on_features(rows, gains)
    sentences += [
        f"with {count_range(rows, gain.budget, 'images')} labels the classical changes harm, a sign of too few steps "
        f"({count_range(rows, gain.budget, 'steps')}): believe no gain before it has shown with more --steps"
        for gain in gains
        if gain.arm.kind == REAL and gain.against.kind == CLASSICAL and (gain.difference.low or 0.0) > 0
    ]
    if helpful:
        elsewhere = "" if len(helpful) == len(budgets) else ", and nowhere else"
        sentences.append(f"it helps {' and '.join(helpful)}{elsewhere}")
    elif unbeaten:
        harm = all(gain.effect == "harms" for gain in gains if gain.arm.kind in (MIXED, BOTH))
        over = f" over {unbeaten[0]}" if len(set(unbeaten)) == 1 else ""
        sentences.append("it harms; do not use it" if harm else f"no gain{over} is shown at any budget; do not use it")
    return sentences


def _on_features(rows: Sequence[ArmRow], gains: Sequence[Gain]) -> list[str]:
    """A sentence per budget and network on whose features a linear classifier has learned."""
    linear = [gain for gain in gains if gain.against.is_linear and gain.p_value is not None]
    sentences = []
    for gain in linear:
        over_classical = next(one for one in gains if one.budget == gain.budget and one.arm == gain.arm
                              and one.against.kind == CLASSICAL)  # fmt: skip
        sentences.append(
            f"with {count_range(rows, gain.budget, 'images')} labels {gain.arm.name} {_against(gain)}, and "
            f"{_against(over_classical)}"
        )
    if any(LINEAR[gain.arm.kind] == "judge" for gain in linear):
        sentences.append(
            "the judge has learned from the labels of all training images, so linear on judge shows what those are "
            "worth and not what few labels give"
        )
    return sentences


def _refusal(tested: Sequence[Gain], score_name: str) -> tuple[str, str]:
    """What the best arm with synthetic images does not beat, and why not to use them."""
    over_classical = {gain.arm: gain for gain in tested if gain.against.kind == CLASSICAL}
    best = max(over_classical, key=lambda arm: over_classical[arm].difference.mean or 0.0)
    of_best = [gain for gain in tested if gain.arm == best]
    rival = next((gain.against.kind for gain in of_best if gain.effect != "helps"), REAL)
    count, harmful = len({gain.arm for gain in tested}), sum(gain.effect == "harms" for gain in over_classical.values())
    tail = f"; {harmful} of the {count} harm{'s' * (harmful == 1)}" if harmful else ""
    verdicts = ", and ".join(map(_against, of_best))
    return rival, f"in {score_name} the best of {count} arms with them, {best.name}, {verdicts}{tail}"


def _against(gain: Gain) -> str:
    """The verdict with what the arm is compared with, and the points where the verdict names none."""
    points = "" if gain.effect in ("helps", "harms") else f" ({100 * (gain.difference.mean or 0.0):+.1f} points)"
    return f"{gain.verdict} against {gain.against.name}{points}"


def _wins(rows: Sequence[ArmRow], gains: Sequence[Gain], budget: str, arm: Arm) -> bool:
    """Whether an arm is shown to beat all that it is compared with, and is not below the bare real images either."""
    effects = [gain.effect for gain in gains if gain.arm == arm]
    score = scores_of(rows)[-1]
    beats_real = _mean(rows, budget, arm, score) > _mean(rows, budget, Arm(REAL), score)
    return bool(effects) and all(effect == "helps" for effect in effects) and beats_real


def _mean(rows: Iterable[ArmRow], budget: str, arm: Arm, score: Score) -> float:
    values = [getattr(row, score) for row in rows if (row.budget, row.arm) == (budget, arm)]
    return float(np.mean(values)) if values else -math.inf


def arms_of(rows: Iterable[ArmRow]) -> list[Arm]:
    """The arms in the order of the rows."""
    return list(dict.fromkeys(row.arm for row in rows))


def budgets_of(rows: Iterable[ArmRow]) -> list[str]:
    """The budgets in the order of the rows."""
    return list(dict.fromkeys(row.budget for row in rows))


def count_range(rows: Iterable[ArmRow], budget: str, key: Literal["images", "steps", "tested"]) -> str:
    """A count of a budget, as `800`, or `800 to 810` where its seeds differ, as folds may by an image per class."""
    counts = [getattr(row, key) for row in rows if row.budget == budget and not (row.arm.is_linear and key == "steps")]
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
