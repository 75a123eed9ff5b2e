"""The part of a study's report on its scores: values over seeds, verdicts, the radar, and every score there is."""

from __future__ import annotations

from modiste.evaluation import records
from modiste.experiments import conclusions, statistics
from modiste.experiments.conclusions import Conclusions
from modiste.metrics import baselines
from modiste.plotting import charts
from modiste.plotting.charts import Dot
from modiste.reports import phrases, summary
from modiste.reports.blocks import Block, Bullets, Chart, Fold, Gallery, Paragraph, Section
from modiste.reports.inputs import Comparison

DOTTED = ("frechet", "kernel", "inception_style")
"""Kinds of scores that are drawn with every seed."""

SPOKES = ("frechet", "kernel", "inception_style", "precision_k3", "recall_k3", "coverage_k5", "label_agreement")
"""Kinds of scores on the radar, as far as all configurations have them."""

RADAR = (
    "The radar has the same rulers: its centre is the trivial baseline and its rim is real images. Shares count "
    "linearly, (value - trivial) / (real - trivial), or value / real where the trivial baseline is no worse than real "
    "images (precision); Fréchet and kernel distance by factors, log(trivial / value) / log(trivial / real), with the "
    "kernel's real baseline at its standard error. The order of the axes is arbitrary, so the area means nothing."
)


def score_section(comparison: Comparison, findings: Conclusions) -> Section | None:
    """The field's three scores with every seed, verdicts, the radar, and every score; None for a run or no record."""
    if not comparison.is_study or not comparison.records:
        return None
    dots = [dot_chart(comparison, name) for kind in DOTTED if (name := comparison.of_kind(kind))]
    text = (
        "Dots are means over seeds as in the table, rings single seeds, lines 95 % intervals of the mean; further "
        f"right is better. All were measured in the features of {comparison.measured_by}: no number here can be "
        "compared with one in others."
    )
    radar = radar_chart(comparison)
    blocks: list[Block] = [Gallery([*dots, *([radar] if radar else [])]), Paragraph(text)]
    blocks += [Paragraph(RADAR)] if radar else []
    blocks += verdict_blocks(findings)
    blocks.append(Fold("Every score of every configuration", [summary.all_scores(comparison)]))
    return Section("scores", "Scores", "Scores over training seeds", blocks)


def dot_chart(comparison: Comparison, score: str) -> Chart:
    """One score of the configurations in rank order, with every seed, between noise and real images."""
    rows = []
    for configuration in comparison.configurations:
        found = comparison.summary(configuration, score)
        if found.mean is not None:
            interval = None if found.low is None or found.high is None else (found.low, found.high)
            rows.append(Dot(configuration.name, found.mean, interval, configuration.values(score)))
    entry = comparison.entry(score)
    name, better = phrases.known_title(score), phrases.direction(entry.better)
    described = "; ".join(f"{row.label} {records.format_number(row.value)}" for row in rows)
    alt = (
        f"Dots of {name} ({better}): {described}; real images {records.format_number(entry.real)}, "
        f"noise {records.format_number(entry.trivial)}"
    )
    least = max(entry.real_uncertainty or 0.0, 1e-9) if entry.kind in baselines.LOGARITHMIC else None
    figure = charts.dots(
        rows, f"{name}, {better}", noise=entry.trivial, real=entry.real, least=least, palette=comparison.palette
    )
    return Chart(f"dots-{entry.kind}", figure, alt, score)


def radar_chart(comparison: Comparison) -> Chart | None:
    """The radar of scores that every measured configuration has on a ruler; None where there are fewer than three."""
    measured = [one for one in comparison.configurations if one.records]
    names = [name for kind in SPOKES if (name := comparison.of_kind(kind))]
    rulers = {name: [comparison.ruler(one, name) for one in measured] for name in names}
    scores = {name: [found.position for found in row if found] for name, row in rulers.items() if None not in row}
    if len(scores) < 3:
        return None
    values = {one.name: [places[k] for places in scores.values()] for k, one in enumerate(measured)}
    rows = "; ".join(f"{name}: " + ", ".join(f"{v:.2f}" for v in row) for name, row in values.items())
    spokes = [phrases.title_of(score).replace(" ", "\n", 1) for score in scores]
    alt = f"Radar of {', '.join(phrases.title_of(score) for score in scores)}, 0 to 1: {rows}"
    return Chart("radar", charts.radar(spokes, values, palette=comparison.palette), alt)


def verdict_blocks(findings: Conclusions) -> list[Block]:
    """A sentence per pair on the score that decides, and how it was tested."""
    if not findings.pairs:
        return []
    pairs = sorted(findings.pairs, key=lambda pair: not pair.verdict.decided)  # decided ones first
    sentences = [f"{conclusions.pair_sentence(pair, findings.score)}." for pair in pairs]
    blocks: list[Block] = [Paragraph(f"Verdicts by {conclusions.score_phrase(findings)}, pair by pair:")]
    if len(sentences) <= 6:
        blocks.append(Bullets(sentences))
    else:
        blocks += [Bullets(sentences[:3]), Fold(f"All {len(sentences)} pairs", [Bullets(sentences)])]
    return [*blocks, Fold("How these verdicts are reached", [Paragraph(statistics.METHOD)])]
