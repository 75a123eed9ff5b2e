"""An encoder: a small network that guesses the noise behind a picture, learned from the generator's own images.

It is a start for `projection`, which goes on by gradients. A generator's pairs of noise and image are endless, so
nothing but the generator is needed to learn from. The encoder is kept with the hash of the generator's weights: in the
run's folder for the last generator of a training, else in the user's cache; other weights get an encoder of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modiste import cache, environment, files, runs
from modiste.errors import ModisteError
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import CHUNK, TrainedGenerator

SAMPLES = 32_000
"""Images that an encoder learns from, each seen once."""
BATCH = 64
LEARNING_RATE = 2e-3
NOISE_WEIGHT = 0.1
"""Of the squared error of the noise beside that of the image."""
WIDTHS = (32, 64, 128)
HIDDEN = 256
SMALLEST_MAP = 4
FILE = "encoder.safetensors"

Report = Callable[[int, int], None]
"""Told how much of how much is done."""


@dataclass(frozen=True)
class EncoderFacts:
    """How an encoder was made, as its file says."""

    generator: str
    """`weights_digest` of the generator that it learned from."""
    samples: int
    loss: float
    """The mean over the last tenth of the training."""
    format: int = 1


class Encoder(nn.Module):
    """Images [N, C, H, W] in [-1, 1] and labels [N] (None without classes) to the noise [N, z_dim] behind them."""

    def __init__(self, shape: ImageShape, z_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, before, widths = shape.size, shape.channels, list(WIDTHS)
        while side > SMALLEST_MAP:
            width = widths.pop(0) if widths else before
            layers += [nn.Conv2d(before, width, 4, 2, 1 + side % 2, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
            side, before = (side + 2 * (1 + side % 2) - 4) // 2 + 1, width
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side**2, HIDDEN))
        self.classes = nn.Embedding(shape.classes, 2 * HIDDEN) if shape.classes else None
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, z_dim))

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        hidden = self.trunk(images)
        if self.classes is not None and labels is not None:
            scale, shift = self.classes(labels).chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        noise: Tensor = self.head(hidden)
        return noise


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over names and values of a network's weights and statistics, as 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def train(
    generator: TrainedGenerator, samples: int = SAMPLES, report: Report = lambda *_: None
) -> tuple[Encoder, EncoderFacts]:
    """An encoder of this generator in eval mode, and its facts; the same on each call with equal threads.

    It minimises the squared error of the image that its guess makes, and a little of the guess itself, since many
    noises make nearly the same image.
    """
    network, steps = deepcopy(generator.network).eval().requires_grad_(False), max(1, samples // BATCH)
    random = torch.Generator().manual_seed(environment.seed_for(0, "encoder"))
    with torch.random.fork_rng([]):
        torch.manual_seed(environment.seed_for(0, "encoder's initial weights"))
        encoder = Encoder(generator.shape, generator.z_dim)
    optimiser = torch.optim.Adam(encoder.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1)
    classes, last = generator.shape.classes, []
    for step in range(steps):
        noise = torch.randn(BATCH, generator.z_dim, generator=random)
        labels = torch.randint(classes, (BATCH,), generator=random) if classes else None
        with torch.no_grad():
            images = network(noise, labels)
        guess = encoder(images, labels)
        loss = F.mse_loss(network(guess, labels), images) + NOISE_WEIGHT * F.mse_loss(guess, noise)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step >= steps - max(1, steps // 10):
            last.append(loss.item())
        report((step + 1) * BATCH, steps * BATCH)
    facts = EncoderFacts(weights_digest(generator.network), steps * BATCH, sum(last) / len(last))
    return encoder.eval(), facts


@torch.inference_mode()
def encode(encoder: Encoder, images: Tensor, labels: Tensor | None) -> Tensor:
    """The noise [N, z_dim] of images in [-1, 1]; in whole chunks, so that a row does not depend on the others."""
    found = []
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK]
        missing = CHUNK - len(some)
        padded = F.pad(some, (0,) * 7 + (missing,))
        chosen = None if labels is None else F.pad(labels[start : start + CHUNK], (0, missing))
        found.append(encoder(padded, chosen)[: len(some)])
    return torch.cat(found)


def open_encoder(
    generator: TrainedGenerator,
    folder: Path | None = None,
    *,
    samples: int | None = None,
    report: Report = lambda *_: None,
) -> Encoder:
    """The encoder of this generator: from the run's folder or the cache, or else learned now and kept there.

    Without a `folder`, or where it cannot be written, it is kept in the cache. `samples` is SAMPLES by default.
    """
    samples = SAMPLES if samples is None else samples
    digest = weights_digest(generator.network)
    key = f"encoder of {digest}, {samples} samples"
    if folder is not None:
        with suppress(OSError, ValueError):
            return _read((folder / FILE).read_bytes(), generator, digest, samples)
    with suppress(*cache.UNREADABLE):
        return _read(cache.read_entry("encoders", key), generator, digest, samples)
    encoder, facts = train(generator, samples, report)
    content = _written(encoder, facts)
    if folder is not None:
        with suppress(OSError, ModisteError):
            files.write_bytes(folder / FILE, content)
            return encoder
    cache.write_entry("encoders", key, content)
    return encoder


def folder_of(run: runs.Run, checkpoint: str) -> Path | None:
    """The folder in which the encoder of this checkpoint of a run is kept; None for the cache.

    A pretrained run is a copy to hand on, whose folder holds nothing else.
    """
    return None if run.is_pretrained() or checkpoint != "last" else run.path


def _written(encoder: Encoder, facts: EncoderFacts) -> bytes:
    from safetensors.torch import save

    tensors = {key: value.contiguous() for key, value in encoder.state_dict().items()}
    return save(tensors, {"encoder": json.dumps(asdict(facts))})


def _read(content: bytes, generator: TrainedGenerator, digest: str, samples: int) -> Encoder:
    """The encoder in a file's content; ValueError where it is damaged or another generator's."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = EncoderFacts(**json.loads(header["__metadata__"]["encoder"]))
        if facts.generator != digest or facts.samples < samples // BATCH * BATCH:
            raise ValueError("another generator's")
        with torch.random.fork_rng([]):
            encoder = Encoder(generator.shape, generator.z_dim)
        encoder.load_state_dict(load(content))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    return encoder.eval()
