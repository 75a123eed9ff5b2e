"""The training of every image classifier: batches, augmentation, learning rate, precision, seed; and its use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from modiste import environment
from modiste.data.images import Images, tensor_of, to_unit
from modiste.errors import UsageError
from modiste.networks.classifier import FEATURES, Classifier, Kind

BATCH = 128
CHUNK = 50
"""Images per forward pass when classifying: a constant, so that an image's features do not depend on the others. Of
50 images the maps stay in the processor's cache."""
PEAK_LEARNING_RATE = 0.1
AUGMENTATION = 0x4A7D6  # keeps this use of (seed, epoch) apart from all other random streams

Batch = tuple[Tensor, Tensor]
"""Pixels uint8 [B, C, H, W] and labels int64 [B]."""
AfterEpoch = Callable[[int, float, Classifier, float], None]
"""Called with the epoch's number from 1, its mean loss, the network and the seconds since the training began."""


def train_classifier(
    images: Images,
    *,
    kind: Kind = "residual",
    epochs: int,
    seed: int = 0,
    flip: bool = False,
    after_epoch: AfterEpoch | None = None,
) -> Classifier:
    """A classifier of labelled images after that many epochs of augmented batches of 128, on the processor.

    The learning rate rises to 0.1 over a tenth of the training and falls to zero along cosines; momentum goes the
    other way, between 0.95 and 0.85.
    """
    if epochs < 1:
        raise UsageError(f"a classifier cannot be trained for {epochs} epochs; give 1 or more")
    batch = min(BATCH, len(images))
    steps = epochs * (len(images) // batch)
    rise = min(0.9, max(0.1, 2 / steps))  # of exactly ten steps a tenth is none, by which torch would divide
    return run_training(
        new_classifier(kind, images, seed),
        (augmented_batches(images, batch, seed, epoch, flip) for epoch in range(epochs)),
        lambda optimizer: OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=rise),
        after_epoch=after_epoch,
    )


def new_classifier(kind: Kind, images: Images, seed: int) -> Classifier:
    """A classifier for these images with initial weights from the seed."""
    with environment.own_random_numbers():
        torch.manual_seed(seed)
        return Classifier(kind, images.pixels.shape[1], len(images.class_names))


def run_training(
    network: Classifier,
    epochs: Iterable[Iterable[Batch]],
    make_schedule: Callable[[Optimizer], LRScheduler],
    *,
    device: str = "cpu",
    after_epoch: AfterEpoch | None = None,
) -> Classifier:
    """Train the network on every batch of every epoch; return it in eval mode.

    Stochastic gradient descent with Nesterov momentum 0.9 and weight decay 5e-4 on the layers' weights, in bfloat16
    where the device has it. Repeats bit for bit on the processor with the same batches, weights and threads.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=PEAK_LEARNING_RATE, momentum=0.9, nesterov=True)
    schedule = make_schedule(optimizer)
    low = environment.choose_precision("auto", device) == "bfloat16"
    start = time.monotonic()
    for epoch, batches in enumerate(epochs, 1):
        losses = []
        network.train()
        for pixels, labels in batches:
            with torch.autocast(device, torch.bfloat16, enabled=low):
                _, logits = network(_network_input(pixels, device))
            loss = F.cross_entropy(logits.float(), labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        if after_epoch:
            after_epoch(epoch, float(torch.stack(losses).mean()), network, time.monotonic() - start)
    return network.eval()


def _network_input(pixels: Tensor, device: torch.device | str) -> Tensor:
    return to_unit(pixels.to(device)).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def classify(network: Classifier, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [N, 128] and logits [N, classes] of pixels uint8 [N, C, H, W], by a network in eval mode."""
    device, classes = network.head.weight.device, network.head.out_features
    features, logits = [np.empty((0, FEATURES), np.float32)], [np.empty((0, classes), np.float32)]
    for start in range(0, len(pixels), CHUNK):
        images = tensor_of(pixels[start : start + CHUNK])
        padded = torch.cat([images, images.new_zeros(CHUNK - len(images), *images.shape[1:])])
        for found, results in zip(network(_network_input(padded, device)), (features, logits), strict=True):
            results.append(found[: len(images)].float().cpu().numpy())
    return np.concatenate(features), np.concatenate(logits)


def confusion_matrix(network: Classifier, images: Images) -> NDArray[np.int64]:
    """Counts int64 [classes, classes] of labelled images: rows are true classes, columns predicted ones."""
    assert images.labels is not None
    classes = network.head.out_features
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (images.labels, classify(network, images.pixels)[1].argmax(1)), 1)
    return confusion


def accuracy(network: Classifier, images: Images) -> float:
    """The share of labelled images that the classifier gets right, in [0, 1]."""
    return float((classify(network.eval(), images.pixels)[1].argmax(1) == images.labels).mean())


def augmented_batches(images: Images, batch: int, seed: int, epoch: int, flip: bool = False) -> Iterator[Batch]:
    """One epoch of shuffled, shifted, partly erased batches.

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
        indices = order[start : start + batch]
        padded = np.pad(images.pixels[indices], ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        down, right = random.integers(0, 2 * reach + 1, (2, batch))
        pixels = windows[np.arange(batch), :, down, right]
        if flip:
            pixels = np.where(mirrored[indices][:, None, None, None], pixels[..., ::-1], pixels)
        yield torch.from_numpy(_erased(pixels, random)), torch.from_numpy(images.labels[indices])


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
    selected = random.random((count, 1, 1, 1)) < 0.5
    erased = selected & inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return np.where(erased, random.integers(0, 256, (count, 1, 1, 1), dtype=np.uint8), pixels)
