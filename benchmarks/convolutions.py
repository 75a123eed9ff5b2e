"""What the shorter ways of doubling and halving convolutions save: one step's networks, in float32, in turns.

OMP_NUM_THREADS=1 python benchmarks/convolutions.py        # the table of docs/performance.md
"""

from __future__ import annotations

import time
from statistics import median
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from modiste import config
from modiste.networks import Shape, build_discriminator, build_generator, convolution

RECIPES = {"swift": 32, "hour": 32, "sngan": 16, "sagan": 16, "biggan-small": 8}
"""Recipe and images per turn."""
TURNS = 9


def main() -> None:
    """Print the ratio of times for each recipe whose networks have such layers."""
    table = Table("recipe", "plain / shorter", "min - max")
    for name, count in RECIPES.items():
        ratios = sorted(_ratios(name, count))
        table.add_row(name, f"{median(ratios):.2f}", f"{ratios[0]:.2f} - {ratios[-1]:.2f}")
    Console().print(table)


def _ratios(name: str, count: int) -> list[float]:
    recipe = config.load(name)
    shape = Shape(1, 28, 0 if recipe.network.conditioning == "none" else 10)
    networks = build_generator(recipe.network, shape), build_discriminator(recipe.network, shape)
    generator, discriminator = (network.to(memory_format=torch.channels_last) for network in networks)  # type: ignore[call-overload]
    labels = torch.arange(count) % 10 if shape.classes else None
    real, noise = torch.rand(count, 1, 28, 28), torch.randn(count, recipe.network.z_dim)
    ratios = []
    for turn in range(TURNS + 1):
        shorter = _seconds(generator, discriminator, real, noise, labels)
        with patch.object(convolution, "_in_float32", lambda maps: False):
            plain = _seconds(generator, discriminator, real, noise, labels)
        if turn:  # the first one allocates
            ratios.append(plain / shorter)
    return ratios


def _seconds(
    generator: nn.Module, discriminator: nn.Module, real: torch.Tensor, noise: torch.Tensor, labels: torch.Tensor | None
) -> float:
    """The arithmetic of both updates: fakes once, both images through the discriminator, the fakes once more."""
    start = time.perf_counter()
    fake = generator(noise, labels)
    (discriminator(real, labels) - discriminator(fake.detach(), labels)).sum().backward()
    discriminator.requires_grad_(False)
    discriminator(fake, labels).sum().backward()
    discriminator.requires_grad_(True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
