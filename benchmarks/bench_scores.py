"""How fast and in how little memory Modiste scores 10,000 images, against torchmetrics and prdc on the same features.

The contestants take turns, each in a process of its own, so that one's memory and caches are not another's. Modiste
computes its whole suite of feature scores (nine functions, sixteen numbers), the rivals only what they have: FID, KID
and IS of torchmetrics and prdc's precision, recall, density and coverage, called once with k = 5 (Modiste's precision
and recall at k = 3, which are in its time, would take the rival a second call). Imports and reading are not timed.

    python benchmarks/bench_scores.py            # part of `make bench`
    python benchmarks/bench_scores.py --quick    # does it run at all? The times mean nothing
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line does; before torch is imported, for both alike

import numpy as np
from rich.console import Console
from rich.table import Table

SPEED_GOAL = 3.0
MEMORY_GOAL = 1 / 3
CLASSES, FEATURES = 10, 128
FULL, QUICK = {"count": 10_000, "rounds": 3}, {"count": 1_200, "rounds": 1}
RANDOM_CHOICE = ("kernel distance", "inception score")  # each side draws its own subsets: compared by their errors


def garment_like(count: int, seed: int, blur: float) -> dict[str, np.ndarray]:
    """Features [count, 128] as a judge's pooled ones are: not negative, correlated, ten clouds; logits and labels."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    centres, mixing = shared.gamma(1.0, 1.0, (CLASSES, FEATURES)), shared.normal(0, 0.15, (FEATURES, FEATURES))
    labels = np.arange(count) % CLASSES
    vectors = (centres[labels] + own.normal(0, 1 + blur, (count, FEATURES)) @ mixing * 0.6).clip(0)
    logits = 4 * vectors @ (centres - centres.mean(0)).T / np.sqrt(FEATURES)
    return {"vectors": vectors.astype(np.float32), "logits": logits.astype(np.float32), "labels": labels}


def peak_mb() -> float:
    """This process's greatest resident memory so far, in MB (1e6 bytes), without what the forking process had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def timed(jobs: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds and results of each job."""
    seconds, results = {}, {}
    for name, job in jobs.items():
        start = time.perf_counter()
        results[name] = job()
        seconds[name] = time.perf_counter() - start
    return seconds, results


def ours(real: dict[str, np.ndarray], fake: dict[str, np.ndarray], size: int) -> dict[str, Any]:
    """Modiste's suite."""
    from modiste.metrics import functional, manifold

    x, y = real["vectors"], fake["vectors"]
    classes = {"reference_labels": real["labels"], "generated_labels": fake["labels"]}
    predicted = fake["logits"].argmax(1)
    base = peak_mb()
    seconds, found = timed(
        {
            "frechet": lambda: functional.frechet_score(x, y),
            "frechet infinite": lambda: functional.frechet_infinite(functional.moments(x), y),
            "kernel": lambda: functional.kernel_distance(x, y, subset_size=size),
            "inception style": lambda: functional.inception_style(fake["logits"]),
            "precision, recall, density, coverage": lambda: manifold.manifold_scores(x, y),
            "class frechet": lambda: functional.class_frechet(reference=x, generated=y, classes=CLASSES, **classes),
            "label agreement": lambda: functional.label_agreement(predicted, fake["labels"], CLASSES),
            "class balance": lambda: functional.class_balance(predicted, CLASSES),
            "two-sample 1-NN": lambda: manifold.two_sample_1nn(x, y),
        }
    )
    peak = peak_mb()
    in_balls = manifold.manifold_scores(x, y, k_precision=5)  # not timed: for the comparison of values
    values = {
        "Fréchet distance": found["frechet"].value,
        "kernel distance": found["kernel"].value,
        "inception score": found["inception style"].value,
        **{f"{name}, k = 5": score.value for name, score in in_balls.items()},
    }
    errors = {"kernel distance": found["kernel"].uncertainty, "inception score": found["inception style"].uncertainty}
    return {"seconds": seconds, "values": values, "errors": errors, "peak_mb": peak, "base_mb": base}


def theirs(real: dict[str, np.ndarray], fake: dict[str, np.ndarray], size: int) -> dict[str, Any]:
    """torchmetrics and prdc, as their documentation says."""
    import rivals
    import torch

    warnings.simplefilter("ignore")  # torchmetrics on its own memory
    torch.manual_seed(0)
    x, y, logits = (torch.from_numpy(part) for part in (real["vectors"], fake["vectors"], fake["logits"]))

    def two_sets(metric: Any) -> Any:
        for start in range(0, len(x), 1000):
            metric.update(x[start : start + 1000], real=True)
            metric.update(y[start : start + 1000], real=False)
        return metric.compute()

    def inception_score() -> Any:
        metric = rivals.InceptionScore(feature=rivals.Through(CLASSES))
        for start in range(0, len(logits), 1000):
            metric.update(logits[start : start + 1000])
        return metric.compute()

    through = rivals.Through(FEATURES)
    base = peak_mb()
    seconds, found = timed(
        {
            "torchmetrics FID": lambda: two_sets(rivals.FrechetInceptionDistance(feature=through)),
            "torchmetrics KID": lambda: two_sets(rivals.KernelInceptionDistance(feature=through, subset_size=size)),
            "torchmetrics IS": inception_score,
            "prdc": lambda: rivals.compute_prdc(real["vectors"], fake["vectors"], nearest_k=5),
        }
    )
    values = {
        "Fréchet distance": float(found["torchmetrics FID"]),
        "kernel distance": float(found["torchmetrics KID"][0]),
        "inception score": float(found["torchmetrics IS"][0]),
        **{f"{name}, k = 5": float(value) for name, value in found["prdc"].items()},
    }
    return {"seconds": seconds, "values": values, "errors": {}, "peak_mb": peak_mb(), "base_mb": base}


