"""The discriminator as a feature extractor: what it looks at to tell real from generated, for other uses."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modiste import parts
from modiste.data.images import Pixels, tensor_of, to_unit
from modiste.errors import UsageError
from modiste.metrics.features import Extractor, Features
from modiste.sampling.discriminators import TrainedDiscriminator

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU)
GRID = 4
"""Cells along each side of a map, in each of which the largest value counts."""
CHUNK = 50


def extractor_of(discriminator: TrainedDiscriminator) -> Extractor:
    """An extractor of the discriminator's features: the largest value in each cell of a 4 x 4 grid over the maps
    behind every rectifier (Radford et al. 2016, section 5.1).

    No label is needed: where labels enter beside the image, all classes enter with equal weight. UsageError for a
    discriminator of the user's own without rectifiers.
    """
    network = discriminator.network
    rectifiers: list[nn.Module] = [module for module in network.modules() if isinstance(module, RECTIFIERS)]
    if not rectifiers:
        raise UsageError(
            f"the discriminator of {discriminator.source} has no rectifiers (torch.nn.ReLU, LeakyReLU, ...), whose "
            "outputs are its features; use another run, or another detector"
        )
    sha = hashlib.sha256(b"discriminator features 1")
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(name.encode() + tensor.cpu().numpy().tobytes())
    shape = discriminator.shape
    facts: dict[str, Any] = {
        "extractor": f"discriminator of {discriminator.source}",
        "layer": "4 x 4 maxima of all maps",
    }

    def examine(pixels: Pixels) -> Features:
        vectors = []
        for start in range(0, len(pixels), CHUNK):
            vectors.append(_pooled_maps(discriminator, rectifiers, to_unit(tensor_of(pixels[start : start + CHUNK]))))
        return Features(np.concatenate(vectors))

    return Extractor("discriminator", shape, sha.hexdigest()[:16], facts, examine)


@parts.errors_named()
@torch.inference_mode()
def _pooled_maps(
    discriminator: TrainedDiscriminator, rectifiers: list[nn.Module], images: Tensor
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Features [N, D] of images [N, C, H, W] in [-1, 1]."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: Any, maps: Tensor) -> None:  # at once, as a later layer may overwrite the maps
        found.append(F.adaptive_max_pool2d(maps, GRID).flatten(1) if maps.ndim == 4 else maps.flatten(1).clone())

    hooks = [module.register_forward_hook(keep) for module in rectifiers]
    classes = discriminator.shape.classes
    labels: Tensor | None = torch.zeros(len(images), dtype=torch.int64) if classes else None
    if discriminator.settings.conditioning == "one-hot":
        labels = torch.full((len(images), classes), 1 / classes)
    try:
        discriminator.network(images, labels)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found, 1).float().numpy()
