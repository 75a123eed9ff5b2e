"""Projection: the noise, and the class, of which a generator makes a given picture as nearly as it can.

Starts come from an encoder and from images of random noise that happen to look alike; gradient steps on the noise go
on from the best of them (Zhu et al. 2016, section 3.1), and half of the starts are dropped at a time. The loss has
pixels, a judge's features (Creswell & Bharath 2018 use pixels alone), and a pull to the shell on which nearly all of a
normal distribution lies, which keeps a code plausible. Every row of noise is computed in a chunk of one size, so that
the code of an image depends on the image alone and not on its company.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modiste import environment, parts
from modiste.data.images import Labels, Pixels, tensor_of, to_unit
from modiste.errors import UsageError
from modiste.latent.encoder import Encoder, encode
from modiste.metrics.features import Extractor, differentiable_features
from modiste.sampling.generators import TrainedGenerator, generate, seed_noise

STEPS, STARTS = 100, 2
CLASS_STARTS = 4
"""Starts at least where the class is to be found by features."""
ROWS = 16
"""Rows of noise in one chunk of gradient steps."""
GROUP = 64
"""Images that are projected at a time."""
BANK = 64
"""Random noises, the same for all images and classes, whose images are candidates for a start."""
BANK_SEEDS = 2**31
LEARNING_RATE = 0.1
FEATURES_WEIGHT = 0.05
"""Of the squared distance of features over the squared length of the image's own."""
SHELL_WEIGHT = 0.0008
"""Of the squared distance of the noise's length from the root of z_dim, within about 1 of which random noise lies."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Codes:
    """What a generator makes of some images: row k belongs to image k."""

    noise: NDArray[np.float32]
    """[N, z_dim]"""
    labels: Labels | None
    """[N], given or found; None for a generator without classes."""
    reconstructions: Pixels
    """uint8 [N, C, H, W]: what the generator makes of noise and labels."""
    errors: NDArray[np.float64]
    """[N], see `pixel_error`; over the pixels that were not missing."""

    def __len__(self) -> int:
        return len(self.noise)

    @property
    def lengths(self) -> NDArray[np.float64]:
        """How far out each noise lies [N]: root mean square, near 1 for noise that the generator learned with."""
        return np.asarray(np.sqrt((self.noise.astype(np.float64) ** 2).mean(1)))


def pixel_error(images: Pixels, others: Pixels, missing: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Root mean squared difference [N] of pixels, in steps of 0 to 255, without those `missing` [H, W]."""
    squares = (images.astype(np.float64) - others.astype(np.float64)) ** 2
    known = squares.mean(1) if missing is None else squares.mean(1)[:, ~missing]
    return np.asarray(np.sqrt(known.reshape(len(images), -1).mean(1)))


@parts.errors_named()
def project(
    generator: TrainedGenerator,
    pixels: Pixels,
    labels: Labels | None = None,
    *,
    encoder: Encoder | None = None,
    extractor: Extractor | None = None,
    missing: NDArray[np.bool_] | None = None,
    steps: int = STEPS,
    starts: int = STARTS,
    report: Report = lambda *_: None,
) -> Codes:
    """The codes of images uint8 [N, C, H, W] of the generator's own shape.

    `labels` are the classes to use; without them every class is tried, and the best one found. `encoder` is the
    generator's (`encoder.open_encoder`); without it, starts are random. `extractor` adds its features to the loss where
    it has a network, such as a judge (`metrics.features.primary_extractor`). Pixels that are `missing` [H, W] do not
    count, and neither do features then. `steps` are the gradient steps of the winning start; `starts` begin. `report`
    learns how many of how many images are done. UsageError for images of another shape and labels out of range.

    The same image has the same code in any set and in any call on one machine.
    """
    _check(generator, pixels, labels, missing)
    work = _Work(generator, encoder, extractor if missing is None else None, missing, steps, starts)
    noises, chosen = [], []
    for start in range(0, len(pixels), GROUP):
        part = slice(start, start + GROUP)
        asked = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels[part]))
        noise, found = work.codes(to_unit(tensor_of(pixels[part])), asked)
        noises.append(noise.numpy())
        chosen.append(found)
        report(min(len(pixels), start + GROUP), len(pixels))
    found_labels = torch.cat([one for one in chosen if one is not None]).numpy() if generator.shape.classes else None
    return decoded(generator, np.concatenate(noises), found_labels, pixels, missing)