def child(contestant: str, folder: Path, size: int, threads: int) -> None:
    """One turn: print its result as the last line."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    real, fake = (dict(np.load(folder / f"{name}.npz")) for name in ("real", "fake"))
    print(json.dumps({"ours": ours, "theirs": theirs}[contestant](real, fake, size)))


def measure(quick: bool = False, say: Callable[[str], None] = lambda text: None, threads: int = 0) -> dict[str, Any]:
    """Alternating rounds of both contestants; their medians, values and the ratios against the goals."""
    plan = QUICK if quick else FULL
    size = min(1000, plan["count"] // 4)
    turns: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, seed, blur in (("real", 1, 0.0), ("fake", 2, 0.05)):
            np.savez(Path(folder) / f"{name}.npz", **garment_like(plan["count"], seed, blur))
        for turn in range(plan["rounds"]):
            for name, results in turns.items():
                say(f"scores, round {turn + 1} of {plan['rounds']}: {name}")
                command = [sys.executable, __file__, "--child", name, "--folder", folder, "--size", str(size)]
                done = subprocess.run(
                    [*command, "--threads", str(threads)], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RuntimeError(f"the turn of {name} failed:\n{done.stderr}")
                results.append(json.loads(done.stdout.splitlines()[-1]))
    totals = {name: [sum(turn["seconds"].values()) for turn in results] for name, results in turns.items()}
    speeds = [b / a for a, b in zip(totals["ours"], totals["theirs"], strict=True)]
    peaks = {name: max(turn["peak_mb"] for turn in results) for name, results in turns.items()}
    values = compared(turns["ours"][0], turns["theirs"][0])
    return {
        "quick": quick,
        "count": plan["count"],
        "rounds": plan["rounds"],
        "seconds": {
            name: {job: median(turn["seconds"][job] for turn in results) for job in results[0]["seconds"]}
            for name, results in turns.items()
        },
        "total_seconds": {name: median(total) for name, total in totals.items()},
        "peak_mb": peaks,
        "base_mb": {name: max(turn["base_mb"] for turn in results) for name, results in turns.items()},
        "speed": {"median": median(speeds), "min": min(speeds), "max": max(speeds), "goal": SPEED_GOAL},
        "memory": {"ratio": peaks["ours"] / peaks["theirs"], "goal": MEMORY_GOAL},
        "values": values,
        "met": {
            "speed": median(speeds) >= SPEED_GOAL,
            "memory": peaks["ours"] / peaks["theirs"] <= MEMORY_GOAL,
            "values": all(row["same"] for row in values.values()),
        },
    }


def compared(one: dict[str, Any], other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Both values of each score, and whether they are the same: to 1e-6, or within four errors where both draw."""
    rows = {}
    for name, value in one["values"].items():
        rival = other["values"][name]
        allowed = 4 * 2**0.5 * one["errors"][name] if name in RANDOM_CHOICE else 1e-6 * abs(rival)
        rows[name] = {"ours": value, "theirs": rival, "allowed": allowed, "same": abs(value - rival) <= allowed}
    return rows


def show(result: dict[str, Any], console: Console) -> None:
    """The tables."""
    console.print(
        f"\n[bold]Scores of {result['count']:,} generated against {result['count']:,} real images[/bold], "
        f"{FEATURES} features; {result['rounds']} paired rounds, medians"
    )
    table = Table("", "seconds")
    for name, label in (("ours", "Modiste"), ("theirs", "torchmetrics and prdc")):
        for job, seconds in result["seconds"][name].items():
            table.add_row(job, f"{seconds:.2f}")
        table.add_row(f"[bold]{label}", f"[bold]{result['total_seconds'][name]:.2f}", end_section=True)
    console.print(table)
    table = Table("", "Modiste", "rival", "same")
    for name, row in result["values"].items():
        agreement = "within four errors" if name in RANDOM_CHOICE else "to 1e-6"
        table.add_row(name, f"{row['ours']:.7g}", f"{row['theirs']:.7g}", agreement if row["same"] else "NO")
    console.print(table)
    speed, memory, peaks, met = result["speed"], result["memory"], result["peak_mb"], result["met"]
    console.print(
        f"ratio of speeds {speed['median']:.2f} ({speed['min']:.2f} - {speed['max']:.2f}), goal at least "
        f"{speed['goal']:.0f}: {'met' if met['speed'] else 'NOT met'}"
    )
    base = result["base_mb"]
    console.print(
        f"peak memory {peaks['ours']:,.0f} MB against {peaks['theirs']:,.0f} MB (of which imports and features "
        f"{base['ours']:,.0f} and {base['theirs']:,.0f}): {memory['ratio']:.2f}, goal at most {memory['goal']:.2f}: "
        f"{'met' if met['memory'] else 'NOT met'}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables or JSON."""
    parser = argparse.ArgumentParser(
        description="Modiste's scores against torchmetrics and prdc: time, memory, values."
    )
    parser.add_argument("--quick", action="store_true", help="few images; the times mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--threads", type=int, default=0, help="processor threads (default: torch's choice)")
    parser.add_argument("--child", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child, options.folder, options.size, options.threads)
        return
    result = measure(options.quick, lambda text: print(text, file=sys.stderr), options.threads)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())
        if options.quick:
            print("--quick: these numbers mean nothing.")


if __name__ == "__main__":
    main()
