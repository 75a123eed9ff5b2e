"""The commands data, recipes and doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from modiste.cli.options import BackgroundOption, FitOption, GroupOption, JsonFlag, data_changes
from modiste.cli.tables import print_table
from modiste.errors import ModisteError

if TYPE_CHECKING:
    from modiste.config import Recipe

app = typer.Typer()
recipes_app = typer.Typer(invoke_without_command=True)
app.add_typer(recipes_app, name="recipes")


@app.command()
def data(
    name: Annotated[
        str, Argument(help="fashion-mnist, mnist, kmnist, toy, a folder, .npz, .npy or .parquet.")
    ] = "fashion-mnist",
    out: Annotated[Path | None, Option(help="Folder for the pictures; default runs/data-NAME.")] = None,
    label_issues: Annotated[
        bool, Option("--label-issues", help="Search for mislabelled images (extra `labels`).")
    ] = False,
    resize: Annotated[int | None, Option(help="Side in pixels to resize images to.")] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    group_by: GroupOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Describe a data set: counts, sample images of each class, duplicates, digest, likely wrong labels.

    Example: modiste data fashion-mnist --out runs/data
    """
    from modiste import config
    from modiste.data import inspection

    changes = {"data.name": name, **data_changes(resize, fit, background, group_by)}
    settings = config.override(config.Recipe(), changes, "modiste data").data
    out = out or Path("runs") / f"data-{Path(name).stem}"
    result = inspection.inspect(settings, out, label_issues=label_issues)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print_survey(result)


def _print_survey(result: dict[str, Any]) -> None:
    from modiste.data.advice import Advice
    from modiste.wording import counted

    for split, facts in result["splits"].items():
        colours = "grey" if facts["channels"] == 1 else "RGB"
        print(f"{facts['name']}: {counted(facts['images'])}, {facts['width']} x {facts['height']} {colours}")
        print(f"  mean {facts['pixel_mean']:.4f}, deviation {facts['pixel_deviation']:.4f} of brightness in [0, 1]")
        print(f"  digest {facts['digest']}")
        for name, count in facts["class_counts"].items():
            print(f"  {name:16} {count:>7,}")
        if not facts["class_counts"]:
            print(f"  no labels in {split}")
    if held := result.get("heldout"):
        print(
            f"held out for choosing checkpoints: {held['images']:,} of {counted(held['of'])}, drawn by content"
            + (
                f"; {held['groups']:,} of {counted(held['of_groups'], 'group')}, none parted"
                if "groups" in held
                else ""
            )
        )
    for place, groups in result["duplicates"].items():
        print(f"exact duplicates in {place}: {counted(len(groups))} found more than once")
    if "label_issues" in result:
        print(f"doubtful labels in train: {result['label_issues']['found']} (reasons to look, not proofs)")
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    for file in result["files"]:
        print(f"wrote {file}")
    print(Advice(**result["advice"]))


