"""Feature extractors with one interface, and the cache on disk of real images' features.

An extractor turns pixels uint8 [N, C, H, W] into feature vectors, and logits where it is a classifier. Everything that
changes its numbers (weights, input size, filter, layer) is in its facts, which are part of every score's protocol.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modiste import environment, progress
from modiste.cache import CACHE_FORMAT, UNREADABLE, cached_arrays, entry_path, npz_bytes, read_entry, write_entry
from modiste.config import Data
from modiste.data.classes import class_number
from modiste.data.images import Images, content_digest, resized, tensor_of, to_unit
from modiste.data.sets import native_data, open_data
from modiste.metrics import classifier_training, functional, patches
from modiste.metrics import judge as judges
from modiste.metrics.functional import Moments
from modiste.metrics.judge import Judge
from modiste.networks.layers import ImageShape

RESIZE_FILTER = "lanczos"
RANDOM_FEATURES = 128
RANDOM_CHUNK = 50
PART = 500
"""Images that one thread fits and examines at a time: whole chunks of every extractor, little of a mapped set."""

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R BT.601, as Pillow's mode L)."""

CHECKED, AGREEMENT = 50, 1e-4
"""Images by which a GPU is compared with the processor, and how far its features may be off, over the largest one."""

RESERVED = (*judges.SHIPPED, "random", "patches", "inception", "infinite")
"""Words that have another meaning in the names of scores than a user's own judge."""

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """Feature vectors float32 [N, D] and, from a classifier, logits float32 [N, K]."""

    vectors: Floats
    logits: Floats | None = None

    def __len__(self) -> int:
        return len(self.vectors)


Examine = Callable[[Pixels], Features]


@dataclass(frozen=True)
class Extractor:
    """A feature extractor: `examine` takes pixels uint8 [N, channels, size, size]."""

    name: str
    """Its name in the names of scores: garment, second, random, inception."""
    shape: ImageShape
    """Channels and side in pixels of the images it takes; images of another size are resized, grey is repeated."""
    fingerprint: str
    """A hash of 16 hexadecimal digits of everything that its numbers depend on."""
    facts: Mapping[str, Any]
    """Its description in the protocol."""
    examine: Examine
    warning: str = ""
    """A sentence for the user where its features are poor, else ""."""
    on_device: Callable[[str], Examine] | None = None
    """`examine` by a copy of its network on a GPU; None where it has only that of the processor."""
    kernel: bool = False
    """Whether more than the Fréchet distance is measured in its features where it is not the first: the kernel distance
    and, with logits, the inception-style score."""
    network: Callable[[Tensor], Tensor] | None = None
    """Images [N, channels, size, size] in [-1, 1] to feature vectors, with gradients; None where it has none."""


def from_judge(judge: Judge, name: str) -> Extractor:
    """A trained classifier's 128 features before its last layer."""
    card = judge.card
    facts = {
        "extractor": f"{card.kind} classifier of {card.data.name}",
        "hash": judge.fingerprint,
        "layer": "global average pooling",
        "features": card.features,
        "accuracy": round(card.tested.accuracy, 4),
        "trained_on": f"{card.data.name} {card.data.part}",
        **_input_facts(judge.shape),
    }

    def examine(pixels: Pixels) -> Features:
        return Features(*judge.examine(pixels))

    def on_device(device: str) -> Examine:
        network = deepcopy(judge.network).to(device)
        return lambda pixels: Features(*classifier_training.classify(network, pixels))

    return Extractor(
        name, judge.shape, judge.fingerprint, facts, examine, judges.weakness(card), on_device,
        network=lambda images: judge.network(images)[0],
    )  # fmt: skip


def primary_extractor(dataset: Data, without_judge: Literal["random", "patches"] = "random") -> Extractor:
    """The first extractor for this data set: the judge trained on it, or what takes its place if there is none."""
    found = judge_of(dataset)
    if found is not None:
        return found
    if without_judge == "patches":
        return learned_patches(open_data(native_data(dataset), part="fit"))
    heldout = open_data(dataset, part="heldout")
    return random_network(ImageShape(*heldout.pixels.shape[1:3]))


def judge_of(dataset: Data, kind: judges.Kind = "residual", name: str = "") -> Extractor | None:
    """The judge trained on this data set, under its own name or this one; None if there is none.

    Where data.classes chooses some, it is the judge of all classes, and its logits are those of the chosen ones.
    """
    judge = judges.for_data(dataset, kind)
    if judge is None:
        return None
    shipped = next((name for name in judges.SHIPPED if judges.load(name).fingerprint == judge.fingerprint), "")
    extractor = from_judge(judge, name or shipped or slug(Path(dataset.name).stem))
    if not dataset.classes:
        return extractor
    names = judge.card.class_names
    return _of_classes(extractor, sorted(class_number(one, names, "the judge") for one in dataset.classes), names)


