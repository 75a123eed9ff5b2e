"""What an experiment says: tables, paired tests, verdicts in words, gains per class, a picture and an answer."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from modiste import files, paths
from modiste.data.sets import has_test
from modiste.evaluation import records
from modiste.experiments import statistics
from modiste.experiments.augmentation import experiment
from modiste.experiments.augmentation.arms import BOTH, CLASSICAL, MIXED, REAL, REPEATS, WITHOUT_SYNTHETIC
from modiste.experiments.augmentation.experiment import Settings
from modiste.experiments.statistics import Difference
from modiste.plotting import figures

Row = dict[str, Any]

ALPHA = 0.05
COLUMNS = ("budget", "images", "seed", "arm", "steps", "real", "synthetic", "ratio", "tested", "accuracy", "rare")
MARKERS = "os^Dv*Px"
SCORES = {"accuracy": "accuracy", "rare": "accuracy on the rare classes"}


@dataclass(frozen=True)
class Gain:
    """One arm against another at one budget, paired by seed."""

    budget: str
    arm: str
    against: str
    difference: Difference
    """In shares of one, positive where the arm is better."""
    p_value: float | None
    """After Holm's correction over all comparisons of the same kind in the experiment."""
    word: str
    """`helps`, `harms`, `cannot be told apart` or `no verdict possible`."""
    verdict: str
    """The word with its numbers: `helps by 1.2 ± 0.4 points`."""


def decisive(rows: Sequence[Row]) -> list[Gain]:
    """The comparisons that decide: by the rare classes where there are any, else by accuracy."""
    return compared(rows, "rare" if has_rare(rows) else "accuracy")


def has_rare(rows: Sequence[Row]) -> bool:
    """Whether classes were made rare."""
    return any(row["rare"] is not None for row in rows)


def compared(rows: Sequence[Row], score: str) -> list[Gain]:
    """Every arm against real + classical, and those with synthetic images against repeated rare ones too."""
    arms, budgets = _distinct(rows, "arm"), _distinct(rows, "budget")
    couples = [(arm, CLASSICAL) for arm in arms if arm != CLASSICAL]
    couples += [(arm, REPEATS) for arm in arms if arm not in WITHOUT_SYNTHETIC and REPEATS in arms]
    return _judged(rows, score, [(budget, *couple) for budget in budgets for couple in couples])


def varied(rows: Sequence[Row], score: str) -> list[Gain]:
    """What ratio and filter change: every variant of an arm against the arm's first one."""
    kinds: dict[str, list[str]] = {}
    for arm in _distinct(rows, "arm"):
        kinds.setdefault(arm.partition(",")[0], []).append(arm)
    couples = [(other, first) for first, *others in kinds.values() for other in others]
    return _judged(rows, score, [(budget, *couple) for budget in _distinct(rows, "budget") for couple in couples])


def _judged(rows: Sequence[Row], score: str, asked: Sequence[tuple[str, str, str]]) -> list[Gain]:
    """The asked comparisons (budget, arm, against), corrected together by Holm's method."""
    values = {key: {row["seed"]: row[score] for row in rows if (row["budget"], row["arm"]) == key}
              for key in {(row["budget"], row["arm"]) for row in rows}}  # fmt: skip
    pairs = [(values.get((budget, arm), {}), values.get((budget, other), {})) for budget, arm, other in asked]
    fewest = statistics.FEWEST_SEEDS
    testable = sum(len(one.keys() & other.keys()) >= fewest for one, other in pairs)
    level = ALPHA / max(1, testable)
    found = [statistics.compare(one, other, better="higher", level=level) for one, other in pairs]
    raw = {
        k: p
        for k, difference in enumerate(found)
        if (p := difference.p_value) is not None and min(difference.counts) >= fewest
    }
    adjusted = dict(zip(raw, statistics.holm(list(raw.values())), strict=True))
    undecided = sum(p > ALPHA for p in adjusted.values())
    return [
        Gain(*names, difference, adjusted.get(k), *_verdict(difference, adjusted.get(k), ALPHA / max(1, undecided)))
        for k, (names, difference) in enumerate(zip(asked, found, strict=True))
    ]


