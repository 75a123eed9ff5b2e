"""Where the time of a training step goes, by kind of operation: what peak.py's share of the bound leaves open.

    python benchmarks/profile_step.py                                        # all of peak.py's recipes, in `auto`
    python benchmarks/profile_step.py --recipe swift --precision float32 --operators 20

Torch's profiler gives each operator's own time, without that of operators which it calls. Three things are not in its
table: a convolution's backward pass is divided into gradients by images and by weights in the proportion of their times
when each is asked for alone, in one step more; within the backward pass of our own convolutions, which asks for one at
a time, a convolution is a gradient by images and copies (padding) are a kind of their own; and what is left of the time
that steps take without the profiler is Python, autograd and dispatch. Only on a processor, where operators run one
after the other: of gradients by weights in parts of the batch the first part counts, while the others run beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import peak
import torch
from rich.console import Console
from rich.table import Table
from tables import put
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from modiste import config, environment
from modiste.data.sets import open_data
from modiste.training import setup, trainer
from modiste.training.distributed import ProcessGroup

STEP_SECONDS = 3.0  # are measured and profiled
BY_IMAGES, BY_WEIGHTS = "convolution, gradient by images", "convolution, gradient by weights"
REST = "Python, autograd, dispatch"
KINDS = [  # the first pattern that an operator's name matches; names as the profiler has them, without `aten::`
    ("convolution, forward", r"_?(mkldnn_)?conv|thnn_conv|slow_conv"),
    ("optimiser and moving average", r"_fused_adam|_foreach_(add|sub|mul|lerp|copy)"),
    ("batch norm", r".*batch_norm"),
    ("dropout", r".*dropout|bernoulli|random_|bitwise"),
    ("activations", r".*relu|.*threshold|.*tanh|.*sigmoid|.*softplus|clamp|hardtanh|.*prelu"),
    ("dense layers and other products", r"mm$|addmm|bmm|baddbmm|matmul|linear$|dot|mv$|addmv|mkldnn_linear"),
    (
        "casts and copies",
        r"copy_|clone|cat$|constant_pad|fill_|zero_|index|.*shuffle|im2col|col2im|embedding|.*slice|upsample|repeat",
    ),
    ("pooling, sums and norms", r".*pool|sum|mean|.*norm|_foreach_norm|max|min|amax|any|all|isfinite"),
    ("elementwise", r"mul|div|add|sub|neg|pow|sqrt|where|exp|log|rsqrt|reciprocal|lt|gt|le|ge|eq|abs|lerp"),
    ("random numbers", r"normal_|uniform_|randn|rand|randperm"),
]


class Halves(TorchDispatchMode):
    """Times the halves of each convolution's backward pass that runs under it, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = {BY_IMAGES: 0.0, BY_WEIGHTS: 0.0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            images, weights, _ = args[-1]
            for kind, mask in ((BY_IMAGES, [True, False, False]), (BY_WEIGHTS, [False, True, False])):
                if images if kind == BY_IMAGES else weights:
                    start = time.perf_counter()
                    func(*args[:-1], mask)
                    self.seconds[kind] += time.perf_counter() - start
        return func(*args, **(kwargs or {}))


def make_step(recipe: config.Recipe, precision: str) -> Callable[[], None]:
    """The trainer's step on the processor, without ticks."""
    environment.keep_freed_memory()
    dataset, group = open_data(recipe.data), ProcessGroup()
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, "cpu")
    batch_at = setup.batches(recipe, dataset, shape, group, "cpu")
    return trainer.make_advance(recipe, state, shape, group, batch_at, "cpu", precision)


def seconds_of(step: Callable[[], None], steps: int) -> float:
    """Seconds that so many steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def ancestors(event: Any) -> Iterator[str]:
    """The names of the events around this one, from the nearest."""
    while event := event.cpu_parent:
        yield event.name


def kind_of(event: Any) -> str:
    """The kind of operation of a profiler's event."""
    name, around = event.name.removeprefix("aten::"), list(ancestors(event))
    within = any(re.search(r"_\w*ConvolutionBackward$", other) for other in around)
    if not event.name.startswith(("aten::", "mkldnn")):
        return REST  # ranges of autograd's and of the optimiser's own, whose operators are events of their own
    if name.startswith("convolution_backward"):
        return BY_WEIGHTS if within else "convolution, backward"
    kind = next((kind for kind, pattern in KINDS if re.match(pattern, name)), "other operators")
    if within and "aten::convolution_backward" not in around:
        return BY_IMAGES if kind == "convolution, forward" else "copies for our own gradients"
    return kind


