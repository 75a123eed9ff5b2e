"""The part of a report on methods: protocol, seeds, versions, commands, limits."""

from __future__ import annotations

from modiste import subprocesses
from modiste.data import inspection
from modiste.data.sets import has_test, open_data
from modiste.evaluation import score_tables
from modiste.experiments import plan
from modiste.experiments.study_config import Judging
from modiste.metrics import metric_names
from modiste.reports import phrases
from modiste.reports.blocks import Block, Bullets, Code, Fold, Paragraph, Section, Table
from modiste.reports.inputs import Comparison, command_of
from modiste.reports.judge_features import ReportFeatures
from modiste.reports.summary import cost_rows

DEFAULTS = Judging()
"""Of an evaluation without options."""


def method_section(comparison: Comparison, features: ReportFeatures | None) -> Section:
    """How the scores were measured, the commands that repeat it, and the limits of the conclusions."""
    blocks: list[Block] = []
    if comparison.records:
        protocol = comparison.records[0].protocol
        rows = score_tables.protocol_rows(protocol)
        blocks.append(Fold("The protocol of the scores, in full", [Table(["part", "value"], rows)]))
        blocks += [Bullets(score_tables.describe_protocol(protocol))]
        used = [facts["hash"] for facts in protocol.extractors.values()]
        if features is not None and features.judge.fingerprint not in used:
            blocks.append(Paragraph(
                f"The pictures above use {metric_names.whose(features.judge.name)} with weights "
                f"{features.judge.fingerprint}, and the scores were measured in other features: evaluate again to have "
                "both in the same."
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
    blocks += [Paragraph("What these numbers cannot tell:"), Bullets(limits(comparison, features))]
    return Section("method", "Method", "What was measured and how", blocks)


def commands(comparison: Comparison) -> list[str]:
    """The commands that repeat it: of the study as a whole, then of each run."""
    lines = [comparison.command] if comparison.command else []
    planned = planned_commands(comparison)
    if planned:
        return [*lines, "", *planned, "", subprocesses.printable(["report", str(comparison.path)])]
    for member in comparison.members:
        if member.run:
            evaluate = ["evaluate", str(member.path)]
            if member.record:
                count, part = member.record.protocol.generated, member.record.protocol.reference.part
                evaluate += ["--count", str(count)] if count != DEFAULTS.count else []
                evaluate += ["--reference", part] if part != DEFAULTS.reference else []
                evaluate += ["--audit"] if member.record.audit else []
                evaluate += ["--classifier"] if member.record.first("classifier_accuracy") else []
                if rebuilt := member.record.first("reconstruction_error"):
                    evaluate += ["--reconstruct", str(rebuilt.details.get("images", 1_000))]
            lines += [command_of(member.run), subprocesses.printable(evaluate)]
    return [*lines, subprocesses.printable(["report", str(comparison.path)])]


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


def limits(comparison: Comparison, features: ReportFeatures | None) -> list[str]:
    """The limits of the conclusions: by seeds, by length, by judge, by data set."""
    seeds = {member.seed for member in comparison.members}
    sentences = [
        f"{len(seeds)} training seeds tell large differences from chance and small ones not; another {len(seeds)} "
        "would give other means."
        if comparison.is_study and len(seeds) > 1
        else "One seed cannot tell a better recipe from a luckier training."
    ]
    if comparison.is_study:
        sentences.append(
            "Configurations were compared at this length of training and with these settings; with more time, or tuned "
            "each for itself, the order may be another."
        )
    if comparison.extractor in metric_names.WITHOUT_JUDGE:
        sentences.append(
            f"No judge was trained on this data set, so the scores are in the features of {comparison.measured_by}; "
            "they know nothing of its classes."
        )
    elif comparison.extractor:
        sentences.append(
            "The judge was trained on this data set and sees what tells its classes apart; what does not matter for "
            "that (fine texture, small defects) it may overlook. The second opinion of a random network has no such "
            "preference."
        )
    if features is None:
        return sentences
    labelled = features.real.labels is not None
    sentences += inspection.limits_of_data(features.dataset.name, labelled)
    if has_test(features.dataset):
        sets = {"train": open_data(features.dataset, part="train"), "test": open_data(features.dataset, part="test")}
        duplicates = inspection.summarise(sets)["duplicates"]
        counts = {place: len(groups) for place, groups in duplicates.items() if groups}
        if counts:
            text = phrases.listed([f"{count} in {place}" for place, count in counts.items()])
            sentences.append(f"Images that occur more than once, byte for byte: {text}.")
    return sentences
