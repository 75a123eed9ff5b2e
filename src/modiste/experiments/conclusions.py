"""The conclusions of a study: verdicts by the score that decides, what other scores say of them, and caveats.

Facts are frozen dataclasses, made from the study's table of rows. `sentences` and the functions below it word them for
the terminal, the report, the finalists of a search and `--json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from modiste.evaluation import records
from modiste.experiments import results, statistics
from modiste.experiments.ranks import Rank, rank_table
from modiste.experiments.results import StudyRow
from modiste.experiments.statistics import Difference, Table, Verdict
from modiste.metrics import baselines, metric_names, transforms
from modiste.metrics.metric_names import MetricName
from modiste.metrics.transforms import Scale

FEW_IMAGES = 2_000
"""Below that many generated images a distance says more of their number than of small differences."""

UNEQUAL = 1.1
"""Times as many images shown to one configuration as to another, from which on a verdict says so."""

OTHER_KINDS = (
    "frechet", "frechet_infinite", "kernel", "inception_style", "precision_k3", "recall_k3", "coverage_k5",
    "class_frechet", "label_agreement", "two_sample_1nn",
)  # fmt: skip
"""Kinds of scores that are compared with the verdicts of the score that decides."""

Obstacle = Literal["", "no score", "one configuration", "measured unlike"]


@dataclass(frozen=True)
class DecidingScore:
    """The score that decides, by configuration and seed, and how it is compared."""

    score: str
    table: Table
    better: str
    target: float | None
    scale: Scale


@dataclass(frozen=True)
class OtherScore:
    """Another score's comparison of a decided pair: the first against the second."""

    score: str
    stance: Literal["agrees", "opposes", "open"]
    """Open where neither every seed nor a test at 5 % (not corrected) favours one side."""
    difference: Difference


@dataclass(frozen=True)
class PairVerdict:
    """The verdict on two configurations, and the other scores' comparisons of them."""

    verdict: Verdict
    opinions: tuple[OtherScore, ...]
    """Of every other score that both have; empty where nothing is decided."""

    @property
    def opposed(self) -> tuple[OtherScore, ...]:
        """The other scores that say the opposite."""
        return tuple(one for one in self.opinions if one.stance == "opposes")


@dataclass(frozen=True)
class LearningProgress:
    """How far the runs of a configuration have come from a generator that learned nothing, by a Fréchet distance."""

    configuration: str
    score: str
    runs: int
    unlearned: int
    """Runs whose share is less than a tenth."""
    mean: float
    trivial: float
    """The distance of a generator that learned nothing."""
    share: float
    """Of the distance from the trivial baseline to real images, by factors, that the geometric mean has covered."""

    @property
    def learned(self) -> bool:
        """Whether the configuration as a whole has learned anything."""
        return self.share >= baselines.LEARNED


@dataclass(frozen=True)
class Conclusions:
    """The comparison of a study's configurations by one score."""

    score: str
    """The full name of the score that decides; empty where none was measured."""
    extractor: str
    """The network in whose features it was measured; empty for scores without features."""
    count: int | None
    """Generated images per run that were measured."""
    seeds: int
    """Training seeds of the study."""
    obstacle: Obstacle
    """Why the whole study has no verdicts."""
    pairs: tuple[PairVerdict, ...] = ()
    learning: tuple[LearningProgress, ...] = ()
    """Of every configuration whose distances have known baselines."""
    images: tuple[tuple[str, float], ...] = ()
    """How many images the runs of each configuration were shown, on average."""
    random_only: bool = False
    """Whether every score in features is one of the network with random weights."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts alone."""
        return tuple(pair.verdict for pair in self.pairs)

    @property
    def unlearned(self) -> tuple[LearningProgress, ...]:
        """The configurations that have learned nothing yet."""
        return tuple(one for one in self.learning if not one.learned)

    def has_learned(self, name: str) -> bool:
        """Whether the configuration has learned something, as far as that is known."""
        return name not in {one.configuration for one in self.unlearned}


# --- facts


