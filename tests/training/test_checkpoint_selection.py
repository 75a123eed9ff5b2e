"""Checkpoint selection: when it is due, which checkpoint is best, and that a better generator gets a lower score."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modiste import config
from modiste.config import Recipe
from modiste.data import toy
from modiste.data.images import to_unit
from modiste.networks.layers import ImageShape
from modiste.runs import BestCheckpoint
from modiste.training import checkpoint_selection
from modiste.training.checkpoint_selection import Selector, spreads, variety


class FixedImages(nn.Module):
    """A generator that returns given images in turn and records its noise and labels."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))
        self.images = to_unit(torch.from_numpy(pixels))
        self.shown, self.noise, self.labels = 0, torch.empty(0), torch.empty(0)

    def forward(self, noise: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        chosen = torch.arange(self.shown, self.shown + len(noise)) % len(self.images)
        self.shown += len(noise)
        self.noise = torch.cat([self.noise, noise])
        if labels is not None:
            self.labels = torch.cat([self.labels, labels])
        return self.images[chosen]


@pytest.fixture
def recipe(tiny: Recipe, closet: Path) -> Recipe:
    settings = {"data.name": str(closet), "data.count": None, "data.resize": None}
    return config.override(tiny, {**settings, "evaluate.every_images": 100, "evaluate.count": 60})


def noise(count: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [(0, 99, False), (0, 100, True), (80, 160, True), (100, 199, False), (199, 450, True), (200, 200, False)],
)
def test_it_is_due_where_a_multiple_was_passed(before: int, now: int, due: bool) -> None:
    assert Selector("any", 100, lambda _: {"any": 0.0}).due(before, now) is due


def test_the_best_is_the_least_and_the_first_among_equals() -> None:
    name = "frechet_garment_2k_heldout"
    log = [{"images": images, "loss_g": -9.0} for images in (10, 20, 30, 40, 50)]
    assert checkpoint_selection.best(log) is None and checkpoint_selection.best([]) is None
    for record, value in zip(log[1:], (5.0, 3.0, 3.0, 4.0), strict=True):
        record[name] = value
    least = BestCheckpoint(30, name, 3.0)
    assert checkpoint_selection.best(log) == least
    assert checkpoint_selection.best([*log, {"images": 55, name: math.nan}]) == least
    other = {"images": 60, "frechet_mine_2k_heldout": 8.0}  # after a judge was trained: another measure
    assert checkpoint_selection.best([*log, other]) == BestCheckpoint(60, "frechet_mine_2k_heldout", 8.0)


def test_a_recipe_may_have_no_selection(recipe: Recipe) -> None:
    assert (
        checkpoint_selection.make_selector(config.override(recipe, {"evaluate.every_images": 0}), ImageShape(1, 16, 10))
        is None
    )


def test_the_score_falls_as_images_get_better(recipe: Recipe, closet_judge: Path) -> None:
    selector = checkpoint_selection.make_selector(recipe, ImageShape(1, 16, 10))
    assert selector is not None and selector.name == "frechet_closet_60_heldout" and selector.every_images == 100
    real = toy.draw(200, 16, 99).pixels
    half = np.where(np.arange(200)[:, None, None, None] % 2 == 0, real, noise())
    values = [selector.score(FixedImages(pixels))[selector.name] for pixels in (real, half, noise())]
    assert 0 <= values[0] < values[1] < values[2]
    assert selector.score(FixedImages(real))[selector.name] == values[0]


def test_the_network_decides_where_there_is_no_judge(tiny: Recipe, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=toy.draw(100, 16, 5).pixels)
    bare = config.override(tiny, {"data.name": str(tmp_path / "bare.npz"), "data.count": None, "data.resize": None})
    bare = config.override(bare, {"evaluate.every_images": 100, "evaluate.count": 1000, "network.conditioning": "none"})
    selector = checkpoint_selection.make_selector(bare, ImageShape(1, 16))
    assert selector is not None and selector.name == "frechet_random_1k_heldout"
    generator = FixedImages(toy.draw(200, 16, 99).pixels)
    found = [selector.score(one)[selector.name] for one in (generator, FixedImages(noise()))]
    assert found[0] < found[1] and not len(generator.labels)


def test_generated_images_of_another_size_are_fitted(recipe: Recipe, closet_judge: Path) -> None:
    small = checkpoint_selection.make_selector(config.override(recipe, {"data.resize": 8}), ImageShape(1, 8, 10))
    assert small is not None
    found = [
        small.score(FixedImages(pixels))[small.name] for pixels in (toy.draw(60, 8, 99).pixels, noise()[:, :, :8, :8])
    ]
    assert found[0] < found[1]


def test_classes_come_as_often_as_among_the_held_out_images(recipe: Recipe, tmp_path: Path) -> None:
    drawn = toy.draw(400, 16, 5)
    few = drawn.select(np.flatnonzero((drawn.labels < 2) & ((drawn.labels == 0) | (np.arange(400) < 80))))
    assert np.bincount(few.labels).tolist() == [40, 8]
    np.savez(tmp_path / "uneven.npz", images=few.pixels, labels=few.labels)
    uneven = config.override(recipe, {"data.name": str(tmp_path / "uneven.npz")})
    seen = {}
    for heldout in ("drawn", "last"):
        selector = checkpoint_selection.make_selector(
            config.override(uneven, {"data.heldout": heldout}), ImageShape(1, 16, 2)
        )
        assert selector is not None
        generator = FixedImages(noise())
        selector.score(generator)
        seen[heldout] = np.bincount(generator.labels[:60].long()).tolist()
    assert seen == {"drawn": [48, 12], "last": [30, 30]}  # of 4 and 1 held out; older runs go on in turn


def test_its_noise_is_its_own_and_classes_take_turns(recipe: Recipe) -> None:
    selector = checkpoint_selection.make_selector(recipe, ImageShape(1, 16, 10))
    assert selector is not None
    generator = FixedImages(noise())
    selector.score(generator)
    expected = checkpoint_selection.generators.seed_noise(
        range(checkpoint_selection.FIRST_SEED, checkpoint_selection.FIRST_SEED + 60), 8
    )
    assert torch.equal(generator.noise[:60], expected)
    assert generator.labels[:60].tolist() == [k % 10 for k in range(60)]
    evaluated = checkpoint_selection.generators.seed_noise(
        range(60), 8
    )  # what `modiste evaluate --count 60` starts from
    assert not any(torch.equal(one, other) for one in expected for other in evaluated)


def test_variety_is_that_of_the_class_with_the_least() -> None:
    draw = np.random.default_rng(0).standard_normal
    real = spreads(draw((300, 8)), np.arange(300) % 3, 4)
    assert real[:3] == pytest.approx(8, rel=0.15) and np.isnan(real[3])  # dimensions of variance 1; no image
    vectors, labels = draw((300, 8)), np.arange(300) % 3
    vectors[labels == 1] = 5 + 0.5 * vectors[labels == 1]
    found = variety(spreads(vectors, labels, 4), real)
    assert found["variety_class"] == 1 and found["variety"] == pytest.approx(0.25, rel=0.2)
    assert variety(spreads(vectors[:30], labels[:30], 4), real) == {}
    assert list(variety(spreads(vectors, None, 0), spreads(vectors, None, 0)).items()) == [("variety", 1.0)]