def _verdict(difference: Difference, p_value: float | None, level: float) -> tuple[str, str]:
    if p_value is None or difference.mean is None:
        return "no verdict possible", "no verdict possible with fewer than three seeds"
    if p_value <= ALPHA:
        word = "helps" if difference.mean > 0 else "harms"
        low, high = difference.low, difference.high
        if difference.mean < 0 and low is not None and high is not None:
            low, high = -high, -low
        return word, f"{word} by {_span(abs(difference.mean), low, high, difference.test == 'paired t')} points"
    needed = statistics.seeds_needed(difference, level)
    outlook = f"about {needed} might settle it" if needed else "nor likely with 100"
    return "cannot be told apart", f"cannot be told apart with {difference.pairs} seeds ({outlook})"


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


def table(rows: Sequence[Row], gains: Sequence[Gain], budget: str, score: str) -> tuple[list[str], list[list[str]]]:
    """Per arm of a budget: the score with its 95 % interval over seeds, the paired difference, the verdict."""
    body = []
    for arm in _distinct(rows, "arm"):
        values = [row[score] for row in rows if (row["budget"], row["arm"]) == (budget, arm)]
        if not values:
            continue
        total = statistics.summary(values)
        gain = next((one for one in gains if (one.budget, one.arm, one.against) == (budget, arm, CLASSICAL)), None)
        difference, verdict = "-", "what the others are compared with" if arm == CLASSICAL else "-"
        if gain:
            found, verdict = gain.difference, gain.verdict
            symmetric = found.test == "paired t"
            sign = "+" if (found.mean or 0) > 0 else ""
            difference = sign + _span(found.mean, found.low, found.high, symmetric)
        shown = _span(total.mean, total.low, total.high, total.method == "Student t")
        body.append([arm, str(total.count), shown, difference, verdict])
    return ["arm", "seeds", f"{SCORES[score]}, %", f"against {CLASSICAL}, points", "verdict"], body


def per_class(rows: Sequence[Row], budget: str) -> tuple[list[str], list[list[str]]]:
    """Per class: the accuracy of real + classical in per cent, and the other arms' mean differences in points."""
    here = [row for row in rows if row["budget"] == budget]
    others = [arm for arm in _distinct(here, "arm") if arm != CLASSICAL]
    body = []
    for name in here[0]["per_class"]:
        values = {
            arm: {row["seed"]: row["per_class"][name] for row in here if row["arm"] == arm}
            for arm in [CLASSICAL, *others]
        }
        base = statistics.summary(values[CLASSICAL].values())
        line = [name, "-" if base.mean is None else f"{100 * base.mean:.1f}"]
        for arm in others:
            found = statistics.compare(values[arm], values[CLASSICAL], better="higher")
            sign = "+" if (found.mean or 0) > 0 else ""
            line.append(sign + _span(found.mean, found.low, found.high, found.test == "paired t"))
        body.append(line)
    return ["class", f"{CLASSICAL}, %", *others], body