def conclude(rows: Sequence[StudyRow], deciding: DecidingScore | None = None) -> Conclusions:
    """The conclusions from the rows of a study, by its first headline score unless another score is given."""
    deciding = deciding or deciding_score(rows)
    seeds = len({row.seed for row in rows})
    if deciding is None:
        return Conclusions("", "", None, seeds, "no score")
    known = deciding.score in {row.score for row in rows}
    name = MetricName.parse(deciding.score) if known else MetricName(deciding.score)
    facts = Conclusions(
        deciding.score,
        name.extractor,
        name.count,
        seeds,
        "",
        learning=learning(rows),
        images=_images(rows),
        random_only={MetricName.parse(row.score).extractor for row in rows if row.score} - {""} == {"random"},
    )
    if len({row.protocol_hash for row in rows if row.status == "finished"}) > 1:
        return replace(facts, obstacle="measured unlike")
    if len(deciding.table) < 2:
        return replace(facts, obstacle="one configuration")
    found = statistics.verdicts(deciding.table, better=deciding.better, target=deciding.target, scale=deciding.scale)
    others = _others(rows, deciding.score)
    pairs = []
    for verdict in found:
        if verdict.decided and not facts.has_learned(verdict.winner):
            verdict = replace(verdict, word="no verdict possible", reason="nothing learned")
        pairs.append(PairVerdict(verdict, tuple(_other_scores(verdict, others)) if verdict.decided else ()))
    return replace(facts, pairs=tuple(pairs))


def deciding_score(rows: Sequence[StudyRow]) -> DecidingScore | None:
    """The first headline score with its values; None without a score."""
    names = results.headline(rows)
    return _scored(rows, names[0]) if names else None


def _scored(rows: Sequence[StudyRow], score: str) -> DecidingScore:
    first = next(row for row in rows if row.score == score)
    table = results.values(rows, score)
    better = first.better or MetricName.parse(score).meaning.better
    target = first.real if better == "near" else None
    return DecidingScore(score, table, better, target, results.scale_of(score, table))


def learning(rows: Sequence[StudyRow]) -> tuple[LearningProgress, ...]:
    """How far every configuration has come, by the first Fréchet distance whose baselines are known."""
    score = metric_names.of_kind((row.score for row in rows if row.score), "frechet")
    kept = [row for row in rows if row.score == score and row.value is not None and row.trivial]
    found = []
    for name in dict.fromkeys(row.configuration for row in kept):
        here = [row for row in kept if row.configuration == name]
        first, values = here[0], [row.value for row in here]
        mean = statistics.summary(values, transforms.usable("log", values)).mean
        share = None if mean is None else _share_learned(first, mean)
        if mean is None or share is None:
            continue
        shares = [_share_learned(row, row.value) for row in here]
        unlearned = sum(one is not None and one < baselines.LEARNED for one in shares)
        found.append(LearningProgress(name, str(score), len(here), unlearned, mean, first.trivial or 0.0, share))
    return tuple(found)


def _share_learned(row: StudyRow, value: float | None) -> float | None:
    if row.trivial is None or value is None:
        return None
    return baselines.share_learned("frechet", value, row.real, row.trivial, row.uncertainty)


def _images(rows: Sequence[StudyRow]) -> tuple[tuple[str, float], ...]:
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.images and row.status == "finished":
            found.setdefault(row.configuration, {})[row.seed] = row.images
    return tuple((name, sum(shown.values()) / len(shown)) for name, shown in found.items())


def _others(rows: Sequence[StudyRow], score: str) -> list[DecidingScore]:
    """The scores that are compared with the one that decides."""
    scores = dict.fromkeys(row.score for row in rows if row.score)
    others = [name for name in scores if name != score and MetricName.parse(name).kind in OTHER_KINDS]
    return [one for name in others if (one := _scored(rows, name)).better != "near" or one.target is not None]


def _other_scores(verdict: Verdict, others: Sequence[DecidingScore]) -> list[OtherScore]:
    found = []
    side = 1 if verdict.word == "better" else -1
    for other in others:
        first, second = (other.table.get(name, {}) for name in (verdict.first, verdict.second))
        difference = statistics.compare(first, second, better=other.better, target=other.target, scale=other.scale)
        if difference.mean is None or None in difference.means:
            continue
        sure = difference.p_value is not None and difference.p_value <= 1 - statistics.CONFIDENCE
        sign = (difference.mean > 0) - (difference.mean < 0)
        sign = sign if sure else statistics.unanimous(first, second, better=other.better, target=other.target)
        stance: Literal["agrees", "opposes", "open"] = "agrees" if sign == side else "opposes" if sign else "open"
        found.append(OtherScore(other.score, stance, difference))
    return found


