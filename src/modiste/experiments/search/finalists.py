"""The end of a search: its best trials trained anew over seeds, compared, and the best one written as a recipe.

The lowest of many noisy values is low by luck too. So finalists are trained with seeds that no trial had, and one is
called the best only where the statistics say so; of several that cannot be told apart the cheapest is taken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from modiste import config, files, progress, runs
from modiste.errors import ModisteError
from modiste.evaluation import records
from modiste.experiments import conclusions, results, statistics, studies, study_config
from modiste.experiments.conclusions import Conclusions, Decision
from modiste.experiments.search import spaces
from modiste.experiments.search.spaces import DISCRIMINATOR, Space
from modiste.experiments.study_config import Study
from modiste.metrics import metric_names, transforms

Row = dict[str, Any]
LONGEST_NAME = 100  # of the finalists' folder; file systems end at 255


@dataclass(frozen=True)
class FinalistsResult:
    """What became of the finalists."""

    study: Path
    """A study folder, which `modiste report` reads."""
    rows: list[Row]
    """Its table."""
    score: str
    """The full name of the score that decides."""
    findings: Conclusions
    """What the finalists' table says by it."""
    best: str
    """The name of the trial that was taken."""
    sentence: str
    """Which one was taken, and why."""
    recipe: Path
    """best.toml."""


def decide(space: Space, path: Path, trials: Sequence[Row], console: Console) -> FinalistsResult | None:
    """Train the best trials over seeds (or go on with it), compare them and write best.toml; None if interrupted."""
    chosen = finalists(space, trials)
    numbers = "-".join(str(row["number"]) for row in chosen)
    if len(numbers) > LONGEST_NAME:
        numbers = f"{len(chosen)}-trials-{hashlib.sha256(numbers.encode()).hexdigest()[:16]}"
    if space.finalists.budget:  # finalists of another length are another study
        numbers += f"-{re.sub(r'[^A-Za-z0-9.]+', '-', space.finalists.budget)}"
    seeds = len(final_study(space, chosen).seed_list)
    progress.log(console, f"finalists: {', '.join(row['name'] for row in chosen)}, {seeds} seeds each")
    folder = studies.study(final_study(space, chosen), path / "finalists" / numbers, console=console)
    if not folder.finished:
        return None
    rows = folder.rows
    score, table = values(space, folder.path, rows)
    if not any(value is not None for runs_of in table.values() for value in runs_of.values()):
        raise ModisteError(f"every finalist failed: {'; '.join(results.failures(rows))}")
    target = next((row["real"] for row in rows if row["score"] == score), None)
    decision = Decision(score, table, space.better, target, space.scale)
    found = conclusions.of(rows, decision)
    best, sentence = choose(space, decision, found, trials)
    recipe = write_best(space, path, next(row for row in chosen if row["name"] == best), len(trials), score, table)
    return FinalistsResult(folder.path, rows, score, found, best, sentence, recipe)


def finalists(space: Space, trials: Sequence[Row]) -> list[Row]:
    """The best trials, the best one first, each point once."""
    done = [row for row in trials if row["state"] == "finished"]
    done.sort(key=lambda row: -row["value"] if space.better == "higher" else row["value"])
    once: dict[str, Row] = {}
    for row in done:
        once.setdefault(str(row["settings"]), row)
    return list(once.values())[: space.finalists.count]


def final_study(space: Space, chosen: Sequence[Row]) -> Study:
    """The study of the finalists, on held-out images, with seeds after that of the trials."""
    first = space.seed + 1
    return Study(
        name=f"{space.name}-finalists",
        about=f"Which of the best trials of the search {space.name} is the best over training seeds?",
        source=space.source,
        configuration=tuple(spaces.configuration(space, row["name"], row["settings"], trial=False) for row in chosen),
        seeds=tuple(range(first, first + space.finalists.seeds)),
        budget=space.finalists.budget or space.budget,
        evaluate=study_config.Judging(count=space.evaluate.count, reference="heldout"),
    )


def values(space: Space, folder: Path, rows: Sequence[Row]) -> tuple[str, dict[str, dict[int, float | None]]]:
    """The name of the score that decides, and its values by configuration and seed; None for a failed run."""
    if space.objective == DISCRIMINATOR:
        table: dict[str, dict[int, float | None]] = {}
        for row in rows:
            run = runs.Run(folder / "runs" / f"{row['configuration']}-seed{row['seed']}")
            finished = row["status"] == "finished" and run.read_log()
            distance = logged(space, run.read_log()[-1]) if finished else None
            table.setdefault(row["configuration"], {})[row["seed"]] = distance
        return DISCRIMINATOR, table
    score = metric_names.of_kind((row["score"] for row in rows if row["score"]), space.objective) or space.objective
    return score, results.values(rows, score)


