"""Features of toy garments, and the libraries that compute the same scores."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from modiste.data import toy
from modiste.metrics import features
from modiste.networks.layers import ImageShape


@pytest.fixture(scope="module")
def garments() -> dict[str, np.ndarray]:
    """Features of toy garments, of others, and of the others with noise, by the network with random weights."""
    extractor = features.random_network(ImageShape(channels=1, size=28))
    real, fake = toy.draw(300), toy.draw(300, seed=1)
    noise = np.random.default_rng(0).normal(0, 20, fake.pixels.shape)
    spoilt = (fake.pixels + noise).clip(0, 255).astype(np.uint8)
    sets = {"real": real.pixels, "fake": fake.pixels, "spoilt": spoilt}
    return {name: extractor.examine(pixels).vectors for name, pixels in sets.items()}


@pytest.fixture(scope="module")
def rivals() -> Iterator[ModuleType]:
    """torchmetrics, torch-fidelity and prdc, as the benchmark imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield importlib.import_module("rivals")
