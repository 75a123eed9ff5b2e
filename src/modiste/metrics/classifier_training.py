"""Training a classifier of images: its batches, their augmentation, its learning rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modiste import environment
from modiste.data.images import Images, to_unit
from modiste.networks.classifier import Classifier, Kind

BATCH = 128
PEAK_LEARNING_RATE = 0.1
AUGMENTATION = 0x4A7D6  # keeps this use of (seed, epoch) apart from all other random streams


def learn(
    images: Images,
    *,
    kind: Kind = "residual",
    epochs: int,
    seed: int = 0,
    flip: bool = False,
    after_epoch: Callable[[int, float, Classifier, float], None] | None = None,
) -> Classifier:
    """A classifier of labelled images, trained as `train` says; `after_epoch` hears number, loss, network, seconds."""
    with environment.own_random_numbers():
        torch.manual_seed(seed)
        network = Classifier(kind, images.pixels.shape[1], len(images.class_names))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=PEAK_LEARNING_RATE, momentum=0.9, nesterov=True)
    batch = min(BATCH, len(images))
    steps = epochs * (len(images) // batch)
    rise = min(0.9, max(0.1, 2 / steps))  # of exactly ten steps a tenth is none, by which torch would divide
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=rise)
    low = environment.choose_precision("auto", "cpu") == "bfloat16"
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        losses = []
        network.train()
        for pixels, labels in augmented_batches(images, batch, seed, epoch - 1, flip):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                _, logits = network(_channels_last(to_unit(pixels)))
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        if after_epoch:
            after_epoch(epoch, float(torch.stack(losses).mean()), network, time.monotonic() - start)
    return network.eval()


def augmented_batches(
    images: Images, batch: int, seed: int, epoch: int, flip: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled, shifted, partly erased batches: pixels uint8 [B, C, H, W] and labels int64 [B].

    With `flip` every image is mirrored in every other epoch: half of them in even ones, the others in odd ones.
    """
    assert images.labels is not None
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, AUGMENTATION])))
    count, _, height, width = images.pixels.shape
    reach = max(1, width // 14)
    order = random.permutation(count)
    first_half = np.random.Generator(np.random.PCG64(seed)).random(count) < 0.5
    mirrored = np.not_equal(first_half, bool(epoch % 2))
    for start in range(0, count - batch + 1, batch):
        chosen = order[start : start + batch]
        padded = np.pad(images.pixels[chosen], ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        down, right = random.integers(0, 2 * reach + 1, (2, batch))
        pixels = windows[np.arange(batch), :, down, right]
        if flip:
            pixels = np.where(mirrored[chosen][:, None, None, None], pixels[..., ::-1], pixels)
        yield torch.from_numpy(_erased(pixels, random)), torch.from_numpy(images.labels[chosen])


def _erased(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Half of the images with a rectangle of 2 to 20 % of their area set to one random value (Zhong et al. 2020)."""
    count, _, height, width = pixels.shape
    area = random.uniform(0.02, 0.2, count) * height * width
    aspect = np.exp(random.uniform(-1.0, 1.0, count))
    tall = np.clip(np.sqrt(area * aspect), 1, height).astype(int)
    wide = np.clip(np.sqrt(area / aspect), 1, width).astype(int)
    top = (random.random(count) * (height - tall + 1)).astype(int)
    left = (random.random(count) * (width - wide + 1)).astype(int)
    rows, columns = np.arange(height), np.arange(width)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    chosen = random.random((count, 1, 1, 1)) < 0.5
    erased = chosen & inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return np.where(erased, random.integers(0, 256, (count, 1, 1, 1), dtype=np.uint8), pixels)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
