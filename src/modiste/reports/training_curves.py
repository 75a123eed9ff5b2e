"""The part of a report on training: curves, stability, and the layers of the networks."""

from __future__ import annotations

import math
import statistics as numbers
from collections.abc import Sequence

from modiste.networks import summary
from modiste.plotting import charts
from modiste.plotting.charts import Line
from modiste.reports.blocks import Block, Bullets, Chart, Fold, Gallery, Paragraph, Section, Table
from modiste.reports.inputs import Comparison, Member, peaks, trained_shape
from modiste.training import diagnostics

CURVES = (
    ("loss_g", "loss of the generator", False),
    ("loss_d", "loss of the discriminator", False),
    ("d_accuracy_real", "D's accuracy on real images", True),
    ("d_accuracy_fake", "D's accuracy on generated images", True),
)


def curve_section(comparison: Comparison) -> Section | None:
    """Loss and accuracy curves over images shown; None before the first tick."""
    if not any(member.read_log() for member in comparison.members):
        return None
    curves = [curve(comparison, key, label, share) for key, label, share in CURVES]
    spread = " Thin lines are single seeds, the thick line is their mean and the band their range."
    text = (
        "Each point is the mean over one tick of training, in the loss that the recipe uses: different "
        "losses cannot be compared. A loss does not measure pictures: a falling one proves nothing, and "
        "neither does a rising one. Half of the discriminator's answers right (dotted) means that it is fooled."
    )
    return Section("curves", "Losses and the discriminator", [Gallery(curves), Paragraph(
        text + (spread if any(len(one.members) > 1 for one in comparison.configurations) else ""))])  # fmt: skip


def curve(comparison: Comparison, key: str, label: str, share: bool) -> Chart:
    """One logged number over images shown, a colour per configuration."""
    lines: dict[str, Sequence[Line]] = {
        one.name: [line for member in one.members if len((line := _line(member, key))[0])]
        for one in comparison.configurations
    }
    lines = {name: several for name, several in lines.items() if several}
    last = {name: numbers.fmean(line[1][-1] for line in several) for name, several in lines.items()}
    ends = "; ".join(f"{name} ends at {value:.2f}" for name, value in last.items())
    figure = charts.curves(lines, "images shown (thousands)", label, share=share)
    return Chart(f"curve-{key.replace('_', '-')}", figure, f"Curves of {label} over images shown: {ends}")


def _line(member: Member, key: str) -> Line:
    kept = [record for record in member.read_log() if math.isfinite(record.get(key, math.nan))]
    return [record["images"] / 1000 for record in kept], [record[key] for record in kept]


def stability_section(comparison: Comparison) -> Section | None:
    """Peaks of the generator's loss with their epoch, final losses, and signs of trouble, run by run."""
    rows, signs = [], []
    for configuration in comparison.configurations:
        for member in configuration.members:
            log = member.read_log()
            name = f"{configuration.name}, seed {member.seed}"
            if member.status == "failed":
                signs.append(f"{name} failed: {member.reason}")
            if not log:
                continue
            values = [record["loss_g"] for record in log if math.isfinite(record["loss_g"])]
            median = numbers.median(values) if values else math.nan
            highest = "; ".join(f"{value:.2f} at epoch {epoch:.1f}" for epoch, value in peaks(log))
            above = sum(value > 2 * median for value in values) if median > 0 else 0
            last = log[-1]
            row = [
                name,
                highest,
                f"{median:.2f}",
                f"{above} of {len(log)}" if median > 0 else "-",
                f"{last['loss_g']:.2f}",
                f"{last['loss_d']:.3f}",
            ]
            rows.append(row)
            signs += [f"{name}: {text}" for text in diagnostics.diagnose(log)]
    if not rows and not signs:
        return None
    heads = [
        "run",
        "highest peaks of G's loss",
        "median",
        "ticks above twice the median",
        "G at the end",
        "D at the end",
    ]
    blocks: list[Block] = [Table(heads, rows)] if rows else []
    text = "A peak is a tick whose mean loss is above its neighbours'; what a single step did is averaged out."
    blocks += [Paragraph(text), *([Bullets(signs)] if signs else [])]
    return Section("stability", "How stable each training was", blocks)


def network_section(comparison: Comparison) -> Section | None:
    """Layer tables of every pair of networks, those of equal ones once."""
    kinds: dict[str, list[str]] = {}
    tables: dict[str, list[Table]] = {}
    for configuration in comparison.configurations:
        run = next((member.run for member in configuration.members if member.run), None)
        if run is None:
            continue
        shape = trained_shape(run)
        key = f"{run.read_recipe().network.model_dump_json()} {shape}"
        kinds.setdefault(key, []).append(configuration.name)
        if key not in tables:
            found = summary.tables(run.read_recipe().network, shape)
            tables[key] = [_layers(who, rows, shape.size) for who, rows in found.items()]
    if not tables:
        return None
    folds = []
    for key, names in kinds.items():
        sizes = " and ".join(str(table.rows[-1][2]) for table in tables[key])
        folds.append(Fold(f"{', '.join(names)}: {sizes} numbers in generator and discriminator", tables[key]))
    return Section("networks", "The networks, layer by layer", folds)


def _layers(who: str, rows: Sequence[summary.LayerRow], side: int) -> Table:
    body = [[row.layer, " x ".join(map(str, row.output_shape)), f"{row.parameters:,}"] for row in rows]
    total = ["total", "", f"{sum(row.parameters for row in rows):,}"]
    return Table(["layer", "output shape", "parameters"], [*body, total], f"{who}, images of {side} x {side} pixels")