def measure(name: str, precision: str, quick: bool) -> dict[str, Any]:
    """Seconds per step by kind and by operator, and of the whole step without the profiler."""
    changes: dict[str, Any] = {"train.images": 10**12, "train.epochs": None, "train.lr_schedule": "constant"}
    changes |= {"data.name": "toy", "data.count": 64, "train.batch_size": 8} if quick else {}
    recipe = config.override(config.load(name), changes)
    step = make_step(recipe, precision)
    for _ in range(1 if quick else 3):
        step()
    steps = 1 if quick else max(2, round(STEP_SECONDS / seconds_of(step, 1)))
    before = seconds_of(step, steps)
    with Halves() as halves:
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        seconds_of(step, steps)
    wall = (before + seconds_of(step, steps)) / (2 * steps)
    kinds: dict[str, float] = defaultdict(float)
    operators: dict[tuple[str, str], float] = defaultdict(float)
    events = profiler.events()
    (main,) = {event.thread for event in events if "Adam.step" in event.name}
    for event in events:
        if event.thread != main:
            continue
        kind, seconds = kind_of(event), event.self_cpu_time_total / 1e6 / steps
        kinds[kind] += seconds
        operators[event.name, kind] += seconds
    del kinds[REST]
    backward, both = kinds.pop("convolution, backward", 0.0), sum(halves.seconds.values())
    for kind, seconds in halves.seconds.items():
        kinds[kind] += backward * seconds / both if both else 0.0
    kinds[REST] = wall - sum(kinds.values())
    return {
        "recipe": name,
        "precision": precision,
        "batch_size": recipe.train.batch_size,
        "steps": steps,
        "ms_per_step": 1000 * wall,
        "kinds_ms": {kind: 1000 * seconds for kind, seconds in sorted(kinds.items(), key=lambda item: -item[1])},
        "operators_ms": [
            {"operator": operator, "kind": kind, "ms": 1000 * seconds}
            for (operator, kind), seconds in sorted(operators.items(), key=lambda item: -item[1])
        ],
    }


def show(rows: Sequence[dict[str, Any]], operators: int, console: Console, markdown: bool) -> None:
    """A column per recipe and precision with each kind's share of the step, then operators if wanted."""
    heads = (f"{row['recipe']}\n{row['precision']}\n{row['ms_per_step']:.1f} ms" for row in rows)
    table = Table("% of a step", *heads, title=f"Where a step goes, {torch.get_num_threads()} threads")
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        for kind, spent in row["kinds_ms"].items():
            total[kind] += spent / row["ms_per_step"]
    for kind in sorted(total, key=lambda kind: -total[kind]):
        shares = (100 * row["kinds_ms"].get(kind, 0.0) / row["ms_per_step"] for row in rows)
        table.add_row(kind, *(f"{share:.1f}" for share in shares))
    put(table, console, markdown)
    for row in rows if operators else ():
        longest = Table("operator", "kind", "ms per step", "%", title=f"{row['recipe']}, {row['precision']}")
        for entry in row["operators_ms"][:operators]:
            share = 100 * entry["ms"] / row["ms_per_step"]
            longest.add_row(entry["operator"], entry["kind"], f"{entry['ms']:.2f}", f"{share:.1f}")
        put(longest, console, markdown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="Where the time of a training step goes, by kind of operation.")
    parser.add_argument("--recipe", nargs="+", default=peak.RECIPES, help="default: the published ones, swift and hour")
    parser.add_argument("--precision", choices=["auto", "both", "float32", "bfloat16"], default="auto")
    parser.add_argument("--operators", type=int, default=0, help="also list so many operators (default 0)")
    parser.add_argument("--quick", action="store_true", help="one step on toy data; the numbers mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    options = parser.parse_args(arguments)
    best = environment.choose_precision("auto", "cpu")
    chosen = {"auto": [best], "both": list(dict.fromkeys(["float32", best]))}.get(
        options.precision, [options.precision]
    )
    rows = [measure(name, precision, options.quick) for name in options.recipe for precision in chosen]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows, options.operators, Console(width=max(160, Console().width)), options.markdown)


if __name__ == "__main__":
    main()
