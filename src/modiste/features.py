"""Feature extractors under one contract, and a cache on disk for what is computed from real images.

An extractor turns pixels uint8 [N, C, H, W] into feature vectors, and logits where it is a classifier. Everything that
could change its numbers (weights, input size, filter, layer) is in its facts, which every score's protocol repeats.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from modiste import data, terminal, writing
from modiste import judge as judge_room
from modiste.config import Data
from modiste.data import Images
from modiste.data.download import cache_root
from modiste.data.images import resized
from modiste.errors import ModisteError
from modiste.judge import Judge
from modiste.networks import Shape

CACHE_FORMAT = 2
RESIZE_FILTER = "lanczos"
RANDOM_FEATURES = 128
RANDOM_CHUNK = 250
UNREADABLE = (OSError, ValueError)
"""What reading a missing or damaged file of the cache raises; it is computed anew."""

TAKEN = (*judge_room.SHIPPED, "random", "inception", "infinite")
"""Words that mean something else in the names of scores than a judge of one's own."""

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """Feature vectors float32 [N, D] and, from a classifier, logits float32 [N, K]."""

    vectors: Floats
    logits: Floats | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Extractor:
    """Something that looks at images: `examine` takes pixels uint8 [N, channels, size, size]."""

    name: str
    """The word that stands for it in the names of scores: garment, second, random, inception."""
    shape: Shape
    """Channels and side in pixels of the images it takes; images of another size are resized, grey is repeated."""
    fingerprint: str
    """16 hexadecimal digits over everything that its numbers depend on."""
    facts: Mapping[str, Any]
    """What the protocol says of it."""
    examine: Callable[[Pixels], Features]
    warning: str = ""
    """A sentence for the user, where its numbers mean little."""


def from_judge(judge: Judge, name: str) -> Extractor:
    """A trained classifier's 128 features before its last layer."""
    measured = judge.card["measured"]
    tested = measured.get("test") or measured["heldout"]
    facts = {
        "extractor": f"{judge.card['kind']} classifier of {judge.card['data']['name']}",
        "hash": judge.fingerprint,
        "layer": "global average pooling",
        "features": judge.card["features"],
        "accuracy": round(tested["accuracy"], 4),
        "trained_on": f"{judge.card['data']['name']} {judge.card['data']['part']}",
        **_input_facts(judge.shape),
    }

    def examine(pixels: Pixels) -> Features:
        return Features(*judge.examine(pixels))

    return Extractor(name, judge.shape, judge.fingerprint, facts, examine, judge_room.weakness(judge.card))


def primary(dataset: Data) -> Extractor:
    """What scores on this data set are named after: the judge trained on it, or the random network if there is none."""
    judge = judge_room.for_data(dataset)
    if judge is None:
        heldout = data.open_data(dataset, part="heldout")
        return random_network(Shape(*heldout.pixels.shape[1:3]))
    shipped = next((name for name in judge_room.SHIPPED if judge_room.load(name).fingerprint == judge.fingerprint), "")
    return from_judge(judge, shipped or word(Path(dataset.name).stem))


