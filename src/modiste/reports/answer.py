"""The answer of a report: the verdict in a sentence, the short table, what to doubt, and alarms."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from modiste import progress
from modiste.evaluation import alarms, records
from modiste.experiments import conclusions
from modiste.experiments.conclusions import Conclusions
from modiste.experiments.statistics import Verdict
from modiste.metrics import transforms
from modiste.reports import phrases, summary
from modiste.reports.blocks import Block, Bullets, Code, Fold, Lead, Paragraph, Section, Table
from modiste.reports.inputs import Comparison

MOST_WINS = 3
"""Clauses of who is better than whom in the verdict; the section of scores has every pair."""


def answer(comparison: Comparison, findings: Conclusions) -> tuple[Section, Table]:
    """The verdict, the short table, what to doubt, alarms, and the whole table folded; that one also by itself."""
    if comparison.is_study:
        (lead, *rest), short = study_sentences(comparison, findings), summary.study_rulers(comparison)
        table = summary.study_table(comparison, findings)
    else:
        (lead, *rest), short = run_sentences(comparison), summary.run_rulers(comparison)
        table = summary.run_table(comparison)
    blocks: list[Block] = [Lead(lead), Paragraph(" ".join(rest)), *not_measured(comparison)]
    shown, folded = alarm_blocks(comparison)
    blocks += [short] if short else []
    if comparison.is_study and (doubts := conclusions.caveats(findings)):
        blocks += [Paragraph("What to doubt:"), Bullets([f"{text[0].upper()}{text[1:]}." for text in doubts])]
    blocks += shown
    kind = "Every number of this table, and what it cost" if comparison.is_study else "Every score under its full name"
    blocks += [Fold(kind, [table]), *folded] if short else [table]
    return Section("answer", "Answer", "The answer", blocks), table


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
    text = f"This report has no scores of {comparison.name}: {lacking[0].reason}. Measure it, then write it again:"
    place = shlex.quote(str(comparison.path))
    return [Paragraph(text), Code(f"modiste evaluate {place}\nmodiste report {place}")]


def run_sentences(comparison: Comparison) -> list[str]:
    """How near it comes to real images, what it lacks, what was made, and what this cannot tell."""
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
        return ["How near its images come to real ones was not measured.", first, caution]
    weak = phrases.weakest_share_sentence(member.record)
    return [phrases.distance_sentence(member.record), *([weak] if weak else []), first, caution]


# a study


def study_sentences(comparison: Comparison, findings: Conclusions) -> list[str]:
    """Who is ahead and what can be told apart; by which numbers, and what cannot be told."""
    score = findings.score or None
    names = [configuration.name for configuration in comparison.configurations]
    if score is None:
        done = sum(member.status == "finished" for member in comparison.members)
        lead = f"{done} of {len(comparison.members)} runs are finished and none is measured, so there is no answer yet."
        return [lead, f"The study compares {phrases.listed(names)}."]
    summaries = {one.name: comparison.summary(one, score) for one in comparison.configurations}
    means = {name: one.mean for name, one in summaries.items() if one.mean is not None}
    counts = {one.name: len(one.values(score)) for one in comparison.configurations}
    seeds = max(counts.values())
    complete = [name for name in means if counts[name] == seeds]
    entry = comparison.entry(score)
    ahead = (max if entry.better == "higher" else min)(complete, key=means.__getitem__)
    among = f", of the {len(complete)} that have all {seeds} seeds," if len(complete) < len(means) else ""
    if not findings.has_learned(ahead):
        lead = (
            f"Nothing has been learned yet, so none is the best; use a longer budget. {separation_sentence(findings)}"
        )
    elif len(names) == 1:
        lead = f"{ahead} is the only configuration, so there is nothing to compare it with."
    else:
        lead = f"{ahead}{among} comes nearest to real images. {separation_sentence(findings)}"
    kind = "" if comparison.scale(score) == "plain" else f"{transforms.MEANS[comparison.scale(score)]} "
    numbers = (
        f"By the {kind}mean of the {phrases.TITLES[entry.kind]} {conclusions.features_phrase(findings)} over {seeds} "
        f"training seed{'s' if seeds > 1 else ''}, {ahead} is first ({records.format_number(means[ahead])}; "
        f"real images {records.format_number(entry.real)}, noise {records.format_number(entry.trivial)})."
    )
    return [lead, numbers, limits(comparison, findings)]


def separation_sentence(findings: Conclusions) -> str:
    """What the verdicts tell apart, in a sentence."""
    verdicts = findings.verdicts
    decided = [verdict for verdict in verdicts if verdict.decided]
    undecided = [verdict for verdict in verdicts if verdict.possible and not verdict.decided]
    wins = better_than(decided)
    clauses = f": {'; '.join(wins)}" if len(wins) <= MOST_WINS else ""
    if decided and len(decided) == len(verdicts):
        return f"{'Every pair' if len(verdicts) > 1 else 'The two'} can be told apart{clauses}."
    if decided and clauses:
        return f"{'; '.join(wins)}; of the {len(verdicts)} pairs, {len(undecided)} cannot be told apart."
    if decided:
        return f"Of the {len(verdicts)} pairs, {len(decided)} can be told apart and {len(undecided)} cannot."
    if undecided:
        pairs = f"None of the {len(undecided)} tested pairs can" if len(undecided) > 1 else "The one tested pair cannot"
        return f"{pairs} be told apart with so few seeds: the order may be chance."
    return "With so few measured seeds no verdict on any pair is possible."


def limits(comparison: Comparison, findings: Conclusions) -> str:
    """What failed, what contradicts, and where all of it holds, in a sentence."""
    verdicts = findings.verdicts
    failed = sum(member.status == "failed" for member in comparison.members)
    impossible = sum(not verdict.possible for verdict in verdicts)
    parts = [f"{failed} of {len(comparison.members)} runs failed"] if failed else []
    if impossible and impossible < len(verdicts):
        parts.append(f"{impossible} {'pairs have' if impossible > 1 else 'pair has'} no verdict")
    if opposed := sum(bool(pair.opposed) for pair in findings.pairs):
        decided = sum(verdict.decided for verdict in verdicts)
        parts.append(f"other scores say the opposite of {opposed} of the {decided} verdicts")
    parts.append("all of this holds at this length of training, on this data set and by these judges")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


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
