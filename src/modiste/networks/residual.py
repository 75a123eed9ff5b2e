"""Residual networks: SNGAN (Miyato et al. 2018, table 4), and self-attention from SAGAN (Zhang et al. 2019).

A block adds two convolutions of normalised activations to a shortcut without any. Generator widths (256, 256, 256),
discriminator widths (128, 128, 128, 128), slope 0 and spectral norm are SNGAN's networks for CIFAR-10. Where a block
changes the number of channels, its first convolution does, as in BigGAN (Brock et al. 2019, appendix B).
"""

from __future__ import annotations

from torch import Tensor, nn

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.convolution import Conv2d, DoublingConv2d, HalvingConv2d
from modiste.networks.dcgan import side_after_halvings
from modiste.networks.layers import (
    ImageShape,
    SelfAttention,
    Stack,
    class_head,
    discriminator_activation,
    generator_norm,
    initialise,
    join_maps,
    join_vector,
    joined_to_image,
    joined_to_noise,
    normalise_spectrally,
    output_activation,
    pooled_logits,
    rectifier,
)

SMALLEST = 8  # pixels: the side below which no discriminator block goes


class Residual(nn.Module):
    """The sum of a branch, which may have conditional batch norms, and a shortcut."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> None:
        super().__init__()
        self.branch = Stack(*branch)
        self.shortcut = nn.Sequential(*shortcut) if shortcut else nn.Identity()

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        total: Tensor = self.branch(features, labels) + self.shortcut(features)
        return total


class Generator(nn.Module):
    """A dense layer to a map of the first width, one block per width that doubles its side, then the pixels.

    For projection the blocks have conditional batch norm, the pixels a common one (as in SNGAN and BigGAN). No biases
    in blocks with batch norm: every path from there to the pixels ends in one, which removes them again (except
    for their small effect on self-attention's weights).
    """

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.z_dim = network.z_dim
        self.joined = joined_to_noise(network, shape.classes)
        channels = network.generator_widths[0]
        start = side_after_halvings(shape.size, network.generator_widths, "generator_widths")
        self.dense = nn.Linear(self.z_dim + self.joined, channels * start * start)
        blocks: list[nn.Module] = [nn.Unflatten(1, (channels, start, start))]
        attended = attention_sides(network, shape.size)
        for width, side in zip(network.generator_widths, doubled_sides(network, shape.size), strict=True):
            blocks.append(up_block(network, channels, width, shape.classes))
            if side in attended:
                blocks.append(SelfAttention(width))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.pixels = nn.Sequential(
            *([nn.BatchNorm2d(channels)] if network.generator_norm == "batch" else []),
            rectifier(network.generator_slope),
            Conv2d(channels, shape.channels, 3, padding=1),
            output_activation(network),
        )
        initialise(self, network.init)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.dense(join_vector(noise, labels, self.joined))
        for block in self.blocks:
            features = block(features, labels) if isinstance(block, Residual) else block(features)
        images: Tensor = self.pixels(features)
        return images


class Discriminator(nn.Module):
    """One block per width, then the logit of the sum over positions.

    Blocks halve the side while it is even and above 8 pixels, the remaining ones leave it as it is. With four widths:
    32 -> 16 -> 8 -> 8 -> 8 (SNGAN's), 28 -> 14 -> 7 -> 7 -> 7, and 64 -> 32 -> 16 -> 8 -> 8. The first block begins
    with its convolution, the image being no activation. Batch norm, if any, is before all further activations.
    """

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.joined = joined_to_image(network, shape.classes)
        channels, side = shape.channels + self.joined, shape.size
        attended = attention_sides(network, shape.size)
        layers: list[nn.Module] = []
        for width, after in zip(network.discriminator_widths, halved_sides(network, shape.size), strict=True):
            block = down_block if layers else first_block
            layers.append(block(network, channels, width, halve=after < side))
            if after in attended:
                layers.append(SelfAttention(width))
                attended -= {after}  # once, where several blocks have this side
            channels, side = width, after
        self.layers = nn.Sequential(*layers, *discriminator_activation(network, channels))
        self.logit = nn.Linear(channels, 1)
        self.head = class_head(network, channels, shape.classes)
        initialise(self, network.init)
        if network.discriminator_norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(join_maps(images, labels, self.joined)).float()
        return self.head(pooled_logits(features, self.logit), features, labels)


def up_block(network: Network, channels: int, width: int, classes: int) -> Residual:
    """A generator's block, [N, channels, S, S] -> [N, width, 2 S, 2 S]."""
    bias = network.generator_norm == "none"
    return Residual(
        [
            *generator_norm(network, channels, classes),
            rectifier(network.generator_slope),
            DoublingConv2d(channels, width, bias=bias),
            *generator_norm(network, width, classes),
            rectifier(network.generator_slope),
            Conv2d(width, width, 3, padding=1, bias=bias),
        ],
        # A 1 x 1 convolution gives the same before repeated pixels as behind them, for a quarter of the work.
        [Conv2d(channels, width, 1, bias=bias), nn.Upsample(scale_factor=2)],
    )


def first_block(network: Network, channels: int, width: int, halve: bool) -> Residual:
    """The discriminator's block on images, without normalisation: [N, channels, S, S] -> [N, width, S / 2, S / 2]."""
    bias = network.discriminator_norm != "batch"
    return Residual(
        [
            Conv2d(channels, width, 3, padding=1),
            rectifier(network.leaky_slope),
            last_in_branch(width, bias, halve),
        ],
        [*mean_pooling(halve), Conv2d(channels, width, 1, bias=bias)],
    )


def down_block(network: Network, channels: int, width: int, halve: bool) -> Residual:
    """A further block of the discriminator; one that changes neither side nor channels has nothing on its shortcut."""
    bias = network.discriminator_norm != "batch"
    return Residual(
        [
            *discriminator_activation(network, channels, inplace=False),  # the shortcut needs the same input
            Conv2d(channels, width, 3, padding=1, bias=bias),
            *discriminator_activation(network, width),
            last_in_branch(width, bias, halve),
        ],
        # SNGAN takes the means behind the convolution: the same numbers for four times the work.
        [*mean_pooling(halve), Conv2d(channels, width, 1, bias=bias)] if halve or channels != width else [],
    )


def last_in_branch(width: int, bias: bool, halve: bool) -> nn.Module:
    """The second convolution of a discriminator's block, with means over 2 x 2 positions where it halves the side."""
    return HalvingConv2d(width, width, bias) if halve else Conv2d(width, width, 3, padding=1, bias=bias)


def mean_pooling(halve: bool) -> list[nn.Module]:
    """A shortcut's mean pooling over 2 x 2 positions, where the block halves the side."""
    return [nn.AvgPool2d(2)] if halve else []


def doubled_sides(network: Network, size: int) -> list[int]:
    """Sides in pixels of the generator's maps, one per block; the last is `size`."""
    return [size >> times for times in reversed(range(len(network.generator_widths)))]


def halved_sides(network: Network, size: int) -> list[int]:
    """Sides in pixels of the discriminator's maps, one per block."""
    sides = [size]
    for _ in network.discriminator_widths:
        halve = sides[-1] % 2 == 0 and sides[-1] > SMALLEST
        sides.append(sides[-1] // 2 if halve else sides[-1])
    return sides[1:]


def attention_sides(network: Network, size: int) -> set[int]:
    """The sides after which there is attention, or a UsageError if one of the networks has no block that ends there."""
    common = set(doubled_sides(network, size)) & set(halved_sides(network, size))
    for side in network.attention:
        if side not in common:
            choice = f"choose {' or '.join(map(str, sorted(common)))}, or " if common else ""
            raise UsageError(
                f"network.attention has the side {side}, and at {size} pixels no blocks of both generator and "
                f"discriminator end there; {choice}set network.attention = []"
            )
    return set(network.attention)
