"""Which finalist is chosen."""

from __future__ import annotations

from pathlib import Path

from modiste.experiments import conclusions
from modiste.experiments.results import StudyRow
from modiste.experiments.search import finalists, spaces
from modiste.experiments.search.spaces import Space
from modiste.experiments.search.trials import TrialRow

Scores = dict[str, dict[int, float | None]]


def chosen(space: Space, table: Scores, costs: dict[str, float]) -> tuple[str, str]:
    """The finalist that is chosen by these Fréchet distances, where the trials have these costs."""
    score = "frechet_garment_40_heldout"
    rows = [
        StudyRow("final", name, seed, status="failed")
        if value is None
        else StudyRow(
            "final", name, seed, status="finished", score=score, value=value, uncertainty=0.1, real=0.04, trivial=112.0,
            better="lower",
        )
        for name, seeds in table.items()
        for seed, value in seeds.items()
    ]  # fmt: skip
    deciding = conclusions.DecidingScore(score, table, space.better, None, space.scale)
    trained = [
        TrialRow(k, name, "finished", score, 1.0, None, "", "", 1, 1.0, cost, cost, {})
        for k, (name, cost) in enumerate(costs.items())
    ]
    return finalists.choose(space, deciding, conclusions.conclude(rows, deciding), trained)


def test_which_finalist_is_taken(file: Path) -> None:
    space: Space = spaces.load(file)
    space = space.model_copy(update={"finalists": spaces.Finalists(count=2, seeds=3)})
    costs = {"a": 3.0, "b": 1.0}
    clear: Scores = {"a": {1: 1.0, 2: 1.01, 3: 1.02}, "b": {1: 2.0, 2: 2.02, 3: 2.01}}
    best, sentence = chosen(space, clear, costs)
    assert best == "a" and "better than every other finalist" in sentence
    noisy: Scores = {"a": {1: 1.0, 2: 2.0, 3: 3.0}, "b": {1: 2.0, 2: 3.1, 3: 1.2}}
    best, sentence = chosen(space, noisy, costs)
    assert best == "b" and "cannot be told apart" in sentence and "cheapest" in sentence
    assert chosen(space, noisy, {"a": 1.0, "b": 1.0})[0] == "a"
    shaky: Scores = {"a": noisy["a"], "b": {1: 1.0, 2: None, 3: None}}
    best, sentence = chosen(space, shaky, costs)  # b is cheaper, and failed
    assert best == "a" and "b failed with 2 of its seeds" in sentence and "failed least" in sentence
    half: Scores = {"a": {1: None, 2: None, 3: None}, "b": noisy["b"]}
    assert chosen(space, half, costs) == ("b", "b is taken: all others failed")
    seven: Scores = {
        "a": {1: 2.0, 2: 2.0, 3: 2.0, 4: 2.02, 5: 2.0, 6: 2.0, 7: 2.0},
        "b": {1: 1.0, 2: 1.005, 3: 1.003, 4: None, 5: None, 6: None, 7: None},
    }
    told = "a is taken as the first in rank, where failed runs come last: b is better but failed with 4 of its seeds"
    assert chosen(space, seven, costs) == ("a", told)
    one = space.model_copy(update={"finalists": spaces.Finalists(count=2, seeds=1)})
    single: Scores = {"a": {1: 1.0}, "b": {1: 2.0}}
    best, sentence = chosen(one, single, costs)
    assert best == "a" and "no verdict is possible" in sentence
    two = space.model_copy(update={"finalists": spaces.Finalists(count=2, seeds=2)})
    best, sentence = chosen(two, {"a": {1: 1.0, 2: 1.001}, "b": {1: 20.0, 2: 20.1}}, costs)
    assert best == "a" and "first of two seeds" in sentence and "best" not in sentence


def test_finalists_that_learned_nothing_have_no_best(file: Path) -> None:
    space = spaces.load(file).model_copy(update={"finalists": spaces.Finalists(count=2, seeds=3)})
    costs = {"a": 1.0, "b": 1.0}
    table: Scores = {"a": {1: 97.0, 2: 97.1, 3: 97.2}, "b": {1: 110.0, 2: 110.1, 3: 110.2}}
    best, sentence = chosen(space, table, costs)
    assert best == "a" and "none is the best, since nothing has been learned yet" in sentence
    learned: Scores = {**table, "a": {1: 7.0, 2: 7.1, 3: 7.2}}
    assert "is the best by frechet_garment_40_heldout" in chosen(space, learned, costs)[1]
