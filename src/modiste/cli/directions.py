"""The command directions."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.cli.tables import print_table
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste import runs
    from modiste.latent.effects import Effect
    from modiste.latent.steering import Example, Steering

app = typer.Typer()
EXAMPLE = "A direction by example"
IMAGES = 10_000


@app.command()
def directions(
    run: Annotated[str, Argument(help="A run folder, or `pretrained`.")],
    having: Annotated[
        str | None, Option("--with", help="Pictures with something, as a folder.", rich_help_panel=EXAMPLE)
    ] = None,
    lacking: Annotated[str | None, Option("--without", help="Pictures without it.", rich_help_panel=EXAMPLE)] = None,
    name: Annotated[
        str | None,
        Option(help="What to call the direction from those without to those with it.", rich_help_panel=EXAMPLE),
    ] = None,
    checkpoint: Annotated[Literal["last", "best"], Option(help="Which generator of the run.")] = "last",
    images: Annotated[int, Option(min=1, help="Generated images to find directions from, or more.")] = IMAGES,
    out: Annotated[Path | None, Option(help="Folder; default the run's, where `sample` finds them.")] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Find directions of the noise that change one thing in all images, and measure what each does.

    By attribute (brightness, width, sleeve ...), from the judge's features, from the
    first layer, or from your own two folders of pictures. `modiste sample RUN
    --direction width=1.5` then takes a step.

    Example: modiste directions pretrained

    Example: modiste directions runs/swift --with logo/ --without plain/ --name logo
    """
    trust_code(trust, [run])
    from modiste import progress, runs
    from modiste.latent import steering

    opened = runs.open_run(run)
    example = _example(opened, having, lacking, name)
    with progress.live_log(f"directions of {run}") as log:
        found = steering.find(opened, checkpoint=checkpoint, example=example, images=images, out=out, log=log)
    if as_json:
        places = {"vectors": str(found.vectors), "record": str(found.record), "picture": str(found.picture)}
        effects = [effect.to_json() for effect in found.effects]
        print(json.dumps({**places, "protocol": found.protocol, "directions": effects, "notes": found.notes}, indent=2))
        return
    _print(found, run, checkpoint)


def _example(run: runs.Run, having: str | None, lacking: str | None, name: str | None) -> Example | None:
    given = [one for one in (having, lacking, name) if one is not None]
    if not given:
        return None
    if having is None or lacking is None or name is None:
        raise UsageError("a direction by example needs two folders and a name: --with, --without and --name")
    from modiste.latent import steering
    from modiste.latent.pictures import open_pictures

    if not re.fullmatch(steering.NAME_PATTERN, name):
        raise UsageError(f"--name {name!r} is no name of a direction; use lower-case letters, digits and hyphens")
    like = run.read_recipe().data
    return steering.Example(name, open_pictures(having, like), open_pictures(lacking, like))


def _print(found: Steering, run: str, checkpoint: str) -> None:
    print_table(
        ("direction", "kind", "moves", "over one step", "also moves", "class kept"), list(map(_row, found.effects))
    )
    print()
    print(
        f"One step is {found.protocol['length']:g} long, half as long as typical noise. Moves are changes over one step"
    )
    print("in standard deviations within a class; class kept: the judge still sees the same class a step to either")
    print("side. What any step does, the random direction shows.")
    for note in found.notes:
        print(f"note: {note}")
    print(f"wrote {found.picture} and {found.record}")
    best = max(found.effects, key=lambda effect: effect.moves[effect.name].value if effect.name in effect.moves else 0)
    which = "" if checkpoint == "last" else f" --checkpoint {checkpoint}"
    print(f"try next:\n  modiste sample {shlex.quote(run)} --direction {best.name}=1.5{which} --out steered.png")


def _row(effect: Effect) -> tuple[str, ...]:
    moves = list(effect.clear_moves.items())
    first = moves[0] if moves else None
    kept = effect.class_kept
    return (
        effect.name,
        effect.kind,
        first[0] if first else "nothing",
        f"{first[1].value:+.2f} ± {first[1].high - first[1].value:.2f}" if first else "",
        ", ".join(f"{name} {one.value:+.2f}" for name, one in moves[1:3]),
        f"{kept.value:.0%} ({kept.low:.0%} to {kept.high:.0%})" if kept else "",
    )
