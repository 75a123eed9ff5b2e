"""The tables of scores and costs in a report."""

from __future__ import annotations

import math
import statistics as numbers
from collections.abc import Sequence
from dataclasses import replace

from modiste import progress
from modiste.evaluation import records, rulers, score_tables
from modiste.evaluation.records import ScoreEntry
from modiste.experiments import conclusions, results
from modiste.experiments.conclusions import Conclusions
from modiste.metrics import transforms
from modiste.metrics.metric_names import MEANINGS
from modiste.reports import phrases
from modiste.reports.blocks import Cell, Mark, Table
from modiste.reports.inputs import Comparison, Configuration, Member, gflop_per_image

RULED = (
    "frechet", "kernel", "inception_style", "precision_k3", "recall_k3", "coverage_k5", "label_agreement",
    "two_sample_1nn",
)  # fmt: skip
"""Kinds of scores that the short table of a run shows, each on its ruler from noise to real images."""

NOISE = "Noise is the worse of uniform noise and the mean training image; distances count by factors."


def ranked(comparison: Comparison, findings: Conclusions) -> Comparison:
    """The comparison with its configurations from best to worst, those without a rank last."""
    ranks = ranking(comparison, findings)
    order = sorted(comparison.configurations, key=lambda one: ranks.get(one.name, (math.inf, ""))[0])
    return replace(comparison, configurations=tuple(order))


# one run


def run_rulers(comparison: Comparison) -> Table | None:
    """The scores of a run that people ask for first, each on its ruler; None where none was measured."""
    (member,) = comparison.members
    scores = [score for kind in RULED if member.record and (score := member.record.first(kind))]
    rows: list[list[Cell]] = []
    from_0: list[str] = []
    for score in scores:
        found = rulers.ruler(score)
        values = [records.with_uncertainty(score.value, score.uncertainty)]
        values += [records.format_number(value) for value in (score.real, score.trivial)]
        if found:
            title = phrases.known_title(str(score.name))
            rows.append([title, Mark(found.position, f"{found.position:.0%}", _span(score)), *values])
            if found.noise != score.trivial:
                from_0.append(title)
    if not rows or member.record is None:
        return None
    caption = (
        f"Each score between noise (left) and other real images (right). {NOISE} {_that_begin_at_0(from_0)}"
        "FID, KID and IS are the field's names; here they are measured in the features of "
        f"{comparison.measured_by}, not of Inception: compare them with the columns beside them and with no paper."
    )
    return Table(("score", "from noise to real images", "here", "real images", "noise"), rows, caption)


def _that_begin_at_0(titles: Sequence[str]) -> str:
    """A sentence on rulers that do not begin at the value of noise."""
    if not titles:
        return ""
    begin = "begins" if len(titles) == 1 else "begin"
    return f"{' and '.join(titles)} {begin} at 0 instead, since noise is no worse than real images there. "


def _span(score: ScoreEntry) -> tuple[float, float] | None:
    """The places of two standard errors about the score on its ruler."""
    if score.value is None or not score.uncertainty:
        return None
    ends = [rulers.ruler(score, score.value + side * score.uncertainty) for side in (-2, 2)]
    first, last = sorted(end.position for end in ends if end)
    return first, last


def run_table(comparison: Comparison) -> Table:
    """Every score of a run with its uncertainty, baselines, reading and meaning, then what the run cost."""
    (member,) = comparison.members
    if member.record is None:
        return Table(("cost", "value"), cost_rows(member))
    protocol = member.record.protocol
    caption = (
        f"{protocol.generated:,} generated images against {protocol.reference.count:,} of {protocol.reference.data}. "
        f"{score_tables.LEGEND} ± is one standard error of this one set of images, not of another training."
    )
    return Table(score_tables.HEADS, score_tables.rows(member.record), caption)


def cost_rows(member: Member) -> list[list[str]]:
    """What a run cost, as rows of name and value."""
    if member.run is None:
        return []
    manifest, log = member.run.read_manifest(), member.read_log()
    gflop, images = gflop_per_image(member.run), member.read_images() or 0
    rows = [["images shown", f"{images:,}"], ["training time", progress.duration(member.read_seconds())]]
    if log:
        rows.append(["speed", f"{numbers.median(record['images_per_second'] for record in log):,.0f} images/s"])
    rows.append(["arithmetic", f"{gflop:.3f} GFLOP per image, {gflop * images / 1e3:,.0f} TFLOP in all"])
    if peak := manifest.peak_memory_bytes:
        rows.append(["most memory", f"{peak / 1e6:,.0f} MB"])
    rows.append(["on", f"{manifest.device}, {manifest.threads} threads, {manifest.precision}"])
    return rows


# a study


def study_rulers(comparison: Comparison) -> Table | None:
    """The configurations in rank order, their headline scores on rulers; None where none was measured."""
    scores = headline(comparison)
    if not scores:
        return None
    rows: list[list[Cell]] = []
    for configuration in comparison.configurations:
        row: list[Cell] = [configuration.name]
        for score in scores:
            found, text = comparison.ruler(configuration, score), interval_text(comparison, configuration, score)
            summary = comparison.summary(configuration, score)
            ends = [
                rulers.ruler(comparison.entry(score), end) for end in (summary.low, summary.high) if end is not None
            ]
            places = sorted(end.position for end in ends if end)
            row.append(
                Mark(found.position, text, (places[0], places[1]) if len(places) == 2 else None) if found else text
            )
        rows.append(row)
    for name, values in _baselines(comparison, scores):
        rows.append([name, *values])
    caption = (
        f"Means over training seeds with 95 % intervals, from best to worst; each line runs from noise (left) to real "
        f"images (right). {NOISE} FID, KID and IS as in papers, but in the features of "
        f"{comparison.measured_by}, not of Inception."
    )
    return Table(["configuration", *map(phrases.known_title, scores)], rows, caption)


