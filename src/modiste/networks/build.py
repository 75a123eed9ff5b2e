"""Generators and discriminators by the name of their family: one file per family holds both networks.

A user's own pair of networks (`parts`) has the same two names, as attributes of the object that network.family names.

A family file has two classes, `Generator(network, shape)` and `Discriminator(network, shape)`:

    generator(noise [N, z_dim] float, labels [N] int64 or None) -> images [N, C, size, size] float in [-1, 1];
        the families here also take weights of the classes [N, classes] float for labels, and mix them
    discriminator(images, labels or None) -> logits [N], never probabilities; with an auxiliary classifier [N, 2],
        the second column being the log-probability that it gives to the image's label
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from modiste import parts
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
    generator = constructors(network.family)[0](network, shape)
    if network.generator_spectral:
        normalise_spectrally(generator)
    return generator


def build_discriminator(network: Network, shape: ImageShape) -> nn.Module:
    """The discriminator of that family with fresh weights, in the default dtype and on the default device."""
    _check_settings(network, shape)
    return constructors(network.family)[1](network, shape)


def constructors(family: str) -> tuple[Constructor, Constructor]:
    """What makes the generator and the discriminator of that family, which may be the user's own."""
    if not parts.parse(family):
        return FAMILIES[family]
    pair, shown = parts.load(family), parts.short(family)
    for name in ("Generator", "Discriminator"):
        if not callable(getattr(pair, name, None)):
            raise UsageError(f"{shown} has no {name}(network, shape); a pair of networks needs both, so define it")

    def generator(network: Network, shape: ImageShape) -> nn.Module:
        made = _module_of(shown, pair.Generator, network, shape)
        made.z_dim = network.z_dim  # type: ignore[assignment]
        return made

    return generator, lambda network, shape: _module_of(shown, pair.Discriminator, network, shape)


def _module_of(shown: str, constructor: Constructor, network: Network, shape: ImageShape) -> nn.Module:
    """A module of the user's own; UsageError for any other thing."""
    with parts.errors_named(f"{shown}, called with (network, shape),"):
        made = constructor(network, shape)
    if not isinstance(made, nn.Module) or not any(True for _ in made.parameters()):
        raise UsageError(f"{shown} makes a {type(made).__name__} and no torch.nn.Module with weights; return one")
    return made


def _check_settings(network: Network, shape: ImageShape) -> None:
    own = parts.parse(network.family) is not None  # which may read every key as it likes
    if network.attention and network.family != "residual" and not own:
        raise UsageError(
            f"network.attention has a meaning in the residual family only, and network.family is {network.family!r}; "
            "set network.family = 'residual' or network.attention = []"
        )
    for key in ("class_noise", "class_gains", "noise_gains", "smooth"):
        if getattr(network, key) and network.family != "slim" and not own:
            raise UsageError(
                f"network.{key} has a meaning in the slim family only, and network.family is {network.family!r}; "
                f"set network.{key} = false"
            )
    for key in ("class_gains", "noise_gains"):
        if getattr(network, key) and network.generator_norm == "none":
            raise UsageError(
                f"network.{key} are those of a batch norm, and network.generator_norm is 'none'; "
                f"set network.{key} = false or network.generator_norm = 'batch'"
            )
    if network.conditioning != "none" and shape.classes == 0:
        raise UsageError(
            f"network.conditioning = {network.conditioning!r} needs labels, and this data set has none; "
            "use --set network.conditioning=none, or give the images labels (one folder per class)"
        )
