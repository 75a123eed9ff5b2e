"""Weights of a trained network for another of the same settings, whose images have other classes or colours.

What depends on the classes is a row or a column per class: gains, biases and noise matrices of the generator, columns
of its first layer; embeddings of the discriminator, or columns of the layers that take the image. A new class gets a
mixture of the old ones. All else is copied, so that with the same classes and colours both networks are the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modiste.networks.layers import (
    WEIGHTED,
    AuxiliaryHead,
    ClassNoise,
    ConditionalBatchNorm,
    ImageShape,
    ProjectionHead,
    SpectralNorm,
)

GREY_AS_COLOUR = {False: (1 / 3, 1 / 3, 1 / 3), True: (2 / 3, 2 / 3, -1 / 3)}
"""Factors of a discriminator's weights for the three colours, without and with spectral norm. Their sum is 1, so that a
grey image has the same logit; with spectral norm the sum of squares is 1, too, which keeps the norm."""
ITERATIONS = 50
"""Of the power method, for weights that are not simply copied."""
SCALED_LABELS = ("slim", "norm-free")
"""The families whose labels beside the noise are as long as the root of the number of classes (`join_scaled`)."""


def copy_generator(
    new: nn.Module, old: nn.Module, before: ImageShape, after: ImageShape, shares: Tensor, family: str
) -> None:
    """Give a generator of these shapes the weights of an old one; `shares` [classes after, before], of row sum 1, are
    the mixtures of old classes that the new ones start from. A grey generator becomes one of grey pictures in colours.
    """
    if _is_same(before, after, shares):
        new.load_state_dict(old.state_dict())
        return
    kept, changed = old.state_dict(), _rows(new, old, shares)
    first, first_layer = weighted_layers(new)[0]
    name = weight_name(first, first_layer)
    inputs = 0 if isinstance(first_layer, nn.ConvTranspose2d) else 1  # the axis
    z_dim = int(new.z_dim)  # type: ignore[arg-type]
    weight = kept[name].movedim(inputs, 0)
    noise, columns = weight[:z_dim], weight[z_dim:]
    room = new.state_dict()[name].shape[inputs] - z_dim
    if len(columns) and room:
        scale = math.sqrt(len(columns) / room) if family in SCALED_LABELS else 1.0
        columns = scale * _mixed(shares, columns)
    else:
        columns = noise.new_zeros(room, *noise.shape[1:])
    maps = kept.get("class_noise.maps")
    if "class_noise.maps" in new.state_dict() and maps is None:
        changed["class_noise.maps"] = torch.eye(z_dim).repeat(room, 1, 1)
    if maps is not None and not after.classes:
        noise = torch.tensordot(maps.mean(0), noise, ([0], [0]))  # of W (M z), so M^T W^T
    changed[name] = torch.cat([noise, columns]).movedim(0, inputs)
    last, last_layer = weighted_layers(new)[-1]
    if after.channels != before.channels:
        outputs = 1 if isinstance(last_layer, nn.ConvTranspose2d) else 0
        changed[f"{last}.weight"] = torch.cat([kept[f"{last}.weight"]] * after.channels, outputs)
        if last_layer.bias is not None:
            changed[f"{last}.bias"] = kept[f"{last}.bias"].repeat(after.channels)
    _load(new, kept, changed)


def copy_discriminator(
    new: nn.Module, old: nn.Module, before: ImageShape, after: ImageShape, shares: Tensor, family: str
) -> None:
    """The same for a discriminator; for grey images in colours one of grey images has the same logits."""
    if _is_same(before, after, shares):
        new.load_state_dict(old.state_dict())
        return
    kept, own, changed = old.state_dict(), new.state_dict(), _rows(new, old, shares)
    each = 4 if family == "slim" else 1  # inputs per channel: its first layer takes four pixels as channels
    for path, layer in layers_on_images(new):
        name = weight_name(path, layer)
        seen = kept[name].shape[1]
        image, maps = kept[name].split([each * before.channels, seen - each * before.channels], 1)
        if after.channels != before.channels:
            image = torch.cat([factor * image for factor in GREY_AS_COLOUR[name.endswith("original")]], 1)
        room = own[name].shape[1] - image.shape[1]
        if maps.shape[1] and room:
            by_class = maps.unflatten(1, (-1, each)).transpose(0, 1)  # [classes, outputs, each, H, W]
            maps = _mixed(shares, by_class).transpose(0, 1).flatten(1, 2)
        else:
            maps = image.new_zeros(len(image), room, *image.shape[2:])
        changed[name] = torch.cat([image, maps], 1)
    _load(new, kept, changed)


def layers_on_images(discriminator: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that take the image: the first, and beside it the shortcut of a residual network."""
    first, *others = weighted_layers(discriminator)
    return [first, *(one for one in others if one[0].startswith("layers.0.shortcut"))]


