"""The command export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.errors import ModisteError, UsageError

if TYPE_CHECKING:
    from modiste.exports.model import Export

app = typer.Typer()


@app.command()
def export(
    run: Annotated[Path, Argument(help="A run folder, or `pretrained`, the generator in the package.")],
    onnx: Annotated[bool, Option("--onnx", help="Write an ONNX model (extra `onnx`).")] = False,
    pretrained: Annotated[
        bool, Option("--pretrained", help="Write a small run folder: float16 weights, recipe, scores, model card.")
    ] = False,
    out: Annotated[
        Path | None,
        Option(
            help="The folder to write (with both formats, their parent); default `onnx` or `pretrained` in the run, "
            "and for a pretrained run the run itself."
        ),
    ] = None,
    checkpoint: Annotated[Literal["last", "best"], Option(help="Which generator of the run.")] = "last",
    discriminator: Annotated[
        bool,
        Option("--discriminator", help="With --pretrained: keep it, too, for trainings that start --from the folder."),
    ] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Export a generator with a model card: as ONNX for other programs and browsers, or as a small run folder.

    Example: modiste export runs/swift --onnx
    """
    trust_code(trust, [run])
    if not (onnx or pretrained):
        raise UsageError("modiste export writes two formats; ask for --onnx, --pretrained or both")
    if discriminator and not pretrained:
        raise UsageError("--discriminator goes into the folder that --pretrained writes; add --pretrained")
    from modiste.exports import model

    both = onnx and pretrained
    if onnx:
        model.require_packages()  # before the other export is written
    done = {}
    if pretrained:
        place = out / "pretrained" if out and both else out
        done["pretrained"] = model.export_pretrained(run, place, checkpoint, discriminator)
    if onnx:
        done["onnx"] = model.export(run, out / "onnx" if out and both else out, checkpoint)
    if as_json:
        facts = [
            {
                "out": str(one.folder),
                "files": [str(file) for file in sorted(one.folder.iterdir())],
                "largest_difference": one.difference,
                "measured": one.measured,
            }
            for one in done.values()
        ]
        print(json.dumps(facts if both else facts[0], indent=2))
        return
    for one in done.values():
        print(f"wrote {one.folder}")
        for file in sorted(one.folder.iterdir()):
            print(f"  {file.name:<22} {file.stat().st_size:>12,} bytes")
    if pretrained:
        _print_pretrained(done["pretrained"], run)
    if onnx:
        _print_onnx(done["onnx"], run, checkpoint)


def _print_pretrained(done: Export, run: Path) -> None:
    print(f"pixels of the float16 weights differ by at most {done.difference} of 255 from the network's own")
    folder = shlex.quote(str(done.folder))
    print("try next:")
    if not done.measured:
        print(f"  modiste evaluate {folder}{''.join(_against(run))}   # the weights as they are kept")
        print(f"  modiste export {folder} --pretrained   # then: writes the scores into the model card")
    print(f"  modiste sample {folder} --count 64 --out grid.png")


def _print_onnx(done: Export, run: Path, checkpoint: str) -> None:
    print(f"onnxruntime's pixels differ by at most {done.difference} of 255 from the network's own")
    named, by = _against(run)
    best = " --checkpoint best" if checkpoint == "best" else ""
    print("try next:")
    if not done.measured:
        print(f"  modiste evaluate {shlex.quote(str(run))}{best}{by}   # then export again: its card lacks scores")
    print(f"  modiste evaluate {shlex.quote(str(done.folder / 'generator.onnx'))}{named}{by}")


def _against(run: Path) -> tuple[str, str]:
    """The options of `evaluate` for what was made from this run: its data, where no name says it, and the part."""
    from modiste import runs
    from modiste.data import readers
    from modiste.data.sets import has_test, is_known_set

    dataset = runs.open_run(run).read_recipe().data
    if is_known_set(dataset.name):
        return "", ""
    try:
        by = "" if has_test(dataset) else " --reference heldout"
    except ModisteError:  # damaged by now, which is no reason to fail after the work
        by = ""
    gone = not readers.expanded(dataset.name).exists()
    return " --data " + ("WHERE-IT-IS" if gone else shlex.quote(dataset.name)), "" if gone else by
