"""The speedrun: minutes of training on two named cores until images are k times as far from real ones as real ones are.

    python benchmarks/speedrun.py               # `make speedrun`: swift and hour, three seeds, at most an hour each
    python benchmarks/speedrun.py --recipe mine.toml --seeds 5 --enter       # and into the book, docs/speedrun.jsonl
    python benchmarks/speedrun.py --seeds 0     # the tables of the book; trains nothing

**The clock** is the training's own: steps and all that a tick does (pictures, states), without set-up. No image is
scored while it runs: every tick's generator is kept, and measured when the training is over, which changes nothing in
it.

**The distance** is that of `modiste evaluate`: 10,000 images against the test images in the judge's features; that of
real images is measured in the same way. Between two ticks it is taken to fall in a straight line, which is late where
the curve flattens, so few ticks do not flatter. Recipes are to be chosen on held-out images, never by this table.

**A record** at k: three seeds or more from random weights, each of which gets there; others use less than a tenth of a
core; and earlier than the last record on the same machine by Welch's test on the logarithms of the minutes, p < 0.01.
The first entry without such a fault is the first record. The order of the book says which record was the last.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_quality import seconds_to
from rich.console import Console
from rich.table import Table
from rounds import family_seconds, machine_seconds
from tables import put

from modiste import cache, config, environment, files, paths, progress, runs

if TYPE_CHECKING:
    from modiste.data.images import Images
    from modiste.metrics.features import Extractor
    from modiste.metrics.functional import Moments

MULTIPLES = (100, 30, 12, 6)
COUNT = 10_000
FEWEST_SEEDS = 3
LEVEL = 0.01
STEP = 1.15  # from a measured tick to the next, in images; straight lines are half a percent late on a curve 1 / images
QUIET = 0.1  # cores that others use on average
NEVER = 10**12
"""`evaluate.every_images` of all runs: a training scores only its last generator, after the last time it logs. With 0
no images would be held out, and a recipe may need them for more (`augment.policy = "auto"`)."""
WITNESSES = ("frechet", "precision_k3", "recall_k3", "coverage_k5", "label_agreement")
"""Kinds of scores that are kept of the last generator, so that a distance cannot be bought with another fault."""
ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "docs" / "speedrun.jsonl"
CODE = ("training", "networks", "data")
"""Packages whose last commit names the code of an entry."""


# --- training


def pin(cores: int) -> int:
    """Keep this process and those it starts on so many cores, before PyTorch counts them; returns how many it has."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    environment.let_threads_sleep()
    return environment.cores()


def processor() -> str:
    """The processor's name, with the numbers that tell its generation where the name does not."""
    place = Path("/proc/cpuinfo")
    lines = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def code() -> str:
    """The last commit that changed how a training runs, with a + where files differ from it; empty without git."""
    places = [str(Path(runs.__file__).parent / name) for name in CODE]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", *places], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")


def train(recipe: str, seed: int, minutes: float, changes: Sequence[str], folder: Path) -> runs.Run:
    """The run of that recipe and seed, trained or resumed for so long in all unless it is finished already."""
    from modiste.training import trainer
    from modiste.training.step import Diverged

    overrides = {**config.assignments(changes), "seed": seed, "train.device": "cpu"}
    overrides |= {"train.budget_seconds": minutes * 60, "evaluate.every_images": NEVER}
    path = folder / f"{Path(recipe).stem}-{seed}"
    follow = functools.partial(keeping, code())
    try:
        run = trainer.train(recipe, path, overrides=overrides, extend=True, console=progress.console(), follow=follow)
    except Diverged as error:  # an outcome: what it reached before counts
        print(f"{path}: {error}")
        return runs.Run(path)
    if run.read_manifest().status != "finished":
        raise SystemExit(f"{path} was interrupted; the same command goes on with it")
    return run


