"""The finalists of a search: its best trials trained again over seeds, compared, and the best written as a recipe.

The lowest of many noisy values is low by luck too. So finalists are trained with seeds that no trial had, and one is
called the best only where the statistics say so; of several that cannot be told apart the cheapest is taken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from modiste import config, files, progress, runs
from modiste.errors import ModisteError
from modiste.evaluation import records
from modiste.experiments import conclusions, results, statistics, studies, study_config
from modiste.experiments.conclusions import Conclusions, DecidingScore
from modiste.experiments.results import StudyRow
from modiste.experiments.search import spaces
from modiste.experiments.search.spaces import DISCRIMINATOR, Space
from modiste.experiments.search.trials import TrialRow, logged
from modiste.experiments.studies import StudyFolder
from modiste.experiments.study_config import Study
from modiste.metrics import metric_names, transforms
from modiste.wording import counted

LONGEST_NAME = 100  # of the finalists' folder; file systems end at 255


@dataclass(frozen=True)
class FinalistsResult:
    """The finalists' study and the one that was chosen."""

    study: Path
    """A study folder, which `modiste report` reads."""
    rows: list[StudyRow]
    """Its table."""
    score: str
    """The full name of the score that decides."""
    conclusions: Conclusions
    """The verdicts by that score."""
    best: str
    """The name of the trial that was chosen."""
    sentence: str
    """Which one was chosen, and why."""
    recipe: Path
    """best.toml."""


def compare_finalists(space: Space, path: Path, trials: Sequence[TrialRow], console: Console) -> FinalistsResult | None:
    """Train the best trials over seeds (or continue), compare them and write best.toml; None if interrupted."""
    chosen = finalists(space, trials)
    settings = final_study(space, chosen)
    place = path / "finalists" / folder_name(space, chosen)
    progress.log(
        console, f"finalists: {', '.join(row.name for row in chosen)}, {counted(len(settings.seed_list), 'seed')} each"
    )
    folder = studies.study(settings, place, console=console)
    if not folder.is_finished():
        return None
    rows = folder.read_rows()
    score, table = values(space, folder, rows)
    if not any(value is not None for seeds in table.values() for value in seeds.values()):
        raise ModisteError(f"every finalist failed: {'; '.join(results.failures(rows))}")
    target = next((row.real for row in rows if row.score == score), None)
    deciding = DecidingScore(score, table, space.better, target, space.scale)
    found = conclusions.conclude(rows, deciding)
    best, sentence = choose(space, deciding, found, trials)
    recipe = write_best(space, path, next(row for row in chosen if row.name == best), len(trials), score, table)
    return FinalistsResult(folder.path, rows, score, found, best, sentence, recipe)


def folder_name(space: Space, chosen: Sequence[TrialRow]) -> str:
    """The name of the finalists' folder: their numbers, and their budget, since other lengths are another study."""
    name = "-".join(str(row.number) for row in chosen)
    if len(name) > LONGEST_NAME:
        name = f"{len(chosen)}-trials-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    if space.finalists.budget:
        name += f"-{re.sub(r'[^A-Za-z0-9.]+', '-', space.finalists.budget)}"
    return name


def finalists(space: Space, trials: Sequence[TrialRow]) -> list[TrialRow]:
    """The best trials, the best one first, each point once."""
    sign = -1 if space.better == "higher" else 1
    ranked = sorted((row for row in trials if row.value is not None), key=lambda row: sign * (row.value or 0.0))
    once: dict[str, TrialRow] = {}
    for row in ranked:
        once.setdefault(str(row.settings), row)
    return list(once.values())[: space.finalists.count]


def final_study(space: Space, chosen: Sequence[TrialRow]) -> Study:
    """The study of the finalists, on held-out images, with seeds after that of the trials."""
    first = space.seed + 1
    return Study(
        name=f"{space.name}-finalists",
        about=f"Which of the best trials of the search {space.name} is the best over training seeds?",
        source=space.source,
        configuration=tuple(spaces.configuration(space, row.name, row.settings, trial=False) for row in chosen),
        seeds=tuple(range(first, first + space.finalists.seeds)),
        budget=space.finalists.budget or space.budget,
        evaluate=study_config.Judging(count=space.evaluate.count, reference="heldout"),
    )


def values(
    space: Space, folder: StudyFolder, rows: Sequence[StudyRow]
) -> tuple[str, dict[str, dict[int, float | None]]]:
    """The name of the score that decides, and its values by configuration and seed; None for a failed run."""
    if space.objective == DISCRIMINATOR:
        table: dict[str, dict[int, float | None]] = {}
        for row in rows:
            finished = row.status == "finished"
            record = runs.read_last_record(folder.run(row.configuration, row.seed)) if finished else None
            table.setdefault(row.configuration, {})[row.seed] = logged(space, record) if record else None
        return DISCRIMINATOR, table
    score = metric_names.of_kind((row.score for row in rows if row.score), space.objective) or space.objective
    return score, results.values(rows, score)


