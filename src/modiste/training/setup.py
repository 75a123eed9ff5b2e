"""Set up a training from its recipe: run folder, networks, optimisers, batches, and checks that they fit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modiste import config, parts, runs, schema
from modiste.config import Recipe
from modiste.data.classes import check_learnable
from modiste.data.images import Images, Note, Pixels, describe_images, tensor_of, to_unit
from modiste.data.sets import check_varied, list_notes, open_data, resolved_name
from modiste.data.subsets import batch_indices
from modiste.environment import choose_device, seed_for
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.training import checkpoint_selection, distributed, finetune, flat, overfitting, own_parts, resume
from modiste.training.distributed import ProcessGroup
from modiste.training.step import METER, Batch, State

FEW_IMAGES = 100
"""From so many on, images of no groups leave enough to hold out."""


def processes_of(recipe: Recipe) -> int:
    """The number of processes this recipe trains with here, unless a launcher starts them."""
    return distributed.plan_group(choose_device(recipe.train.device), recipe.train.processes).size


def make_state(recipe: Recipe, shape: ImageShape, device: str) -> State:
    """New networks and optimisers; the weights depend on the recipe's seed alone."""
    train = recipe.train
    torch.manual_seed(seed_for(recipe.seed, "weights"))
    generator = build_generator(recipe.network, shape).to(device)
    discriminator = build_discriminator(recipe.network, shape).to(device)
    for module in (generator, discriminator):
        module.to(memory_format=_layout(train))  # type: ignore[call-overload]
    ema = copy.deepcopy(generator).requires_grad_(False) if train.ema_halflife_images else generator
    weights_g, weights_d = flat.join_weights(generator), flat.join_weights(discriminator)
    ema_weights = weights_g if ema is generator else flat.join(list(ema.parameters()))
    optimizer_g = make_optimizer(train, weights_g, train.lr_generator)
    optimizer_d = make_optimizer(train, weights_d, train.lr_discriminator)
    meter = torch.zeros(len(METER), device=device, dtype=torch.float32 if device == "mps" else torch.float64)
    share = 0.0 if recipe.augment.policy == "auto" else recipe.augment.probability
    probability = torch.tensor(share, device=device)
    return State(generator, discriminator, ema, ema_weights, optimizer_g, optimizer_d, meter, probability)


def make_optimizer(train: config.Train, weights: nn.Parameter, rate: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015) or RMSprop (Tieleman & Hinton 2012) on a network's joined weights."""
    if train.optimizer == "rmsprop":
        return torch.optim.RMSprop([weights], lr=rate, alpha=train.beta2, eps=train.epsilon)
    betas, fused = (train.beta1, train.beta2), weights.device.type != "mps"
    return torch.optim.Adam([weights], lr=rate, betas=betas, eps=train.epsilon, fused=fused)


def _layout(train: config.Train) -> torch.memory_format:
    return torch.channels_last if train.channels_last else torch.contiguous_format


