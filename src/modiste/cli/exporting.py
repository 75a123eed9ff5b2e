"""Verbs that hand on: export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag
from modiste.errors import UsageError

app = typer.Typer()


@app.command()
def export(
    run: Annotated[Path, Argument(help="A run folder.")],
    onnx: Annotated[bool, Option("--onnx", help="As an ONNX model (extra `onnx`).")] = False,
    out: Annotated[Path | None, Option(help="The new folder; default `onnx` in the run.")] = None,
    checkpoint: Annotated[Literal["last", "best"], Option(help="Which of the run's generators.")] = "last",
    as_json: JsonFlag = False,
) -> None:
    """Write a generator for other programs and for browsers, with its weights and a model card.

    Example: modiste export runs/swift --onnx
    """
    if not onnx:
        raise UsageError("modiste export writes one format so far; ask for it with --onnx")
    from modiste import exports

    done = exports.export(run, out, checkpoint)
    files = [done.folder / name for name in exports.FILES]
    if as_json:
        facts = {"out": str(done.folder), "files": [str(file) for file in files]}
        print(json.dumps({**facts, "largest_difference": done.difference, "measured": done.measured}, indent=2))
        return
    print(f"wrote {done.folder}")
    for file in files:
        print(f"  {file.name:<22} {file.stat().st_size:>12,} bytes")
    print(f"onnxruntime's pixels differ by at most {done.difference} of 255 from the network's own")
    best = " --checkpoint best" if checkpoint == "best" else ""
    print("try next:")
    if not done.measured:
        print(f"  modiste evaluate {shlex.quote(str(run))}{best}   # then export again: the model card lacks scores")
    print(f"  modiste evaluate {shlex.quote(str(done.folder / 'generator.onnx'))}")
