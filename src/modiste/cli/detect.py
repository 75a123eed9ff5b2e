"""The command detect."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.cli.tables import print_table
from modiste.errors import UsageError
from modiste.wording import counted

if TYPE_CHECKING:
    from modiste.experiments.detection.detect import Detection
    from modiste.experiments.detection.leave_out import LeaveOut

app = typer.Typer()
LEAVING = "Leaving classes out"


@app.command()
def detect(
    run: Annotated[str, Argument(help="A run or `pretrained`; with --leave-out also a recipe.")],
    images: Annotated[
        str | None,
        Argument(help="A picture, a folder of pictures, an .npz, .npy or .parquet file, or a data set's name."),
    ] = None,
    alpha: Annotated[float | None, Option(help="The promised rate of false alarms; default 0.05.")] = None,
    detector: Annotated[
        list[str] | None,
        Option(
            help="reconstruction, discriminator, judge, neighbours, components, cosine or forest; several times for "
            "several. Default all but the last two."
        ),
    ] = None,
    count: Annotated[
        int, Option(min=2, help="Held-out images that calibrate, and as many that are measured, at most.")
    ] = 1000,
    steps: Annotated[int, Option(min=1, help="Gradient steps of the search for the noise behind an image.")] = 40,
    out: Annotated[Path | None, Option(help="Folder; default detect/NAME.")] = None,
    leave_out: Annotated[
        str | None,
        Option(
            help="Train without this class (or several with commas, or all in turn), and measure how well each "
            "detector finds it.",
            rich_help_panel=LEAVING,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        Option(help="Length of each training: 2min, 3 epochs or 60000 images.", rich_help_panel=LEAVING),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed of the trainings.", rich_help_panel=LEAVING)] = 0,
    settings: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Change a key of the trainings' recipe.", rich_help_panel=LEAVING),
    ] = None,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Find images that do not belong to what a run was trained on, with a promised rate of false alarms.

    Each detector gives every image a score and a p-value: how often a held-out
    image that does belong is at least as strange. It writes scores.csv, detect.json
    and pictures of the strangest images with where they differ.

    Example: modiste detect runs/swift ./new-photos

    Example: modiste detect runs/swift mnist --alpha 0.01

    Example: modiste detect swift --leave-out all --budget 2min
    """
    trust_code(trust, [run])
    from modiste import config, progress
    from modiste.experiments.detection import detect as detection
    from modiste.experiments.detection import leave_out as leaving

    names = tuple(detector or ())
    if leave_out is None:
        if images is None:
            raise UsageError("name the images to look at, or a class with --leave-out")
        if budget is not None or settings or seed:
            raise UsageError(
                "--budget, --seed and --set are for the trainings of --leave-out; add it, or leave them out"
            )
        options = detection.DetectOptions(0.05 if alpha is None else alpha, names, count, steps)
        with progress.live_log("detect") as log:
            found = detection.detect(run, images, out, options=options, log=log)
        _print_detection(found, as_json)
        return
    if images is not None:
        raise UsageError(f"--leave-out measures on test images, so {images} does not fit; leave it out")
    if alpha is not None:
        raise UsageError("--leave-out measures detectors at every rate of false alarms; leave --alpha out")
    classes = () if leave_out == "all" else tuple(word.strip() for word in leave_out.split(",") if word.strip())
    if leave_out != "all" and not classes:
        raise UsageError("--leave-out names no class; name one, several with commas, or all")
    left = leaving.LeaveOutOptions(classes, budget, seed, names, count, steps, config.assignments(settings or []))
    with progress.live_log("detect", every_line=True) as log:
        result = leaving.leave_out(run, out, options=left, log=log)
    _print_leave_out(result, as_json)


def _print_detection(found: Detection, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    total = len(found.names)
    heads = ["detector", "alarms", "promised", "measured on images that belong", "strangest, with its p"]
    rows = []
    for one in found.findings:
        rate = one.false_alarms
        low, high = rate.interval
        first = one.order()[0]
        rows.append([
            one.detector.name,
            f"{one.alarms(found.alpha):,}",
            f"{rate.promised:.1%}",
            f"{rate.measured:.1%} ({low:.1%} to {high:.1%})",
            f"{found.names[first]} {one.p_values[first]:.3g}",
        ])  # fmt: skip
    print(f"{counted(total)} of {found.images} against {found.run}, alarms at p up to {found.alpha:g}:")
    print_table(heads, rows)
    expected = found.expected_alarms
    print(f"where all belong, about {expected:.1f} alarms are to be expected" if expected < 10
          else f"where all belong, about {expected:,.0f} alarms are to be expected")  # fmt: skip
    for note in found.notes:
        print(f"note: {note}")
    print(f"wrote {found.folder / 'scores.csv'}, with strangest-*.png and detect.json beside it")


def _print_leave_out(result: LeaveOut, as_json: bool) -> None:
    from modiste.experiments.detection import leave_out as leaving

    if as_json:
        print(json.dumps(result.to_json(), indent=2))
        return
    if result.classes:
        print_table(*leaving.table(result))
        print(leaving.LEGEND)
        print()
    for sentence in leaving.sentences(result):
        print(sentence)
    if result.classes:
        print(f"wrote {result.folder / 'leave-out.md'}, with leave-out.csv and leave-out.png beside it")
    if result.waiting:
        print(f"not finished; give the same command again to go on in {shlex.quote(str(result.folder))}")