@contextmanager
def keeping(code: str, run: runs.Run) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """At every tick, copy the generator into the run's folder `kept`, with the cores that others used meanwhile."""
    kept = run.path / "kept"
    kept.mkdir(exist_ok=True)
    (kept / "ticks.jsonl").touch()
    before = (time.perf_counter(), machine_seconds(), family_seconds())

    def tick(record: Mapping[str, Any]) -> None:
        nonlocal before
        shutil.copyfile(run.path / "generator.safetensors", kept / f"{record['images']:09d}.safetensors")
        now = (time.perf_counter(), machine_seconds(), family_seconds())
        wall, machine, own = (after - earlier for after, earlier in zip(now, before, strict=True))
        facts = {"images": record["images"], "others": round(max(0.0, machine - own) / wall, 3), "code": code}
        with (kept / "ticks.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
        before = now

    yield tick


# --- measuring


@dataclass(frozen=True)
class Ruler:
    """The test images as the judge sees them, and how far real images are from them."""

    score: str
    extractor: Extractor
    test: Images
    moments: Moments
    real: float


@functools.cache
def ruler(data: config.Data) -> Ruler:
    """What generators of this data set are measured with, as `modiste evaluate` measures them."""
    from modiste.data.sets import native_data, open_data
    from modiste.evaluation import references
    from modiste.metrics import features, functional
    from modiste.metrics.metric_names import MetricName

    dataset = native_data(data)
    extractor, test = features.primary_extractor(dataset), open_data(dataset, part="test")
    real, _ = references.baseline_images(dataset, "test", COUNT, references.opener())
    moments = features.moments(extractor, test)
    name = str(MetricName("frechet", extractor.name, COUNT, "test"))
    return Ruler(name, extractor, test, moments, functional.frechet(moments, features.moments(extractor, real)))


def distance(run: runs.Run, file: Path, ruler: Ruler) -> float:
    """The Fréchet distance of the images of a kept generator; kept on disk."""
    from modiste.data.images import content_digest
    from modiste.evaluation import records
    from modiste.evaluation.class_matching import counts_of
    from modiste.metrics import features, functional
    from modiste.sampling import generators

    def compute() -> float:
        generator = generators.load(run, str(file.relative_to(run.path)))
        images = generator.sample_set(COUNT, class_counts=counts_of(generator.class_names, ruler.test))
        return functional.frechet(ruler.moments, functional.moments(features.extract(ruler.extractor, images).vectors))

    key = {
        "speedrun": hashlib.sha256(file.read_bytes()).hexdigest(),
        "network": (run.path / "generator.json").read_text(encoding="utf-8"),
        "count": COUNT,
        "test": content_digest(ruler.test),
        "judge": ruler.extractor.fingerprint,
    }
    return float(cache.cached_json(key, compute, records.versions()))


def witnesses(run: runs.Run) -> dict[str, float | None]:
    """Scores of the last generator by name, from a record that fits it or a new one."""
    from modiste.evaluation import records
    from modiste.evaluation.evaluate import evaluate
    from modiste.metrics.metric_names import MetricName

    place, weights = run.path / "metrics.json", run.path / "generator.safetensors"
    record = records.read(place) if place.is_file() else None
    if record is None or record.source.get("hash") != hashlib.sha256(weights.read_bytes()).hexdigest()[:16]:
        record = evaluate(run, count=COUNT)
    scores = record.scores.items()
    return {name: score.value for name, score in scores if MetricName.parse(name).kind in WITNESSES}


def chosen(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The ticks that are measured: the last, and of the others each that is a STEP beyond the one before."""
    found: list[Mapping[str, Any]] = []
    for record in log:
        if not found or record is log[-1] or record["images"] >= STEP * found[-1]["images"]:
            found.append(record)
    return found


def measure(run: runs.Run, cores: int) -> dict[str, Any]:
    """The line of the book about a run."""
    from modiste.data.images import content_digest

    recipe, manifest = run.read_recipe(), run.read_manifest()
    by, log = ruler(recipe.data), chosen(run.read_log())
    ticks = [json.loads(line) for line in (run.path / "kept" / "ticks.jsonl").read_text(encoding="utf-8").splitlines()]
    newest = {tick["images"]: tick for tick in ticks}  # a training that was killed repeats a tick
    points = []
    with progress.reporter(progress.console(), f"measuring {run.name}") as reporter:
        for number, record in enumerate(log):
            file = run.path / "kept" / f"{record['images']:09d}.safetensors"
            text = f"{run.name} after {record['images']:,} images"
            reporter.update(number / len(log), text, lambda text=text: f"measuring {text}")
            points.append([record["images"], record["seconds"], round(distance(run, file, by), 5)])
    plain = config.override(recipe, {"seed": 0, "train.budget_seconds": None})
    return {
        "recipe": recipe.name,
        "recipe_hash": config.content_hash(plain)[:16],
        "seed": recipe.seed,
        "processor": processor(),
        "cores": cores,
        "threads": manifest.threads,
        "processes": manifest.processes,
        "precision": manifest.precision,
        "code": "/".join(sorted({newest[images]["code"] for images, *_ in points})),
        "commit": manifest.git_commit,
        "modiste": manifest.modiste,
        "torch": manifest.torch,
        "platform": manifest.platform,
        "start": manifest.start,
        "command": [paths.last_part(word) for word in manifest.command],
        "trained_on": manifest.data.digest,
        "ancestor": manifest.ancestor.name if manifest.ancestor else None,
        "test": {"name": by.test.name, "digest": content_digest(by.test)},
        "others": round(sum(tick["others"] for tick in newest.values()) / max(1, len(newest)), 3),
        "score": by.score,
        "real": round(by.real, 5),
        "end": witnesses(run) if points else {},
        "points": points,
    }


# --- the book and its rule


IDENTITY = ("recipe", "recipe_hash", "code", "precision", "threads", "processes", "torch")
COURSE = ("processor", "cores", "test", "score")
"""Only entries with the same of these are compared."""


@dataclass(frozen=True)
class Entry:
    """The runs of one recipe with one code on one machine: lines of the book by seed."""

    name: str
    lines: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def minutes(self, multiple: float) -> dict[int, float | None]:
        """Minutes to so many times the distance of real images, by seed; None = never."""
        found = {}
        for seed, line in self.lines.items():
            points = [(seconds, value) for _, seconds, value in line["points"]]
            seconds = seconds_to(multiple * line["real"], points)
            found[seed] = None if seconds is None else seconds / 60
        return found

    def starts_within(self, multiple: float) -> bool:
        """Whether a run is within that distance at its first tick, so that its minutes are too many by up to a tick."""
        firsts = ((line["points"][0][2], line["real"]) for line in self.lines.values() if line["points"])
        return any(value <= multiple * real for value, real in firsts)

    @property
    def others(self) -> float:
        """Cores that others used, in the busiest run."""
        return max(line["others"] for line in self.lines.values())


@dataclass(frozen=True)
class Standing:
    """What the rule says of an entry; without a reason against it, it was a record when it was entered."""

    entry: Entry
    minutes: dict[int, float | None]
    against: str = ""
    """Why it is no record."""
    p_value: float | None = None
    """Against the record before; None where there was none, or nothing to test."""


def same(line: Mapping[str, Any], keys: Iterable[str]) -> str:
    """These entries of a line as text that can be compared."""
    return json.dumps([line[key] for key in keys], sort_keys=True)


def entries(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Entry]]:
    """The entries of each course in the order of the book; of two runs of one seed the first counts."""
    found: dict[str, dict[str, Entry]] = {}
    for line in lines:
        of_course = found.setdefault(same(line, COURSE), {})
        name = f"`{line['recipe']}` {line['recipe_hash'][:6]}, {line['precision']}, {line['code'] or line['modiste']}"
        of_course.setdefault(same(line, IDENTITY), Entry(name)).lines.setdefault(line["seed"], line)
    return {course: list(of_course.values()) for course, of_course in found.items()}


def standings(contestants: Iterable[Entry], multiple: float) -> list[Standing]:
    """The rule of a record, applied to every entry of a course in turn."""
    from modiste.experiments import statistics

    rows: list[Standing] = []
    holder: Standing | None = None
    for entry in contestants:
        minutes, p_value = entry.minutes(multiple), None
        against = unfit(entry, minutes)
        if holder is not None and not against:
            # Seeds share nothing between recipes, so all are told apart: this makes the test Welch's.
            before = {-1 - seed: value for seed, value in holder.minutes.items()}
            difference = statistics.compare(minutes, before, better="lower", scale="log")
            p_value = difference.p_value
            if (difference.mean or 0.0) <= 0:
                against = f"not earlier than {holder.entry.name}"
            elif p_value is None or p_value >= LEVEL:
                against = f"p = {p_value:.2g} against {holder.entry.name}"
        rows.append(Standing(entry, minutes, against, p_value))
        holder = holder if against else rows[-1]
    return rows


def unfit(entry: Entry, minutes: Mapping[int, float | None]) -> str:
    """Why an entry cannot be a record, whatever its minutes are; empty where it can."""
    if ancestors := {line["ancestor"] for line in entry.lines.values()} - {None}:
        return f"started from {', '.join(sorted(ancestors))}"
    if len(minutes) < FEWEST_SEEDS:
        return f"{len(minutes)} of {FEWEST_SEEDS} seeds"
    if never := [seed for seed, value in minutes.items() if value is None]:
        return f"never with {len(never)} of {len(minutes)} seeds"
    return f"others used {entry.others:.2f} cores" if entry.others > QUIET else ""


# --- tables


def show(lines: Sequence[Mapping[str, Any]], console: Console, markdown: bool) -> None:
    """The tables of every course: minutes per k, and the runs at their ends."""
    for contestants in entries(lines).values():
        line = next(iter(contestants[0].lines.values()))
        about = f"{line['processor']}, {line['cores']} cores; {line['test']['name']}, real images {line['real']:.4f}"
        print(f"{about} ({line['score']})\n")
        for multiple in MULTIPLES:
            print(f"Minutes to {multiple} times real images, a distance of {multiple * line['real']:.3g}:\n")
            put(table_of(standings(contestants, multiple), multiple), console, markdown)
        print("At the end of each run:\n")
        put(table_of_ends(contestants), console, markdown)


def table_of(rows: Iterable[Standing], multiple: float) -> Table:
    """An entry a row: its minutes to so many times real images, and whether it was a record."""
    table = Table(
        "recipe and its hash, precision, code", "minutes, mean [95 %]", "each seed", "others' cores", "a record?"
    )
    for row in rows:
        each = ", ".join("never" if value is None else f"{value:.2f}" for value in row.minutes.values())
        each += " (its first tick)" if row.entry.starts_within(multiple) else ""
        word = "the first" if row.p_value is None else f"**yes**, p = {row.p_value:.2g}"
        others = f"{row.entry.others:.2f}"
        table.add_row(row.entry.name, mean(list(row.minutes.values())), each, others, row.against or word)
    return table


def mean(minutes: Sequence[float | None]) -> str:
    """The geometric mean with its interval over seeds; never, where one of them never got there."""
    from modiste.experiments import statistics

    if None in minutes:
        return "never"
    found = statistics.summary(minutes, "log")
    interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.mean:.2f}{interval}"


def table_of_ends(contestants: Iterable[Entry]) -> Table:
    """A run a row: how far it came, and what the other scores say of it."""
    some = [(entry, line) for entry in contestants for line in entry.lines.values() if line["points"]]
    names = list(dict.fromkeys(name for _, line in some for name in line["end"] if name != line["score"]))
    table = Table("recipe and its hash, precision, code", "seed", "minutes", "images", "distance", "times real", *names)
    for entry, line in some:
        images, seconds, last = line["points"][-1]
        scores = [line["end"].get(name) for name in names]
        words = ["-" if value is None else f"{value:.3g}" for value in scores]
        times = f"{last / line['real']:.1f}"
        table.add_row(entry.name, str(line["seed"]), f"{seconds / 60:.1f}", f"{images:,}", f"{last:.3g}", times, *words)
    return table


def read(book: Path) -> list[dict[str, Any]]:
    """The lines of a book; none where there is no file."""
    return [json.loads(line) for line in book.read_text(encoding="utf-8").splitlines()] if book.is_file() else []


def write(book: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace the book."""
    book.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(book, "".join(json.dumps(line) + "\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description="Minutes of training to k times the distance of real images.")
    parser.add_argument("--recipe", action="append", help="a recipe's name or file (default: swift and hour)")
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS, help="seeds of each (default 3); 0 trains nothing")
    parser.add_argument("--minutes", type=float, default=60.0, help="a training's longest time (default 60)")
    parser.add_argument("--cores", type=int, default=2, help="cores to keep to (default 2)")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="section.key=value for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/speedrun"), help="folder of the runs")
    parser.add_argument("--book", type=Path, default=BOOK, help="the book of runs to compare with")
    parser.add_argument("--enter", action="store_true", help="write the runs into the book")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args(arguments)
    cores, measured = pin(options.cores), []
    for seed in range(options.seeds):
        for recipe in options.recipe or ("swift", "hour"):
            measured.append(measure(train(recipe, seed, options.minutes, options.changes, options.out), cores))
            write(options.out / "speedrun.jsonl", measured)
    lines = read(options.book)
    known = {same(line, (*COURSE, *IDENTITY, "seed")) for line in lines}
    lines += [line for line in measured if same(line, (*COURSE, *IDENTITY, "seed")) not in known]
    if options.enter:
        write(options.book, lines)
    show(lines, Console(), options.markdown)


if __name__ == "__main__":
    main()
