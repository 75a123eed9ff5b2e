"""The commands evaluate and judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import (
    ADVANCED,
    SCORING,
    BackgroundOption,
    FitOption,
    GroupOption,
    JsonFlag,
    TrustFlag,
    data_changes,
    trust_code,
)
from modiste.cli.tables import print_table, score_titles
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.evaluation.records import Record
    from modiste.metrics.judge import JudgeCard

app = typer.Typer()
judge_app = typer.Typer(
    help="Train a judge for your own labelled images; show a judge's card.\n\nExample: modiste judge show",
    no_args_is_help=True,
)
app.add_typer(judge_app, name="judge")


@app.command()
def evaluate(
    what: Annotated[list[str], Argument(help="Runs, .npz files, folders of images, ONNX generators or metrics.json.")],
    count: Annotated[int, Option(min=2, max=1_000_000, help="Generated images.")] = 10_000,
    reference: Annotated[
        Literal["test", "heldout", "train"] | None,
        Option(
            help="Real images to compare with; default test, or heldout where there are no test images.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    data: Annotated[str | None, Option(help="Their data set; default a run's or model's, else fashion-mnist.")] = None,
    judge: Annotated[
        Path | None, Option(help="A judge's .safetensors file, from `modiste judge train`.", rich_help_panel=SCORING)
    ] = None,
    inception: Annotated[
        bool, Option("--inception", help="Also the field's scores (extra `inception`).", rich_help_panel=SCORING)
    ] = False,
    inception_weights: Annotated[
        Path | None, Option(help="Inception's weights, if not in the cache.", rich_help_panel=SCORING)
    ] = None,
    features: Annotated[
        list[Path] | None,
        Option(
            help="Also distances in features: `patches`, learned from the data set, or an ONNX model of your own.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    checkpoint: Annotated[
        Literal["last", "best"], Option(help="Which of a run's generators.", rich_help_panel=ADVANCED)
    ] = "last",
    truncation: Annotated[
        float | None, Option(help="Cut a run's noise at this value: 0.5 typical, 2 varied.", rich_help_panel=ADVANCED)
    ] = None,
    batch_norm: Annotated[
        Literal["running", "standing"],
        Option(
            help="Batch norm's statistics in a run's generator: as kept in training, or anew.", rich_help_panel=ADVANCED
        ),
    ] = "running",
    classifier: Annotated[
        bool,
        Option(
            "--classifier",
            help="Also train a classifier on the images: slow, up to an hour on one core.",
            rich_help_panel=SCORING,
        ),
    ] = False,
    audit: Annotated[
        bool,
        Option(
            "--audit",
            help="Also class by class: fairness, near-duplicates, a picture of the worst.",
            rich_help_panel=SCORING,
        ),
    ] = False,
    reconstruct: Annotated[
        int | None,
        Option(
            min=2,
            help="Also how nearly a run's generator can make so many reference images (1000: minutes).",
            rich_help_panel=SCORING,
        ),
    ] = None,
    seed: Annotated[
        int, Option(min=0, help="Which noises, and every random choice of the scores.", rich_help_panel=SCORING)
    ] = 0,
    out: Annotated[Path | None, Option(help="Where the record goes; default metrics.json in the run.")] = None,
    markdown: Annotated[bool, Option("--markdown", help="Print the table as Markdown.")] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure images against real ones: every score with its protocol and baselines; several things side by side.

    Example: modiste evaluate runs/swift

    Example: modiste evaluate runs/a runs/b pretrained --markdown

    Example: modiste evaluate images.npz --data fashion-mnist --audit
    """
    trust_code(trust, what)
    from modiste import progress
    from modiste.evaluation import evaluate as evaluation
    from modiste.evaluation import records, score_tables
    from modiste.evaluation.options import EvaluateOptions

    if out and len(what) > 1:
        raise UsageError("--out names one record, and several things are to be measured; leave it out")
    options = EvaluateOptions(
        count=count,
        reference=reference,
        data_name=data,
        judge=judge,
        inception=inception_weights or inception,
        features=tuple(features or ()),
        checkpoint=checkpoint,
        truncation=truncation,
        batch_norm=batch_norm,
        classifier=classifier,
        audit=audit,
        reconstruct=reconstruct,
        seed=seed,
        out=out,
    )
    evaluation.check_together([one for one in what if Path(one).suffix != ".json"], options)
    found = []
    for one in what:
        if Path(one).suffix == ".json":
            found.append(records.read(Path(one)))
            continue
        with progress.live_log(Path(one).name) as log:
            found.append(evaluation.evaluate_source(one, options, log))
    if audit:
        from modiste.evaluation import audit_tables

        audit_tables.check_comparable(found)
    if as_json:
        trees = [{**one.to_json(), **({"written": one.written} if one.written else {})} for one in found]
        print(json.dumps(trees[0] if len(trees) == 1 else trees, indent=2))
        return
    for record in found:
        for warning in record.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if len(found) == 1:
        _print_record(found[0], markdown)
    else:
        print_table(*score_titles(*score_tables.comparison(found), markdown), markdown)
        print(f"\n{score_tables.agreement(found)}")
    if audit:
        _print_audit(found, markdown)