def _baselines(comparison: Comparison, scores: Sequence[str]) -> list[tuple[str, list[str]]]:
    entries = [comparison.entry(score) for score in scores]
    real = [records.format_number(entry.real) for entry in entries]
    return [("real images", real), ("noise", [records.format_number(entry.trivial) for entry in entries])]


def study_table(comparison: Comparison, findings: Conclusions) -> Table:
    """Per configuration: rank, means with 95 % intervals of the headline scores, cost; then the baselines."""
    scores = headline(comparison)
    heads = ["configuration", "rank", *map(phrases.title_of, scores), "seeds", "images", "time", "TFLOP"]
    ranks = ranking(comparison, findings) if scores else {}
    rows = []
    for configuration in comparison.configurations:
        rank = ranks.get(configuration.name, (0.0, "-"))[1]
        cells = [interval_text(comparison, configuration, score) for score in scores]
        rows.append([configuration.name, rank, *cells, *costs(configuration)])
    entries = [comparison.entry(score) for score in scores]
    for name, (_, cells) in zip(("real images", "trivial"), _baselines(comparison, scores), strict=True):
        rows.append([name, "", *cells, "", "", "", ""])
    ways = "; ".join(f"{phrases.title_of(str(entry.name))}: {phrases.direction(entry.better)}" for entry in entries)
    kinds = "; ".join(means_of(comparison, scores))
    caption = (
        f"Means over training seeds with 95 % intervals ({kinds}). {ways}. Rank: mean rank over seeds by the first "
        "score; no verdict parts configurations that share a letter. Cost: per run. Trivial: the worse "
        "of noise and the mean image."
    )
    return Table(heads, rows, caption if scores else "")


def means_of(comparison: Comparison, scores: Sequence[str]) -> list[str]:
    """Which mean stands for which scores, a clause per kind of mean."""
    named: dict[str, list[str]] = {}
    for score in scores:
        named.setdefault(transforms.MEANS[comparison.scale(score)], []).append(phrases.title_of(score))
    return [f"{phrases.listed(titles)}: {kind}" for kind, titles in named.items()]


def headline(comparison: Comparison) -> list[str]:
    """The scores of the first table, by full name; the first one decides."""
    return [name for kind in results.HEADLINE if (name := comparison.of_kind(kind))]


def ranking(comparison: Comparison, findings: Conclusions) -> dict[str, tuple[float, str]]:
    """Mean rank by name, for sorting and as text with the letters of its groups."""
    decision = conclusions.deciding_score(comparison.read_score_rows())
    ranks = [] if decision is None else conclusions.ranks(decision, findings)
    texts = {}
    order = list(dict.fromkeys(group for row in ranks for group in row.groups))
    for row in ranks:
        letters = "".join(_letter(number) for number in sorted(map(order.index, row.groups)))
        text = "-" if row.mean_rank is None else f"{row.mean_rank:.1f} {letters}".strip()
        texts[row.name] = (math.inf if row.mean_rank is None else row.mean_rank, text)
    return texts


def _letter(number: int) -> str:
    """a to z for the first groups, then a1 to z1 and so on."""
    return f"{chr(ord('a') + number % 26)}{number // 26 or ''}"


def interval_text(comparison: Comparison, configuration: Configuration, score: str) -> str:
    """`0.91 [0.85, 0.97]`; the mean alone where no interval is known."""
    summary = comparison.summary(configuration, score)
    if summary.mean is None:
        return "-"
    if summary.low is None or summary.high is None:
        return records.format_number(summary.mean)
    low, high = (records.format_number(end, 3) for end in (summary.low, summary.high))
    return f"{records.format_number(summary.mean)} [{low}, {high}]"


def costs(configuration: Configuration) -> list[str]:
    """Measured of planned seeds, and means of images shown, training time and arithmetic."""
    images = [images for member in configuration.members if (images := member.read_images())]
    seconds = [seconds for member in configuration.members if (seconds := member.read_seconds())]
    run = next((member.run for member in configuration.members if member.run), None)
    flop = f"{gflop_per_image(run) * numbers.fmean(images) / 1e3:,.0f}" if run and images else "-"
    return [
        f"{len(configuration.records)}/{len(configuration.members)}",
        f"{numbers.fmean(images):,.0f}" if images else "-",
        progress.duration(numbers.fmean(seconds)) if seconds else "-",
        flop,
    ]


def all_scores(comparison: Comparison) -> Table:
    """Every score of every configuration: mean with interval, and the baselines."""
    entries = [comparison.entry(name) for name in comparison.score_names]
    entries.sort(key=lambda entry: (list(MEANINGS).index(entry.kind), str(entry.name)))
    configurations: Sequence[Configuration] = comparison.configurations
    rows = [
        [
            f"{entry.name} ({entry.better})",
            *[interval_text(comparison, configuration, str(entry.name)) for configuration in configurations],
            records.format_number(entry.real),
            records.format_number(entry.trivial),
        ]
        for entry in entries
    ]
    return Table(["score", *[configuration.name for configuration in configurations], "real images", "trivial"], rows)
