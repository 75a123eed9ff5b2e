"""Whether the discriminator knows its training images, and the augmentation that sets in where it does.

The discriminator is asked about as many training as held-out images. If it is right about the first clearly more often,
it has learned them by heart, and what it teaches the generator is no longer true of other images. Augmenting what it
sees is the remedy (Karras et al. 2020); the authors estimate over-fitting from training images alone (r_t) where they
hold none out, and name this comparison (r_v) the better one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modiste import config
from modiste.config import Recipe
from modiste.data.images import Images, tensor_of, to_unit
from modiste.data.sets import open_data
from modiste.data.subsets import drawn_subset
from modiste.networks.layers import ImageShape
from modiste.sampling import generators
from modiste.training import diagnostics, losses
from modiste.training.checkpoint_selection import FIRST_SEED
from modiste.training.step import State

IMAGES = 500
"""Of each kind; a share of them has a standard error of two per cent at most."""
CHUNK = 100
EVERY_IMAGES = 20_000
"""Images shown between two measurements, which take some hundredth of the time of so many."""
SHARE = 0.1
"""By which the probability of an automatic augmentation moves after each measurement."""
LARGEST_SHARE = 0.3
"""More of it costs a greater distance than over-fitting does (docs/results.md, "with few images"). Far below 0.8, up to
which the generator does not learn to augment its images, too (Karras et al. 2020, section 2.2)."""
POLICIES = {1: ("translation",), 3: ("color", "translation")}
"""The transformations of augment.policy = "auto" by channels. No flip, since many things have a left and a right, and
no cutout, since the border of a thing may be all that there is of it."""

Measure = Callable[[State], dict[str, float]]


def is_measured(recipe: Recipe) -> bool:
    """Whether over-fitting can be measured: images are held out, and generators scored on them."""
    return recipe.data.split == "fit" and recipe.evaluate.every_images > 0


def make_measure(recipe: Recipe, dataset: Images, shape: ImageShape) -> Measure | None:
    """A function of the state: the discriminator's accuracies on training and on held-out images, as logged.

    Each image of both kinds stands against the same generated one of its class, as in training, without augmentation.
    None where no images are held out (data.split = "train"), or the recipe never scores a generator on them.
    """
    if not is_measured(recipe):
        return None
    heldout = open_data(recipe.data, part="heldout")
    count = min(IMAGES, len(heldout), len(dataset))
    heldout = heldout.select(drawn_subset(len(heldout), heldout.labels, count, seed=0))
    if heldout.labels is not None and dataset.labels is not None:
        heldout = heldout.select(np.flatnonzero(np.isin(heldout.labels, dataset.labels)))
    chosen = {"train": dataset.select(_rows_like(heldout, dataset)), "heldout": heldout}
    labels = heldout.labels if shape.classes else None
    noise = generators.seed_noise(range(FIRST_SEED, FIRST_SEED + len(heldout)), recipe.network.z_dim)
    loss = losses.adversarial(recipe.loss, recipe.network.conditioning == "auxiliary")

    def measure(state: State) -> dict[str, float]:
        fake = _logits(state, generators.generate(state.ema, noise, labels), labels)
        real = {kind: _logits(state, images.pixels, labels) for kind, images in chosen.items()}
        return {f"d_accuracy_{kind}": losses.accuracies(loss, r, fake)[0].item() for kind, r in real.items()}

    return measure


def _rows_like(images: Images, others: Images) -> NDArray[np.int64]:
    """Rows of others drawn at random, of the same classes as the images, one by one; again where there are fewer."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(others))
    if images.labels is None or others.labels is None:
        return order[: len(images)]
    rows = np.empty(len(images), np.int64)
    for label in np.unique(images.labels):
        wanted = images.labels == label
        rows[wanted] = np.resize(order[others.labels[order] == label], wanted.sum())
    return rows


@torch.no_grad()
def _logits(state: State, pixels: Any, labels: Any) -> Tensor:
    """Logits of a discriminator in evaluation mode, on the processor."""
    device, training = state.meter.device, state.discriminator.training
    state.discriminator.eval()
    found = []
    for start in range(0, len(pixels), CHUNK):
        images = to_unit(tensor_of(pixels[start : start + CHUNK]).to(device))
        chosen = None if labels is None else torch.from_numpy(labels[start : start + CHUNK]).to(device)
        found.append(state.discriminator(images, chosen).float().cpu())
    state.discriminator.train(training)
    return torch.cat(found)


def with_policy(recipe: Recipe, shape: ImageShape) -> Recipe:
    """The recipe with the transformations that augment.policy = "auto" stands for."""
    return config.override(recipe, {"augment.policy": POLICIES[1 if shape.channels == 1 else 3]})


def without_policy(recipe: Recipe) -> Recipe:
    """The recipe as it is trained while its automatic augmentation is off."""
    return config.override(recipe, {"augment.policy": ()})


def moved(probability: float, record: Mapping[str, Any]) -> float:
    """The probability of an automatic augmentation after a line of the log: up where the discriminator over-fits, down
    where it does not, and as before where that was not measured."""
    gap = diagnostics.overfitting(record)
    if gap is None:
        return probability
    step = SHARE if gap > diagnostics.OVERFITTING_GAP else -SHARE
    return round(min(LARGEST_SHARE, max(0.0, probability + step)), 4)