def _print_record(record: Record, markdown: bool) -> None:
    from modiste.evaluation import score_tables

    protocol, reference = record.protocol, record.protocol.reference
    print(f"{record.name}: {protocol.generated:,} images against {reference.count:,} of {reference.data}")
    heads, rows = score_tables.HEADS, score_tables.rows(record)
    print_table(*score_titles(heads, rows, markdown), markdown, spare=heads[-1])
    print(f"\n{score_tables.LEGEND}")
    for name, facts in protocol.extractors.items():
        if "accuracy" in facts:
            print(f"{name}: a {facts['extractor']}, right about {facts['accuracy']:.1%} of real images new to it")
    for alarm in record.alarms:
        print(f"alarm: {alarm}")
    for gap in score_tables.gaps(record.not_measured):
        print(f"not measured: {gap}")
    if record.written:
        print(f"wrote {record.written}")
    if (rebuilt := record.first("reconstruction_error")) and record.written:
        print(f"wrote {Path(record.written).with_name(rebuilt.details['picture'])}")


def _print_audit(found: list[Record], markdown: bool) -> None:
    from modiste.evaluation import audit_tables

    audits = audit_tables.check_comparable(found)
    if len(found) == 1:
        one = audits[0]
        print(f"\naudit of {found[0].name} by the {one['protocol']['groups']}, in %:")
        print_table(*audit_tables.per_class(one), markdown)
        print()
        print_table(*audit_tables.disparities(one), markdown)
    else:
        for title, table in audit_tables.side_by_side(found):
            print(f"\naudit: {title}")
            print_table(*table, markdown)
        print()
        for change in audit_tables.changes(found):
            print(change)
    for line in audit_tables.LEGEND:
        print(line)
    for record, one in zip(found, audits, strict=True):
        name = f"{record.name}: " if len(found) > 1 else ""
        for line in audit_tables.memory(one):
            print(f"{name}{line}")
        for what, reason in one["not_measured"].items():
            print(f"{name}not audited: {what}: {reason}")
        if record.written:
            print(f"wrote {Path(record.written).with_name(one['picture'])}")


@judge_app.command("train")
def judge_train(
    data: Annotated[
        str, Option(help="A data set with labels: name, folder, .npz, .npy or .parquet.")
    ] = "fashion-mnist",
    out: Annotated[Path | None, Option(help="FILE.safetensors; default your cache, where evaluate finds it.")] = None,
    kind: Annotated[
        Literal["residual", "plain"], Option(help="residual, as the garment judge, or plain, as the second judge.")
    ] = "residual",
    epochs: Annotated[int, Option(min=1, help="Passes over the training part.")] = 30,
    seed: Annotated[int, Option(min=0, help="Initial weights, order and augmentation.")] = 0,
    flip: Annotated[bool, Option("--flip", help="Mirror images too: for garments, not for letters.")] = False,
    resize: Annotated[int | None, Option(help="Resize to this side in pixels (for folders of mixed sizes).")] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    group_by: GroupOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a judge for your own labelled images; `modiste evaluate` then scores generated ones in its features.

    Example: modiste judge train --data ./photos
    """
    from modiste import config, progress
    from modiste.data.images import content_digest
    from modiste.data.sets import native_data, open_data
    from modiste.metrics import judge as judges

    changes = {"data.name": data, **data_changes(resize, fit, background, group_by)}
    settings = config.override(config.Recipe(), changes, "modiste judge").data
    settings = native_data(settings)
    if out is None:
        out = judges.cache_path(content_digest(open_data(settings, part="fit")), kind)
    elif out.suffix not in ("", ".safetensors"):
        raise UsageError(f"--out {out} ends in {out.suffix}, and a judge is one FILE.safetensors; name it so")
    with progress.live_log(f"judge of {data}", every_line=True) as log:
        judge = judges.train(settings, out, kind=kind, epochs=epochs, seed=seed, flip=flip, log=log)
    _print_judge(judge.card, str(out.with_suffix(".safetensors")), as_json)
    if weak := judges.weakness(judge.card):
        print(f"warning: {weak}", file=sys.stderr)


@judge_app.command("show")
def judge_show(
    name: Annotated[str, Argument(help="garment, second or a judge's .safetensors file.")] = "garment",
    as_json: JsonFlag = False,
) -> None:
    """Print a judge's card: accuracy over all and per class, confusion, data digest, training command, hash.

    Example: modiste judge show second
    """
    from modiste.metrics import judge as judges

    _print_judge(judges.load(name).card, name, as_json)


def _print_judge(card: JudgeCard, place: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(card.to_json(), indent=2))
        return
    print(f"{place}: {card.kind} classifier, {card.parameters:,} parameters, {card.features} features")
    print(f"  learned from {card.data.name} {card.data.part}, {card.data.count:,} images,")
    print(f"  digest {card.data.digest}")
    print(f"  command {card.training['command']}")
    print(f"  sha256  {card.sha256}")
    width = max(map(len, card.class_names))
    for part, measured in card.measured.items():
        print(f"accuracy on {measured.count:,} images of {part}: {measured.accuracy:.2%}")
        for name, row in zip(card.class_names, measured.confusion, strict=True):
            accuracy = measured.accuracy_per_class[name]
            shown = "   none" if accuracy is None else f"{accuracy:7.2%}"
            print(f"  {name:{width}} {shown}   taken for " + " ".join(f"{count:5}" for count in row))