def ranks(deciding: DecidingScore, conclusions: Conclusions) -> list[Rank]:
    """The rank table whose groups are split by the study's verdicts and by no others."""
    return rank_table(
        deciding.table, better=deciding.better, target=deciding.target, scale=deciding.scale, pairs=conclusions.verdicts
    )


def to_json(conclusions: Conclusions) -> dict[str, Any]:
    """The facts and the sentences, for programs."""
    return {**asdict(conclusions), "sentences": sentences(conclusions)}


# --- words


def sentences(conclusions: Conclusions) -> list[str]:
    """All of it for a reader: the score, the verdict on every pair, caveats; of one configuration only caveats."""
    if conclusions.obstacle in ("no score", "one configuration"):
        return caveats(conclusions)
    if conclusions.obstacle == "measured unlike":
        return ["not all runs were measured alike, so no verdict is possible; give the study again to judge them anew"]
    if conclusions.seeds < 2:
        one = "with one seed no verdict is possible: the next seed may turn the order around; use --seeds 3 or more"
        return [one, *caveats(conclusions)]
    lines = [f"by {score_phrase(conclusions)}, over training seeds:"]
    lines += [f"  {pair_sentence(pair, conclusions.score)}" for pair in conclusions.pairs]
    return [*lines, *caveats(conclusions)]


def score_phrase(conclusions: Conclusions) -> str:
    """The full name of the score that decides, the features it was measured in, and the number of images."""
    parts = [features_phrase(conclusions), f"{conclusions.count:,} images per run" if conclusions.count else ""]
    known = ", ".join(text for text in parts if text)
    return f"{conclusions.score} ({known})" if known else conclusions.score


def features_phrase(conclusions: Conclusions) -> str:
    """The features in which the score that decides was measured; empty for scores without features."""
    return f"in the features of {metric_names.whose(conclusions.extractor)}" if conclusions.extractor else ""


def caveats(conclusions: Conclusions) -> list[str]:
    """Reasons for caution with the verdicts, in sentences."""
    found = []
    if conclusions.unlearned:
        first = conclusions.unlearned[0]
        names = ", ".join(f"{one.configuration} ({records.format_number(one.mean)})" for one in conclusions.unlearned)
        found.append(
            f"nothing has been learned yet by {names}: by {first.score} a generator that learned nothing gets "
            f"{records.format_number(first.trivial)}; use a longer budget"
        )
    for one in conclusions.learning:
        if one.learned and one.unlearned:
            found.append(f"{one.unlearned} of the {one.runs} runs of {one.configuration} learned nothing")
    if conclusions.random_only:
        found.append(
            "measured in the features of a network with random weights only, which knows none of the classes: train a "
            "judge of the data set (`modiste judge train`) before the order is believed"
        )
    if conclusions.count is not None and conclusions.count < FEW_IMAGES and conclusions.pairs:
        found.append(
            f"measured on few images ({conclusions.count:,} per run): small differences are not seen; measure more"
        )
    if conclusions.pairs and (shown := dict(conclusions.images)):
        most, least = max(shown, key=shown.__getitem__), min(shown, key=shown.__getitem__)
        if shown[most] >= UNEQUAL * shown[least]:
            found.append(
                f"configurations were shown unequal numbers of images, from {shown[least]:,.0f} ({least}) to "
                f"{shown[most]:,.0f} ({most}), which is a part of any difference between them"
            )
    return found


def pair_sentence(pair: PairVerdict, score: str) -> str:
    """The verdict on a pair with its score, its numbers, and the agreement of the other scores."""
    sentence = verdict_sentence(pair.verdict, score)
    if not pair.opinions:
        return sentence
    if not pair.opposed:
        agree = sum(one.stance == "agrees" for one in pair.opinions)
        return f"{sentence}; {agree} of {len(pair.opinions)} other scores agree, none says the opposite"
    opposite = ", ".join(_other_score_phrase(one) for one in pair.opposed)
    verb = "says" if len(pair.opposed) == 1 else "say"
    return f"{sentence}; but {opposite} {verb} the opposite"


