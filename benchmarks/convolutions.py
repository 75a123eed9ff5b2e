"""What the shorter ways through layers save: one step's arithmetic, in turns with the plain ways.

python benchmarks/convolutions.py        # the tables of docs/performance.md
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line does; before torch is imported

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from modiste import config
from modiste.networks import convolution, double_backward
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.dropout import Dropout
from modiste.networks.layers import ImageShape
from modiste.training import penalties

WAYS: dict[str, tuple[Callable[[], Any], str, dict[str, int]]] = {
    "doubling and halving": (
        lambda: patch.object(convolution, "_in_float32", lambda maps: False),
        "float32",
        {"swift": 32, "hour": 32, "sngan": 16, "sagan": 16, "biggan-small": 8},
    ),
    "gradient penalties": (
        lambda: patch.object(double_backward, "is_active", lambda: False),
        "float32",
        {"wgan-gp": 64, "dragan": 64, "r3gan-small": 16},
    ),
    "maps from and to images": (
        lambda: patch.object(convolution, "_takes_shorter_way", lambda *_: False),
        "float32",
        {"noronha": 128, "diaz-a": 128, "dense-sigmoid": 24, "bare-naich": 128},
    ),
    "parts of the batch": (
        lambda: patch.object(convolution, "LEAST_PART", 1 << 30),
        "bfloat16",
        {"swift": 32, "hour": 64, "noronha": 128, "diaz-a": 128},
    ),
    "dropout": (lambda: patch.object(Dropout, "forward", nn.Dropout.forward), "float32", {"noronha": 128}),
}
"""What the plain way is, the precision, and the recipes that have a shorter way with images per turn."""
TURNS = 9


def main() -> None:
    """Print the ratio of times for each recipe that has such layers."""
    table = Table("shorter way", "precision", "recipe", "plain / shorter", "min - max")
    for way, (plainly, precision, recipes) in WAYS.items():
        for name, count in recipes.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                ratios = sorted(_ratios(name, count, plainly))
            table.add_row(way, precision, name, f"{median(ratios):.2f}", f"{ratios[0]:.2f} - {ratios[-1]:.2f}")
    Console().print(table)


def _ratios(name: str, count: int, plainly: Callable[[], Any]) -> list[float]:
    recipe = config.load(name)
    shape = ImageShape(1, recipe.data.resize or 28, 0 if recipe.network.conditioning == "none" else 10)
    networks = build_generator(recipe.network, shape), build_discriminator(recipe.network, shape)
    generator, discriminator = (network.to(memory_format=torch.channels_last) for network in networks)  # type: ignore[call-overload]
    labels = torch.arange(count) % 10 if shape.classes else None
    real, noise = torch.rand(count, 1, shape.size, shape.size), torch.randn(count, recipe.network.z_dim)
    penalty = penalties.make_penalty(recipe.loss, discriminator, lambda images: images, count)
    ratios = []
    for turn in range(TURNS + 1):
        shorter = _seconds(generator, discriminator, penalty, real, noise, labels)
        with plainly():
            plain = _seconds(generator, discriminator, penalty, real, noise, labels)
        if turn:  # the first one allocates
            ratios.append(plain / shorter)
    return ratios


def _seconds(
    generator: nn.Module,
    discriminator: nn.Module,
    penalty: penalties.Penalty,
    real: Tensor,
    noise: Tensor,
    labels: Tensor | None,
) -> float:
    """The arithmetic of both updates: fakes once, both images through the discriminator, the fakes once more."""
    start = time.perf_counter()
    fake = generator(noise, labels)
    on_real, on_fake = discriminator(real, labels), discriminator(fake.detach(), labels)
    paid = penalty(real, fake.detach(), labels, on_real, on_fake, 0)
    (on_real - on_fake + paid).sum().backward()
    discriminator.requires_grad_(False)
    discriminator(fake, labels).sum().backward()
    discriminator.requires_grad_(True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
