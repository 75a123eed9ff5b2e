"""How fast Modiste trains the published recipes against the same in Keras 3 on TensorFlow and in a tutorial's PyTorch.

Each contestant is a process of its own and trains the same networks with the same batch, losses and optimiser, in turns
of about two seconds (A B C A B C ...); only ratios within a round are compared. Ours is the trainer's loop in a run
folder, with each step's share of a tick. keras_gan.py and tutorial_gan.py say how the others are written, and which
passes they share.

    python benchmarks/bench_rivals.py                       # `make bench-rivals`: about eight minutes
    python benchmarks/bench_rivals.py --recipe noronha --seconds 30
    python benchmarks/bench_rivals.py --quick               # does it run at all? The numbers mean nothing
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import line_protocol
import numpy as np
import rounds
from rich.console import Console
from rich.table import Table
from tables import put

from modiste import config, environment
from modiste.data.sets import open_data
from modiste.errors import ModisteError

PUBLISHED = ("noronha", "diaz-a", "roh", "dense-sigmoid", "bare-naich")
FOLDER = Path(__file__).parent
KERAS_PYTHON = FOLDER.parent / ".venv-rivals" / "bin" / "python"
GOALS = {  # what is compared, the least ratio of speeds, and what it is about
    "modiste bfloat16 / Keras bfloat16": (1.25, "Modiste in bfloat16 against Keras' policy mixed_bfloat16"),
    "modiste bfloat16 / Keras float32": (None, "Modiste in bfloat16 against Keras without a policy"),
    "modiste float32 / Keras float32": (1.0, "both in float32"),
    "modiste bfloat16 / tutorial": (2.0, "Modiste in bfloat16 against the tutorial's script"),
    "modiste float32 / tutorial": (1.3, "Modiste in float32 against the tutorial's script"),
}
NOTE = (
    "Everyone runs the generator once a step and alternates updates, so that the discriminator sees generated images "
    "twice. Modiste passes real and generated images together where there is no batch norm, the others never do; "
    "Keras and Modiste leave out gradients that the generator's update does not use, the tutorial's script does not."
)


def commands(python: Path | None, precisions: Sequence[str]) -> dict[str, tuple[list[str], str]]:
    """Per contestant its command and precision; without a Python that has Keras those of Modiste and PyTorch."""
    found = {f"modiste {kind}": ([sys.executable, str(FOLDER / "our_gan.py"), "--serve"], kind) for kind in precisions}
    if python:
        keras = [str(python), str(FOLDER / "keras_gan.py"), "--serve"]
        found |= {f"Keras {kind}": (keras, kind) for kind in precisions}
    return found | {"tutorial": ([sys.executable, str(FOLDER / "tutorial_gan.py"), "--serve"], "float32")}


def measure(name: str, options: argparse.Namespace, data_name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """One recipe: the facts of its contestants, their speeds, and the ratios."""
    changes: dict[str, Any] = {"data.name": data_name, "train.images": 10**9, "train.epochs": None}
    if options.quick:
        changes |= {"data.count": 256, "train.batch_size": 8}
    recipe = config.override(config.load(name), changes)
    best = environment.choose_precision("auto", "cpu")
    precisions = ["float32"] if best == "float32" else [best, "float32"]
    originals = open_data(recipe.data.model_copy(update={"resize": None}))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder) / "images.npz"
        np.savez(data, pixels=originals.pixels[:, 0], labels=originals.labels)
        settings = {
            "recipe": name,
            "whole_recipe": recipe.model_dump(mode="json"),
            "batch_size": recipe.train.batch_size,
            "data": str(data),
            "threads": options.threads,
        }
        facts, field_of = {}, {}
        for contestant, (command, precision) in commands(options.python, precisions).items():
            say(f"{name}: starting {contestant}")
            started = line_protocol.started(command, settings | {"precision": precision})
            facts[contestant], process = stack.enter_context(started)
            field_of[contestant] = rounds.Contestant(process.turn)
        check_parameters(name, {contestant: fact["parameters"] for contestant, fact in facts.items()})
        others = rounds.compete(field_of, options.seconds, options.quick, lambda text: say(f"{name}: {text}"))
    return {
        "recipe": name,
        "batch_size": recipe.train.batch_size,
        "parameters": facts["tutorial"]["parameters"],
        "versions": {contestant: fact["version"] for contestant, fact in facts.items()},
        "rounds": len(field_of["tutorial"].wall),
        "others_cores": others,
        "contestants": rounds.speeds(field_of, recipe.train.batch_size),
        "ratios": rounds.ratios(field_of, GOALS),
    }


def check_parameters(name: str, counts: dict[str, list[int]]) -> None:
    """ModisteError unless all contestants train as many weights, in the generator and in the discriminator."""
    if len({tuple(pair) for pair in counts.values()}) != 1:
        listed = ", ".join(f"{contestant} {pair}" for contestant, pair in counts.items())
        raise ModisteError(f"the contestants of {name} do not have the same numbers of parameters: {listed}")


def show(result: dict[str, Any], console: Console, markdown: bool) -> None:
    """The tables."""
    rows = result["recipes"]
    names = list(rows[0]["contestants"])
    speeds = Table("images/s", *names, title=f"Training on {result['data']}, medians of the rounds")
    for row in rows:
        cells = (f"{row['contestants'][name]['images_per_second']:,.0f}" for name in names)
        speeds.add_row(f"{row['recipe']}, batch {row['batch_size']}", *cells)
    put(speeds, console, markdown)
    table = Table("recipe", "ratio of speeds", "median", "min - max", "by processor time", "goal", "met")
    for row in rows:
        for number, (pair, ratio) in enumerate(row["ratios"].items()):
            spread = f"{ratio['min']:.2f} - {ratio['max']:.2f}"
            cells = (pair, f"{ratio['median']:.2f}", spread, f"{ratio['processor_median']:.2f}")
            table.add_row("" if number else row["recipe"], *cells, *rounds.verdict(ratio))
        table.add_section()
    put(table, console, markdown)
    versions = dict.fromkeys(version for row in rows for version in row["versions"].values())
    busy = max(row["others_cores"] for row in rows)
    least = min(row["rounds"] for row in rows)
    console.print(
        f"{'; '.join(versions)}; {result['threads'] or os.cpu_count()} threads; {least} paired rounds or more; "
        f"other processes used {busy:.2f} cores or less meanwhile. {NOTE}"
    )
    if result["quick"]:
        console.print("--quick: these numbers mean nothing.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables or JSON."""
    parser = argparse.ArgumentParser(description="Modiste's training speed against Keras and a tutorial's PyTorch.")
    parser.add_argument("--recipe", nargs="+", default=list(PUBLISHED), choices=PUBLISHED, help="default: all five")
    parser.add_argument("--seconds", type=float, default=75.0, help="length of the rounds per recipe (default 75)")
    parser.add_argument("--data", help="the data set; default fashion-mnist, or toy with --quick")
    parser.add_argument("--threads", type=int, default=0, help="processor threads (default: as many as cores)")
    parser.add_argument("--python", type=Path, default=KERAS_PYTHON, help="the Python that has Keras and TensorFlow")
    parser.add_argument("--without-keras", dest="python", action="store_const", const=None, help="only PyTorch's")
    parser.add_argument("--quick", action="store_true", help="a few small steps on toy data; the numbers mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    options = parser.parse_args(arguments)
    if options.python and not options.python.exists():
        parser.error(f"no {options.python}; `make bench-rivals` makes it, --python names another, or --without-keras")
    notes = Console(stderr=True)
    data = options.data or ("toy" if options.quick else "fashion-mnist")
    with notes.status("starting") as status:
        say = status.update if notes.is_terminal else rounds.seldom(notes)
        recipes = [measure(name, options, data, say) for name in options.recipe]
    result = {"data": data, "quick": options.quick, "threads": options.threads, "recipes": recipes}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console(width=max(120, Console().width)), options.markdown)


if __name__ == "__main__":
    main()
