"""Pictures in the judge's features, and what is said beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modiste import config, runs
from modiste import files as safe_files
from modiste.config import Data
from modiste.data.sets import open_data
from modiste.reports import (
    galleries,
    inputs,
    judge_features,
)
from modiste.reports.blocks import Paragraph

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_images_that_were_trained_on_are_not_called_unseen(run: Path, closet: Path, tmp_path: Path) -> None:
    with np.load(closet) as whole:
        own = {key: whole[key] for key in whole.files if not key.startswith(("x_test", "y_test"))}
    recipe = runs.Run(run).read_recipe()
    np.savez(tmp_path / "own.npz", **own)
    changed = recipe.model_copy(update={"data": Data(name=str(tmp_path / "own.npz"))})
    safe_files.write_text(run / "recipe.toml", config.to_toml(changed))
    comparison = inputs.open_path(run)
    dataset = comparison.read_dataset()
    assert dataset is not None
    section = galleries.neighbour_section(comparison, judge_features.compute(comparison, dataset, print), print)
    assert section is not None
    said = " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))
    assert "it was trained on all" in said and "no training has seen" not in said


@pytest.mark.parametrize(("side", "names"), [(128, ("cat", "dog")), (16, tuple("abcdefghijkl")), (28, ())])
def test_the_data_set_is_described_by_its_facts(side: int, names: tuple[str, ...], tmp_path: Path) -> None:
    """Size and number of classes, without the list of names, whatever they are."""
    labels = np.arange(12) % len(names) if names else None
    arrays = {"images": np.random.default_rng(0).integers(0, 256, (12, side, side), np.uint8)}
    arrays |= {} if labels is None else {"labels": labels, "class_names": np.array(names)}
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    images = open_data(Data(name=str(tmp_path / "own.npz")), part="train")
    classes = f"{len(names)} classes" if names else "no labels"
    assert galleries._describe_size(images).endswith(f": {len(images)} images, {side} x {side} grey, {classes}")
