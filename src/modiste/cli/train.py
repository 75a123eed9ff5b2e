"""The commands train and sample."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import (
    BackgroundOption,
    FitOption,
    GroupOption,
    JsonFlag,
    TrackOption,
    TrustFlag,
    data_changes,
    trust_code,
)
from modiste.wording import counted

if TYPE_CHECKING:
    from modiste import runs
    from modiste.exports.samples import WrittenImages
    from modiste.exports.synthetic_set import SyntheticSet

app = typer.Typer()


@app.command()
def train(
    recipe: Annotated[str, Argument(help="A recipe's name, a TOML file, or a run folder to resume.")],
    out: Annotated[Path | None, Option(help="The run folder; default runs/NAME, with -seedK for a seed K > 0.")] = None,
    data: Annotated[
        str | None, Option(help="fashion-mnist, mnist, kmnist, toy, a folder, .npz, .npy or .parquet.")
    ] = None,
    from_: Annotated[
        str | None, Option("--from", help="Start from the weights of this run, or of `pretrained`; see docs/using.md.")
    ] = None,
    resize: Annotated[int | None, Option(min=4, help="Side in pixels to which every image is resized.")] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    group_by: GroupOption = None,
    seed: Annotated[int | None, Option(min=0, help="Training seed, instead of the recipe's.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="A setting, as train.epochs=3.")] = None,
    budget: Annotated[
        str | None,
        Option(help="Length: 90s, 5min or 1h of training time (a bare number is seconds), 3 epochs or 60000 images."),
    ] = None,
    patience: Annotated[
        int | None, Option(min=0, help="Stop after so many scores on held-out images without a gain; 0 = never.")
    ] = None,
    fresh: Annotated[bool, Option("--fresh", help="Start a new run in a numbered folder; nothing is deleted.")] = False,
    extend: Annotated[
        bool,
        Option("--extend", help="Continue a run: to a greater --budget, or train.images where rates are constant."),
    ] = False,
    track: TrackOption = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the resolved recipe and its cost; train nothing.")
    ] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a recipe, or resume a run where it stopped.

    Example: modiste train swift --budget 4min --out runs/mine
    """
    trust_code(trust, [recipe, *([from_] if from_ else [])])
    from modiste import config

    changes = config.assignments(settings or [])
    if data is not None:
        changes["data.name"] = data
    changes |= data_changes(resize, fit, background, group_by)
    if from_ is not None:
        changes["finetune.ancestor"] = from_
    if seed is not None:
        changes["seed"] = seed
    if budget is not None:
        from modiste.experiments import study_config

        changes |= study_config.budget_changes(budget, "--budget")
    if patience is not None:
        changes["evaluate.patience"] = patience
    if dry_run:
        _print_plan(recipe, out, changes, as_json)
        return

    from modiste import environment, progress
    from modiste.experiments import trackers
    from modiste.training import trainer

    follow = trackers.choose(track).follow if track and environment.is_main_process() else None
    console = progress.console()
    run = trainer.train(recipe, out, overrides=changes, fresh=fresh, extend=extend, console=console, follow=follow)
    if environment.is_main_process():
        _print_run(run, as_json)


def _print_plan(name: str, out: Path | None, changes: dict[str, Any], as_json: bool) -> None:
    from modiste import config
    from modiste.data.images import describe_images
    from modiste.networks import summary
    from modiste.training import setup

    recipe, path = setup.resolve_run(name, out, changes)
    recipe, dataset, notes = setup.fit_to_data(recipe, path, changes)
    operations = summary.training_flops(recipe, setup.image_shape(recipe, dataset))
    images = recipe.train.images or 0
    if as_json:
        cost = {"gflop_per_image": operations / 1e9, "tflop": operations * images / 1e12}
        plan = {"out": str(path), "data": describe_images(dataset), **cost, "recipe": recipe.model_dump()}
        print(json.dumps(plan, indent=2))
        return
    print(config.to_toml(recipe))
    for note in notes:
        print(f"# {note}")
    print(f"# {operations / 1e9:.3f} GFLOP per image shown, {operations * images / 1e12:,.0f} TFLOP in all")
    print(f"# would train into {path}")


def _print_run(run: runs.Run, as_json: bool) -> None:
    from modiste import progress, runs, subprocesses

    manifest = run.read_manifest()
    if as_json:
        print(
            json.dumps(
                {"run": str(run.path), **manifest.to_json(), "last": run.read_log()[-1] if run.read_log() else None},
                indent=2,
            )
        )
        return
    if manifest.status == "interrupted":
        resume = subprocesses.printable(["train", str(run.path)])
        saved = "state saved" if runs.states(run) else "before its first update"
        print(f"stopped at {manifest.images:,} images, {saved}; go on with:  {resume}")
        return
    first_class = manifest.data.classes[-1] if run.read_recipe().network.conditioning != "none" else None
    words = f"--class {shlex.quote(first_class)} " if first_class else ""
    print(f"trained {manifest.images:,} images in {progress.duration(manifest.seconds)}")
    print(f"  last grid   {run.list_grids()[-1] if run.list_grids() else 'deleted'}")
    print(f"  animation   {run.path / 'progress.gif'}")
    print(f"  generator   {run.path / 'generator.safetensors'}")
    if manifest.best:
        place = run.path / "best.safetensors"
        print(f"  best        {place}: after {manifest.best.images:,} images, by held-out images")
    print("try next:")
    folder, other = shlex.quote(str(run.path)), run.read_recipe().seed + 1
    print(f"  modiste sample {folder} {words}--count 64 --out {folder}/sample.png")
    print(f"  modiste evaluate {folder}")
    print(f"  modiste sample {folder} --interpolate 1 2 --out {folder}/between.gif")
    print(f"  modiste train {folder} --seed {other} --out {folder}-seed{other}")