@recipes_app.callback()
def recipes(
    context: typer.Context,
    markdown: Annotated[bool, Option("--markdown", help="Print each recipe's settings as a Markdown table.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the recipes with source and cost; `show` prints one, `keys` every key for --set.

    Example: modiste recipes
    """
    if context.invoked_subcommand:
        return
    from modiste import config, schema
    from modiste.networks import summary

    loaded = [config.load(name) for name in schema.shipped()]
    rows = [summary.describe_recipe(recipe) for recipe in loaded]
    if markdown:
        parts = [
            {
                "recipe": row["name"],
                **_parts(recipe),
                "length": row["length"],
                "GFLOP": f"{row['gflop_per_image']:.2f}",
            }
            for recipe, row in zip(loaded, rows, strict=True)
        ]
        print_table(list(parts[0]), [list(part.values()) for part in parts], markdown)
        return
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    heads = ["recipe", "GFLOP/image", "length", "pixels", "about", "source"]
    print_table(
        heads,
        [
            [row["name"], f"{row['gflop_per_image']:.3f}", row["length"], str(row["size"]), row["about"], row["source"]]
            for row in rows
        ],
    )


def _parts(recipe: Recipe) -> dict[str, str]:
    """A recipe's settings by topic, in the words of its keys; what is off or plain is left out."""
    network, loss, augment, train = recipe.network, recipe.loss, recipe.augment, recipe.train
    weights = {
        "R1": loss.r1_gamma,
        "R2": loss.r2_gamma,
        "gradient penalty": loss.gradient_penalty_weight,
        "DRAGAN penalty": loss.dragan_weight,
        "consistency": loss.consistency_weight,
        "balanced consistency": loss.balanced_consistency_weight,
        "weights clipped at": loss.weight_clip,
        "gradients of a class clipped at": loss.group_clip,
        "label smoothing": loss.label_smoothing,
        "top share": loss.top_k_share if loss.top_k_share < 1 else 0,
    }
    terms = [f"{name} {weight:g}" for name, weight in weights.items() if weight]
    spectral = " and spectral" if network.generator_spectral else ""
    attention = f", attention at {' and '.join(map(str, network.attention))}" if network.attention else ""
    rates = dict.fromkeys((f"{train.lr_generator:g}", f"{train.lr_discriminator:g}"))  # G's and D's, once if equal
    betas = f"({train.beta1:g}, {train.beta2:g})" if train.optimizer == "adam" else f"({train.beta2:g})"
    augmentation = ["augmentation where it over-fits"] if augment.policy == "auto" else augment.policy
    return {
        "networks": f"{network.family}{attention}",
        "labels": network.conditioning,
        "norm of G": f"{network.generator_norm}{spectral}",
        "norm of D": network.discriminator_norm,
        "loss": ", ".join([loss.adversarial, *terms, *augmentation]),
        "D steps": str(train.discriminator_steps),
        "batch": str(train.batch_size),
        "optimiser": f"{train.optimizer} {' / '.join(rates)} {betas}",
        "average": f"{train.ema_halflife_images:,.0f} images" if train.ema_halflife_images else "none",
    }


@recipes_app.command("show")
def recipes_show(
    name: Annotated[str, Argument(help="A recipe's name or a TOML file.")], as_json: JsonFlag = False
) -> None:
    """Print a recipe and the layer tables of its networks (layer, output shape, parameters).

    Example: modiste recipes show noronha
    """
    from modiste import config, schema
    from modiste.networks import summary

    recipe = config.load(name)
    shape = summary.shape_without_data(recipe)
    tables = summary.tables(recipe.network, shape)
    if as_json:
        rows = {who: [vars(row) for row in table] for who, table in tables.items()}
        print(json.dumps({"recipe": recipe.model_dump(mode="json"), **rows}, indent=2))
        return
    print(schema.read_toml(name)[0].strip())
    for who, table in tables.items():
        print(f"\n{who} for {shape.channels} x {shape.size} x {shape.size} images")
        print(f"  {'layer':24} {'output shape':>16} {'parameters':>12}")
        for row in table:
            print(f"  {row.layer:24} {'x'.join(map(str, row.output_shape)):>16} {row.parameters:>12,}")
        print(f"  {'total':24} {'':>16} {sum(row.parameters for row in table):>12,}")


@recipes_app.command("keys")
def recipes_keys(as_json: JsonFlag = False) -> None:
    """List every key of a recipe with its default and meaning.

    Example: modiste recipes keys
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
    """Check this machine: versions, device, precision, threads, the cache, and whether Fashion-MNIST is available.

    Example: modiste doctor
    """
    import torch

    from modiste import cache, environment
    from modiste.config import Data
    from modiste.data.images import describe_images
    from modiste.data.sets import open_data

    facts: dict[str, Any] = environment.describe_machine()
    del facts["command"]
    device = environment.choose_device("auto")
    facts |= {
        "device": device,
        **({"gpu": gpu} if (gpu := environment.gpu_name(device)) else {}),
        "precision": environment.choose_precision("auto", device),
        "threads": torch.get_num_threads(),
    }
    facts["cache"] = f"{cache.cache_root()}, {cache.cache_size() / 1e9:.1f} GB"
    try:
        facts["fashion-mnist"] = describe_images(open_data(Data()))
    except ModisteError as error:
        facts["fashion-mnist"] = str(error)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        print(f"{key:14} {value}")
