"""The parts of a report on training: curves, stability, and the layers of the networks."""

from __future__ import annotations

import math
import statistics as numbers
from collections.abc import Mapping, Sequence
from itertools import chain

from modiste.metrics import metric_names
from modiste.networks import summary
from modiste.plotting import charts as plotting
from modiste.plotting.charts import Line
from modiste.reports import phrases
from modiste.reports.blocks import Block, Bullets, Chart, Fold, Gallery, Paragraph, Section, Table
from modiste.reports.inputs import Comparison, peaks, trained_shape
from modiste.training import diagnostics

RIGHT = "the discriminator's right answers"


def curve_section(comparison: Comparison) -> Section | None:
    """Losses, the discriminator's accuracies and held-out distance over images shown, and how stable they were.

    None before the first tick.
    """
    ticks = [len(member.read_log()) for member in comparison.members]
    blocks: list[Block] = []
    if max(ticks) > 1:
        several = any(len(one.members) > 1 for one in comparison.configurations)
        spread = " Thin lines are single seeds, thick ones their mean, bands their range." if several else ""
        text = (
            "Each point is the mean over one tick of training, in the loss that the recipe uses: different losses "
            "cannot be compared, and none measures pictures. Half of the discriminator's answers right (dotted) means "
            "that it is fooled."
        )
        blocks = [Gallery(curves(comparison)), Paragraph(text + spread)]
    elif max(ticks) == 1:
        blocks = [Paragraph("One tick of training was logged, and a curve needs two: a longer training draws one.")]
    blocks += stability_blocks(comparison)
    return Section("curves", "Curves", "Losses and the discriminator", blocks) if blocks else None


def curves(comparison: Comparison) -> list[Chart]:
    """The charts: of a run both losses in one, of a study one each; both accuracies in one; held-out distance."""
    g, d, real, fake = (lines_of(comparison, key) for key in ("loss_g", "loss_d", "d_accuracy_real", "d_accuracy_fake"))
    if comparison.is_study:
        charts = [
            _chart("curve-loss-g", "loss of the generator", g, palette=comparison.palette),
            _chart("curve-loss-d", "loss of the discriminator", d, palette=comparison.palette),
            _chart("curve-accuracies", f"{RIGHT}\nsolid: real, dashed: generated", real, dashed=fake,
                   palette=comparison.palette),
        ]  # fmt: skip
    else:
        of_g, of_d, of_real, of_fake = ([*chain(*lines.values())] for lines in (g, d, real, fake))
        charts = [
            _chart("curve-losses", "loss", {"generator": of_g, "discriminator": of_d}),
            _chart("curve-accuracies", RIGHT, {"real images": of_real, "generated images": of_fake}),
        ]
    logged = {key for member in comparison.members for record in member.read_log()[-1:] for key in record}
    heldout = metric_names.heldout_score(sorted(logged))
    lines = lines_of(comparison, heldout) if heldout else {}
    if heldout and max((len(line[0]) for several in lines.values() for line in several), default=0) > 1:
        label = f"{phrases.title_of(heldout)}, held-out images"
        charts.append(_chart("curve-heldout", label, lines, palette=comparison.palette))
    return charts


def lines_of(comparison: Comparison, key: str) -> dict[str, list[Line]]:
    """The lines of a logged number by configuration, of those that have any."""
    lines = {
        one.name: [plotting.line_of(member.read_log(), key) for member in one.members]
        for one in comparison.configurations
    }
    return {name: kept for name, several in lines.items() if (kept := [line for line in several if len(line[0])])}


def _chart(
    name: str,
    label: str,
    lines: Mapping[str, Sequence[Line]],
    *,
    dashed: Mapping[str, Sequence[Line]] | None = None,
    palette: Sequence[str] = (),
) -> Chart:
    every = {**lines, **{f"{of}, dashed": several for of, several in (dashed or {}).items()}}
    last = {of: numbers.fmean(line[1][-1] for line in several) for of, several in every.items() if several}
    ends = "; ".join(f"{of} ends at {value:.2f}" for of, value in last.items())
    share = RIGHT in label
    figure = plotting.curves(lines, "images shown (thousands)", label, dashed=dashed, share=share, palette=palette)
    return Chart(name, figure, f"Curves of {label} over images shown: {ends}".replace("\n", ", "))


def stability_blocks(comparison: Comparison) -> list[Block]:
    """Signs of trouble, and folded the peaks of the generator's loss and final losses, run by run."""
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
    heads = [
        "run",
        "highest peaks of G's loss",
        "median",
        "ticks above twice the median",
        "G at the end",
        "D at the end",
    ]
    text = "A peak is a tick whose mean loss is above its neighbours'; what a single step did is averaged out."
    peaks_table = Fold("How stable each training was", [Table(heads, rows), Paragraph(text)])
    return [*([Bullets(signs)] if signs else []), *([peaks_table] if rows else [])]


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
    return Section("networks", "Networks", "The networks, layer by layer", folds)


def _layers(who: str, rows: Sequence[summary.LayerRow], side: int) -> Table:
    body = [[row.layer, " x ".join(map(str, row.output_shape)), f"{row.parameters:,}"] for row in rows]
    total = ["total", "", f"{sum(row.parameters for row in rows):,}"]
    return Table(["layer", "output shape", "parameters"], [*body, total], f"{who}, images of {side} x {side} pixels")