@app.command()
def sample(
    run: Annotated[Path, Argument(help="A run folder, or `pretrained`, the generator in the package.")],
    out: Annotated[Path, Option(help="grid.png, walk.gif, set.npz, set.parquet or a folder (see --format).")],
    label: Annotated[str | None, Option("--class", help="A class by name or number; default all in turn.")] = None,
    count: Annotated[int | None, Option(min=1, max=10_000_000, help="How many images; default 64.")] = None,
    per_class: Annotated[int | None, Option(help="Write a set with this many images of every class.")] = None,
    seeds: Annotated[str | None, Option(help="One image per seed: 0-63 or 1,5,10-12.")] = None,
    interpolate: Annotated[tuple[int, int] | None, Option(help="Interpolate between the noise of two seeds.")] = None,
    truncation: Annotated[float | None, Option(help="Truncate the noise at this value: 0.5 typical, 2 varied.")] = None,
    codes: Annotated[Path | None, Option(help="Draw the codes.npz of `modiste project` again.")] = None,
    direction: Annotated[
        list[str] | None, Option(help="A step along a direction, as brightness=1.5; see `modiste directions`.")
    ] = None,
    checkpoint: Annotated[Literal["last", "best"], Option(help="Which generator of the run.")] = "last",
    batch_norm: Annotated[
        Literal["running", "standing"],
        Option(help="Statistics of batch norm: kept in training, or computed anew."),
    ] = "running",
    kind: Annotated[
        str | None,
        Option("--format", help="png, gif, npz, folder, idx, parquet or huggingface, whatever --out ends in."),
    ] = None,
    keep_duplicates: Annotated[
        bool, Option("--keep-duplicates", help="Keep near-duplicates of training images in a set.")
    ] = False,
    columns: Annotated[int | None, Option(min=1, help="Columns of a grid.")] = None,
    watermark: Annotated[str | None, Option(help="Watermark pixels with this secret; see `verify --key`.")] = None,
    sign: Annotated[bool, Option("--sign", help="Sign PNG files with your certificate (C2PA).")] = False,
    certificate: Annotated[Path | None, Option(help="To sign with: your chain (PEM), signer first.")] = None,
    private_key: Annotated[Path | None, Option(help="To sign with: the certificate's key (PEM).")] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Generate images with a trained generator; seed k gives the same image in any count.

    Example: modiste sample runs/swift --class sneaker --seeds 0-63 --out sneakers.png
    """
    trust_code(trust, [run])
    from modiste import progress
    from modiste.exports import samples
    from modiste.exports.options import SyntheticSetOptions
    from modiste.latent import steering
    from modiste.sampling import generators

    options = SyntheticSetOptions(
        kind=kind, per_class=per_class, count=count, seeds=None if seeds is None else generators.parse_seeds(seeds),
        label=label, truncation=truncation, codes=codes, checkpoint=checkpoint, batch_norm=batch_norm,
        keep_duplicates=keep_duplicates, watermark=watermark, sign=sign, certificate=certificate,
        private_key=private_key, directions=steering.parse_steps(direction or []),
    )  # fmt: skip
    with progress.live_log(f"a set of {run}") as log:
        written = samples.write(run, out, options, interpolate, columns, log)
    if isinstance(written, samples.WrittenImages):
        _print_images(written, as_json)
    else:
        _print_set(written, as_json)


def _print_images(written: WrittenImages, as_json: bool) -> None:
    card = written.removed_card
    if as_json:
        described = {"out": str(written.out), "format": written.kind, "count": written.count, "source": written.name}
        print(json.dumps({**described, "removed_card": str(card) if card else None}))
        return
    images = counted(written.count)
    print(f"wrote {images}{_of_class(written.label)} to {written.out} ({written.kind})")
    if card:
        print(f"  removed the data card of the earlier set: {card}")


def _print_set(written: SyntheticSet, as_json: bool) -> None:
    removed, reason = len(written.search.removed), written.search.reason
    if as_json:
        facts = {"out": str(written.out), "format": written.kind, "count": written.count, "card": str(written.card)}
        print(json.dumps({**facts, "near_duplicates_removed": None if reason else removed}))
        return
    print(f"wrote {counted(written.count)}{_of_class(written.label)} to {written.out} ({written.kind})")
    print(f"  near-duplicates of training images: {f'not removed, {reason}' if reason else f'{removed:,} replaced'}")
    print(f"  data card: {written.card}")


def _of_class(label: tuple[int, str] | None) -> str:
    """Which class the user's word was understood as; empty for all classes."""
    return f" of the class {label[1]!r} (label {label[0]})" if label else ""