def answer(rows: Sequence[Row], gains: Sequence[Gain], folder: Path) -> list[str]:
    """A sentence per budget, use it or do not, what to doubt, and one for all; empty while nothing is measured."""
    said, helpful, unbeaten = [], [], []
    about = "the rare classes' accuracy" if has_rare(rows) else "accuracy"
    budgets = _distinct(rows, "budget")
    for budget in budgets:
        here = [gain for gain in gains if gain.budget == budget and gain.arm not in WITHOUT_SYNTHETIC]
        lead = f"with {'all ' if budget == 'all' else ''}{spread(rows, budget, 'images')} labels"
        winners = [arm for arm in _distinct(rows, "arm") if _wins(rows, here, budget, arm)]
        if winners:
            helpful.append(lead)
            best = max(winners, key=lambda arm: _mean(rows, budget, arm, "rare" if has_rare(rows) else "accuracy"))
            gain = next(one for one in here if one.arm == best and one.against == CLASSICAL)
            chance = "p < 0.001" if (gain.p_value or 0) < 0.001 else f"p = {gain.p_value:.3f}"
            said.append(
                f"{lead} synthetic images help: {best} {gain.verdict} of {about} over {CLASSICAL} ({chance} after "
                f"Holm's correction, {gain.difference.pairs} seeds); "
                f"the sets are {folder}/{budget}-seed*/synthetic*.npz"
            )
        elif tested := [gain for gain in here if gain.p_value is not None]:
            rival, facts = _refusal(tested, about)
            unbeaten.append(rival)
            said.append(f"{lead} no gain over {rival} could be shown, so do not use the synthetic images: {facts}")
        else:
            one = len({row["seed"] for row in rows if row["budget"] == budget}) == 1
            why = "with one seed; ask for five with --seeds 5" if one else "before three seeds are measured in all arms"
            said.append(f"{lead} no verdict is possible {why}")
    said += [
        f"with {spread(rows, gain.budget, 'images')} labels the classical changes harm, a sign of too few steps "
        f"({spread(rows, gain.budget, 'steps')}): believe no gain before it has shown with more --steps"
        for gain in gains
        if gain.arm == REAL and gain.against == CLASSICAL and (gain.difference.low or 0.0) > 0
    ]
    if said and helpful:
        said.append(
            f"it helps {' and '.join(helpful)}" + ("" if len(helpful) == len(budgets) else ", and nowhere else")
        )
    elif unbeaten:
        mixed = [gain.word for gain in gains if gain.arm.partition(",")[0] in (MIXED, BOTH)]
        over = f" over {unbeaten[0]}" if len(set(unbeaten)) == 1 else ""
        harm = all(word == "harms" for word in mixed)
        said.append("it harms; do not use it" if harm else f"no gain{over} is shown at any budget; do not use it")
    return said


def _refusal(tested: Sequence[Gain], about: str) -> tuple[str, str]:
    """What the best arm with synthetic images does not beat, and why not to use them."""
    arms = list(dict.fromkeys(gain.arm for gain in tested))
    over_classical = {gain.arm: gain for gain in tested if gain.against == CLASSICAL}
    best = max(over_classical, key=lambda arm: over_classical[arm].difference.mean or 0.0)
    mine = [gain for gain in tested if gain.arm == best]
    rival = next((gain.against for gain in mine if gain.word != "helps"), REAL)
    found = [
        f"{gain.verdict} against {gain.against}"
        + (f" ({100 * (gain.difference.mean or 0.0):+.1f} points)" if "points" not in gain.verdict else "")
        for gain in mine
    ]
    harmful = sum(gain.word == "harms" for gain in over_classical.values())
    tail = f"; {harmful} of the {len(arms)} harm{'s' * (harmful == 1)}" if harmful else ""
    lead = f"in {about} the best of {len(arms)} arms with them, {best},"
    return rival, f"{lead} {', and '.join(found)}{tail}"


def _wins(rows: Sequence[Row], gains: Sequence[Gain], budget: str, arm: str) -> bool:
    """Whether an arm is shown to beat all that it is compared with, and is not below the bare real images either."""
    words = [gain.word for gain in gains if gain.arm == arm]
    score = "rare" if has_rare(rows) else "accuracy"
    beats_real = _mean(rows, budget, arm, score) > _mean(rows, budget, REAL, score)
    return bool(words) and all(word == "helps" for word in words) and beats_real


def _mean(rows: Iterable[Row], budget: str, arm: str, score: str) -> float:
    values = [row[score] for row in rows if (row["budget"], row["arm"]) == (budget, arm)]
    return float(np.mean(values)) if values else -math.inf


