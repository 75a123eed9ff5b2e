"""False verdicts where nothing differs: no more than promised, by simulated laws of noise, two humps among them."""

from __future__ import annotations

import importlib.util
import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from modiste.experiments import statistics

PLACE = Path(__file__).parents[2] / "benchmarks" / "false_verdicts.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("false_verdicts", PLACE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


null = loaded()


@pytest.mark.parametrize(("configurations", "seeds"), [(2, 3), (4, 3), (3, 5), (4, 10)])
def test_thousands_of_studies_at_once_are_judged_as_one(
    configurations: int, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation's arithmetic is that of `verdicts`, with and without differences."""
    monkeypatch.setattr(statistics, "seeds_needed", lambda *_, **__: None)
    both = set()
    for number, law in enumerate(null.LAWS):
        random = np.random.default_rng([number, configurations, seeds])
        values = law.draw(random, (16, configurations, seeds))
        if law.scale == "log":  # every other study has a difference that many see
            values[::2, 0] *= 20
        elif law.scale == "plain":
            values[::2, 0] += 4
        expected = [
            any(
                verdict.decided
                for verdict in statistics.verdicts(
                    {f"c{k}": dict(enumerate(runs.tolist())) for k, runs in enumerate(study)},
                    better="lower", scale=law.scale,
                )
            )
            for study in values
        ]  # fmt: skip
        assert null.has_verdict(values, law.scale).tolist() == expected, law.name
        both |= set(expected)
    assert both == {True, False}


def test_two_humps_would_break_the_promise_if_they_were_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    (law,) = [law for law in null.LAWS if law.name == "half of all runs collapse"]
    assert null.rate(law, 4, 3, 4000) < 0.02
    monkeypatch.setattr(statistics, "LEAP", (math.inf, math.inf))
    assert null.rate(law, 4, 3, 4000) > 0.13


@pytest.mark.slow
def test_false_verdicts_are_no_more_than_promised() -> None:
    studies = 20_000
    chance = 3 * math.sqrt(null.PROMISED * (1 - null.PROMISED) / studies)
    cells = list(itertools.product(null.CONFIGURATIONS, null.SEEDS))
    rates = {(law.name, law.scale, *cell): null.rate(law, *cell, studies) for law in null.LAWS for cell in cells}
    assert {name: rate for name, rate in rates.items() if rate > null.PROMISED + chance} == {}
    assert rates["half of all runs collapse", "log", 4, 3] < 0.02
    assert rates["normal", "plain", 4, 10] > 0.03  # and is not bought by never deciding


@pytest.mark.slow
def test_the_command_prints_the_table() -> None:
    command = [sys.executable, str(PLACE), "--studies", "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(null.LAWS) and "half of all runs collapse" in done.stdout
