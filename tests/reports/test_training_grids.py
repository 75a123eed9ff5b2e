"""Grids through training: which ones a report shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from modiste import runs
from modiste.reports import (
    training_grids,
)

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_stages_are_the_first_tick_the_middle_and_the_end_and_never_one_picture_twice(run: Path) -> None:
    opened = runs.Run(run)

    def shown() -> dict[str, int]:
        return {stage: int(grid.stem) for stage, grid in training_grids.stages(opened).items()}

    assert shown() == {"start": 80, "middle": 160, "end": 320}
    content = opened.list_grids()[1].read_bytes()
    opened.list_grids()[2].unlink()
    opened.list_grids()[2].unlink()
    assert shown() == {"start": 80, "end": 320}
    opened.list_grids()[1].unlink()
    assert shown() == {"start": 0, "end": 320}
    opened.list_grids()[0].write_bytes(opened.list_grids()[1].read_bytes())  # a generator that did not change
    assert shown() == {"start": 0}
    opened.list_grids()[0].unlink()
    assert shown() == {"end": 320}
    opened.list_grids()[0].rename(run / "samples" / "000000000.png")
    opened.list_grids()[0].write_bytes(content)
    assert shown() == {"start": 0}
