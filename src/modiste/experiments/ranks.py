"""The rank table of a study: configurations by mean rank over seeds, with groups that cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modiste.experiments import statistics
from modiste.experiments.statistics import Summary, Table, Verdict
from modiste.metrics import transforms
from modiste.metrics.transforms import Scale


@dataclass(frozen=True)
class Rank:
    """One configuration's row of the rank table."""

    name: str
    mean_rank: float | None
    """1 is best; over the seeds that all configurations tried, failed runs last; None without such a seed."""
    summary: Summary
    groups: tuple[int, ...]
    """Two configurations that share a number cannot be told apart."""
    failed: tuple[int, ...]


def rank_table(
    table: Table,
    *,
    better: str,
    target: float | None = None,
    scale: Scale = "plain",
    pairs: Sequence[Verdict] | None = None,
) -> list[Rank]:
    """The configurations from best to worst by mean rank over seeds, with groups that cannot be told apart.

    Ties share the mean of their ranks, and so do failed runs at the end. Only seeds that every configuration with
    any run has tried are ranked. The groups are the largest sets without a verdict in them (Piepho 2004); the verdicts
    are `pairs` where they are given, else those of this table.
    """
    fitting = statistics.fitting_scale(scale, better, table.values())
    oriented = {name: statistics.orient(runs, better, target, fitting) for name, runs in table.items()}
    tried = [set(runs) for runs in table.values() if runs]
    seeds = sorted(set.intersection(*tried)) if tried else []
    places: dict[str, list[float]] = {name: [] for name in table}
    for seed in seeds:
        values = {name: oriented[name].get(seed, -math.inf) for name, runs in table.items() if runs}
        for name, value in values.items():
            ahead = sum(other > value for other in values.values())
            level = sum(other == value for other in values.values())
            places[name].append(ahead + (level + 1) / 2)
    means = {name: sum(ranked) / len(ranked) if ranked else None for name, ranked in places.items()}

    def order(name: str) -> tuple[float, float]:
        known = list(oriented[name].values())
        rank = means[name]
        return math.inf if rank is None else rank, -sum(known) / len(known) if known else math.inf

    names = sorted(table, key=order)
    if pairs is None:
        pairs = statistics.verdicts(table, better=better, target=target, scale=scale)
    groups = _groups(names, pairs)
    every = transforms.usable(scale, [value for runs in table.values() for value in runs.values()])
    rows = []
    for name in names:
        failed = tuple(sorted(set(table[name]) - set(oriented[name])))
        rows.append(Rank(name, means[name], statistics.summary(table[name].values(), every), groups[name], failed))
    return rows


def _groups(names: Sequence[str], pairs: Sequence[Verdict]) -> dict[str, tuple[int, ...]]:
    """Numbers of the groups that each name is in: split at every verdict, then drop sets within others."""
    sets = [frozenset(names)]
    for pair in pairs:
        if pair.decided:
            split = {part for held in sets for part in ({held - {pair.first}, held - {pair.second}})}
            sets = [part for part in split if not any(part < other for other in split)]
    sets.sort(key=lambda held: sorted(names.index(name) for name in held))
    return {name: tuple(number for number, held in enumerate(sets, 1) if name in held) for name in names}