def decoded(
    generator: TrainedGenerator,
    noise: NDArray[np.float32],
    labels: Labels | None,
    pixels: Pixels,
    missing: NDArray[np.bool_] | None = None,
) -> Codes:
    """The codes with what the generator makes of them, and how far that is from these images."""
    made = generate(generator.network, torch.from_numpy(noise), labels)
    return Codes(noise, labels, made, pixel_error(pixels, made, missing))


def _check(
    generator: TrainedGenerator, pixels: Pixels, labels: Labels | None, missing: NDArray[np.bool_] | None
) -> None:
    shape = generator.shape
    if pixels.shape[1:] != (shape.channels, shape.size, shape.size):
        _, channels, height, width = pixels.shape
        raise UsageError(
            f"the images are {width} x {height} with {channels} channels, and {generator.source} makes {shape.size} x "
            f"{shape.size} with {shape.channels}; bring them to that"
        )
    if labels is not None and not shape.classes:
        raise UsageError(f"{generator.source} was trained without labels, so it cannot make a class; leave it out")
    if labels is not None and not (len(labels) == len(pixels) and labels.min() >= 0 and labels.max() < shape.classes):
        raise UsageError(f"give one label from 0 to {shape.classes - 1} for each of the {len(pixels)} images")
    if missing is not None and (missing.shape != pixels.shape[2:] or missing.all()):
        raise UsageError("the mask must be of the images' size and leave some pixels, from which the rest is filled in")


@dataclass(frozen=True)
class _Candidates:
    """Starts of each image, best first: noise [N, K, z_dim], labels [N, K] or None."""

    noise: Tensor
    labels: Tensor | None

    def keep(self, losses: Tensor, count: int) -> _Candidates:
        """The `count` with the least losses [N, K]."""
        order = losses.argsort(dim=1, stable=True)[:, :count]
        noise = self.noise.gather(1, order[:, :, None].expand(-1, -1, self.noise.shape[2]))
        return _Candidates(noise, None if self.labels is None else self.labels.gather(1, order))