def batches(
    recipe: Recipe, dataset: Images, shape: ImageShape, group: ProcessGroup, device: str
) -> Callable[[int], list[Batch]]:
    """A function from a position (images shown) to this rank's parts of the batch there.

    A batch is an index into the data set, which may be mapped from a file that is larger than memory. On a GPU with
    room for it the whole set is one uint8 tensor there.
    """
    train, seed = recipe.train, recipe.seed
    part = group.slice(train.batch_size)
    on_device = tensor_of(dataset.pixels).to(device) if _fits(dataset, device) else None
    labels = torch.from_numpy(dataset.labels).to(device) if shape.classes and dataset.labels is not None else None
    # torch.manual_seed seeds every device there could be, and keeps a stack trace for each that is not in use.
    seed_processor = torch.default_generator.manual_seed
    seed_device = {"cpu": seed_processor, "cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}[device]

    def batch_at(images: int) -> list[Batch]:
        rows = batch_indices(len(dataset), seed, images, train.batch_size)[part]
        indices = _sent(torch.from_numpy(rows), device)
        chosen_pixels = _sent(_rows_of(dataset.pixels, rows), device) if on_device is None else on_device[indices]
        real = to_unit(chosen_pixels).to(memory_format=_layout(train))
        # All ranks draw the whole batch's noise and take their part, so that the batch is the same for any group.
        seed_processor(seed_for(seed, "noise", images))
        noise = _sent(torch.randn(train.batch_size, recipe.network.z_dim)[part], device)
        seed_device(seed_for(seed, "layers", images, group.rank))
        count = train.accumulate
        chosen = [None] * count if labels is None else labels[indices].chunk(count)
        return [Batch(*one) for one in zip(real.chunk(count), chosen, noise.chunk(count), strict=True)]

    return batch_at


def _fits(dataset: Images, device: str) -> bool:
    """Whether the data set is to lie on the device: on a GPU with twice the room, and not in the memory of a CPU."""
    if device == "cuda":
        return dataset.pixels.nbytes * 2 < torch.cuda.mem_get_info()[0]
    return device != "cpu" and dataset.source is None


def _rows_of(pixels: Pixels, rows: NDArray[np.int64]) -> Tensor:
    """The images at these indices as a tensor of their own."""
    return torch.from_numpy(np.ascontiguousarray(pixels[rows]))


def _sent(values: Tensor, device: str) -> Tensor:
    """The values on the device; to a CUDA device they are copied while it still computes."""
    return values.pin_memory().to(device, non_blocking=True) if device == "cuda" else values.to(device)


def resolve(recipe: Recipe, dataset: Images, overrides: Container[str] = ()) -> Recipe:
    """The recipe as it is trained on these images: its length in images, and no classes where they have no labels.

    A conditioning that is among the overridden keys stays, and is refused later.
    """
    recipe = config.resolve(recipe, len(dataset))
    if dataset.labels is not None or recipe.network.conditioning == "none" or "network.conditioning" in overrides:
        return recipe
    return config.override(recipe, {"network.conditioning": "none"}, f"{dataset.name} has no labels")


@dataclass(frozen=True)
class WithoutClasses(Note):
    """A recipe with classes that is trained without them because the images have no labels."""

    recipe: str
    place: str

    def __str__(self) -> str:
        return (
            f"{self.place} has no labels; so {self.recipe} is trained without classes (network.conditioning = 'none')"
        )


def noticed(recipe: Recipe, dataset: Images) -> tuple[Note, ...]:
    """What the user should know of these images, and of what `resolve` changes in the recipe."""
    unlabelled = dataset.labels is None and recipe.network.conditioning != "none"
    return (*((WithoutClasses(recipe.name, dataset.name),) if unlabelled else ()), *list_notes(dataset))


def fit_to_data(recipe: Recipe, path: Path, overrides: Container[str]) -> tuple[Recipe, Images, list[str]]:
    """Open the images; returns the recipe as it is trained on them in that run folder, the images, and lines to log."""
    recipe = resume.with_settings_of_run(recipe, path, overrides)
    dataset = resume.with_labels_of_run(open_data(recipe.data), path)
    about = describe_images(dataset)
    if dataset.labels is not None and recipe.network.conditioning == "none":
        about += "; the recipe is unconditional and leaves the labels aside (network.conditioning = 'none')"
    lines = [about, *(f"warning: {note}" for note in noticed(recipe, dataset))]
    if recipe.augment.policy == "auto" and not overfitting.is_measured(recipe):
        lines.append("note: no images are held out to judge over-fitting by, so augment.policy = 'auto' stays off")
    lines += [f"note: this training runs code of your own, {text}" for text in config.own_parts(recipe)]
    recipe = resolve(recipe, dataset, overrides)
    check_fit(recipe, dataset, has_started=runs.exists(path) and bool(runs.states(runs.Run(path))))
    return recipe, dataset, lines


def check_fit(recipe: Recipe, dataset: Images, has_started: bool = False) -> None:
    """UsageError unless batch, data, processes, networks and, until it has started, the ancestor fit together."""
    check_varied(dataset)
    count, batch_size = len(dataset), recipe.train.batch_size
    if count < batch_size:
        raise UsageError(
            f"train.batch_size = {batch_size} is larger than {dataset.name} with {count} images; "
            f"use --set train.batch_size={count} or less"
        )
    size = processes_of(recipe)
    pieces = size * recipe.train.accumulate
    if batch_size % pieces:
        raise UsageError(
            f"train.batch_size = {batch_size} cannot be split over {size} processes with "
            f"{recipe.train.accumulate} parts each; make it a multiple of {pieces}"
        )
    if recipe.loss.top_k_share < 1 and pieces > 1:
        raise UsageError(
            f"loss.top_k_share = {recipe.loss.top_k_share} chooses among the whole batch, and this one is split into "
            f"{pieces} parts; use --set train.processes=1 and --set train.accumulate=1"
        )
    normalised = "batch" in (recipe.network.generator_norm, recipe.network.discriminator_norm)
    if normalised and batch_size == pieces:
        raise UsageError(
            f"train.batch_size = {batch_size} gives batch norm one image at a time in {pieces} parts, and it needs "
            f"two; use --set train.batch_size={2 * pieces} or more"
        )
    shape = image_shape(recipe, dataset)
    if shape.classes:
        check_learnable(dataset, limited=recipe.data.count is not None)
    own_parts.check(recipe, shape)
    if not own_parts.are_networks(recipe):
        with torch.device("meta"):  # raises what the network families refuse, before a run folder exists
            build_generator(recipe.network, shape)
            build_discriminator(recipe.network, shape)
    if recipe.evaluate.every_images and (len(dataset) < FEW_IMAGES or recipe.data.group_by):
        checkpoint_selection.open_heldout(recipe)
    if recipe.finetune.ancestor and not has_started:
        finetune.check(recipe, dataset, shape)


def image_shape(recipe: Recipe, dataset: Images) -> ImageShape:
    """Channels, side and classes that the networks are built for; no classes without conditioning."""
    _, channels, _, size = dataset.pixels.shape
    conditional = recipe.network.conditioning != "none"
    return ImageShape(channels, size, len(dataset.class_names) if conditional and dataset.labels is not None else 0)


def resolve_run(
    recipe: Recipe | str | Path, out: str | Path | None, overrides: Mapping[str, Any]
) -> tuple[Recipe, Path]:
    """The recipe with its overrides, and the run folder: `out`, or runs/NAME (runs/NAME-seedK for another seed).

    Code of the user's own is pinned, and so may run (see `parts`); that of a run folder must have run here before.
    """
    if not isinstance(recipe, Recipe):
        recipe = runs.resolve_trainable(str(recipe), out)
        if recipe not in schema.shipped() and runs.exists(Path(recipe)):
            out = recipe if out is None else out
            folder, recipe = Path(recipe), runs.open_run(recipe).read_recipe()
            parts.require_trusted(config.own_parts(recipe), folder)
        else:
            recipe = config.load(recipe)
    recipe = config.override(recipe, overrides)
    recipe = config.override(recipe, {"data.name": resolved_name(recipe.data.name)})
    recipe = config.with_own_parts(recipe, parts.pin)
    if out is None:
        out = Path("runs") / (recipe.name + (f"-seed{recipe.seed}" if recipe.seed else ""))
    return finetune.with_networks_of_ancestor(recipe, overrides, Path(out)), Path(out)
