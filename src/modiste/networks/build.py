"""Generators and discriminators by the name of their family: one file per family holds both networks.

A family file has two classes, `Generator(network, shape)` and `Discriminator(network, shape)`:

    generator(noise [N, z_dim] float, labels [N] int64 or None) -> images [N, C, size, size] float in [-1, 1]
    discriminator(images, labels or None) -> logits [N], never probabilities; with an auxiliary classifier [N, 2],
        the second column being the log-probability that it gives to the image's label
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks import dcgan, dense_dcgan, norm_free, residual, slim
from modiste.networks.layers import ImageShape, normalise_spectrally

Constructor = Callable[[Network, ImageShape], nn.Module]

FAMILIES: dict[str, tuple[Constructor, Constructor]] = {
    "dcgan": (dcgan.Generator, dcgan.Discriminator),
    "conditional-dcgan": (dcgan.Generator, dcgan.Discriminator),
    "dense-dcgan": (dense_dcgan.Generator, dense_dcgan.Discriminator),
    "slim": (slim.Generator, slim.Discriminator),
    "residual": (residual.Generator, residual.Discriminator),
    "norm-free": (norm_free.Generator, norm_free.Discriminator),
}
"""Generator and discriminator by the value of network.family."""


def build_generator(network: Network, shape: ImageShape) -> nn.Module:
    """The generator of that family with fresh weights, in the default dtype and on the default device."""
    _check_settings(network, shape)
    generator = FAMILIES[network.family][0](network, shape)
    if network.generator_spectral:
        normalise_spectrally(generator)
    return generator


def build_discriminator(network: Network, shape: ImageShape) -> nn.Module:
    """The discriminator of that family with fresh weights, in the default dtype and on the default device."""
    _check_settings(network, shape)
    return FAMILIES[network.family][1](network, shape)


def _check_settings(network: Network, shape: ImageShape) -> None:
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