class _Work:
    """What all images of one projection share."""

    def __init__(
        self, generator: TrainedGenerator, encoder: Encoder | None, extractor: Extractor | None,
        missing: NDArray[np.bool_] | None, steps: int, starts: int,
    ) -> None:  # fmt: skip
        self.encoder, self.steps, self.starts = encoder, steps, starts
        self.extractor = extractor if extractor is not None and extractor.network is not None else None
        self.original, self.classes = generator.network, generator.shape.classes
        self.network = deepcopy(generator.network).eval().requires_grad_(False)
        size = generator.shape.size
        self.known = torch.ones(size, size) if missing is None else torch.from_numpy((~missing).astype(np.float32))
        self.bank = seed_noise(range(BANK_SEEDS, BANK_SEEDS + BANK), generator.z_dim)
        every = range(max(1, self.classes))
        self.bank_images = torch.stack([self._made(self.bank, self._full(len(self.bank), label)) for label in every])

    def _full(self, count: int, label: int) -> Tensor | None:
        return torch.full((count,), label) if self.classes else None

    def _made(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Images in [-1, 1], rounded to pixels, in the generator's own chunks."""
        made = generate(self.original, noise, None if labels is None else labels.numpy())
        return to_unit(torch.from_numpy(made))

    def codes(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Noise [N, z_dim] and labels [N] of images [N, C, H, W] in [-1, 1]."""
        found = self._starts(images, labels)
        count, left = found.noise.shape[1], self.steps
        while left > 0:
            steps = left if count == 1 else min(left, max(1, self.steps // 5))
            found, losses = self._descend(found, images, steps, final=count == 1)
            left, count = left - steps, max(1, count // 2)
            found = found.keep(losses, count)
        return found.noise[:, 0], None if found.labels is None else found.labels[:, 0]

    def _starts(self, images: Tensor, labels: Tensor | None) -> _Candidates:
        """The candidates whose images are nearest in pixels: the encoder's of each class, and those of the bank."""
        count, z_dim = len(images), self.bank.shape[1]
        known = self.known.expand_as(images[0]).flatten()
        given = images.flatten(1) * known
        bank = self.bank_images.flatten(2) * known  # [K, BANK, D]
        tried = range(max(1, self.classes))
        apart = torch.cdist(given.double(), bank.flatten(0, 1).double()).square().float().view(count, len(tried), BANK)
        if labels is not None:
            other = torch.arange(len(tried))[None, :] != labels[:, None]
            apart[other] = torch.inf
        near, places = apart.flatten(1).topk(min(self.starts, BANK), largest=False)
        noise, classes, losses = self.bank[places % BANK], places // BANK, near
        if self.encoder is not None:
            filled = images if (self.known > 0).all() else self._filled(images, places[:, 0])
            for label in tried:
                rows = torch.arange(count) if labels is None else (labels == label).nonzero().flatten()
                if not len(rows):
                    continue
                chosen = self._full(len(rows), label)
                guess = encode(self.encoder, filled[rows], chosen)
                made = self._made(guess, chosen).flatten(1) * known
                one, loss = torch.zeros(count, 1, z_dim), torch.full((count, 1), torch.inf)
                one[rows, 0], loss[rows, 0] = guess, (made - given[rows]).square().sum(1)
                noise, losses = torch.cat([one, noise], 1), torch.cat([loss, losses], 1)
                classes = torch.cat([torch.full((count, 1), label), classes], 1)
        found = _Candidates(noise, classes if self.classes else None)
        several = labels is None and self.classes and self.extractor is not None  # features tell classes apart
        return found.keep(losses, min(max(self.starts, CLASS_STARTS) if several else self.starts, losses.shape[1]))

    def _filled(self, images: Tensor, places: Tensor) -> Tensor:
        """The images with their missing pixels from the bank's most similar image."""
        return torch.where(self.known > 0, images, self.bank_images.flatten(0, 1)[places])

    def _descend(self, found: _Candidates, images: Tensor, steps: int, final: bool) -> tuple[_Candidates, Tensor]:
        """So many steps of Adam from each candidate, and the losses [N, K] at their end.

        The `final` ones go to a rate of 0, and only they follow the features, which cost as much as all else; the
        losses at the end always have them.
        """
        count, each, z_dim = found.noise.shape
        noise = found.noise.reshape(-1, z_dim)
        labels = None if found.labels is None else found.labels.reshape(-1)
        of_image = torch.arange(count).repeat_interleave(each)

        def work(start: int) -> tuple[Tensor, Tensor]:
            rows = torch.arange(start, min(start + ROWS, len(noise)))
            rows = torch.cat([rows, rows[:1].expand(ROWS - len(rows))])  # repeated, so that all chunks are of one size
            chosen = None if labels is None else labels[rows]
            return self._steps(noise[rows], chosen, images[of_image[rows]], steps, final)

        done = environment.in_parallel(work, range(0, len(noise), ROWS))
        moved = torch.cat([one for one, _ in done])[: len(noise)].view(count, each, z_dim)
        return _Candidates(moved, found.labels), torch.cat([loss for _, loss in done])[: len(noise)].view(count, each)

    def _steps(
        self, noise: Tensor, labels: Tensor | None, images: Tensor, steps: int, final: bool
    ) -> tuple[Tensor, Tensor]:
        features = None if self.extractor is None else differentiable_features(self.extractor, images).detach()
        followed = features if final else None
        noise = noise.clone().requires_grad_()
        optimiser = torch.optim.Adam([noise], LEARNING_RATE)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2 if final else LEARNING_RATE
            (noise.grad,) = torch.autograd.grad(self._loss(noise, labels, images, followed).sum(), noise)
            optimiser.step()
        with torch.no_grad():
            return noise.detach(), self._loss(noise, labels, images, features)

    def _loss(self, noise: Tensor, labels: Tensor | None, images: Tensor, features: Tensor | None) -> Tensor:
        """[N]: mean square over known pixels in [-1, 1], features, and how far the noise is off its shell."""
        made: Tensor = self.network(noise, labels).float()
        loss = ((made - images).square() * self.known).sum((1, 2, 3)) / (self.known.sum() * made.shape[1])
        length = noise.square().sum(1).clamp_min(1e-12).sqrt()
        loss = loss + SHELL_WEIGHT * (length - math.sqrt(noise.shape[1])).square()
        if features is not None and self.extractor is not None:
            apart = (differentiable_features(self.extractor, made) - features).square().sum(1)
            loss = loss + FEATURES_WEIGHT * apart / features.square().sum(1).clamp_min(1e-6)
        return loss
