"""The part of a report on how it was made: protocol, seeds, versions, commands, limits."""

from __future__ import annotations

import shlex

from modiste.data import inspection
from modiste.data.sets import has_test, open_data
from modiste.evaluation import score_tables
from modiste.experiments import plan
from modiste.experiments.study_config import Judging
from modiste.reports import phrases
from modiste.reports.blocks import Block, Bullets, Code, Fold, Paragraph, Section, Table
from modiste.reports.inputs import Comparison, command_of
from modiste.reports.pictures import ReportFeatures
from modiste.reports.summary import cost_rows

USUAL = Judging()
"""How an evaluation without options measures."""


def method_section(comparison: Comparison, eyes: ReportFeatures | None) -> Section:
    """What was measured and how, so that it can be repeated, and what no conclusion here can reach."""
    blocks: list[Block] = []
    if comparison.records:
        protocol = comparison.records[0].protocol
        rows = score_tables.protocol_rows(protocol)
        blocks.append(Fold("The protocol of the scores, in full", [Table(["part", "value"], rows)]))
        blocks += [Bullets(score_tables.describe_protocol(protocol))]
        used = [facts["hash"] for facts in protocol.extractors.values()]
        if eyes is not None and eyes.judge.fingerprint not in used:
            blocks.append(Paragraph(
                f"The pictures above use the judge with weights {eyes.judge.fingerprint}, and the scores were measured "
                "with another one: evaluate again to have both from one judge."
            ))  # fmt: skip
        missing = {name: reason for record in comparison.records for name, reason in record.not_measured.items()}
        if missing:
            blocks += [Paragraph("Not measured:"), Bullets(score_tables.gaps(missing))]
    if not comparison.is_study:
        (member,) = comparison.members
        blocks.append(Table(["cost", "value"], cost_rows(member)))
    blocks.append(Paragraph("Commands that make and measure the same again:"))
    blocks.append(Code("\n".join(commands(comparison))))
    blocks.append(Fold("Machines, versions, seeds and contents", [machine_table(comparison)]))
    blocks += [Paragraph("What these numbers cannot tell:"), Bullets(limits(comparison, eyes))]
    return Section("method", "What was measured and how", blocks)


def commands(comparison: Comparison) -> list[str]:
    """What to type to repeat it: the study as a whole, then each run's own commands."""
    lines = [comparison.command] if comparison.command else []
    planned = planned_commands(comparison)
    if planned:
        return [*lines, "", *planned, "", shlex.join(["modiste", "report", str(comparison.path)])]
    for member in comparison.members:
        if member.run:
            evaluate = ["modiste", "evaluate", str(member.path)]
            if member.record is not None:
                count, part = member.record.protocol.generated, member.record.protocol.reference.part
                evaluate += ["--count", str(count)] if count != USUAL.count else []
                evaluate += ["--reference", part] if part != USUAL.reference else []
            lines += [command_of(member.run), shlex.join(evaluate)]
    return [*lines, shlex.join(["modiste", "report", str(comparison.path)])]


def planned_commands(comparison: Comparison) -> list[str]:
    """Every run's commands as the study's plan has them; empty for a run."""
    if not comparison.is_study or not (comparison.path / plan.FILE).is_file():
        return []
    return [command for run in plan.read(comparison.path).runs for command in run.commands]


def machine_table(comparison: Comparison) -> Table:
    """One row per run: seed, device, versions, and hashes of recipe and data."""
    heads = ["run", "seed", "status", "device", "modiste", "torch", "python", "commit", "recipe", "data", "started"]
    rows = []
    for configuration in comparison.configurations:
        for member in configuration.members:
            if member.run is None:
                rows.append([configuration.name, str(member.seed), member.status, *["-"] * 8])
                continue
            facts = member.run.read_manifest()
            device = f"{facts.device}, {facts.threads} threads, {facts.precision}"
            rows.append([
                configuration.name, str(member.seed), member.status, device, facts.modiste or "-",
                facts.torch or "-", facts.python or "-", (facts.git_commit or "-")[:10], facts.recipe_hash[:10] or "-",
                facts.data.digest[:10] or "-", facts.start or "-",
            ])  # fmt: skip
    return Table(heads, rows)


def limits(comparison: Comparison, eyes: ReportFeatures | None) -> list[str]:
    """What no conclusion here can reach: by seeds, by length, by judge, by data set."""
    seeds = {member.seed for member in comparison.members}
    said = [
        f"{len(seeds)} training seeds tell large differences from chance and small ones not; another {len(seeds)} "
        "would give other means."
        if comparison.is_study and len(seeds) > 1
        else "One seed cannot tell a better recipe from a luckier training."
    ]
    if comparison.is_study:
        said.append(
            "Configurations were compared at this length of training and with these settings; with more time, or tuned "
            "each for itself, the order may be another."
        )
    said.append(
        "The judge was trained on this data set and sees what tells its classes apart; what does not matter for that "
        "(fine texture, small defects) it may overlook. The second opinion of a random network has no such preference."
    )
    if eyes is None:
        return said
    labelled = eyes.real.labels is not None
    said += inspection.limits_of_data(eyes.dataset.name, labelled)
    if has_test(eyes.dataset):
        sets = {"train": open_data(eyes.dataset, part="train"), "test": open_data(eyes.dataset, part="test")}
        doubles = inspection.summarise(sets)["duplicates"]
        found = {place: len(groups) for place, groups in doubles.items() if groups}
        if found:
            text = phrases.listed([f"{count} in {place}" for place, count in found.items()])
            said.append(f"Images that occur more than once, byte for byte: {text}.")
    return said