def _distinct(rows: Iterable[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def spread(rows: Iterable[Row], budget: str, key: str) -> str:
    """A number of a budget, as `800`, or `800 to 810` where its seeds differ, as folds may by an image per class."""
    numbers = [row[key] for row in rows if row["budget"] == budget]
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# --- the folder's files


def write(folder: Path, settings: Settings, rows: Sequence[Row]) -> None:
    """Write records.csv, records.jsonl, accuracy.png, accuracy.svg and report.md, each atomically."""
    names = list(rows[0]["per_class"])
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*COLUMNS, *(f"accuracy: {name}" for name in names)])
    lines.writerows([*(row[key] for key in COLUMNS), *row["per_class"].values()] for row in rows)
    files.write_text(folder / "records.csv", text.getvalue())
    files.write_text(folder / "records.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    picture = learning_curve(rows) if len(_distinct(rows, "budget")) > 1 else side_by_side(rows)
    for ending in ("png", "svg"):
        figures.save(picture, folder / f"accuracy.{ending}")
    files.write_text(folder / "report.md", report(folder, settings, rows))


def learning_curve(rows: Sequence[Row]) -> Figure:
    """Accuracy over the number of labels, a line per arm with 95 % intervals; a second panel for rare classes.

    A point per budget, at the mean of its seeds' labels.
    """
    scores = ["accuracy", "rare"] if has_rare(rows) else ["accuracy"]
    figure = Figure(figsize=(6.5, 0.6 + 3.4 * len(scores)), dpi=figures.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    arms, labels_of = _distinct(rows, "arm"), _labels_of(rows)
    budgets, counts = list(labels_of), np.array(list(labels_of.values()))
    colours = [colour for colour in figures.COLOURS if colour != "#F0E442"]  # yellow is too pale for a line
    for axes, score in zip(figure.subplots(len(scores), squeeze=False)[:, 0], scores, strict=True):
        for k, arm in enumerate(arms):
            here = [row for row in rows if row["arm"] == arm]
            found = [statistics.summary([row[score] for row in here if row["budget"] == each]) for each in budgets]
            known = [one.mean is not None for one in found]
            means, lows, highs = (
                np.array([getattr(one, name) for one in found], np.float64)[known] * 100
                for name in ("mean", "low", "high")
            )
            aside = 1 + 0.03 * (k - (len(arms) - 1) / 2)  # intervals side by side
            axes.errorbar(
                counts[known] * aside,
                means,
                yerr=np.nan_to_num([means - lows, highs - means]),
                label=arm,
                color=colours[k % len(colours)],
                ls=("-", "--", ":", "-.")[k // len(colours) % 4],
                marker=MARKERS[k % len(MARKERS)],
                ms=4,
                lw=1.2,
                capsize=2,
            )
        axes.set_xscale("log")
        axes.set_xlim(counts[0] / 1.4, counts[-1] * 1.4)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(0.0, bottom), min(100.0, top))
        axes.xaxis.set_major_locator(FixedLocator(counts.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_ylabel(f"{SCORES[score]} on real test images, %", fontsize=figures.SMALL)
        axes.tick_params(labelsize=figures.SMALL - 1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].set_xlabel("labelled real images (mean over seeds with 95 % interval)", fontsize=figures.SMALL)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=figures.SMALL - 1)
    return figure


def side_by_side(rows: Sequence[Row]) -> Figure:
    """The arms of one budget below each other: mean accuracy with its 95 % interval, a second panel for rare classes.

    A grey line marks real + classical, with which the others are compared.
    """
    scores = ["accuracy", "rare"] if has_rare(rows) else ["accuracy"]
    arms = _distinct(rows, "arm")
    figure = Figure(figsize=(2.6 + 3.2 * len(scores), 0.9 + 0.27 * len(arms)), dpi=figures.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, score in zip(figure.subplots(1, len(scores), sharey=True, squeeze=False)[0], scores, strict=True):
        for place, arm in enumerate(arms):
            found = statistics.summary([row[score] for row in rows if row["arm"] == arm])
            if found.mean is None:
                continue
            low, high = (found.mean if end is None else end for end in (found.low, found.high))
            colour = figures.COLOURS[1] if arm in WITHOUT_SYNTHETIC else figures.COLOURS[0]
            axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=1.4)
            axes.plot(100 * found.mean, place, "o", color=colour, ms=4.5)
            if arm == CLASSICAL:
                axes.axvline(100 * found.mean, color="0.75", lw=0.8, zorder=0)
        axes.set_xlabel(f"{SCORES[score]}, %", fontsize=figures.SMALL)
        axes.set_yticks(range(len(arms)), arms)
        axes.tick_params(labelsize=figures.SMALL - 1)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    labels, count = spread(rows, rows[0]["budget"], "images"), len({row["seed"] for row in rows})
    title = f"{labels} labelled real images; means over {count} seeds with 95 % intervals"
    figure.suptitle(title, fontsize=figures.SMALL, x=0.01, ha="left")
    return figure


def _labels_of(rows: Sequence[Row]) -> dict[str, float]:
    """The mean number of labelled images of every budget, the smallest first."""
    budgets = _distinct(rows, "budget")
    means = {each: float(np.mean([row["images"] for row in rows if row["budget"] == each])) for each in budgets}
    return dict(sorted(means.items(), key=lambda one: one[1]))


def unfinished(folder: Path, settings: Settings, rows: Sequence[Row]) -> str:
    """Which pieces are not measured in every arm, in words; empty when all are."""
    arms = {arm.name for arm in experiment.all_arms(settings)}
    pieces = experiment.pieces(settings, folder)
    left = [
        piece.name
        for piece in pieces
        if arms - {row["arm"] for row in rows if (row["budget"], row["seed"]) == (str(piece.budget), piece.seed)}
    ]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"{len(left)} of {len(pieces)} pieces are not measured: {', '.join(left[:3])}{more}" if left else ""


def report(folder: Path, settings: Settings, rows: Sequence[Row]) -> str:
    """The experiment as a page of Markdown."""
    said = answer(rows, decisive(rows), folder)
    if left := unfinished(folder, settings, rows):
        said = [f"{left}; what follows is said of the others so far", *said]
    scores = ["accuracy", "rare"] if has_rare(rows) else ["accuracy"]
    parts = [f"# Do synthetic images help on {settings.data.name}?", "", *(f"- {line}" for line in said), ""]
    parts += ["![accuracy of each arm](accuracy.svg)", "", "## How it was measured", "", _method(settings, rows), ""]
    for budget in _distinct(rows, "budget"):
        labels, steps = (spread(rows, budget, key) for key in ("images", "steps"))
        parts += [f"## {labels} labels, {steps} steps per arm", ""]
        for score in scores:
            parts += [records.markdown(*table(rows, compared(rows, score), budget, score)), ""]
        parts += ["Per class, in points (95 % intervals, each for itself and not corrected):", ""]
        parts += [records.markdown(*per_class(rows, budget)), ""]
    if found := varied(rows, scores[-1]):
        heads = ["labels", "variant", "against", "verdict"]
        body = [[gain.budget, gain.arm, gain.against, gain.verdict] for gain in found]
        parts += ["## What ratio and filter change", "", records.markdown(heads, body), ""]
    known: list[str | Path] = [settings.data.name, folder, *([settings.run] if settings.run else [])]
    return paths.without_folders("\n".join(parts), known)


def _method(settings: Settings, rows: Sequence[Row]) -> str:
    tested = spread(rows, rows[0]["budget"], "tested")
    source = f"The generator is that of {settings.run}." if settings.run else (
        "Every budget and seed trained a generator of its own (`recipe.toml`) on the budget's images alone."
    )  # fmt: skip
    mixing = f"{', '.join(f'{ratio:.0%}' for ratio in settings.ratio)} of a batch are synthetic"
    if settings.rare:
        mixing = "synthetic images fill the rare classes, of whose images a tenth was kept in all arms, to balance"
    kept = [f"{kind} (the best {settings.keep:.0%} of each class)" for kind in settings.filter if kind != "none"]
    differing = "other labelled images, another generator, other initial weights"
    if "all" in {row["budget"] for row in rows}:
        differing += "; the labelled images of the budget `all` are the same for all"
    if settings.run:
        differing = "other synthetic images and initial weights, the same labelled images and the same generator: what "
        differing += "is found is about this one generator"
    folds = (
        " Every seed holds out another fifth for testing, and what they train on overlaps, so the intervals are "
        "somewhat too narrow (Nadeau and Bengio 2003)."
    )
    folds = "" if settings.run or has_test(settings.data) else folds
    return (
        f"{source} All arms of a budget and a seed share the labelled images, the classifier's initial weights, the "
        f"order of the real images and the number of steps; in mixed arms {mixing}. Filters: "
        f"{', '.join([*(['none'] if 'none' in settings.filter else []), *kept])}; the classifier that filters is the "
        f"classifier of the arm {CLASSICAL}, which saw the budget's images alone. Classical augmentation: shifts by up "
        f"to a fourteenth of the side, random erasing{', mirroring' if settings.flip else ''}. Tested on {tested} "
        "real images that nothing else saw; nothing was selected on them. Intervals and tests are over seeds "
        f"({differing}), paired by seed, and corrected by Holm's method over all comparisons of a kind; they do not "
        f"cover the choice of the test images.{folds}"
    )
