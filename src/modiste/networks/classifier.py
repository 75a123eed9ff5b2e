"""Image classifiers: the judges' residual and plain networks, and the small one of augmentation experiments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from modiste.networks.convolution import Conv2d

FEATURES = 128
SMALL_WIDTHS = (32, 64, FEATURES)

Kind = Literal["residual", "plain", "small"]


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected where the widths differ (He et al. 2016, equation 2)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(maps)))
        result: Tensor = F.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))
        return result


class Classifier(nn.Module):
    """Images [N, C, H, W] in [-1, 1] to features [N, 128] (after global average pooling) and logits [N, classes]."""

    def __init__(self, kind: Kind, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*TRUNKS[kind](channels))
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images).mean((2, 3))
        return features, self.head(features)


def _residual(channels: int) -> Iterator[nn.Module]:
    yield from (Conv2d(channels, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    yield from (Block(32, 56, 2), Block(56, 56, 1), Block(56, 56, 1), Block(56, FEATURES, 2))


def _plain(channels: int) -> Iterator[nn.Module]:
    widths = (channels, 48, 80, 80, 80, FEATURES, FEATURES)
    for k, (before, after) in enumerate(itertools.pairwise(widths)):
        side = 5 if k == 0 else 3
        yield from (Conv2d(before, after, side, 1, side // 2, bias=False), nn.BatchNorm2d(after), nn.SiLU())
        if k in (0, 3):
            yield nn.MaxPool2d(2)


def _small(channels: int) -> Iterator[nn.Module]:
    for k, (before, after) in enumerate(itertools.pairwise((channels, *SMALL_WIDTHS))):
        if k:
            yield nn.MaxPool2d(2)
        yield from (Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


TRUNKS = {"residual": _residual, "plain": _plain, "small": _small}
