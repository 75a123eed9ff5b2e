"""The summary of a report: the result, how certain it is, and the scores as tables and charts."""

from __future__ import annotations

import math
import shlex
import statistics as numbers
from collections import Counter
from collections.abc import Sequence

from modiste import progress
from modiste.evaluation import alarms, records, score_tables
from modiste.experiments import conclusions, results, statistics
from modiste.experiments.conclusions import Conclusions
from modiste.experiments.statistics import Verdict
from modiste.metrics import baselines, transforms
from modiste.metrics.metric_names import MEANINGS
from modiste.plotting import charts
from modiste.plotting.charts import Bar
from modiste.reports import phrases
from modiste.reports.blocks import Block, Bullets, Chart, Code, Fold, Gallery, Paragraph, Section, Table
from modiste.reports.inputs import Comparison, Configuration, Member, gflop_per_image

BARS = ("frechet", "kernel", "inception_style")
"""Kinds of scores that are drawn as bars."""

SPOKES = ("frechet", "kernel", "inception_style", "precision_k3", "recall_k3", "coverage_k5", "label_agreement")
"""Kinds of scores on the radar, as far as all configurations have them."""


def answer(comparison: Comparison, findings: Conclusions) -> tuple[Section, Table]:
    """The answer in three sentences, what to doubt, alarms, and the table of scores; that table also by itself."""
    table = study_table(comparison, findings) if comparison.is_study else run_table(comparison)
    sentences = study_sentences(comparison, findings) if comparison.is_study else run_sentences(comparison)
    blocks: list[Block] = [Paragraph(" ".join(sentences))]
    if comparison.is_study and (doubts := conclusions.caveats(findings)):
        blocks += [Paragraph("What to doubt:"), Bullets([f"{text[0].upper()}{text[1:]}." for text in doubts])]
    blocks += not_measured(comparison)
    shown, folded = alarm_blocks(comparison)
    blocks += [*shown, table, *folded]
    return Section("answer", "The answer", blocks), table


def alarm_blocks(comparison: Comparison) -> tuple[list[Block], list[Block]]:
    """The alarms of all records; of a study a line for each kind, and run by run for behind the table."""
    every = [
        (configuration.name, member.seed, alarm)
        for configuration in comparison.configurations
        for member in configuration.members
        if member.record
        for alarm in alarms.find(member.record.scores.values(), member.record.protocol)
    ]
    if not every:
        return [], []
    each = Bullets([f"{name}, seed {seed}: {alarm}" for name, seed, alarm in every])
    if not comparison.is_study:
        return [Paragraph("Alarms:"), each], []
    runs = {one.name: len(one.records) for one in comparison.configurations}
    lines = []
    for kind, title in alarms.KINDS.items():
        counts = Counter(name for name, _, alarm in every if alarm.kind == kind)
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{name} {count}/{runs[name]}" for name, count in counts.items()))
    heading = Paragraph("Alarms, and in how many of a configuration's runs:")
    return [heading, Bullets(lines)], [Fold("Every alarm, run by run", [each])]


def not_measured(comparison: Comparison) -> list[Block]:
    """The commands to type where a run was not measured yet."""
    lacking = [one for one in comparison.members if one.run and one.record is None and one.status != "failed"]
    if not lacking:
        return []
    if comparison.is_study:
        text = "Some runs are not finished or not measured yet; the study goes on with:"
        return [Paragraph(text), Code(f"modiste study {shlex.quote(str(comparison.path))}")]
    reason = f" as it is now: {lacking[0].reason}" if lacking[0].reason else ""
    text = (
        f"{comparison.name} was not measured{reason}. So this report has no scores; measure it, then write the report "
        "again:"
    )
    place = shlex.quote(str(comparison.path))
    return [Paragraph(text), Code(f"modiste evaluate {place}\nmodiste report {place}")]


# one run


def run_sentences(comparison: Comparison) -> list[str]:
    """What was made, how near it comes to real images, and what this cannot tell."""
    (configuration,) = comparison.configurations
    (member,) = configuration.members
    assert member.run is not None
    manifest, log = member.run.read_manifest(), member.read_log()
    epochs = f" ({log[-1]['epoch']:.1f} epochs)" if log else ""
    state = "" if manifest.status == "finished" else f"; its training is {manifest.status}"
    first = (
        f"{comparison.name} follows the recipe {configuration.name} with seed {member.seed} and was shown "
        f"{member.read_images() or 0:,} images{epochs} of {manifest.data.name} in "
        f"{progress.duration(member.read_seconds())}{state}."
    )
    caution = "It is one training with one seed: how much another seed would differ, it cannot tell."
    if member.record is None:
        return [first, "How near its images come to real ones was not measured.", caution]
    weak = phrases.weakest_share_sentence(member.record)
    return [
        first,
        phrases.distance_sentence(member.record),
        f"{weak}; {caution[0].lower()}{caution[1:]}" if weak else caution,
    ]


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