def word(text: str) -> str:
    """Text as one lower-case word for the name of a score: letters, digits and hyphens, and no word that is taken."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "judge"
    return f"own-{found}" if found in TAKEN else found


def count_word(count: int) -> str:
    """A number of images as scores are named: 10k, 2k, 1234."""
    return f"{count // 1000}k" if count % 1000 == 0 and count else str(count)


def random_network(shape: Shape, seed: int = 0) -> Extractor:
    """A convolutional network with random weights, which no label and no training has touched (Naeem et al. 2020, §5).

    Five 3 x 3 convolutions with orthogonal rows, leaky ReLU, average pooling between them; features are means and
    deviations over positions of the last maps. It prefers no class, so that what only pleases the judge shows.
    """
    channels = (shape.channels, 16, 32, 32, 64, RANDOM_FEATURES // 2)
    random = np.random.Generator(np.random.PCG64(seed))
    sha = hashlib.sha256(f"random network 1 {channels} {shape}".encode())
    layers: list[nn.Conv2d] = []
    for before, after in itertools.pairwise(channels):
        layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
        flat = random.standard_normal((max(after, before * 9), min(after, before * 9)))
        rows = np.linalg.qr(flat)[0]
        rows = (rows if rows.shape[0] == after else rows.T) * np.sqrt(max(1.0, before * 9 / after))
        weights = rows.reshape(after, before, 3, 3).astype(np.float32)
        sha.update(weights.astype("<f2").tobytes())  # rounded: the last digits of a decomposition differ by machine
        layer.weight = nn.Parameter(torch.from_numpy(weights), requires_grad=False)
        layers.append(layer)

    @torch.inference_mode()
    def examine(pixels: Pixels) -> Features:
        vectors = []
        for start in range(0, len(pixels), RANDOM_CHUNK):
            maps = data.to_unit(torch.from_numpy(pixels[start : start + RANDOM_CHUNK]))
            for k, layer in enumerate(layers):
                maps = F.leaky_relu(layer(maps), 0.2)
                if k in (1, 3):
                    maps = F.avg_pool2d(maps, 2)
            vectors.append(torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1).numpy())
        return Features(np.concatenate(vectors))

    fingerprint = sha.hexdigest()[:16]
    facts = {
        "extractor": f"convolutional network with random weights, seed {seed}",
        "hash": fingerprint,
        "layer": "means and deviations of the last maps",
        "features": RANDOM_FEATURES,
        **_input_facts(shape),
    }
    return Extractor("random", shape, fingerprint, facts, examine)


def _input_facts(shape: Shape) -> dict[str, Any]:
    return {"input": [shape.channels, shape.size, shape.size], "resize": f"{RESIZE_FILTER}, antialiased, to uint8"}


def fitted(pixels: Pixels, shape: Shape) -> Pixels:
    """Pixels as an extractor of that shape takes them: resized where they differ, grey repeated or colour averaged."""
    if pixels.shape[2:] != (shape.size, shape.size):
        pixels = resized(pixels, shape.size, RESIZE_FILTER)
    if pixels.shape[1] == shape.channels:
        return pixels
    if shape.channels == 3:
        return pixels.repeat(3, axis=1)
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode L
    grey: NDArray[np.float64] = np.einsum("nchw,c->nhw", pixels, weights)
    return np.round(grey).astype(np.uint8)[:, None]


def extract(extractor: Extractor, images: Images, *, cached: bool = False) -> Features:
    """The features of these images; `cached` keeps them on disk by content, for real images that will come again."""
    if not cached:
        return extractor.examine(fitted(images.pixels, extractor.shape))
    key = f"{CACHE_FORMAT} {extractor.fingerprint} {data.digest(images)}"
    with suppress(*UNREADABLE), np.load(io.BytesIO(_kept("features", key)), allow_pickle=False) as stored:
        return Features(stored["vectors"], stored.get("logits"))
    with terminal.doing(
        f"{extractor.name}: features of {len(images):,} images of {images.name}, kept for the next time"
    ):
        features = extractor.examine(fitted(images.pixels, extractor.shape))
    logits = {} if features.logits is None else {"logits": features.logits}
    _keep("features", key, _npz(vectors=features.vectors, **logits))
    return features


def is_kept(extractor: Extractor, images: Images) -> bool:
    """Whether the features of these images have been computed before."""
    return _place("features", f"{CACHE_FORMAT} {extractor.fingerprint} {data.digest(images)}").is_file()


def remembered(key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of `compute()`, kept on disk under everything that it depends on (`key`, plain values)."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE):
        return json.loads(_kept("scores", text))
    value = compute()
    _keep("scores", text, json.dumps(value).encode())
    return value


def remembered_array(key: Mapping[str, Any], compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The array of `compute()`, kept on disk under everything that it depends on (`key`, plain values)."""
    text = json.dumps({"format": CACHE_FORMAT, **key}, sort_keys=True)
    with suppress(*UNREADABLE), np.load(io.BytesIO(_kept("arrays", text)), allow_pickle=False) as stored:
        return cast("NDArray[np.float64]", stored["values"])
    with terminal.doing("distances between real images, kept for the next time"):
        values = compute()
    _keep("arrays", text, _npz(values=values))
    return values


def _npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


# --- the cache: an entry is one line with the hash of its key and content, then the content, so that a damaged file,
# a part of one and another entry's file are all known for what they are


def _place(kind: str, key: str) -> Path:
    return cache_root() / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cached"


def _seal(key: str, content: bytes) -> bytes:
    sha = hashlib.sha256(key.encode() + b"\0")
    sha.update(content)
    return sha.hexdigest().encode() + b"\n"


def _kept(kind: str, key: str) -> bytes:
    """What was kept under this key; ValueError where that is not what lies there, OSError where nothing does."""
    seal, _, content = _place(kind, key).read_bytes().partition(b"\n")
    if seal + b"\n" != _seal(key, content):
        raise ValueError("damaged, or another entry's")
    return content


def _keep(kind: str, key: str, content: bytes) -> None:
    """Keep it if that is possible; a cache that cannot be written is no reason to stop."""
    place = _place(kind, key)
    with suppress(OSError, ModisteError):
        place.parent.mkdir(parents=True, exist_ok=True)
        writing.write_bytes(place, _seal(key, content) + content)
