"""The command line: parsing and printing only. Every verb imports what it needs when it is called."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Argument, Option

from modiste import __version__
from modiste.errors import ModisteError, UsageError

if TYPE_CHECKING:
    from modiste import runs
    from modiste.config import Recipe
    from modiste.networks import Shape

app = typer.Typer(
    name="modiste",
    help="Train, judge and compare GANs on small images. Start with: modiste train swift --budget 4min",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(
    help="List the recipes; show one; list the keys that --set knows.", invoke_without_command=True
)
app.add_typer(recipes_app, name="recipes")

JsonFlag = Annotated[bool, Option("--json", help="Print the result as JSON.")]


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on standard error and exit code 1, or 2 for wrong use."""
    # Threads that wait should soon sleep: where anything else uses a core, ones that spin as long as libgomp lets them
    # bring a step to a standstill (docs/performance.md). Read when torch is imported, which no module above does.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        app()
    except ModisteError as error:
        print(f"modiste: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError:
        print(
            "modiste: this needs more memory than there is; ask for fewer images or a smaller network", file=sys.stderr
        )
        sys.exit(1)
    except BrokenPipeError:  # the reader, as `head`, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"modiste: {place}{error.strerror or error}; check the path, its permissions and the room on the disk",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(0)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"modiste {__version__}")
        raise typer.Exit


@app.command()
def train(
    recipe: Annotated[str, Argument(help="A recipe's name, a TOML file, or a run folder to go on with.")],
    out: Annotated[Path | None, Option(help="The run folder; default runs/NAME.")] = None,
    data: Annotated[str | None, Option(help="fashion-mnist, mnist, kmnist, toy, a folder or a .npz file.")] = None,
    seed: Annotated[int | None, Option(help="Another seed than the recipe's.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="section.key=value, as train.epochs=3.")] = None,
    budget: Annotated[str | None, Option(help="Stop after so much training time: 90s, 5min, 1h.")] = None,
    fresh: Annotated[bool, Option("--fresh", help="Start anew in a numbered folder; nothing is deleted.")] = False,
    extend: Annotated[bool, Option("--extend", help="Let the run in the folder go on to a greater length.")] = False,
    track: Annotated[str | None, Option(help="Also write event files for: tensorboard.")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the resolved recipe and its cost; train nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a recipe, or go on where it stopped.

    Example: modiste train swift --budget 4min --out runs/mine
    """
    from modiste import config

    changes = config.assignments(settings or [])
    if data is not None:
        changes["data.name"] = data
    if seed is not None:
        changes["seed"] = seed
    if budget is not None:
        changes["train.budget_seconds"] = config.parse_seconds(budget)
    if dry_run:
        _print_plan(recipe, out, changes)
        return

    from rich.console import Console

    from modiste import tracking, trainer

    follow = tracking.choose(track) if track else None
    console = Console(stderr=True)
    run = trainer.train(recipe, out, overrides=changes, fresh=fresh, extend=extend, console=console, follow=follow)
    if trainer.is_first_process():
        _print_run(run, as_json)


def _print_plan(name: str, out: Path | None, changes: dict[str, Any]) -> None:
    from modiste import assembly, config, trainer
    from modiste import data as data_room
    from modiste.networks import summary
    from modiste.processes import Team

    recipe, path = trainer.settle(name, out, changes)
    dataset = data_room.open_data(recipe.data)
    recipe = config.resolve(recipe, len(dataset))
    assembly.check_fit(recipe, dataset, Team())
    operations = summary.training_flops(recipe, assembly.image_shape(recipe, dataset))
    images = recipe.train.images or 0
    print(config.to_toml(recipe))
    print(f"# {data_room.describe(dataset)}")
    print(f"# {operations / 1e9:.3f} GFLOP per image shown, {operations * images / 1e12:,.0f} TFLOP in all")
    print(f"# would train into {path}")


def _print_run(run: runs.Run, as_json: bool) -> None:
    from modiste import progress

    manifest = run.manifest
    if as_json:
        print(json.dumps({"run": str(run.path), **manifest, "last": run.log[-1] if run.log else None}, indent=2))
        return
    if manifest["status"] == "interrupted":
        print(f"stopped at {manifest['images']:,} images, state saved; go on with:  modiste train {run.path}")
        return
    first_class = manifest["data"]["classes"][-1] if run.recipe.network.conditioning != "none" else None
    words = f'--class "{first_class}" ' if first_class else ""
    print(f"trained {manifest['images']:,} images in {progress.duration(manifest['seconds'])}")
    print(f"  last grid   {run.grids[-1] if run.grids else 'deleted'}")
    print(f"  animation   {run.path / 'progress.gif'}")
    print(f"  generator   {run.path / 'generator.safetensors'}")
    print("try next:")
    folder, other = shlex.quote(str(run.path)), run.recipe.seed + 1
    print(f"  modiste sample {folder} {words}--count 64 --out {folder}/sample.png")
    print(f"  modiste sample {folder} --interpolate 1 2 --out {folder}/between.gif")
    print(f"  modiste train {folder} --seed {other} --out {folder}-seed{other}")


@app.command()
def sample(
    run: Annotated[Path, Argument(help="A run folder.")],
    out: Annotated[Path, Option(help="grid.png, walk.gif, set.npz or a folder (IDX files if `idx` is in its name).")],
    label: Annotated[str | None, Option("--class", help="A class by name or number; default all in turn.")] = None,
    count: Annotated[int | None, Option(min=1, max=10_000_000, help="How many images; default 64.")] = None,
    seeds: Annotated[str | None, Option(help="One image per seed: 0-63 or 1,5,10-12.")] = None,
    interpolate: Annotated[tuple[int, int] | None, Option(help="Walk between the noises of two seeds.")] = None,
    truncation: Annotated[float | None, Option(help="Cut the noise at this value: 0.5 typical, 2 varied.")] = None,
    kind: Annotated[str | None, Option("--format", help="png, gif, npz, folder or idx, whatever the name.")] = None,
    columns: Annotated[int | None, Option(min=1, help="Columns of a grid.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make images with a trained generator; seed k is the same image in any count.

    Example: modiste sample runs/swift --class sneaker --seeds 0-63 --out sneakers.png
    """
    from modiste import sample as room

    if interpolate and seeds:
        raise UsageError("--interpolate has its two seeds already; leave --seeds out")
    generator = room.load(run)
    kind = kind or room.format_of(out)
    chosen: list[int] | None = None  # images between two seeds have none of their own
    if interpolate:
        frames = count or (30 if kind == "gif" else 10)
        images = generator.interpolate(*interpolate, frames=frames, label=label, truncation=truncation)
    else:
        chosen = room.parse_seeds(seeds) if seeds else list(range(count or 64))
        images = generator.sample_set(count, label=label, seeds=chosen, truncation=truncation)
    room.write(images, chosen, out, kind, columns)
    if as_json:
        print(json.dumps({"out": str(out), "format": kind, "count": len(images), "source": images.name}))
    else:
        print(f"wrote {len(images)} images to {out} ({kind})")


@app.command()
def data(
    name: Annotated[
        str, Argument(help="fashion-mnist, mnist, kmnist, toy, a folder or a .npz file.")
    ] = "fashion-mnist",
    out: Annotated[Path | None, Option(help="Where the pictures go; default runs/data-NAME.")] = None,
    label_issues: Annotated[
        bool, Option("--label-issues", help="Look for mislabelled images (extra `labels`).")
    ] = False,
    resize: Annotated[int | None, Option(help="Resize to this side in pixels (for folders of mixed sizes).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a data set: counts, first images of each class, duplicates, digest, likely wrong labels.

    Example: modiste data fashion-mnist --out runs/data
    """
    from modiste import config, survey

    settings = config.override(config.Recipe(), {"data.name": name, "data.resize": resize}, "modiste data").data
    out = out or Path("runs") / f"data-{Path(name).stem}"
    result = survey.report(settings, out, label_issues=label_issues)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print_survey(result)


def _print_survey(result: dict[str, Any]) -> None:
    for split, facts in result["splits"].items():
        colours = "grey" if facts["channels"] == 1 else "RGB"
        print(f"{facts['name']}: {facts['images']:,} images, {facts['width']} x {facts['height']} {colours}")
        print(f"  mean {facts['pixel_mean']:.4f}, deviation {facts['pixel_deviation']:.4f} of brightness in [0, 1]")
        print(f"  digest {facts['digest']}")
        for name, count in facts["class_counts"].items():
            print(f"  {name:16} {count:>7,}")
        if not facts["class_counts"]:
            print(f"  no labels in {split}")
    for place, groups in result["duplicates"].items():
        print(f"exact duplicates in {place}: {len(groups)} images found more than once")
    if "label_issues" in result:
        print(f"doubtful labels in train: {result['label_issues']['found']} (reasons to look, not proofs)")
    for file in result["files"]:
        print(f"wrote {file}")


@recipes_app.callback()
def recipes(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the recipes with source and cost.

    Example: modiste recipes show diaz-a
    """
    if context.invoked_subcommand:
        return
    from modiste import config

    rows = [_recipe_row(config.load(name)) for name in config.shipped()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "GFLOP/image", "length", "pixels", "about", "source", box=None, pad_edge=False)
    for row in rows:
        cells = (f"{row['gflop_per_image']:.3f}", row["length"], str(row["size"]), row["about"], row["source"])
        table.add_row(row["name"], *cells)
    console = Console()
    console.print(
        table if console.is_terminal else _plain_table(rows), highlight=False, soft_wrap=not console.is_terminal
    )


def _plain_table(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{row['name']:14} {row['gflop_per_image']:.3f} GFLOP/image, {row['length']}, {row['size']} pixels: "
        f"{row['about']} ({row['source']})"
        for row in rows
    )


def _recipe_row(recipe: Recipe) -> dict[str, Any]:
    from modiste.networks import summary

    shape = _shape_without_data(recipe)
    train = recipe.train
    length = f"{train.epochs:g} epochs" if train.epochs else f"{train.images:,} images"
    operations = summary.training_flops(recipe, shape)
    row = {"name": recipe.name, "about": recipe.about, "source": recipe.source, "length": length}
    return {**row, "size": shape.size, "gflop_per_image": round(operations / 1e9, 4)}


def _shape_without_data(recipe: Recipe) -> Shape:
    """The image shape of the recipe's data set as published: grey, 28 pixels unless resized, ten classes."""
    from modiste.networks import Shape

    return Shape(1, recipe.data.resize or 28, 10 if recipe.network.conditioning != "none" else 0)


@recipes_app.command("show")
def recipes_show(
    name: Annotated[str, Argument(help="A recipe's name or a TOML file.")], as_json: JsonFlag = False
) -> None:
    """Print a recipe and the layer tables of its networks (layer, output shape, parameters).

    Example: modiste recipes show noronha
    """
    from modiste import config
    from modiste.networks import summary

    recipe = config.load(name)
    shape = _shape_without_data(recipe)
    tables = summary.tables(recipe.network, shape)
    if as_json:
        rows = {who: [vars(row) for row in table] for who, table in tables.items()}
        print(json.dumps({"recipe": recipe.model_dump(mode="json"), **rows}, indent=2))
        return
    print(config.source_text(name).strip())
    for who, table in tables.items():
        print(f"\n{who} for {shape.channels} x {shape.size} x {shape.size} images")
        print(f"  {'layer':24} {'output shape':>16} {'parameters':>12}")
        for row in table:
            print(f"  {row.layer:24} {'x'.join(map(str, row.output_shape)):>16} {row.parameters:>12,}")
        print(f"  {'total':24} {'':>16} {sum(row.parameters for row in table):>12,}")


@recipes_app.command("keys")
def recipes_keys(as_json: JsonFlag = False) -> None:
    """List every key of a recipe with its default and meaning.

    Example: modiste train swift --set train.batch_size=128
    """
    from modiste import config

    rows = config.describe_keys()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['key']} = {row['default']!r}\n    {row['meaning']}")


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what this machine offers: versions, device, precision, threads, where Fashion-MNIST was found.

    Example: modiste doctor
    """
    import torch

    from modiste import assembly, runs
    from modiste import data as data_room
    from modiste.config import Data

    facts: dict[str, Any] = runs.describe_machine()
    del facts["command"]
    device = assembly.choose_device("auto")
    facts |= {
        "device": device,
        "precision": assembly.choose_precision("auto", device),
        "threads": torch.get_num_threads(),
    }
    try:
        facts["fashion-mnist"] = data_room.describe(data_room.open_data(Data()))
    except ModisteError as error:
        facts["fashion-mnist"] = str(error)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        print(f"{key:14} {value}")


if __name__ == "__main__":
    main()
