"""DCGAN (Radford et al. 2016, section 3 and figure 1): stages of transposed and of strided convolutions.

Two families differ only in their stages. `dcgan` doubles and halves sides exactly: for 32 x 32 pixels
and widths (256, 128, 64) the generator goes 1 -> 4 -> 8 -> 16 -> 32, and the discriminator back; 28 x 28
takes two widths (first side 7). `conditional-dcgan` needs no such multiple: see its unpadded stages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.convolution import Conv2d, ConvTranspose2d
from modiste.networks.layers import (
    ImageShape,
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
    rectifier,
)


class Stage(NamedTuple):
    """One (transposed) convolution, followed by batch norm where `batch_norm` says so."""

    width: int
    kernel: int
    stride: int
    padding: int
    batch_norm: bool
    bias: bool


def generator_stages(network: Network, shape: ImageShape) -> list[Stage]:
    """A start x start map from the noise, then doubled by 4 x 4 kernels; no biases beside batch norm."""
    start = side_after_halvings(shape.size, network.generator_widths, "generator_widths")
    norm = network.generator_norm == "batch"
    first, *further = network.generator_widths
    return [
        Stage(first, start, 1, 0, norm, not norm),
        *(Stage(width, 4, 2, 1, norm, not norm) for width in further),
        Stage(shape.channels, 4, 2, 1, False, not norm),
    ]


def discriminator_stages(network: Network, shape: ImageShape) -> list[Stage]:
    """Halved by 4 x 4 kernels, then one kernel of the remaining side; no batch norm on the image's stage."""
    remaining = side_after_halvings(shape.size, network.discriminator_widths, "discriminator_widths")
    norm = network.discriminator_norm == "batch"
    first, *further = network.discriminator_widths
    return [
        Stage(first, 4, 2, 1, False, not norm),
        *(Stage(width, 4, 2, 1, norm, not norm) for width in further),
        Stage(1, remaining, 1, 0, False, not norm),
    ]


def unpadded_generator_stages(network: Network, shape: ImageShape) -> list[Stage]:
    """3 x 3 kernels, then one of 4 x 4, all at stride 2: sides 1 -> 3 -> 7 -> 15 -> 32 for three widths.

    The last stage's padding crops that to the image, by 2 pixels per side for 28 x 28.
    """
    widths, norm = network.generator_widths, network.generator_norm == "batch"
    side = 4 << len(widths)
    border, odd = divmod(side - shape.size, 2)
    if odd or not 0 <= border <= 3:
        raise UsageError(
            f"network.generator_widths has {len(widths)} widths, which give {side} pixels, and the image has "
            f"{shape.size}; set data.resize to {side} or {side - 4}, or change the number of widths"
        )
    return [
        *(Stage(width, 3, 2, 0, norm, not norm) for width in widths),
        Stage(shape.channels, 4, 2, border, False, True),
    ]


def unpadded_discriminator_stages(network: Network, shape: ImageShape) -> list[Stage]:
    """4 x 4 kernels, the first at stride 1, batch norm on all but the logit: 28 -> 25 -> 11 -> 4 -> 1."""
    norm = network.discriminator_norm == "batch"
    first, *further = network.discriminator_widths
    side = shape.size - 3
    for _ in (*further, 1):
        side = (side - 2) // 2
    if side != 1:
        raise UsageError(
            f"network.discriminator_widths has {len(further) + 1} widths, which do not bring {shape.size} "
            "pixels down to one logit; give 3 widths for 25 to 32 pixels, 4 for 49 to 64"
        )
    return [
        Stage(first, 4, 1, 0, norm, not norm),
        *(Stage(width, 4, 2, 0, norm, not norm) for width in further),
        Stage(1, 4, 2, 0, False, True),
    ]


STAGES = {
    "dcgan": (generator_stages, discriminator_stages),
    "conditional-dcgan": (unpadded_generator_stages, unpadded_discriminator_stages),
}


class Generator(nn.Module):
    """The stages as transposed convolutions with ReLU; the last one ends in tanh or sigmoid."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.z_dim = network.z_dim
        self.joined = joined_to_noise(network, shape.classes)
        *hidden, last = STAGES[network.family][0](network, shape)
        channels = self.z_dim + self.joined
        layers: list[nn.Module] = [nn.Unflatten(1, (channels, 1, 1))]
        for stage in hidden:
            layers.append(ConvTranspose2d(channels, *stage[:4], bias=stage.bias))
            layers += generator_norm(network, stage.width, shape.classes)
            layers.append(rectifier(network.generator_slope, inplace=True))
            channels = stage.width
        layers += [ConvTranspose2d(channels, *last[:4], bias=last.bias), output_activation(network)]
        self.layers = Stack(*layers)
        initialise(self, network.init)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(join_vector(noise, labels, self.joined), labels)
        return images


class Discriminator(nn.Module):
    """The stages as convolutions with leaky ReLU; the last one gives the logit."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.joined = joined_to_image(network, shape.classes)
        *hidden, last = STAGES[network.family][1](network, shape)
        channels = shape.channels + self.joined
        layers: list[nn.Module] = []
        for stage in hidden:
            layers.append(Conv2d(channels, *stage[:4], bias=stage.bias))
            layers += discriminator_activation(network, stage.width, norm=stage.batch_norm)
            channels = stage.width
        self.layers = nn.Sequential(*layers)
        self.logit = Conv2d(channels, *last[:4], bias=last.bias)
        self.head = class_head(network, channels, shape.classes)
        initialise(self, network.init)
        if network.discriminator_norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(join_maps(images, labels, self.joined))
        return self.head(self.logit(features).flatten(), features, labels)


def side_after_halvings(size: int, widths: tuple[int, ...], key: str, halvings: Callable[[int], int] = int) -> int:
    """The side in pixels after `halvings(number of widths)` halvings, by default one per width.

    UsageError where the size cannot be halved so often; it says which numbers of widths fit.
    """
    times = halvings(len(widths))
    multiple = 1 << times
    if size % multiple == 0:
        return size // multiple
    fitting = [count for count in range(1, 10) if size % 2 ** halvings(count) == 0]
    choice = f"give {' or '.join(map(str, fitting))} of them or " if fitting else ""
    raise UsageError(
        f"network.{key} has {len(widths)} widths, but {size} pixels cannot be halved {times} times; "
        f"{choice}set data.resize to a multiple of {multiple}"
    )
