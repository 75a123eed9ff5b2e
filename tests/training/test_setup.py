"""The folder of a training whose data moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support import assert_same, content

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError


@pytest.fixture
def recipe(tiny: Recipe, closet: Path, tmp_path: Path) -> Recipe:
    place = tmp_path / "here" / "closet.npz"
    place.parent.mkdir()
    shutil.copy(closet, place)
    return config.override(tiny, {"data.name": str(place), "data.resize": None})


@pytest.fixture
def moved(recipe: Recipe) -> Path:
    """Where the data of the recipe will be after `move`."""
    return Path(recipe.data.name).parent.with_name("there") / "wardrobe.npz"


def test_a_run_goes_on_with_data_that_moved(
    recipe: Recipe, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = content(modiste.train(recipe, tmp_path / "whole"))
    run = modiste.train(config.override(recipe, {"train.images": 160}), tmp_path / "run")
    moved.parent.mkdir()
    Path(recipe.data.name).rename(moved)
    with pytest.raises(ModisteError, match=rf"{recipe.data.name} does not exist.*--data"):
        modiste.train(run.path, overrides={"train.images": 320}, extend=True)
    now = {"data.name": str(moved)}
    assert_same(content(modiste.train(run.path, overrides={**now, "train.images": 320}, extend=True)), whole)
    assert run.read_recipe().data.name == str(moved) and run.read_manifest().recipe_hash == config.content_hash(
        run.read_recipe()
    )
    assert f"are in {moved} now" in " ".join(capsys.readouterr().err.split())


def test_a_finished_run_learns_where_its_data_are(recipe: Recipe, moved: Path, tmp_path: Path) -> None:
    run = modiste.train(recipe, tmp_path / "run")
    before = content(run)
    moved.parent.mkdir()
    Path(recipe.data.name).rename(moved)
    modiste.train(run.path, overrides={"data.name": str(moved)})
    assert runs.Run(run.path).read_recipe().data.name == str(moved)
    assert_same(content(run), before)


@pytest.mark.parametrize("what", ["pixels", "labels", "class_names"])
def test_other_data_are_refused(what: str, recipe: Recipe, moved: Path, tmp_path: Path) -> None:
    run = modiste.train(config.override(recipe, {"train.images": 80}), tmp_path / "run")
    with np.load(recipe.data.name) as arrays:
        other = dict(arrays)
    other["class_names"] = other["class_names"][::-1] if what == "class_names" else other["class_names"]
    other["labels"] = other["labels"][::-1] if what == "labels" else other["labels"]
    other["images"] = 255 - other["images"] if what == "pixels" else other["images"]
    moved.parent.mkdir()
    np.savez(moved, **other)
    before = content(run)
    with pytest.raises(UsageError, match=r"data.name: .* -> "):
        modiste.train(run.path, overrides={"data.name": str(moved)}, extend=True)
    assert_same(content(run), before)
    assert run.read_recipe().data.name == recipe.data.name
