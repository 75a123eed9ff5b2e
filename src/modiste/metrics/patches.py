"""Features learned from the images of a set without labels: a dictionary of its patches (Coates, Ng & Lee 2011).

Patches of 6 x 6 pixels, free of their own mean and contrast, are whitened and clustered by k-means. A feature says how
near the patches of one quarter of an image lie to one centre (the "triangle" activation, their eq. 2), beside means and
deviations of the colours of each quarter; 64 principal components of all of them are kept, so that the few images held
out of a small set are enough. Quarters see where things
are, centres see edges, textures and their colours; whitening makes fine patterns count as much as coarse ones. It takes
seconds to minutes, on the images that a training may see (part `fit`), and repeats bit for bit on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modiste.data.images import Images, tensor_of
from modiste.data.subsets import drawn_subset
from modiste.errors import UsageError

SIDE = 6
CENTRES = 160
FEATURES = 64
PATCHES = 40_000
"""Patches that the dictionary is learned from."""
IMAGES = 4_000
"""Images at most that patches and principal components are taken from."""
ROUNDS = 12
CONTRAST = 10.0
"""Added to the variance of a patch in grey levels of 255, so that flat ones are not blown up."""
WHITENING = 0.1
"""Added to the eigenvalues of normalised patches."""
CHUNK = 50
EDITION = 1
"""Raised when the same images give another dictionary or other features."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Dictionary:
    """What has been learned from the patches of a set, all float32."""

    whitening: Floats
    """[C 36, C 36], from normalised patches to white ones."""
    mean: Floats
    """[C 36], of normalised patches."""
    centres: Floats
    """[CENTRES, C 36], of white patches."""
    shift: Floats
    """[all features], their means over the set."""
    components: Floats
    """[all features, FEATURES or fewer], from centred features to principal components."""


def learn(images: Images, seed: int = 0) -> Dictionary:
    """The dictionary of these images; UsageError where a patch has no room in them."""
    if min(images.pixels.shape[2:]) < SIDE:
        width, height = images.pixels.shape[:1:-1]
        raise UsageError(
            f"{images.name} has images of {width} x {height} pixels, and patches are of {SIDE} x {SIDE}; take other "
            'features (evaluate.without_judge = "random"), or larger images'
        )
    some = images.pixels[drawn_subset(len(images), images.labels, IMAGES, seed)]
    random = np.random.Generator(np.random.PCG64(seed))
    patches = normalised(torch.from_numpy(_drawn_patches(some, random)))
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T.double() @ (patches - mean).double() / len(patches))
    whitening = (vectors * (values + WHITENING).rsqrt() @ vectors.T).float()
    centres = k_means((patches - mean) @ whitening, random)
    raw = Dictionary(
        whitening.numpy(), mean.numpy(), centres.numpy(), np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
    )
    found = np.concatenate(list(_pooled(raw, some))).astype(np.float64)
    shift, variances = found.mean(0), found.var(0)
    kinds = np.array_split(np.arange(found.shape[1]), [4 * CENTRES])  # of equal weight: activations, colours
    scale = np.concatenate([np.full(len(kind), max(1e-12, variances[kind].sum()) ** -0.5) for kind in kinds])
    scaled = (found - shift) * scale
    _, directions = np.linalg.eigh(scaled.T @ scaled)
    components = scale[:, None] * directions[:, ::-1][:, :FEATURES]
    return Dictionary(raw.whitening, raw.mean, raw.centres, shift.astype(np.float32), components.astype(np.float32))


def features(dictionary: Dictionary, pixels: NDArray[np.uint8]) -> Floats:
    """Features float32 [N, FEATURES] of pixels uint8 [N, C, H, W]."""
    parts = [(found - dictionary.shift) @ dictionary.components for found in _pooled(dictionary, pixels)]
    return np.concatenate(parts) if parts else np.empty((0, dictionary.components.shape[1]), np.float32)


def normalised(patches: Tensor) -> Tensor:
    """Patches float [N, D] in grey levels without their mean, over their deviation."""
    centred = patches - patches.mean(1, keepdim=True)
    return centred * (centred.square().mean(1, keepdim=True) + CONTRAST).rsqrt()


def k_means(points: Tensor, random: np.random.Generator) -> Tensor:
    """CENTRES means of points [N, D], from that many of them, after ROUNDS rounds; a centre without points stays."""
    centres = points[torch.from_numpy(random.choice(len(points), CENTRES, replace=False))].clone()
    for _ in range(ROUNDS):
        nearest = (points @ centres.T - centres.square().sum(1) / 2).argmax(1)
        counts = torch.bincount(nearest, minlength=CENTRES)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def _drawn_patches(pixels: NDArray[np.uint8], random: np.random.Generator) -> Floats:
    """Patches float32 [PATCHES, C 36] at random places of random images."""
    count, _, height, width = pixels.shape
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (SIDE, SIDE), axis=(2, 3))
    images = random.integers(0, count, PATCHES)
    top, left = random.integers(0, height - SIDE + 1, PATCHES), random.integers(0, width - SIDE + 1, PATCHES)
    return windows[images, :, top, left].reshape(PATCHES, -1).astype(np.float32)


@torch.inference_mode()
def _pooled(dictionary: Dictionary, pixels: NDArray[np.uint8]) -> Iterator[Floats]:
    """Features float32 [CHUNK or fewer, 4 CENTRES + 8 C] of each chunk: means of activations, then colours."""
    whitening, mean, centres = map(torch.from_numpy, (dictionary.whitening, dictionary.mean, dictionary.centres))
    squares = centres.square().sum(1)
    for start in range(0, len(pixels), CHUNK):
        images = tensor_of(pixels[start : start + CHUNK]).float()
        stride = max(2, images.shape[2] // 16)
        rows = F.unfold(images, SIDE, stride=stride).transpose(1, 2)  # [N, places, C 36]
        count, places, _ = rows.shape
        white = (normalised(rows.reshape(count * places, -1)) - mean) @ whitening
        distances = (white.square().sum(1, keepdim=True) - 2 * white @ centres.T + squares).clamp(min=0).sqrt()
        activations = (distances.mean(1, keepdim=True) - distances).clamp(min=0)
        across = (images.shape[3] - SIDE) // stride + 1
        maps = activations.reshape(count, -1, across, CENTRES).permute(0, 3, 1, 2)
        quarters = F.adaptive_avg_pool2d(maps, 2).flatten(1)
        colours, squared = (F.adaptive_avg_pool2d(one, 2) for one in (images, images.square()))
        deviations = (squared - colours.square()).clamp(min=0).sqrt()
        yield torch.cat([quarters, colours.flatten(1), deviations.flatten(1)], 1).numpy()
