"""Tables in a terminal: no line is too wide, and the names of the rows stay whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from modiste.cli.tables import layout

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
