"""Weights of a trained network for another, whose images have other classes or colours, or which is wider.

What depends on the classes is a row or a column per class: gains, biases and noise matrices of the generator, columns
of its first layer; embeddings of the discriminator, or columns of the layers that take the image. A new class gets a
mixture of the old ones. All else is copied, so that with the same classes and colours both networks are the same.
"""

from __future__ import annotations

import math
from collections.abc import Container

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modiste.config import Network
from modiste.networks.layers import (
    WEIGHTED,
    AuxiliaryHead,
    ClassNoise,
    ConditionalBatchNorm,
    ImageShape,
    NoiseBatchNorm,
    ProjectionHead,
    SpectralNorm,
)

GREY_AS_COLOUR = {False: (1 / 3, 1 / 3, 1 / 3), True: (2 / 3, 2 / 3, -1 / 3)}
"""Factors of a discriminator's weights for the three colours, without and with spectral norm. Their sum is 1, so that a
grey image has the same logit; with spectral norm the sum of squares is 1, too, which keeps the norm."""
ITERATIONS = 50
"""Of the power method, for weights that are not simply copied."""
WIDENED = ("slim",)
"""The families whose channels lie first in their weights, so that wider networks can begin with narrower ones."""
NEW_CHANNELS = 0.1
"""The length of a new channel's weights, as a share of the mean length of the old ones: enough for them to differ, and
too short to change a spectral norm by much."""
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
    maps, room = kept.get("class_noise.maps"), new.state_dict()[name].shape[inputs] - z_dim
    if "class_noise.maps" in new.state_dict() and maps is None:
        changed["class_noise.maps"] = torch.eye(z_dim).repeat(room, 1, 1)

    def by_input(weight: Tensor) -> Tensor:
        """Weights [noise + classes after, ...] of those by noise and classes before."""
        noise, columns = weight[:z_dim], weight[z_dim:]
        if len(columns) and room:
            scale = math.sqrt(len(columns) / room) if family in SCALED_LABELS else 1.0
            columns = scale * _mixed(shares, columns)
        else:
            columns = noise.new_zeros(room, *noise.shape[1:])
        if maps is not None and not after.classes:
            noise = torch.tensordot(maps.mean(0), noise, ([0], [0]))  # of W (M z), so M^T W^T
        return torch.cat([noise, columns])

    changed[name] = by_input(kept[name].movedim(inputs, 0)).movedim(0, inputs)
    for path, layer in new.named_modules():
        if isinstance(layer, NoiseBatchNorm) and f"{path}.gain" in kept:
            changed |= {f"{path}.{key}": by_input(kept[f"{path}.{key}"]) for key in ("gain", "bias")}
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


def can_widen(narrow: Network, wide: Network) -> bool:
    """Whether networks of the first settings fit into those of the second, with as many layers."""
    pairs = [(narrow.generator_widths, wide.generator_widths), (narrow.discriminator_widths, wide.discriminator_widths)]
    fit = all(len(old) == len(new) and all(a <= b for a, b in zip(old, new, strict=True)) for old, new in pairs)
    return fit and narrow.family == wide.family and narrow.family in WIDENED


def widen(new: nn.Module, old: nn.Module) -> None:
    """Give a network the weights of a narrower one of its family, which its first channels become.

    The new channels listen to all others and no old one listens to them yet, so that pictures are the same, and logits
    but for the spectral norms (after Chen et al. 2016, Net2Net, who copy channels instead).
    """
    kept, values = old.state_dict(), new.state_dict()
    weights = {weight_name(*layer) for layer in new.named_modules() if isinstance(layer[1], (*WEIGHTED, nn.Embedding))}
    for name, tensor in values.items():
        block = tuple(slice(count) for count in kept[name].shape)
        if name in weights and tensor.shape != kept[name].shape:
            rows, columns = kept[name].shape[:2]
            lengths = torch.linalg.vector_norm(kept[name].flatten(1), dim=1).mean()
            fresh = tensor[rows:].flatten(1)
            tensor[rows:] = (NEW_CHANNELS * lengths * F.normalize(fresh, dim=1)).view_as(tensor[rows:])
            tensor[:rows, columns:] = 0
        tensor[block] = kept[name]
    new.load_state_dict(values)
    _iterate(new, values)


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
    _iterate(new, changed)


def _iterate(network: nn.Module, changed: Container[str]) -> None:
    """Bring the spectral norms of these weights to rest."""
    for path, norm in network.named_modules():
        name = f"{path.rpartition('.')[0]}.original"
        if isinstance(norm, SpectralNorm) and name in changed:
            matrix = norm.matrix(network.state_dict()[name].to(norm.u))
            for _ in range(ITERATIONS):
                norm.iterate(matrix)
