"""Trainings from a set in memory, mapped from the cache and mapped from a file are equal bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import assert_same, content, set_up

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.data import stored, toy
from modiste.data.sets import open_data
from modiste.training import setup


def test_a_set_on_the_device_gives_the_batches_of_one_that_is_not(
    tiny: Recipe, closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU with room for it holds the whole set; here the processor stands in for one."""
    recipe = config.override(tiny, {"data.name": str(closet), "data.resize": None})
    (plain,) = set_up(recipe)[2](296)  # a batch across two epochs
    monkeypatch.setattr(setup, "_fits", lambda *_: True)
    (held,) = set_up(recipe)[2](296)
    assert plain.real.shape == (16, 1, 16, 16)
    for name, values in vars(plain).items():
        assert torch.equal(values, vars(held)[name]), name


def test_pictures_cache_and_arrays_train_alike(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    drawn = toy.draw(120, 16, 5)
    assert drawn.labels is not None
    for k, (image, label) in enumerate(zip(drawn.pixels[:, 0], drawn.labels, strict=True)):
        place = tmp_path / "pictures" / str(label) / f"{k:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    recipe = config.override(
        tiny, {"data.name": str(tmp_path / "pictures"), "data.resize": None, "data.count": None, "data.split": "fit"}
    )
    recipe = config.override(recipe, {"evaluate.every_images": 160, "evaluate.count": 20})
    in_memory = content(modiste.train(recipe, tmp_path / "memory"))
    images = open_data(recipe.data, part="train")  # in the order of the pictures
    assert images.source is None
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "images.npy", images.pixels.transpose(0, 2, 3, 1))
    np.save(tmp_path / "arrays" / "labels.npy", images.labels)
    monkeypatch.setattr(stored, "MAPPED_BYTES", 1)
    for name in ("pictures", "arrays"):
        mapped = config.override(recipe, {"data.name": str(tmp_path / name)})
        assert open_data(mapped.data).source is not None
        run = modiste.train(mapped, tmp_path / f"mapped-{name}")
        assert_same(content(run), in_memory)
        assert run.read_manifest().data.digest == runs.Run(tmp_path / "memory").read_manifest().data.digest