def logged(space: Space, record: Mapping[str, Any]) -> float | None:
    """The objective in a line of a run's log; None where it is not."""
    if space.objective == DISCRIMINATOR:
        return float(abs((record["d_accuracy_real"] + record["d_accuracy_fake"]) / 2 - 0.5))
    score = metric_names.heldout_score(record)
    return None if score is None else record[score]


def choose(space: Space, decision: Decision, found: Conclusions, trials: Sequence[Row]) -> tuple[str, str]:
    """The name of the finalist to take, and a sentence that says why; one that learned nothing is never the best."""
    best, sentence = _choice(space, decision, found, trials)
    if not found.has_learned(best):
        return best, f"{sentence}; none is the best, since nothing has been learned yet: use a longer budget"
    return best, sentence


def _choice(space: Space, decision: Decision, found: Conclusions, trials: Sequence[Row]) -> tuple[str, str]:
    table, pairs = decision.table, found.verdicts
    ranks = conclusions.ranks(decision, found)
    able = [rank for rank in ranks if rank.summary.mean is not None]
    first = able[0]
    if len(able) == 1:
        others = "all others failed" if len(table) > 1 else "there was one finalist, so nothing to compare it with"
        return first.name, f"{first.name} is taken: {others}"
    if ahead := _better_than(first.name, pairs):
        failed = {rank.name: len(rank.failed) for rank in able}
        told = "; ".join(f"{name} is better but failed with {failed[name]} of its seeds" for name in ahead)
        return first.name, f"{first.name} is taken as the first in rank, where failed runs come last: {told}"
    equals = [rank.name for rank in able if set(rank.groups) & set(first.groups)]
    if len(equals) == 1:
        return first.name, _crown(first.name, decision.score, found)
    if space.finalists.seeds < statistics.FEWEST_SEEDS:
        seeds = "this seed" if space.finalists.seeds == 1 else "two seeds"
        return first.name, (
            f"{first.name} is taken as the first of {seeds}, and with fewer than {statistics.FEWEST_SEEDS} seeds no "
            "verdict is possible; --seeds 3 or more may tell"
        )
    failures = {rank.name: len(rank.failed) for rank in able}
    steady = [name for name in equals if failures[name] == min(failures[other] for other in equals)]
    costs = {row["name"]: row["gflop_per_image"] for row in trials}
    cheapest = min(steady, key=lambda name: costs[name])  # of equally cheap ones the first in rank
    why = "the cheapest of them" if costs[cheapest] < max(costs[name] for name in steady) else "the first in rank"
    why = "the one that failed least" if len(steady) == 1 else why
    shaky = [f"{name} failed with {failures[name]} of its seeds" for name in equals if name not in steady]
    left_out = f" ({'; '.join(shaky)})" if shaky else ""
    return cheapest, f"{', '.join(equals)} cannot be told apart{left_out}; {cheapest} is taken as {why}"


def _crown(name: str, score: str, found: Conclusions) -> str:
    """That a finalist beats all others by the score, and which other scores say the opposite of any of it."""
    opposed = [one.score for pair in found.pairs if pair.verdict.winner == name for one in pair.opposed]
    names = list(dict.fromkeys(opposed))
    but = f", though {', '.join(names)} say{'s' * (len(names) == 1)} the opposite of some" if names else ""
    return f"{name} is the best by {score}: over training seeds it is better than every other finalist{but}"


def _better_than(name: str, pairs: Sequence[statistics.Verdict]) -> list[str]:
    """The configurations that a verdict calls better than that one."""
    found = [pair.first for pair in pairs if pair.second == name and pair.word == "better"]
    return found + [pair.second for pair in pairs if pair.first == name and pair.word == "worse"]


def write_best(
    space: Space,
    path: Path,
    row: Row,
    count: int,
    score: str,
    table: Mapping[str, Mapping[int, float | None]],
) -> Path:
    """Write best.toml: the recipe at its own length, with the settings that the finalists were trained with."""
    changes = spaces.configuration(space, row["name"], row["settings"], trial=False).set
    recipe = config.override(config.load(space.recipe), changes)
    every = [value for seeds in table.values() for value in seeds.values()]
    summary = statistics.summary(table[row["name"]].values(), transforms.usable(space.scale, every))
    length = space.finalists.budget or space.budget or "its own length"
    prose = {
        "name": f"{space.name}-best",
        "about": f"{recipe.name} with the settings of {row['name']} of the search {space.name} ({count} trials).",
        "source": (
            f"The search {space.name}: {score} {records.with_uncertainty(summary.mean, summary.deviation)} on held-out "
            f"images over {summary.count} training seeds of {length}; starting from {recipe.source or recipe.name}"
        ),
    }
    place = path / "best.toml"
    files.write_text(place, config.to_toml(config.override(recipe, prose)))
    return place
