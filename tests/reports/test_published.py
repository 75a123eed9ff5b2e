"""The table that papers print, beside what the documents printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from modiste import config, runs
from modiste import files as safe_files
from modiste.evaluation import records
from modiste.reports import inputs, published
from modiste.reports.blocks import Section, Table
from modiste.schema import shipped

pytestmark = pytest.mark.usefixtures("closet_judge")


def table_of(section: Section | None) -> Table:
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table) and {len(row) for row in table.rows} == {len(table.heads)}
    return table


def test_a_run_has_the_row_of_a_paper(run: Path) -> None:
    (row,) = table_of(published.published_section(inputs.open_path(run))).rows
    facts = dict(zip(published.HEADS, row, strict=True))
    log, record = runs.Run(run).read_log(), records.read(run / "metrics.json")
    inception = record.first("inception_style")
    assert inception is not None and facts["configuration"] == "small"
    assert facts["G's loss at the end"] == f"{log[-1]['loss_g']:.2f}"
    assert facts["IS ± deviation"] == f"{records.format_number(inception.value)} ± {inception.details['sd']:.3g}"
    assert facts["G's highest loss"].startswith(f"{max(line['loss_g'] for line in log):.2f}, epoch")


def test_a_recipe_of_a_document_stands_above_what_was_printed_there(run: Path) -> None:
    changed = runs.Run(run).read_recipe().model_copy(update={"name": "diaz-c"})
    safe_files.write_text(run / "recipe.toml", config.to_toml(changed))
    table = table_of(published.published_section(inputs.open_path(run)))
    assert [row[0] for row in table.rows] == ["diaz-c", "diaz-c, as published"]
    printed = dict(zip(table.heads, table.rows[1], strict=True))
    assert (printed["FID"], printed["IS ± deviation"], printed["G's loss at the end"]) == (
        "0.013888", "3.543423 ± 0.216749", "4.0203")  # fmt: skip
    assert "never one of ours with one of theirs" in table.caption


def test_every_document_has_its_recipe() -> None:
    assert set(published.PUBLISHED) <= set(shipped())