def study_sentences(comparison: Comparison, findings: Conclusions) -> list[str]:
    """Who is ahead, what can be told apart, and what cannot."""
    score = findings.score or None
    names = [configuration.name for configuration in comparison.configurations]
    if score is None:
        done = sum(member.status == "finished" for member in comparison.members)
        return [
            f"The study compares {phrases.listed(names)}.",
            f"{done} of {len(comparison.members)} runs are finished and none is measured yet.",
            "So there is no answer yet.",
        ]
    summaries = {one.name: comparison.summary(one, score) for one in comparison.configurations}
    means = {name: one.mean for name, one in summaries.items() if one.mean is not None}
    counts = {one.name: len(one.values(score)) for one in comparison.configurations}
    seeds = max(counts.values())
    complete = [name for name in means if counts[name] == seeds]
    entry = comparison.entry(score)
    ahead = (max if entry.better == "higher" else min)(complete, key=means.__getitem__)
    among = f", of the {len(complete)} that have all of them," if len(complete) < len(means) else ""
    kind = "" if comparison.scale(score) == "plain" else f"{transforms.MEANS[comparison.scale(score)]} "
    title = phrases.TITLES[entry.kind]
    over = f"{seeds} training seed{'s' if seeds > 1 else ''}"
    lead = f"By the {kind}mean of the {title} {conclusions.features_phrase(findings)} over {over}, "
    values = (
        f"({records.format_number(means[ahead])}; real images {records.format_number(entry.real)}, "
        f"a generator that learned nothing {records.format_number(entry.trivial)})"
    )
    first = f"{lead}{ahead}{among} comes nearest to real images {values}."
    if not findings.has_learned(ahead):
        first = (
            f"Nothing has been learned yet, so none is the best; use a longer budget. {lead}{ahead} is first {values}."
        )
    verdicts = findings.verdicts
    decided = [verdict for verdict in verdicts if verdict.decided]
    impossible = [verdict for verdict in verdicts if not verdict.possible]
    undecided = [verdict for verdict in verdicts if verdict.possible and not verdict.decided]
    if decided and len(decided) == len(verdicts):
        lead = "Every pair of configurations" if len(verdicts) > 1 else "The two configurations"
        second = f"{lead} can be told apart: {'; '.join(better_than(decided))}."
    elif decided:
        wins = "; ".join(better_than(decided))
        second = f"{wins}; of the {len(verdicts)} pairs, {len(undecided)} cannot be told apart."
    elif undecided:
        several = f"None of the {len(undecided)} tested pairs can"
        lead = several if len(undecided) > 1 else "The one pair that was tested cannot"
        second = f"{lead} be told apart with so few seeds: the order may be chance."
    elif len(names) == 1:
        second = "It is the only configuration, so there is nothing to compare it with."
    else:
        second = "With so few measured seeds no verdict on any pair is possible."
    failed = sum(member.status == "failed" for member in comparison.members)
    third = [f"{failed} of {len(comparison.members)} runs failed"] if failed else []
    have = "pairs have" if len(impossible) > 1 else "pair has"
    third += [f"{len(impossible)} {have} no verdict"] if impossible and (decided or undecided) else []
    opposed = sum(bool(pair.opposed) for pair in findings.pairs)
    third += [f"other scores say the opposite of {opposed} of the {len(decided)} verdicts"] if opposed else []
    last = "; ".join([*third, "all of this holds at this length of training, on this data set and by these judges"])
    return [first, second, last[0].upper() + last[1:] + "."]


def better_than(decided: Sequence[Verdict]) -> list[str]:
    """Which configurations are better than which, a clause per loser."""
    winners: dict[str, list[str]] = {}
    for verdict in decided:
        loser = verdict.second if verdict.winner == verdict.first else verdict.first
        winners.setdefault(loser, []).append(verdict.winner)
    return [
        f"{phrases.listed(names)} {'is' if len(names) == 1 else 'are'} better than {loser}"
        for loser, names in winners.items()
    ]


def study_table(comparison: Comparison, findings: Conclusions) -> Table:
    """Per configuration: rank, means with 95 % intervals of the headline scores, cost; then the baselines."""
    scores = headline(comparison)
    heads = ["configuration", "rank", *map(phrases.title_of, scores), "seeds", "images", "time", "TFLOP"]
    ranks = ranking(comparison, findings) if scores else {}
    rows = []
    for configuration in sorted(comparison.configurations, key=lambda one: ranks.get(one.name, (math.inf, ""))[0]):
        rank = ranks.get(configuration.name, (0.0, "-"))[1]
        cells = [interval_text(comparison, configuration, score) for score in scores]
        rows.append([configuration.name, rank, *cells, *costs(configuration)])
    entries = [comparison.entry(score) for score in scores]
    of_real = [records.format_number(entry.real) for entry in entries]
    of_trivial = [records.format_number(entry.trivial) for entry in entries]
    rows += [[name, "", *cells, "", "", "", ""] for name, cells in (("real images", of_real), ("trivial", of_trivial))]
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


