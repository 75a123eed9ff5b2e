"""Residual networks without normalisation, after R3GAN (Huang et al. 2024, section 3), for 28 to 64 pixels.

Both networks use one kind of block, and each is the mirror image of the other: the generator scales a learned basis of
maps by a linear function of the noise, then blocks and doublings alternate up to the image; the discriminator goes the
other way, weights the last maps with a basis of its own and sums them. For 28 x 28 pixels and three widths the sides
are 7, 14, 28. The last activation (tanh or sigmoid) is not R3GAN's, whose images are not bounded.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.convolution import Conv2d
from modiste.networks.layers import (
    ImageShape,
    Resample,
    SpectralNorm,
    class_head,
    join_maps,
    join_scaled,
    joined_to_image,
    normalise_spectrally,
    output_activation,
    pooled_logits,
    rectifier,
)

EXPANSION = 2  # a block's inner channels per outer one
LARGEST_GROUP = 16  # channels that its 3 x 3 convolution mixes
Layer = TypeVar("Layer", bound="nn.Conv2d | nn.Linear")


class Block(nn.Module):
    """The input plus 1 x 1, grouped 3 x 3 and 1 x 1 convolutions of it, in EXPANSION times as many channels.

    Initial weights follow Fixup (Zhang et al. 2019, section 3): the last convolution is zero, so that the block starts
    as the identity; the other two are He's, times L^(-1/(2m - 2)) for `blocks` = L blocks of m = 3 convolutions, so
    that all blocks together change the variance by a factor that does not grow with their number. Where `spectral`
    norm is to be put on them, the last one is He's too, since a matrix of zeros has no norm to divide by.

    Groups of 16 channels have an eighth of the weights of a full convolution of 128. On a processor they halve the time
    of gradient penalties, which are float32, and save little or nothing in bfloat16, whose kernels are made for full
    convolutions.
    """

    def __init__(self, width: int, slope: float, blocks: int, spectral: bool = False) -> None:
        super().__init__()
        inner = EXPANSION * width
        group = max(size for size in range(1, LARGEST_GROUP + 1) if inner % size == 0)
        gain = nn.init.calculate_gain("leaky_relu", slope) * blocks**-0.25
        self.expand = with_he_weights(Conv2d(width, inner, 1), gain)
        self.mix = with_he_weights(Conv2d(inner, inner, 3, padding=1, groups=inner // group), gain)
        self.contract = with_he_weights(Conv2d(inner, width, 1, bias=False), 1 if spectral else 0)
        self.rectify = rectifier(slope)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.rectify(self.mix(self.rectify(self.expand(maps))))
        total: Tensor = maps + self.contract(inner)
        return total


class Basis(nn.Module):
    """One learned map per channel: a pattern for scales [N, C, 1, 1], weights of positions for maps [N, C, H, W]."""

    def __init__(self, width: int, side: int, deviation: float) -> None:
        super().__init__()
        self.maps = nn.Parameter(deviation * torch.randn(width, side, side))

    def forward(self, input: Tensor) -> Tensor:
        return input * self.maps


class Generator(nn.Module):
    """A basis scaled by noise and class, a block for each width, twice the side between them, then the pixels."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        refuse_unused_keys(network)
        self.z_dim = network.z_dim
        self.classes = 0 if network.conditioning == "none" else shape.classes
        widths, slope, spectral = network.generator_widths, network.generator_slope, network.generator_spectral
        side = smallest_side(shape.size, widths, "generator_widths")
        self.scales = with_he_weights(nn.Linear(network.z_dim + self.classes, widths[0], bias=False))
        self.basis = Basis(widths[0], side, deviation=1)
        layers: list[nn.Module] = [Block(widths[0], slope, len(widths), spectral)]
        for width, following in pairwise(widths):
            layers += [*width_change(width, following), Resample(side, up=True)]
            layers.append(Block(following, slope, len(widths), spectral))
            side *= 2
        pixels = with_he_weights(Conv2d(widths[-1], shape.channels, 1))
        self.layers = nn.Sequential(*layers, pixels, output_activation(network))

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        scales = self.scales(join_scaled(noise, labels, self.classes))
        images: Tensor = self.layers(self.basis(scales[:, :, None, None]))
        return images


class Discriminator(nn.Module):
    """A 1 x 1 convolution, a block for each width, half the side between them, weighted sums, then the logit.

    The logit has no bias, since a loss of the difference of real and generated logits does not depend on it.
    """

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        refuse_unused_keys(network)
        widths, slope = network.discriminator_widths, network.leaky_slope
        spectral = network.discriminator_norm == "spectral"
        smallest_side(shape.size, widths, "discriminator_widths")
        self.joined = joined_to_image(network, shape.classes)
        side = shape.size
        layers: list[nn.Module] = [with_he_weights(Conv2d(shape.channels + self.joined, widths[0], 1, bias=False))]
        layers.append(Block(widths[0], slope, len(widths), spectral))
        for width, following in pairwise(widths):
            side //= 2
            layers += [Resample(side, up=False), *width_change(width, following)]
            layers.append(Block(following, slope, len(widths), spectral))
        self.layers = nn.Sequential(*layers)
        self.basis = Basis(widths[-1], side, deviation=1 / side)
        self.logit = with_he_weights(nn.Linear(widths[-1], 1, bias=False))
        self.head = class_head(network, widths[-1], shape.classes)
        if spectral:
            normalise_spectrally(self)
            register_parametrization(self.basis, "maps", SpectralNorm(self.basis.maps))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        maps = self.layers(join_maps(images, labels, self.joined)).float()
        features = self.basis(maps).sum((2, 3), keepdim=True)
        return self.head(pooled_logits(features, self.logit), features, labels)


def with_he_weights(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights of deviation gain / sqrt(inputs) and zero biases (He et al. 2015, eq. 10)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def width_change(width: int, following: int) -> list[nn.Module]:
    """No layer, or a 1 x 1 convolution where the number of channels changes."""
    return [] if width == following else [with_he_weights(Conv2d(width, following, 1, bias=False))]


def smallest_side(size: int, widths: tuple[int, ...], key: str) -> int:
    """The smallest maps' side in pixels, one halving between two widths, or a UsageError that says how many fit."""
    halvings = len(widths) - 1
    multiple = 1 << halvings
    if size % multiple == 0:
        return size // multiple
    fitting = (size & -size).bit_length()
    raise UsageError(
        f"network.{key} has {len(widths)} widths, but {size} pixels cannot be halved {halvings} times between them; "
        f"give {fitting} {'width' if fitting == 1 else 'widths or fewer'}, or set data.resize to a multiple of "
        f"{multiple}"
    )


def refuse_unused_keys(network: Network) -> None:
    """UsageError for a setting that means nothing in this family."""
    for key, allowed, reason in (
        ("generator_norm", ("none",), "which has no normalisation"),
        ("discriminator_norm", ("none", "spectral"), "which has no normalisation of activations"),
        ("init", ("torch",), "which has initial weights of its own"),
        ("dropout", (0.0,), "which has no dropout"),
    ):
        value = getattr(network, key)
        if value not in allowed:
            raise UsageError(
                f"network.{key} = {value!r} has no meaning in the norm-free family, {reason}; "
                f"set it to {' or '.join(map(repr, allowed))}"
            )
