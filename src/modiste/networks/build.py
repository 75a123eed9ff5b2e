"""Generators and discriminators: one file per family, both networks together, read from top to bottom.

A family file has two classes, `Generator(network, shape)` and `Discriminator(network, shape)`:

    generator(noise [N, z_dim] float, labels [N] int64 or None) -> images [N, C, size, size] float in [-1, 1]
    discriminator(images, labels or None) -> logits [N], never probabilities; with an auxiliary classifier [N, 2],
        the second column being the log-probability that it gives to the image's label
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from torch import nn

from modiste.config import Network
from modiste.errors import UsageError

FAMILIES = {
    "dcgan": "modiste.networks.dcgan",
    "conditional-dcgan": "modiste.networks.dcgan",
    "dense-dcgan": "modiste.networks.dense_dcgan",
    "slim": "modiste.networks.slim",
    "residual": "modiste.networks.residual",
    "norm-free": "modiste.networks.norm_free",
}


@dataclass(frozen=True)
class Shape:
    """What a network must know of the data: channels, side in pixels, number of classes (0 = no labels)."""

    channels: int
    size: int
    classes: int = 0


def build_generator(network: Network, shape: Shape) -> nn.Module:
    """The generator of that family with fresh weights, in the default dtype and on the default device."""
    _check_conditioning(network, shape)
    generator: nn.Module = import_module(FAMILIES[network.family]).Generator(network, shape)
    if network.generator_spectral:
        import_module("modiste.networks.layers").normalise_spectrally(generator)
    return generator


def build_discriminator(network: Network, shape: Shape) -> nn.Module:
    """The discriminator of that family with fresh weights, in the default dtype and on the default device."""
    _check_conditioning(network, shape)
    discriminator: nn.Module = import_module(FAMILIES[network.family]).Discriminator(network, shape)
    return discriminator


def _check_conditioning(network: Network, shape: Shape) -> None:
    if network.attention and network.family != "residual":
        raise UsageError(
            f"network.attention has a meaning in the residual family only, and network.family is {network.family!r}; "
            "set network.family = 'residual' or network.attention = []"
        )
    for key in ("class_noise", "class_gains"):
        if getattr(network, key) and network.family != "slim":
            raise UsageError(
                f"network.{key} has a meaning in the slim family only, and network.family is {network.family!r}; "
                f"set network.{key} = false"
            )
    if network.class_gains and network.generator_norm == "none":
        raise UsageError(
            "network.class_gains are those of a batch norm, and network.generator_norm is 'none'; "
            "set network.class_gains = false or network.generator_norm = 'batch'"
        )
    if network.conditioning != "none" and shape.classes == 0:
        raise UsageError(
            f"network.conditioning = {network.conditioning!r} needs labels, and this data set has none; "
            "use --set network.conditioning=none, or give the images labels (one folder per class)"
        )