# charts and the other tables


def score_section(comparison: Comparison, findings: Conclusions) -> Section | None:
    """Bars of the field's three scores, verdicts, the radar, and every score there is; None without any record."""
    if not comparison.records:
        return None
    blocks: list[Block] = []
    bars = [bar_chart(comparison, name) for kind in BARS if (name := comparison.of_kind(kind))]
    networks = {name for record in comparison.records for name in record.protocol.extractors}
    judge = "a classifier of this data set" if networks - {"random"} else "a network with random weights"
    if comparison.is_study:
        text = (
            "Bars are means over seeds as in the table, dots single seeds, whiskers 95 % intervals of the mean. The "
            f"judge is the same for all, {judge}: no number here can be compared with one of another judge."
        )
    else:
        text = (
            f"Whiskers are two standard errors of this set of images. The judge is {judge}: no number here can be "
            "compared with one of another judge."
        )
    blocks += [Gallery(bars), Paragraph(text)]
    if (chart := radar_chart(comparison)) is not None:
        blocks.append(chart)
    if comparison.is_study:
        blocks += verdict_blocks(findings)
        blocks.append(Fold("Every score of every configuration", [all_scores(comparison)]))
    return Section("scores", "Scores", blocks)


def bar_chart(comparison: Comparison, score: str) -> Chart:
    """Bars of one score over the configurations, with the line where real images stand."""
    rows = []
    for configuration in comparison.configurations:
        values, mean = configuration.values(score), comparison.summary(configuration, score).mean
        if mean is None:
            continue
        rows.append(Bar(configuration.name, mean, _whisker(comparison, configuration, score),
                        values if comparison.is_study else ()))  # fmt: skip
    entry = comparison.entry(score)
    name, better = phrases.title_of(score), phrases.direction(entry.better)
    described = "; ".join(f"{row.label} {records.format_number(row.value)}" for row in rows)
    alt = f"Bars of {name} ({better}): {described}; real images {records.format_number(entry.real)}"
    caption = f"{score}. A generator that learned nothing gets {records.format_number(entry.trivial)}."
    drawn = charts.bars(rows, f"{name} ({better})", real=entry.real, trivial=entry.trivial)
    return Chart(f"bars-{entry.kind}", drawn, alt, caption)


def _whisker(comparison: Comparison, configuration: Configuration, score: str) -> tuple[float, float] | None:
    if comparison.is_study:
        summary = comparison.summary(configuration, score)
        return None if summary.low is None or summary.high is None else (summary.low, summary.high)
    (record,) = configuration.records
    entry = record.scores[score]
    if entry.value is None or not entry.uncertainty:
        return None
    return entry.value - 2 * entry.uncertainty, entry.value + 2 * entry.uncertainty


def radar_chart(comparison: Comparison) -> Chart | None:
    """The radar of scores that every measured configuration has; None where there are fewer than three."""
    measured = [one for one in comparison.configurations if one.records]
    scores = [name for kind in SPOKES if (name := comparison.of_kind(kind)) and all(c.values(name) for c in measured)]
    entries = [comparison.entry(name) for name in scores]
    scores = [str(entry.name) for entry in entries if entry.real is not None and entry.trivial is not None]
    if len(scores) < 3:
        return None
    values = {one.name: [_share(comparison, one, score) for score in scores] for one in measured}
    rows = "; ".join(f"{name}: " + ", ".join(f"{v:.2f}" for v in row) for name, row in values.items())
    spokes = [phrases.title_of(score).replace(" ", "\n", 1) for score in scores]
    caption = (
        "Scores normalised so that the centre is the trivial baseline and the rim is real images: shares linearly, "
        "(value - trivial) / (real - trivial), or value / real where the trivial baseline is no worse than real images "
        "(precision); Fréchet and kernel distance by factors, log(trivial / value) / log(trivial / real), with the "
        "kernel's real baseline at its standard error. The order of the axes is arbitrary, so the area means nothing."
    )
    alt = f"Radar of {', '.join(phrases.title_of(score) for score in scores)}, 0 to 1: {rows}"
    return Chart("radar", charts.radar(spokes, values), alt, caption)


def _share(comparison: Comparison, configuration: Configuration, score: str) -> float:
    errors = [record.scores[score].uncertainty or 0.0 for record in comparison.records if score in record.scores]
    entry = comparison.entry(score)
    assert entry.real is not None and entry.trivial is not None  # see radar_chart
    trivial = baselines.start(entry.real, entry.trivial, entry.better)
    logarithmic = entry.kind in baselines.LOGARITHMIC
    least = max(numbers.fmean(errors), 1e-9)
    mean = comparison.summary(configuration, score).mean
    assert mean is not None
    return baselines.normalised(mean, entry.real, trivial, logarithmic=logarithmic, least=least)


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
    return [*blocks, Paragraph(statistics.METHOD)]


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
