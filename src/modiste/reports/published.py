"""The table that the published documents print, with the numbers here beside those printed there."""

from __future__ import annotations

import math
import statistics as numbers
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from modiste.evaluation import records
from modiste.reports import phrases
from modiste.reports.blocks import Section, Table
from modiste.reports.inputs import Comparison, Configuration, peaks


@dataclass(frozen=True)
class Row:
    """A row of the table, as text; `-` for what is not known."""

    fid: str = "-"
    kid: str = "-"
    inception_score: str = "-"
    loss_g: str = "-"
    loss_d: str = "-"
    peak: str = "-"
    """The highest loss of the generator, and when."""
    accuracies: str = "-"
    """How often the discriminator is right about real and about generated images."""
    length: str = "-"


HEADS = (
    "configuration", "FID", "KID", "IS ± deviation", "G's loss at the end", "D's loss at the end",
    "G's highest loss", "D right: real, generated", "training",
)  # fmt: skip

PUBLISHED = {
    "diaz-a": Row("0.027636", "0.039390", "3.496917 ± 0.303776", "5.2393", "0.0568", "≈ 9.15, epoch 25",
                  length="30 epochs"),
    "diaz-b": Row("0.020862", "0.027615", "3.471461 ± 0.363097", "5.4666", "0.0190", "≈ 19, epoch 24",
                  length="30 epochs"),
    "diaz-c": Row("0.013888", "0.030357", "3.543423 ± 0.216749", "4.0203", "0.0688", "≈ 9",
                  length="30 epochs"),
    "noronha": Row("about 125", "-", "1.057", "-", "-", "-", "30.20 %, 91.80 %", "50 epochs"),
    "roh": Row(length="20 epochs"),
    "bare-naich": Row("12.65", loss_g="5.23", loss_d="0.07", length="200 epochs"),
    "dense-sigmoid": Row(length="20 epochs"),
}  # fmt: skip
"""By recipe, what its document prints; sources are in the recipes."""


def published_section(comparison: Comparison) -> Section | None:
    """A row per configuration, and one as published below each recipe of a document; None before the first tick."""
    rows: list[list[str]] = []
    for configuration in comparison.configurations:
        if not any(member.read_log() for member in configuration.members):
            continue
        rows.append([configuration.name, *astuple(measured_row(comparison, configuration))])
        if printed := PUBLISHED.get(recipe_of(configuration)):
            rows.append([f"{configuration.name}, as published", *astuple(printed)])
    if not rows:
        return None
    caption = []
    if comparison.records:
        caption.append(
            "Here: FID and KID are Fréchet and kernel distance and IS is the inception-style score, all in the "
            f"features of {comparison.measured_by}, not of Inception; the deviation is that over ten parts of the "
            "images."
        )
    if any("as published" in row[0] for row in rows):
        caption.append(
            "Published: as printed, in other features and of other numbers of images. So compare rows of one document "
            "with each other, and never one of ours with one of theirs."
        )
    return Section("published", "As in papers", "The table that papers print", [Table(HEADS, rows, " ".join(caption))])


def recipe_of(configuration: Configuration) -> str:
    """The recipe that the configuration trains as it is; empty where a study changed it under another name."""
    run = next((member.run for member in configuration.members if member.run), None)
    return configuration.name if run and run.read_recipe().name == configuration.name else ""


def measured_row(comparison: Comparison, configuration: Configuration) -> Row:
    """A configuration's row: means over its seeds, and the highest peak of all of them."""
    logs = [log for member in configuration.members if (log := member.read_log())]
    highest = max(((value, epoch) for log in logs for epoch, value in peaks(log, most=1)), default=None)
    frechet, kernel, inception = map(comparison.of_kind, phrases.FIELD_NAMES)
    deviations = [
        record.scores[inception].details["sd"]
        for record in configuration.records
        if inception in record.scores and "sd" in record.scores[inception].details
    ]
    spread = f" ± {numbers.fmean(deviations):.3g}" if deviations else ""
    return Row(
        _mean(comparison, configuration, frechet),
        _mean(comparison, configuration, kernel),
        _mean(comparison, configuration, inception) + spread,
        _last(logs, "loss_g", ".2f"),
        _last(logs, "loss_d", ".3f"),
        f"{highest[0]:.2f}, epoch {highest[1]:.1f}" if highest else "-",
        f"{_last(logs, 'd_accuracy_real', '.0%')}, {_last(logs, 'd_accuracy_fake', '.0%')}",
        f"{numbers.fmean(log[-1]['epoch'] for log in logs):.1f} epochs",
    )


def _mean(comparison: Comparison, configuration: Configuration, score: str | None) -> str:
    return records.format_number(comparison.summary(configuration, score).mean) if score else "-"


def _last(logs: Sequence[Sequence[dict[str, float]]], key: str, form: str) -> str:
    """The mean over seeds of the last logged value."""
    values = [log[-1][key] for log in logs if math.isfinite(log[-1].get(key, math.nan))]
    return format(numbers.fmean(values), form) if values else "-"
