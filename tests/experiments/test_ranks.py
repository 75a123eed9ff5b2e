"""The rank table: mean ranks, groups, failed runs."""

from __future__ import annotations

import itertools

import pytest

from modiste.experiments import ranks, statistics
from modiste.experiments.ranks import rank_table


def runs(*values: float | None) -> dict[int, float | None]:
    return dict(enumerate(values))


def test_ranks_and_groups() -> None:
    study = {"far": runs(9.0, 9.2, 9.1), "near": runs(1.1, 1.2, 1.0), "other": runs(1.0, 1.4, 1.05), "one": {0: 5.0}}
    rows = rank_table({name: study[name] for name in ("far", "near", "other")}, better="lower")
    assert [row.name for row in rows] == ["near", "other", "far"]
    assert [row.mean_rank for row in rows] == pytest.approx([4 / 3, 5 / 3, 3])
    assert [row.groups for row in rows] == [(1,), (1,), (2,)]
    rows = rank_table(study, better="lower")  # only seed 0 was tried by all; `one` is in nobody's way
    assert [(row.name, row.mean_rank) for row in rows] == [("other", 1), ("near", 2), ("one", 3), ("far", 4)]
    assert [row.groups for row in rows] == [(1,), (1,), (1, 2), (2,)]


def test_groups_overlap_where_the_middle_cannot_be_told_from_either_end() -> None:
    def verdict(first: str, second: str, word: str) -> statistics.Verdict:
        difference = statistics.compare({}, {}, better="lower")
        return statistics.Verdict(first, second, word, difference)

    names = ["a", "b", "c", "d"]
    decided = {("a", "c"), ("a", "d"), ("b", "d")}
    pairs = [
        verdict(one, two, "better" if (one, two) in decided else "cannot be told apart")
        for one, two in itertools.combinations(names, 2)
    ]
    groups = ranks._groups(names, pairs)
    assert groups == {"a": (1,), "b": (1, 2), "c": (2, 3), "d": (3,)}


def test_failed_runs_come_last_in_the_ranks() -> None:
    study = {"a": runs(1.0, None, float("nan")), "b": runs(2.0, 2.0, 3.0), "c": runs(2.0, None, 2.5), "idle": {}}
    rows = rank_table(study, better="lower")
    found = {row.name: (row.mean_rank, row.failed) for row in rows}
    assert found == {
        "a": (pytest.approx((1 + 2.5 + 3) / 3), (1, 2)),
        "b": (pytest.approx((2.5 + 1 + 2) / 3), ()),
        "c": (pytest.approx((2.5 + 2.5 + 1) / 3), (1,)),
        "idle": (None, ()),
    }
    assert rows[-1].name == "idle" and rows[-1].summary.count == 0
    assert rank_table({}, better="lower") == []
    apart = rank_table({"a": {0: 3.0, 1: 3.1}, "b": {2: 1.0, 3: 1.1}}, better="lower")
    assert [(row.name, row.mean_rank) for row in apart] == [("b", None), ("a", None)]