def _other_score_phrase(other: OtherScore) -> str:
    number = _numbers(other.difference)
    first, second = ("-" if mean is None else number(mean) for mean in other.difference.means)
    return f"{other.score} ({first} against {second})"


def verdict_sentence(verdict: Verdict, score: str = "") -> str:
    """The verdict for a reader; the difference has no sign, since the word gives the direction."""
    one, two, difference, p = verdict.first, verdict.second, verdict.difference, verdict.p_value
    number = _numbers(difference)
    by_score = f" by {score}" if score else ""
    mean_one, mean_two = ("-" if mean is None else number(mean) for mean in difference.means)
    away = "" if verdict.target is None else f" away from {verdict.target:.4g}"
    values = f"{mean_one} against {mean_two}{away}"
    needed = verdict.seeds_needed
    enough = (
        f"about {needed} seeds would likely" if needed else f"no number of seeds up to {statistics.MOST_SEEDS} would"
    )
    if verdict.reason == "no run":
        lacking = [name for name, mean in zip((one, two), difference.means, strict=True) if mean is None]
        reason = f": no run of {' and '.join(lacking)} has finished"
        return f"no verdict is possible on {one} and {two}{by_score}{reason}; train at least three seeds of each"
    if verdict.reason == "one seed":
        reason = f" with only one seed: {values}"
        return f"no verdict is possible on {one} and {two}{by_score}{reason}; train at least three seeds of each"
    if verdict.reason == "nothing learned":
        return f"no verdict on {one} and {two}{by_score}: nothing has been learned yet ({values}); use a longer budget"
    mean, low, high = (difference if (difference.mean or 0.0) >= 0 else _reversed(difference)).shown
    span = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    kind = "factor" if difference.scale == "log" else "difference"
    facts = f"{values}, {kind} {number(mean or 0.0)}"
    if verdict.reason == "two seeds":
        return (
            f"no verdict on {one} and {two}{by_score}: two seeds cannot settle it ({facts}); {enough} do "
            "if the difference is what it seems"
        )
    first_count, second_count = difference.counts
    seeds = f"{first_count} seeds" if difference.pairs else f"{first_count} and {second_count} seeds, unpaired"
    if difference.left_out:
        numbers = ", ".join(str(seed) for seed in difference.left_out)
        seeds += f" (without seed{'s' if len(difference.left_out) > 1 else ''} {numbers})"
    chance = "p < 0.001" if p is not None and p < 0.001 else f"p = {p or 0.0:.3f}"
    chance += " after Holm's correction" if verdict.tests > 1 else ""
    if verdict.decided:
        return f"{one} is {verdict.word} than {two}{by_score}: {facts}{span}, {chance}, {seeds}"
    leaps = ""
    if verdict.leaping:
        leaps = (
            f"; seeds of {' and '.join(verdict.leaping)} lie as far apart in two groups, so that chance may have put "
            "these two on different levels"
        )
    return (
        f"{one} and {two} cannot be told apart{by_score} with {seeds}: {facts}{span}, {chance}{leaps}; "
        f"{enough} settle it if the difference is what it seems"
    )


def _reversed(difference: Difference) -> Difference:
    """The difference of the second against the first."""
    low, high = (None if value is None else -value for value in (difference.high, difference.low))
    mean = None if difference.mean is None else -difference.mean
    return replace(difference, mean=mean, low=low, high=high)


def _numbers(difference: Difference) -> Callable[[float], str]:
    """The format of this difference's numbers: digits as its spread allows, of factors at least three."""
    spread = difference.deviation or 0.0
    if difference.scale == "log":
        digits = min(8, max(3, 1 - math.floor(math.log10(spread)))) if spread else 4
        return lambda value: _digits(value, digits)
    if difference.scale == "share":
        spread *= max(transforms.slope(transforms.forward(mean or 0.0, "share"), "share") for mean in difference.means)
    size = spread or abs(difference.shown[0] or 0.0)
    places = min(8, max(0, 1 - math.floor(math.log10(size)))) if size else 3
    return lambda value: f"{value:,.{places}f}"


def _digits(value: float, digits: int) -> str:
    """A positive number with that many significant digits; in exponents where it would be very long."""
    if not 1e-4 <= value < 1e6:
        return f"{value:.1e}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(value)))}f}"