def _of_classes(extractor: Extractor, numbers: list[int], class_names: Sequence[str]) -> Extractor:
    """The extractor with the logits of these classes alone."""

    def some(examine: Examine) -> Examine:
        def examine_some(pixels: Pixels) -> Features:
            found = examine(pixels)
            return Features(found.vectors, None if found.logits is None else found.logits[:, numbers])

        return examine_some

    on_device = extractor.on_device
    return replace(
        extractor,
        shape=replace(extractor.shape, classes=len(numbers)),
        fingerprint=hashlib.sha256(f"{extractor.fingerprint} {numbers}".encode()).hexdigest()[:16],
        facts={**extractor.facts, "classes": [class_names[number] for number in numbers]},
        examine=some(extractor.examine),
        on_device=None if on_device is None else lambda device: some(on_device(device)),
    )


def slug(text: str) -> str:
    """Text as one lower-case word for the name of a score: letters, digits and hyphens, and no reserved word."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "judge"
    return f"own-{found}" if found in RESERVED else found


def random_network(shape: ImageShape, seed: int = 0) -> Extractor:
    """A convolutional network with random weights, which no label and no training has touched (Naeem et al. 2020, §5).

    Five 3 x 3 convolutions with orthogonal rows, leaky ReLU, average pooling between them; features are means and
    deviations over positions of the last maps. It prefers no class, which shows gains that only the judge sees.
    """
    channels = (shape.channels, 16, 32, 32, 64, RANDOM_FEATURES // 2)
    random = np.random.Generator(np.random.PCG64(seed))
    # Written out, as records keep this hash: it must not change with the name of a class.
    facts_of_shape = f"Shape(channels={shape.channels}, size={shape.size}, classes={shape.classes})"
    sha = hashlib.sha256(f"random network 1 {channels} {facts_of_shape}".encode())
    layers: list[nn.Conv2d] = []
    for before, after in itertools.pairwise(channels):
        layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
        flat = random.standard_normal((max(after, before * 9), min(after, before * 9)))
        rows = np.linalg.qr(flat)[0]
        rows = (rows if rows.shape[0] == after else rows.T) * np.sqrt(max(1.0, before * 9 / after))
        weights = rows.reshape(after, before, 3, 3).astype(np.float32)
        sha.update(weights.astype("<f2").tobytes())  # rounded: the last digits of a decomposition differ by machine
        layer.weight = nn.Parameter(torch.from_numpy(weights), requires_grad=False)
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        layers.append(layer)

    def on_device(device: str) -> Examine:
        return partial(_random_features, [deepcopy(layer).to(device) for layer in layers])

    fingerprint = sha.hexdigest()[:16]
    facts = {
        "extractor": f"convolutional network with random weights, seed {seed}",
        "hash": fingerprint,
        "layer": "means and deviations of the last maps",
        "features": RANDOM_FEATURES,
        **_input_facts(shape),
    }
    return Extractor(
        "random", shape, fingerprint, facts, on_device("cpu"), on_device=on_device,
        network=partial(_random_vectors, layers),
    )  # fmt: skip


def learned_patches(images: Images) -> Extractor:
    """An extractor that has learned a dictionary of patches from these images, without labels (`patches.learn`).

    The dictionary is kept on disk by the images' content.
    """
    key = {"patches": patches.EDITION, "images": content_digest(images), "seed": 0}

    def learn() -> dict[str, NDArray[Any]]:
        with progress.stage(f"learning patches from {images.name}, kept for the next time"):
            return vars(patches.learn(images))

    dictionary = patches.Dictionary(**cached_arrays(key, learn))
    shape = ImageShape(*images.pixels.shape[1:3])
    sha = hashlib.sha256(f"patches {patches.EDITION} {shape}".encode())
    for name, values in sorted(vars(dictionary).items()):
        sha.update(f"{name} {values.shape}".encode() + values.astype("<f4").tobytes())
    fingerprint = sha.hexdigest()[:16]
    facts = {
        "extractor": f"dictionary of patches of {images.name}, learned without labels, seed 0",
        "hash": fingerprint,
        "layer": "principal components of pooled activations and colours",
        "features": dictionary.components.shape[1],
        **_input_facts(shape),
    }
    return Extractor(
        "patches", shape, fingerprint, facts, lambda pixels: Features(patches.features(dictionary, pixels))
    )


@torch.inference_mode()
def _random_features(layers: Sequence[nn.Conv2d], pixels: Pixels) -> Features:
    device, vectors = layers[0].weight.device, []
    for start in range(0, len(pixels), RANDOM_CHUNK):
        images = to_unit(tensor_of(pixels[start : start + RANDOM_CHUNK]).to(device))
        vectors.append(_random_vectors(layers, images).cpu().numpy())
    return Features(np.concatenate(vectors))


def _random_vectors(layers: Sequence[nn.Conv2d], images: Tensor) -> Tensor:
    maps = images.contiguous(memory_format=torch.channels_last)
    for k, layer in enumerate(layers):
        maps = F.leaky_relu_(layer(maps), 0.2)
        if k in (1, 3):
            maps = F.avg_pool2d(maps, 2)
    return torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1)


def differentiable_features(extractor: Extractor, images: Tensor) -> Tensor:
    """Feature vectors [N, D] of images [N, C, H, W] in [-1, 1], with gradients, of an extractor with a network.

    Images are brought to the extractor's shape as `fit_pixels` does it, but with a bicubic filter and unrounded.
    """
    assert extractor.network is not None
    if images.shape[2:] != (extractor.shape.size, extractor.shape.size):
        size = (extractor.shape.size,) * 2
        images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    if images.shape[1] < extractor.shape.channels:
        images = images.expand(-1, extractor.shape.channels, -1, -1)
    elif images.shape[1] > extractor.shape.channels:
        images = (images * images.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    return extractor.network(images)


def _input_facts(shape: ImageShape) -> dict[str, Any]:
    return {"input": [shape.channels, shape.size, shape.size], "resize": f"{RESIZE_FILTER}, antialiased, to uint8"}


def fit_pixels(pixels: Pixels, shape: ImageShape) -> Pixels:
    """Pixels as an extractor of that shape takes them: resized where they differ, grey repeated or colour averaged."""
    if pixels.shape[2:] != (shape.size, shape.size):
        pixels = resized(pixels, shape.size, RESIZE_FILTER)
    if pixels.shape[1] == shape.channels:
        return pixels
    if shape.channels == 3:
        return pixels.repeat(3, axis=1)
    grey: NDArray[np.float64] = np.einsum("nchw,c->nhw", pixels, np.array(GREY))
    return np.round(grey).astype(np.uint8)[:, None]


def extract(extractor: Extractor, images: Images, *, cached: bool = False) -> Features:
    """The features of these images; `cached` keeps them on disk by content, for real images that are used again."""
    if not cached:
        return _examined(extractor, images.pixels)
    key = f"{CACHE_FORMAT} {extractor.fingerprint} {content_digest(images)}"
    with suppress(*UNREADABLE), np.load(io.BytesIO(read_entry("features", key)), allow_pickle=False) as stored:
        return Features(stored["vectors"], stored.get("logits"))
    with progress.stage(
        f"{extractor.name}: features of {len(images):,} images of {images.name}, kept for the next time"
    ):
        features = _examined(extractor, images.pixels)
    logits = {} if features.logits is None else {"logits": features.logits}
    write_entry("features", key, npz_bytes(vectors=features.vectors, **logits))
    return features


def moments(extractor: Extractor, images: Images) -> Moments:
    """The moments of the features of real images, kept on disk; for published sets they ship."""
    key = {"moments": 1, "extractor": extractor.fingerprint, "images": content_digest(images)}

    def compute() -> dict[str, NDArray[np.float64]]:
        found = functional.moments(extract(extractor, images, cached=True).vectors, f"the features of {images.name}")
        return {"mean": found.mean, "upper": found.covariance[np.triu_indices(len(found.mean))]}

    found = cached_arrays(key, compute)
    covariance = np.zeros((len(found["mean"]),) * 2)
    covariance[np.triu_indices(len(covariance))] = found["upper"]
    return Moments(found["mean"], covariance + np.triu(covariance, 1).T, len(images))


def _examined(extractor: Extractor, pixels: Pixels) -> Features:
    """The features of all images, computed on a GPU (`gpu_of`) or by all threads."""
    gpu = gpu_of(extractor)
    look = extractor.on_device(gpu) if gpu and extractor.on_device else extractor.examine

    def examine(start: int) -> Features:
        return look(fit_pixels(pixels[start : start + PART], extractor.shape))

    starts = range(0, max(1, len(pixels)), PART)
    if gpu:
        with _without_tensor_float():
            parts = list(map(examine, starts))
    else:
        parts = environment.in_parallel(examine, starts)
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(np.concatenate([part.vectors for part in parts]), np.concatenate(logits) if logits else None)


def gpu_of(extractor: Extractor) -> str:
    """cuda where this extractor's features are computed on a GPU, else "".

    Where there is one, and its features of some images of noise are those of the processor to AGREEMENT of their size.
    """
    if extractor.on_device is None or not torch.cuda.is_available():
        return ""
    if extractor.fingerprint not in _checked:
        size, channels = extractor.shape.size, extractor.shape.channels
        pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, channels, size, size), np.uint8)
        expected = extractor.examine(pixels)
        with _without_tensor_float():
            found = extractor.on_device("cuda")(pixels)
        pairs = [(found.vectors, expected.vectors)]
        if found.logits is not None and expected.logits is not None:
            pairs.append((found.logits, expected.logits))
        _checked[extractor.fingerprint] = all(
            float(np.abs(one - other).max()) <= AGREEMENT * float(np.abs(other).max()) for one, other in pairs
        )
    return "cuda" if _checked[extractor.fingerprint] else ""


_checked: dict[str, bool] = {}
"""By fingerprint, whether the GPU's features are the processor's."""


@contextmanager
def _without_tensor_float() -> Iterator[None]:
    """Products and convolutions of a GPU in float32, whose rounding to 10 bits PyTorch allows for convolutions."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def is_cached(extractor: Extractor, images: Images) -> bool:
    """Whether the features of these images have been computed before."""
    return entry_path("features", f"{CACHE_FORMAT} {extractor.fingerprint} {content_digest(images)}").is_file()
