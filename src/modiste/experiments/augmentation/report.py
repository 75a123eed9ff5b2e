"""The files that show an experiment's results: records, pictures, and a page of Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from modiste import files, paths
from modiste.data.sets import has_test
from modiste.errors import ModisteError
from modiste.evaluation import records
from modiste.experiments import statistics
from modiste.experiments.augmentation import analysis, experiment
from modiste.experiments.augmentation.analysis import SCORES, arms_of, budgets_of, count_range, scores_of
from modiste.experiments.augmentation.arms import CLASSICAL, ArmRow
from modiste.experiments.augmentation.experiment import Settings
from modiste.plotting import figures
from modiste.runs import Run

COLUMNS = ("budget", "images", "seed", "arm", "steps", "real", "synthetic", "ratio", "tested", "accuracy", "rare")
MARKERS = "os^Dv*Px"


def write(folder: Path, settings: Settings, rows: Sequence[ArmRow]) -> None:
    """Write records.csv, records.jsonl, accuracy.png, accuracy.svg and report.md, each atomically."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    trees = [row.to_json() for row in rows]
    lines.writerow([*COLUMNS, *(f"accuracy: {name}" for name in rows[0].per_class)])
    lines.writerows([*(tree[key] for key in COLUMNS), *tree["per_class"].values()] for tree in trees)
    files.write_text(folder / "records.csv", text.getvalue())
    files.write_text(folder / "records.jsonl", "".join(json.dumps(tree) + "\n" for tree in trees))
    picture = learning_curve(rows) if len(budgets_of(rows)) > 1 else side_by_side(rows)
    for ending in ("png", "svg"):
        figures.save(picture, folder / f"accuracy.{ending}")
    files.write_text(folder / "report.md", report(folder, settings, rows))


