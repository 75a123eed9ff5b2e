"""What the tests share: one thread, no network, and recipes small enough to train in a blink."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; also for the processes that tests start

import pytest
import torch

from modiste.config import Data, Evaluate, Loss, Network, Recipe, Train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Recipe:
    """A conditional DCGAN with batch norm and a moving average on 16-pixel toy garments: 20 updates."""
    return Recipe(
        name="tiny",
        data=Data(name="toy", count=64, resize=16),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=320, batch_size=16, tick_images=80, ema_halflife_images=100, precision="float32", threads=1),
        evaluate=Evaluate(every_images=0),
    )


@pytest.fixture
def tiny_free(tiny: Recipe) -> Recipe:
    """The same without batch norm, so that a batch may be split without changing the update."""
    network = tiny.network.model_copy(update={"generator_norm": "none", "discriminator_norm": "none"})
    return tiny.model_copy(update={"network": network, "loss": Loss(r1_gamma=0.1)})
