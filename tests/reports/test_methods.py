"""Methods: commands that repeat a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from modiste.reports import (
    inputs,
    methods,
)

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_the_command_of_an_evaluation_has_its_count(run: Path) -> None:
    assert f"modiste evaluate {run} --count 50" in methods.commands(inputs.open_path(run))