def choose(space: Space, deciding: DecidingScore, found: Conclusions, trials: Sequence[TrialRow]) -> tuple[str, str]:
    """The name of the finalist to choose, and a sentence on why; one that learned nothing is never the best."""
    best, sentence = _choice(space, deciding, found, trials)
    if not found.has_learned(best):
        return best, f"{sentence}; none is the best, since nothing has been learned yet: use a longer budget"
    return best, sentence


def _choice(space: Space, deciding: DecidingScore, found: Conclusions, trials: Sequence[TrialRow]) -> tuple[str, str]:
    table, pairs = deciding.table, found.verdicts
    ranks = conclusions.ranks(deciding, found)
    able = [rank for rank in ranks if rank.summary.mean is not None]
    first = able[0]
    if len(able) == 1:
        others = "all others failed" if len(table) > 1 else "there was one finalist, so nothing to compare it with"
        return first.name, f"{first.name} is taken: {others}"
    if ahead := _better_than(first.name, pairs):
        failed = {rank.name: len(rank.failed) for rank in able}
        reasons = "; ".join(f"{name} is better but failed with {failed[name]} of its seeds" for name in ahead)
        return first.name, f"{first.name} is taken as the first in rank, where failed runs come last: {reasons}"
    equals = [rank.name for rank in able if set(rank.groups) & set(first.groups)]
    if len(equals) == 1:
        return first.name, _best_sentence(first.name, deciding.score, found)
    if space.finalists.seeds < statistics.FEWEST_SEEDS:
        seeds = "this seed" if space.finalists.seeds == 1 else "two seeds"
        return first.name, (
            f"{first.name} is taken as the first of {seeds}, and with fewer than {statistics.FEWEST_SEEDS} seeds no "
            "verdict is possible; --seeds 3 or more may tell"
        )
    failures = {rank.name: len(rank.failed) for rank in able}
    steady = [name for name in equals if failures[name] == min(failures[other] for other in equals)]
    costs = {row.name: row.gflop_per_image or 0.0 for row in trials}
    cheapest = min(steady, key=lambda name: costs[name])  # of equally cheap ones the first in rank
    why = "the cheapest of them" if costs[cheapest] < max(costs[name] for name in steady) else "the first in rank"
    why = "the one that failed least" if len(steady) == 1 else why
    shaky = [f"{name} failed with {failures[name]} of its seeds" for name in equals if name not in steady]
    left_out = f" ({'; '.join(shaky)})" if shaky else ""
    return cheapest, f"{', '.join(equals)} cannot be told apart{left_out}; {cheapest} is taken as {why}"


def _best_sentence(name: str, score: str, found: Conclusions) -> str:
    """The sentence on a finalist that beats all others by the score, and on other scores that say the opposite."""
    opposed = [one.score for pair in found.pairs if pair.verdict.winner == name for one in pair.opposed]
    names = list(dict.fromkeys(opposed))
    but = f", though {', '.join(names)} say{'s' * (len(names) == 1)} the opposite of some" if names else ""
    return f"{name} is the best by {score}: over training seeds it is better than every other finalist{but}"


def _better_than(name: str, pairs: Sequence[statistics.Verdict]) -> list[str]:
    """The configurations that have a verdict of being better than that one."""
    return [pair.winner for pair in pairs if name in (pair.first, pair.second) and pair.winner not in ("", name)]


def write_best(
    space: Space,
    path: Path,
    row: TrialRow,
    count: int,
    score: str,
    table: statistics.Table,
) -> Path:
    """Write best.toml: the recipe at its own length, with the settings that the finalists were trained with."""
    changes = spaces.configuration(space, row.name, row.settings, trial=False).set
    recipe = config.override(config.load(space.recipe), changes)
    every = [value for seeds in table.values() for value in seeds.values()]
    summary = statistics.summary(table[row.name].values(), transforms.usable(space.scale, every))
    length = space.finalists.budget or space.budget or "its own length"
    prose = {
        "name": f"{space.name}-best",
        "about": f"{recipe.name} with the settings of {row.name} of the search {space.name} ({count} trials).",
        "source": (
            f"The search {space.name}: {score} {records.with_uncertainty(summary.mean, summary.deviation)} on held-out "
            f"images over {summary.count} training seeds of {length}; starting from {recipe.source or recipe.name}"
        ),
    }
    place = path / "best.toml"
    files.write_text(place, config.to_toml(config.override(recipe, prose)))
    return place
