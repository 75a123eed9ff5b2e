"""A generator so simple that it runs in microseconds, and whose noise can be found again exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator


class Painter(nn.Module):
    """A picture is a sum of eight patterns, as strong as the noise says, and one pattern for its class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.z_dim = 8
        random = torch.Generator().manual_seed(3)
        self.patterns = nn.Parameter(torch.randn(8, 256, generator=random) / 6)
        self.of_class = nn.Parameter(torch.randn(max(1, classes), 256, generator=random) / 2)

    def forward(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        base = self.of_class[0] if labels is None else self.of_class[labels]
        return torch.tanh(noise @ self.patterns + base).view(-1, 1, 16, 16)


@pytest.fixture(scope="session")
def painter() -> TrainedGenerator:
    """Three classes, images of 16 pixels."""
    return TrainedGenerator(Painter(3).eval(), ImageShape(1, 16, 3), ("a", "b", "c"), "painter")


@pytest.fixture(scope="session")
def classless() -> TrainedGenerator:
    """The same without classes."""
    return TrainedGenerator(Painter(0).eval(), ImageShape(1, 16, 0), (), "classless painter")
