"""Methods: commands that repeat a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modiste.config import Data, Network, Recipe, Train
from modiste.data import toy
from modiste.evaluation.evaluate import evaluate
from modiste.reports import inputs, methods, report
from modiste.training import trainer

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_without_a_judge_none_is_spoken_of(tmp_path: Path) -> None:
    images = toy.draw(300, 16, 3)
    labels = np.minimum(np.arange(300) // 99, 3)  # of the last class too few for a line of a report
    np.savez(tmp_path / "few.npz", images=images.pixels, labels=labels)
    recipe = Recipe(
        name="small",
        data=Data(name=str(tmp_path / "few.npz"), split="fit"),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=64, batch_size=16, tick_images=32, precision="float32", threads=1),
    )
    place = trainer.train(recipe, tmp_path / "run").path
    evaluate(place, count=50)
    page = report.report(place).html.read_text(encoding="utf-8")
    assert "the judge" not in page and "a network with random weights" in page
    assert " images of few heldout" in page


def test_the_command_of_an_evaluation_has_its_count(run: Path) -> None:
    assert f"modiste evaluate {run} --count 50" in methods.commands(inputs.open_path(run))
