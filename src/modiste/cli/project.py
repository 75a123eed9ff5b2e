"""The command project."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import ADVANCED, BackgroundOption, FitOption, JsonFlag, TrustFlag, data_changes, trust_code
from modiste.cli.tables import print_table

if TYPE_CHECKING:
    from modiste.exports.projections import Projected

app = typer.Typer()
LISTED = 10
"""Pictures that are listed one by one."""


@app.command()
def project(
    run: Annotated[Path, Argument(help="A run folder, or `pretrained`, the generator in the package.")],
    images: Annotated[str, Argument(help="A picture, a folder of pictures, .npz, .npy, .parquet, or a data set.")],
    out: Annotated[Path, Option(help="The folder to write: codes.npz and pictures side by side.")],
    label: Annotated[
        str | None,
        Option("--class", help="The class of all pictures, by name or number; default the set's own, or found."),
    ] = None,
    mask: Annotated[
        Path | None, Option(help="Fill in what is missing: a picture of the same size, white where a pixel is missing.")
    ] = None,
    count: Annotated[int, Option(min=1, help="Pictures of a folder or set, at most.")] = 100,
    steps: Annotated[int, Option(min=1, help="Gradient steps.", rich_help_panel=ADVANCED)] = 100,
    starts: Annotated[int, Option(min=1, help="Noises to start from.", rich_help_panel=ADVANCED)] = 2,
    checkpoint: Annotated[Literal["last", "best"], Option(help="Which generator of the run.")] = "last",
    resize: Annotated[int | None, Option(min=4, help="Side in pixels to which every picture is resized.")] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Find pictures in a generator: the noise and the class that make them, and how near they come.

    The first time, a generator gets an encoder (one to five minutes), which is kept.

    Example: modiste project pretrained shirt.png --out found

    Example: modiste project runs/swift fashion-mnist --count 64 --out found

    Example: modiste project runs/swift torn.png --mask hole.png --out filled
    """
    trust_code(trust, [run])
    from modiste.exports import projections

    options = projections.ProjectionOptions(
        label,
        None if mask is None else str(mask),
        count,
        steps,
        starts,
        checkpoint,
        data_changes(resize, fit, background),
    )
    done = projections.project(run, images, out, options)
    if as_json:
        print(json.dumps(_facts(done), indent=2))
    else:
        _print(done, str(run), checkpoint)


def _facts(done: Projected) -> dict[str, Any]:
    codes, training = done.codes, done.training
    return {
        "out": str(done.out),
        "images": done.images.name,
        "count": len(codes),
        "classes": done.classes,
        "labels": None if codes.labels is None else [done.class_names[label] for label in codes.labels],
        "unit": "root mean square difference of pixels from 0 to 255",
        "errors": codes.errors.tolist(),
        "nearest_training_errors": None if training is None else training.nearest_errors.tolist(),
        "mean_image_errors": None if training is None else training.mean_errors.tolist(),
        "not_compared": done.reason,
        "code_lengths": codes.lengths.tolist(),
        "made_up_pixels": done.missing,
    }


def _print(done: Projected, run: str, checkpoint: str) -> None:
    import numpy as np

    codes, training, count = done.codes, done.training, len(done.codes)
    classes = {"given": ", class given", "found": ", class found", "none": ""}[done.classes]
    print(f"{done.images.name}: {count:,} picture{'s' if count > 1 else ''}{classes}")
    rows = [("what the generator makes", codes.errors)]
    if training is not None:
        rows += [("nearest training image", training.nearest_errors), ("mean training image", training.mean_errors)]
    table = [[name, *(f"{value:.1f}" for value in (np.mean(one), np.median(one), np.max(one)))] for name, one in rows]
    print_table(["difference from the picture", "mean", "median", "largest"], table)
    known = (
        f" over the {codes.reconstructions[0, 0].size - done.missing:,} pixels that were there" if done.missing else ""
    )
    print(f"(root mean square of pixels from 0 to 255{known})")
    if training is not None:
        nearer = int((codes.errors < training.nearest_errors).sum())
        print(f"nearer than the nearest of {training.name}: {nearer:,} of {count:,}")
    else:
        print(f"not compared with training images: {done.reason}")
    if count <= LISTED:
        for k, error in enumerate(codes.errors):
            name = "" if codes.labels is None else f" {done.class_names[codes.labels[k]]!r}"
            print(f"  picture {k + 1}:{name} {error:.1f}, code at {codes.lengths[k]:.2f} of a typical one's length")
    if done.missing:
        print(f"made up: {done.missing:,} of {codes.reconstructions[0, 0].size:,} pixels of each picture, see made-up/")
    print(f"wrote {done.out}")
    best = " --checkpoint best" if checkpoint == "best" else ""
    print("try next:")
    place = shlex.quote(str(done.out / "codes.npz"))
    print(f"  modiste sample {shlex.quote(run)}{best} --codes {place} --out {shlex.quote(str(done.out))}-again.png")