def weighted_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Convolutions and dense layers with their paths, from the input to the output."""
    return [(path, layer) for path, layer in network.named_modules() if isinstance(layer, WEIGHTED)]


def weight_name(path: str, layer: nn.Module) -> str:
    """The name of a layer's weight in its network's state, also where spectral norm divides it."""
    return f"{path}.weight" if "weight" in layer._parameters else f"{path}.parametrizations.weight.original"


def _is_same(before: ImageShape, after: ImageShape, shares: Tensor) -> bool:
    same = (before.channels, before.classes) == (after.channels, after.classes)
    return same and torch.equal(shares, torch.eye(len(shares)))


def _mixed(shares: Tensor, rows: Tensor) -> Tensor:
    """Rows [classes after, ...] from rows [classes before, ...]."""
    mixed: Tensor = torch.tensordot(shares.to(rows), rows, 1)
    return mixed


def _rows(new: nn.Module, old: nn.Module, shares: Tensor) -> dict[str, Tensor]:
    """By name, the new weights that have a row per class, or had one."""
    kept, others, found = old.state_dict(), dict(old.named_modules()), {}
    for path, layer in new.named_modules():
        other = others.get(path)
        for conditional, plain in (("gain", "weight"), ("bias", "bias")):
            if isinstance(layer, ConditionalBatchNorm):
                found[f"{path}.{conditional}"] = (
                    _mixed(shares, kept[f"{path}.{conditional}"])
                    if isinstance(other, ConditionalBatchNorm)
                    else kept[f"{path}.{plain}"].expand(len(layer.gain), -1)
                )
            elif isinstance(other, ConditionalBatchNorm):
                found[f"{path}.{plain}"] = kept[f"{path}.{conditional}"].mean(0)
        if type(layer) is not type(other):
            continue
        if isinstance(layer, ClassNoise):
            found[f"{path}.maps"] = _mixed(shares, kept[f"{path}.maps"])
        elif isinstance(layer, ProjectionHead):
            name = weight_name(f"{path}.embed", layer.embed)
            found[name] = _mixed(shares, kept[name])
        elif isinstance(layer, AuxiliaryHead):
            for name in (weight_name(f"{path}.classify", layer.classify), f"{path}.classify.bias"):
                found[name] = _mixed(shares, kept[name])
    return found


def _load(new: nn.Module, kept: dict[str, Tensor], changed: dict[str, Tensor]) -> None:
    """Load what is changed, else what is kept; what there was not before stays as it is in the new network."""
    own = new.state_dict()
    values = {
        name: changed.get(name, kept[name] if name in kept and kept[name].shape == tensor.shape else tensor)
        for name, tensor in own.items()
    }
    new.load_state_dict(values)
    for path, norm in new.named_modules():
        if isinstance(norm, SpectralNorm) and f"{path.rpartition('.')[0]}.original" in changed:
            matrix = norm.matrix(values[f"{path.rpartition('.')[0]}.original"].to(norm.u))
            for _ in range(ITERATIONS):
                norm.iterate(matrix)
