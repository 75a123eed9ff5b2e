"""The table of a study: its rows, its files, its summary per configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

import modiste
from modiste.experiments import results
from modiste.experiments.results import Status, StudyRow

COMMAND = [sys.executable, "-m", "modiste"]
QUIET = Console(quiet=True)
PATIENCE_SECONDS = 400  # for a machine that does other things


def row(configuration: str, seed: int, value: float | None, status: Status = "finished") -> StudyRow:
    score = "frechet_garment_10k_test" if status == "finished" else None
    return StudyRow(
        "some", configuration, seed, status=status, images=100, seconds=2.0, score=score, value=value, better="lower"
    )


def test_mean_and_deviation_over_seeds() -> None:
    rows = [row("a", 0, 1.0), row("a", 1, 2.0), row("a", 2, 3.0), row("b", 0, 5.0), row("b", 1, None, "failed")]
    heads, body = results.table([*rows, row("b", 2, None, "waiting")])
    assert heads[4:] == ["frechet_garment_10k_test (lower)"]
    assert body[0][1] == "3/3" and body[0][4] == "1.817 ± 1.0"  # the third root of 6, and 0.556 of it
    assert body[1][1] == "1/3, 1 failed" and body[1][4] == "5.000"
    assert results.notes(rows) == ["means over seeds ± deviation between seeds (frechet: geometric)"]
    assert results.notes([]) == []
    assert results.values(rows, "frechet_garment_10k_test") == {"a": {0: 1, 1: 2, 2: 3}, "b": {0: 5, 1: None}}


def test_the_table_opens_in_pandas(study_file: Path, here: list[str], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    out = modiste.study(study_file, tmp_path / "out", seeds=1, console=QUIET).path
    table = pandas.read_csv(out / "records.csv")
    assert len(table) == len(results.read(out)) and table["value"].dtype == float and table["seed"].dtype == int
    assert len(pandas.read_json(out / "records.jsonl", lines=True)) == len(table)


def test_a_table_of_the_last_version_has_todays_columns(tmp_path: Path) -> None:
    older = {"study": "s", "configuration": "a", "seed": 0, "status": "finished", "score": "frechet_a_10_test",
             "value": 2.0, "floor": 0.5, "ceiling": 90.0, "better": "lower"}  # fmt: skip
    (tmp_path / "records.jsonl").write_text(json.dumps(older) + "\n")
    (read,) = results.read(tmp_path)
    assert (read.score, read.value, read.real, read.trivial) == ("frechet_a_10_test", 2.0, 0.5, 90.0)
