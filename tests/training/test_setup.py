"""The folder of a training whose data moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import assert_same, content, set_up, weights

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.networks.layers import ImageShape
from modiste.sampling import generators
from modiste.training import setup
from modiste.training.distributed import ProcessGroup


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


def test_noise_and_data_are_functions_of_position(tiny: Recipe) -> None:
    _, _, batch_at = set_up(tiny)
    (late,) = batch_at(160)
    (first,) = batch_at(0)
    (again,) = batch_at(160)
    assert torch.equal(late.noise, again.noise) and torch.equal(late.real, again.real)
    assert not torch.equal(first.noise, late.noise)
    dataset = open_data(tiny.data)
    parts = []
    for rank in range(2):
        shape = setup.image_shape(tiny, dataset)
        (part,) = setup.batches(tiny, dataset, shape, ProcessGroup(rank, 2), "cpu")(160)
        parts.append(part)
    assert torch.equal(torch.cat([part.noise for part in parts]), late.noise)
    assert torch.equal(torch.cat([part.real for part in parts]), late.real)


def test_data_that_does_not_fit_is_one_sentence(tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.batch_size = 128 is larger than .* with 64 images; use --set"):
        modiste.train(tiny, tmp_path / "run", overrides={"train.batch_size": 128})
    np.savez(tmp_path / "wide.npz", images=np.zeros((64, 8, 16), np.uint8))
    wide = {"data.name": str(tmp_path / "wide.npz"), "data.resize": None, "network.conditioning": "none"}
    with pytest.raises(UsageError, match=r"16 x 8 pixels, not square; resize them .* `--resize SIDE` of train"):
        modiste.train(tiny, tmp_path / "run", overrides=wide)
    asked = {"data.name": unlabelled(tmp_path), "network.conditioning": "projection"}
    with pytest.raises(UsageError, match=r"'projection' needs labels, and this data set has none"):
        modiste.train(tiny, tmp_path / "run", overrides=asked)
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "same.npz", images=np.full((64, 16, 16), 7, np.uint8), labels=np.arange(64) % 2)
    with pytest.raises(
        UsageError, match=r"all 64 images of same train 16px-lanczos are the same; check how they were made"
    ):
        modiste.train(tiny, tmp_path / "run", overrides={"data.name": str(tmp_path / "same.npz"), "data.count": None})
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="cannot be split over 3 processes"):
        setup.check_fit(config.override(tiny, {"train.processes": 3}), open_data(tiny.data))
    with pytest.raises(UsageError, match=r"top_k_share = 0.5 chooses among the whole batch.* split into 2 parts"):
        parts = {"loss.top_k_share": 0.5, "train.accumulate": 2}
        setup.check_fit(config.override(tiny, parts), open_data(tiny.data))
    np.savez(tmp_path / "ten.npz", images=np.random.default_rng(0).integers(0, 256, (10, 16, 16), np.uint8))
    few = {"data.name": str(tmp_path / "ten.npz"), "data.split": "fit", "data.count": None, "train.batch_size": 4}
    few |= {"evaluate.every_images": 1, "network.conditioning": "none"}
    with pytest.raises(UsageError, match=r"holds one image, .* --set evaluate.every_images=0"):
        modiste.train(tiny, tmp_path / "few", overrides=few)
    assert not (tmp_path / "few").exists()


def test_a_recipe_with_classes_is_trained_without_them_on_images_without_labels(
    tiny: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = {"data.name": unlabelled(tmp_path), "train.images": 96}
    assert tiny.network.conditioning == "one-hot"
    run = modiste.train(tiny, tmp_path / "run", overrides=own)
    assert "has no labels; so tiny is trained without classes (network.conditioning = 'none')" in capfd.readouterr().err
    assert run.read_recipe().network.conditioning == "none" and run.read_manifest().data.classes == ()
    assert modiste.train(tiny, run.path, overrides=own).read_manifest().status == "finished"  # the same again
    longer = modiste.train(tiny, run.path, overrides={**own, "train.images": 160}, extend=True)
    assert longer.read_manifest().images == 160 and generators.load(run.path).shape.classes == 0
    grouped = {**own, "loss.group_clip": 1.0}
    with pytest.raises(UsageError, match=r"plain train .*has no labels: loss.group_clip needs classes"):
        modiste.train(tiny, tmp_path / "grouped", overrides=grouped)
    with np.load(own["data.name"]) as arrays:  # labels of which an earlier version took no notice
        np.savez(own["data.name"], images=arrays["images"], target=np.arange(64) % 2)
    assert (
        modiste.train(tiny, run.path, overrides={**own, "train.images": 192}, extend=True).read_manifest().images == 192
    )
    assert modiste.train(tiny, tmp_path / "other", overrides=own).read_manifest().data.classes == ("0", "1")


def unlabelled(folder: Path) -> str:
    np.savez(folder / "plain.npz", images=np.random.default_rng(0).integers(0, 256, (64, 16, 16), np.uint8))
    return str(folder / "plain.npz")


def test_networks_of_a_seed_are_always_the_same(tiny: Recipe) -> None:
    shape = ImageShape(1, 16, 10)
    one, other = setup.make_state(tiny, shape, "cpu"), setup.make_state(tiny, shape, "cpu")
    assert torch.equal(weights(one.generator), weights(other.generator))
    seeded = setup.make_state(config.override(tiny, {"seed": 1}), shape, "cpu")
    assert not torch.equal(weights(one.generator), weights(seeded.generator))


def test_names_of_known_sets_and_recipes_win_over_folders(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("toy", "photos"):
        (tmp_path / name).mkdir()
    assert setup.resolve_run(tiny, None, {})[0].data.name == "toy"
    assert setup.resolve_run(tiny, None, {"data.name": "photos"})[0].data.name == str(tmp_path / "photos")
    modiste.train(tiny, "diaz-a", overrides={"train.images": 16})
    assert setup.resolve_run("diaz-a", None, {})[1] == Path("runs/diaz-a")
    assert setup.resolve_run("./diaz-a", None, {})[0].name == "tiny"


def test_batch_norm_needs_two_images_at_a_time(tiny: Recipe, tiny_free: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gives batch norm one image at a time .* train.batch_size=32 or more"):
        modiste.train(tiny, tmp_path / "run", overrides={"train.accumulate": 16})
    assert not (tmp_path / "run").exists()
    modiste.train(tiny_free, tmp_path / "run", overrides={"train.batch_size": 1, "train.images": 2})
