"""Tables in a terminal: no line is too wide, and the names of the rows stay whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from modiste import runs
from modiste.cli import tables
from modiste.cli.tables import layout
from modiste.evaluation import records, score_tables

HEADS = ["configuration", "runs", "images", "frechet_garment_10k_test (lower)", "recall_k3_garment_10k_test (higher)",
         "what it says"]  # fmt: skip
NAMES = ["adaptive-count-2000", "a", "lr_generator-0.002-batch_size-64"]
BODY = [[name, "3/3", "301,653", "0.2338 ± 0.0087", "15.80 ± 0.42", "share of real images with one nearby"]
        for name in NAMES]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_names_and_numbers_stay_whole_in_every_part(width: int) -> None:
    lines = layout(HEADS, BODY, width)
    assert all(cell_len(line) <= width for line in lines)
    parts = "\n".join(lines).split("\n\n")
    for part in parts:
        assert [line.split("  ")[0] for line in part.splitlines() if line.split("  ")[0] in NAMES] == NAMES
    text = "\n".join(lines)
    for cell in BODY[0][1:5]:
        assert text.count(cell) == len(BODY)
    assert text.replace("\n", " ").count("share of real") == len(BODY)


def test_what_fits_is_one_table_as_it_comes() -> None:
    lines = ["name       value", "a            1.0", "long name     12"]
    assert layout(["name", "value"], [["a", "1.0"], ["long name", "12"]], 80) == lines
    assert len(layout(HEADS, BODY, None)) == 1 + len(BODY)


def test_a_first_column_without_room_is_broken_and_never_cut() -> None:
    name = "a_very_long_name_of_a_configuration_that_no_terminal_of_forty_signs_can_hold"
    lines = layout(["configuration", "value"], [[name, "0.2338 ± 0.0087"]], 40)
    assert all(len(line) <= 40 for line in lines)
    assert "".join(line[:23].strip() for line in lines[1:]) == name


def test_signs_of_two_places_count_twice() -> None:
    lines = layout(["class", "value"], [["外套外套外套", "1"], ["b", "2"]], 80)
    assert {cell_len(line) for line in lines} == {len("外套外套外套") * 2 + 2 + len("value")}


def test_no_rows_and_no_columns() -> None:
    assert layout(["name", "value"], [], 80) == ["name  value"]
    assert layout(["name"], [["a"]], 3) == ["nam", "e", "a"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output goes to a terminal of 80 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def shipped() -> records.Record:
    return records.read(runs.open_run("pretrained").path / "metrics.json")


@pytest.mark.usefixtures("terminal")
def test_scores_of_one_and_of_two_runs_are_one_table_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    record, heads = shipped(), score_tables.HEADS
    tables.print_table(*tables.score_titles(heads, score_tables.rows(record)), spare=heads[-1])
    alone = capsys.readouterr().out.splitlines()
    tables.print_table(*tables.score_titles(*score_tables.comparison([record, record])))
    beside = capsys.readouterr().out.splitlines()
    for lines in (alone, beside):
        assert "" not in lines and max(map(cell_len, lines)) <= 80
        text = "\n".join(lines)
        assert "Fréchet distance" in text and "label agreement" in text and "_" not in text
        for score in record.scores.values():
            assert records.with_uncertainty(score.value, score.uncertainty) in text
    assert alone[-1] == "(what it says: in a wider window, or with --markdown)"
    assert beside[-1] == tables.DIRECTIONS and "precision\u00a0↑" in "\n".join(beside)


def test_a_pipe_gets_full_names_and_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    record, heads = shipped(), score_tables.HEADS
    tables.print_table(*tables.score_titles(heads, score_tables.rows(record)), spare=heads[-1])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["score", *record.scores]
    assert lines[0].endswith("what it says")


def test_titles_are_of_scores_alone_and_never_the_same_twice() -> None:
    names = ["frechet_a_10k_test (lower)", "frechet_b_10k_test (lower)", "recall_k3_a_10k_test (higher)", "seconds"]
    assert tables.titles(names) == [*names[:2], "recall\u00a0↑", "seconds"]
    assert tables.titles(["two_sample_1nn_garment_test"]) == ["1-neighbour test"]
    heads, body = tables.score_titles(["class", "recall_k3"], [["kernel", "1"]])
    assert (heads, body) == (["class", "recall_k3"], [["kernel", "1"]])