def learning_curve(rows: Sequence[ArmRow]) -> Figure:
    """Accuracy over the number of labels, a line per arm with 95 % intervals; a second panel for rare classes.

    A point per budget, at the mean of its seeds' labels.
    """
    scores = scores_of(rows)
    figure = Figure(figsize=(6.5, 0.6 + 3.4 * len(scores)), dpi=figures.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    arms, labels_of = arms_of(rows), _mean_labels(rows)
    budgets, counts = list(labels_of), np.array(list(labels_of.values()))
    colours = [colour for colour in figures.COLOURS if colour != "#F0E442"]  # yellow is too pale for a line
    for axes, score in zip(figure.subplots(len(scores), squeeze=False)[:, 0], scores, strict=True):
        for k, arm in enumerate(arms):
            here = [row for row in rows if row.arm == arm]
            totals = [
                statistics.summary([getattr(row, score) for row in here if row.budget == each]) for each in budgets
            ]
            known = [total.mean is not None for total in totals]
            means, lows, highs = (
                np.array([getattr(total, name) for total in totals], np.float64)[known] * 100
                for name in ("mean", "low", "high")
            )
            aside = 1 + 0.03 * (k - (len(arms) - 1) / 2)  # intervals side by side
            axes.errorbar(
                counts[known] * aside,
                means,
                yerr=np.nan_to_num([means - lows, highs - means]),
                label=arm.name,
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


def side_by_side(rows: Sequence[ArmRow]) -> Figure:
    """The arms of one budget below each other: mean accuracy with its 95 % interval, a second panel for rare classes.

    A grey line marks real + classical, with which the others are compared.
    """
    scores = scores_of(rows)
    arms = arms_of(rows)
    figure = Figure(figsize=(2.6 + 3.2 * len(scores), 0.9 + 0.27 * len(arms)), dpi=figures.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, score in zip(figure.subplots(1, len(scores), sharey=True, squeeze=False)[0], scores, strict=True):
        for place, arm in enumerate(arms):
            total = statistics.summary([getattr(row, score) for row in rows if row.arm == arm])
            if total.mean is None:
                continue
            low, high = (total.mean if end is None else end for end in (total.low, total.high))
            colour = figures.COLOURS[0] if arm.uses_synthetic else figures.COLOURS[1]
            axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=1.4)
            axes.plot(100 * total.mean, place, "o", color=colour, ms=4.5)
            if arm.kind == CLASSICAL:
                axes.axvline(100 * total.mean, color="0.75", lw=0.8, zorder=0)
        axes.set_xlabel(f"{SCORES[score]}, %", fontsize=figures.SMALL)
        axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
        axes.tick_params(labelsize=figures.SMALL - 1)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    labels, count = count_range(rows, rows[0].budget, "images"), len({row.seed for row in rows})
    title = f"{labels} labelled real images; means over {count} seeds with 95 % intervals"
    figure.suptitle(title, fontsize=figures.SMALL, x=0.01, ha="left")
    return figure


def _mean_labels(rows: Sequence[ArmRow]) -> dict[str, float]:
    """The mean number of labelled images of every budget, the smallest first."""
    means = {each: float(np.mean([row.images for row in rows if row.budget == each])) for each in budgets_of(rows)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def unfinished(folder: Path, settings: Settings, rows: Sequence[ArmRow]) -> str:
    """A sentence about measurements without all their arms; empty when there are none."""
    arms, measurements = set(experiment.all_arms(settings)), experiment.measurements(settings, folder)
    left = [
        one.name
        for one in measurements
        if arms - {row.arm for row in rows if (row.budget, row.seed) == (str(one.budget), one.seed)}
    ]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    if not left:
        return ""
    return f"{len(left)} of {len(measurements)} measurements are not finished: {', '.join(left[:3])}{more}"


def report(folder: Path, settings: Settings, rows: Sequence[ArmRow]) -> str:
    """The experiment as a page of Markdown."""
    sentences = analysis.answer(rows, analysis.decisive(rows), folder)
    if left := unfinished(folder, settings, rows):
        sentences = [f"{left}; what follows is about the others so far", *sentences]
    parts = [f"# Do synthetic images help on {settings.data.name}?", "", *(f"- {line}" for line in sentences), ""]
    parts += ["![accuracy of each arm](accuracy.svg)", "", "## How it was measured", "", _method(settings, rows), ""]
    for budget in budgets_of(rows):
        labels, steps = count_range(rows, budget, "images"), count_range(rows, budget, "steps")
        parts += [f"## {labels} labels, {steps} steps per arm", ""]
        for score in scores_of(rows):
            parts += [records.markdown(*analysis.table(rows, analysis.compared(rows, score), budget, score)), ""]
        parts += ["Per class, in points (95 % intervals, each for itself and not corrected):", ""]
        parts += [records.markdown(*analysis.per_class(rows, budget)), ""]
    if gains := analysis.compared_variants(rows, scores_of(rows)[-1]):
        heads = ["labels", "variant", "against", "verdict"]
        body = [[gain.budget, gain.arm.name, gain.against.name, gain.verdict] for gain in gains]
        parts += ["## What ratio and filter change", "", records.markdown(heads, body), ""]
    known: list[str | Path] = [settings.data.name, folder, *([settings.run] if settings.run else [])]
    return paths.without_folders("\n".join(parts), known)


def _ancestry(run: str) -> str:
    """A sentence on the run that a generator started from, if it did."""
    with suppress(ModisteError):
        if of := Run(Path(run)).read_manifest().ancestor:
            return f" It started from {of.name}, which had learned from {of.data}: a gain is also owed to that."
    return ""


def _method(settings: Settings, rows: Sequence[ArmRow]) -> str:
    tested = count_range(rows, rows[0].budget, "tested")
    source = f"The generator is that of {settings.run}.{_ancestry(settings.run)}" if settings.run else (
        "Every budget and seed trained a generator of its own (`recipe.toml`) on the budget's images alone."
    )  # fmt: skip
    mixing = f"{', '.join(f'{ratio:.0%}' for ratio in settings.ratio)} of a batch are synthetic"
    if settings.rare:
        mixing = "synthetic images fill the rare classes, of whose images a tenth was kept in all arms, to balance"
    kept = [f"{kind} (the best {settings.keep:.0%} of each class)" for kind in settings.filter if kind != "none"]
    differing = "other labelled images, another generator, other initial weights"
    if "all" in budgets_of(rows):
        differing += "; the labelled images of the budget `all` are the same for all"
    if settings.run:
        differing = "other synthetic images and initial weights, the same labelled images and the same generator: what "
        differing += "is found is about this one generator"
    folds = "" if settings.run or has_test(settings.data) else (
        " Every seed holds out another fifth for testing, and what they train on overlaps, so the intervals are "
        "somewhat too narrow (Nadeau and Bengio 2003)."
    )  # fmt: skip
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
