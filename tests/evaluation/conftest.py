"""Files and a run to evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluations import save

import modiste
from modiste import config
from modiste.config import Data, Recipe
from modiste.data import toy


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """60 drawn garments that are in no part of the closet: what a perfect generator would make."""
    images = toy.draw(60, 16, 60)
    return save(tmp_path / "fresh.npz", images.pixels, images.labels)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (60, 1, 16, 16), np.uint8)
    return save(tmp_path / "noise.npz", pixels, np.arange(60) % 10)


@pytest.fixture(scope="package")
def run(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional generator after 20 updates on the closet, with a best checkpoint."""
    recipe = Recipe(
        name="tiny",
        data=Data(name=str(closet), split="fit"),
        network=config.Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=config.Train(images=320, batch_size=16, tick_images=80, ema_halflife_images=100, precision="float32"),
        evaluate=config.Evaluate(every_images=160, count=40),
    )
    return modiste.train(recipe, tmp_path_factory.mktemp("runs") / "tiny").path
