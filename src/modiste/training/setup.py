"""From a recipe to the objects of a training: networks, optimisers, schedules, batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from modiste import config, runs
from modiste.config import Recipe
from modiste.data.classes import check_learnable
from modiste.data.images import Images, Note, batch_indices, to_unit
from modiste.data.sets import all_notes, check_varied, resolved_name
from modiste.environment import choose_device, seed_for
from modiste.errors import UsageError
from modiste.networks.build import Shape, build_discriminator, build_generator
from modiste.training import diffaugment, distributed, losses, penalties
from modiste.training.distributed import ProcessGroup
from modiste.training.step import (
    METER,
    Batch,
    State,
    StepFunctions,
    backward_by_class,
    backward_of_mean,
    clip_weights,
    stop_unless_finite,
    unchecked,
)


def processes_of(recipe: Recipe) -> int:
    """The processes of a training by this recipe here, where it is started alone."""
    return distributed.plan_group(choose_device(recipe.train.device), recipe.train.processes).size


def make_state(recipe: Recipe, shape: Shape, device: str) -> State:
    """Fresh networks and optimisers; the weights depend on the recipe's seed alone."""
    train = recipe.train
    torch.manual_seed(seed_for(recipe.seed, "weights"))
    generator = build_generator(recipe.network, shape).to(device)
    discriminator = build_discriminator(recipe.network, shape).to(device)
    for module in (generator, discriminator):
        module.to(memory_format=_layout(train))  # type: ignore[call-overload]
    ema = copy.deepcopy(generator).requires_grad_(False) if train.ema_halflife_images else generator
    optimizer_g = make_optimizer(train, generator, train.lr_generator)
    optimizer_d = make_optimizer(train, discriminator, train.lr_discriminator)
    meter = torch.zeros(len(METER), device=device, dtype=torch.float32 if device == "mps" else torch.float64)
    probability = torch.tensor(recipe.augment.probability, device=device)
    return State(generator, discriminator, ema, optimizer_g, optimizer_d, meter, probability)


def make_optimizer(train: config.Train, module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015) or RMSprop (Tieleman & Hinton 2012) on all weights of a network."""
    if train.optimizer == "rmsprop":
        return torch.optim.RMSprop(module.parameters(), lr=rate, alpha=train.beta2, eps=train.epsilon)
    betas, fused = (train.beta1, train.beta2), next(module.parameters()).device.type != "mps"
    return torch.optim.Adam(module.parameters(), lr=rate, betas=betas, eps=train.epsilon, fused=fused)


def make_step_functions(
    recipe: Recipe, state: State, group: ProcessGroup, device: str, precision: str
) -> StepFunctions:
    """The objects that say how this recipe plays."""
    train, loss, network, augment = recipe.train, recipe.loss, recipe.network, recipe.augment
    compiled = torch.compile if train.compile else _as_it_is
    discriminator = compiled(state.discriminator)
    changed = partial(_changed, augment.policy, state) if augment.policy else _as_it_is
    watched = _as_it_is if loss.balanced_consistency_weight else changed  # bCR plays its game on images as they are
    has_batch_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in state.discriminator.modules())
    by_class = partial(backward_by_class, state.discriminator, loss.group_clip)
    top = partial(losses.mean_of_top, loss.top_k_share, loss.top_k_images)
    after = [partial(clip_weights, loss.weight_clip)] if loss.weight_clip else []
    after += [partial(_adapt, recipe, group)] if augment.policy and augment.adapt_target else []
    low = partial(torch.autocast, device, dtype=torch.bfloat16)
    return StepFunctions(
        generator=compiled(state.generator),
        discriminator=lambda images, labels: discriminator(watched(images), labels),
        both_logits=partial(_apart if has_batch_norm else _together, discriminator, watched),
        pair=losses.adversarial(loss, network.conditioning == "auxiliary"),
        penalty=penalties.chosen(loss, state.discriminator, changed, train.batch_size),
        backward=by_class if loss.group_clip else backward_of_mean,
        generator_mean=top if loss.top_k_share < 1 else losses.mean_of_all,
        after_discriminator=after,
        check=stop_unless_finite if device == "cpu" else unchecked,
        autocast=low if precision == "bfloat16" else nullcontext,
        discriminator_steps=train.discriminator_steps,
        batch_size=train.batch_size,
        learning_rates=partial(learning_rates, train),
        ema_decay=partial(ema_decay, train),
    )


T = TypeVar("T")


def _as_it_is(thing: T) -> T:
    return thing


def _changed(policy: tuple[str, ...], state: State, images: Tensor) -> Tensor:
    return diffaugment.augment(policy, images, state.augment_probability)


def _adapt(recipe: Recipe, group: ProcessGroup, state: State, accuracy_real: Tensor) -> None:
    """Augmentation that follows the discriminator's over-fitting, as all ranks together see it."""
    mean = distributed.sum_over_processes(accuracy_real, group) / group.size
    share = recipe.train.batch_size / recipe.augment.adapt_images
    probability = state.augment_probability
    probability.copy_(diffaugment.adapted(probability, mean, recipe.augment.adapt_target, share))


def _apart(
    discriminator: Callable[..., Tensor],
    watched: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Batch norm must not mix real and fake, or their statistics would give them away (Radford et al. 2016)."""
    return discriminator(watched(real), labels), discriminator(watched(fake), labels)


def _together(
    discriminator: Callable[..., Tensor],
    watched: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Without batch norm one pass over both gives the same logits for less."""
    twice = None if labels is None else torch.cat([labels, labels])
    real_logits, fake_logits = discriminator(watched(torch.cat([real.to(fake.dtype), fake])), twice).chunk(2)
    return real_logits, fake_logits


def _layout(train: config.Train) -> torch.memory_format:
    return torch.channels_last if train.channels_last else torch.contiguous_format


def learning_rates(train: config.Train, images: int) -> tuple[float, float]:
    """The generator's and the discriminator's learning rate after so many images."""
    share = min(1.0, images / (train.images or 1))
    factor = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}[train.lr_schedule]
    warm = min(1.0, (images + train.batch_size) / train.lr_warmup_images) if train.lr_warmup_images else 1.0
    return train.lr_generator * factor * warm, train.lr_discriminator * factor * warm


def ema_decay(train: config.Train, images: int) -> float:
    """How much of the average stays at one generator update (half-life and ramp as in Karras et al. 2020)."""
    halflife = min(train.ema_halflife_images, images * train.ema_ramp) if train.ema_ramp else train.ema_halflife_images
    return float(0.5 ** (train.batch_size * train.discriminator_steps / max(halflife, 1e-8)))


def batches(
    recipe: Recipe, dataset: Images, shape: Shape, group: ProcessGroup, device: str
) -> Callable[[int], list[Batch]]:
    """A function from a position (images shown) to this rank's parts of the batch there.

    The whole set lives on the device as one uint8 tensor; a batch is an index into it.
    """
    train, seed = recipe.train, recipe.seed
    mine = group.slice(train.batch_size)
    pixels = torch.from_numpy(dataset.pixels).to(device)
    labels = torch.from_numpy(dataset.labels).to(device) if shape.classes and dataset.labels is not None else None
    # torch.manual_seed seeds every device there could be, and keeps a stack trace for each that is not in use.
    seed_processor = torch.default_generator.manual_seed
    seed_device = {"cpu": seed_processor, "cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}[device]

    def batch_at(images: int) -> list[Batch]:
        indices = _sent(torch.from_numpy(batch_indices(len(pixels), seed, images, train.batch_size)[mine]), device)
        real = to_unit(pixels[indices]).to(memory_format=_layout(train))
        # All ranks draw the whole batch's noise and take their part, so that the batch is the same for any group.
        seed_processor(seed_for(seed, "noise", images))
        noise = _sent(torch.randn(train.batch_size, recipe.network.z_dim)[mine], device)
        seed_device(seed_for(seed, "layers", images, group.rank))
        chosen = [None] * train.accumulate if labels is None else labels[indices].chunk(train.accumulate)
        return [
            Batch(*part)
            for part in zip(real.chunk(train.accumulate), chosen, noise.chunk(train.accumulate), strict=True)
        ]

    return batch_at


def _sent(values: Tensor, device: str) -> Tensor:
    """The values on the device; to a CUDA device they go while it still computes, and nobody waits for it."""
    return values.pin_memory().to(device, non_blocking=True) if device == "cuda" else values.to(device)


def resolve(recipe: Recipe, dataset: Images, asked: Container[str] = ()) -> Recipe:
    """The recipe as it is trained on these images: its length counted in them, and no classes where they have none.

    A conditioning that is among the `asked` keys stays, and is refused later.
    """
    recipe = config.resolve(recipe, len(dataset))
    if dataset.labels is not None or recipe.network.conditioning == "none" or "network.conditioning" in asked:
        return recipe
    return config.override(recipe, {"network.conditioning": "none"}, f"{dataset.name} has no labels")


@dataclass(frozen=True)
class WithoutClasses(Note):
    """A recipe with classes that is trained without them, as the images have no labels."""

    recipe: str
    place: str

    def __str__(self) -> str:
        return (
            f"{self.place} has no labels; so {self.recipe} is trained without classes (network.conditioning = 'none')"
        )


def noticed(recipe: Recipe, dataset: Images) -> tuple[Note, ...]:
    """What the user must be told of these images, and of what `resolve` makes of the recipe."""
    bare = dataset.labels is None and recipe.network.conditioning != "none"
    return (*((WithoutClasses(recipe.name, dataset.name),) if bare else ()), *all_notes(dataset))


def labels_note(recipe: Recipe, dataset: Images) -> str:
    """What becomes of the labels, where somebody could wonder."""
    if dataset.labels is None or recipe.network.conditioning != "none":
        return ""
    return "; the recipe is unconditional and leaves the labels aside (network.conditioning = 'none')"


def check_fit(recipe: Recipe, dataset: Images) -> None:
    """UsageError unless batch, data, processes and networks fit each other."""
    check_varied(dataset)
    count, batch_size = len(dataset), recipe.train.batch_size
    if count < batch_size:
        raise UsageError(
            f"train.batch_size = {batch_size} is larger than {dataset.name} with {count} images; "
            f"use --set train.batch_size={count} or less"
        )
    size = processes_of(recipe)
    parts = size * recipe.train.accumulate
    if batch_size % parts:
        raise UsageError(
            f"train.batch_size = {batch_size} cannot be split over {size} processes with "
            f"{recipe.train.accumulate} parts each; make it a multiple of {parts}"
        )
    if recipe.loss.top_k_share < 1 and parts > 1:
        raise UsageError(
            f"loss.top_k_share = {recipe.loss.top_k_share} chooses among the whole batch, and this one is split into "
            f"{parts} parts; use --set train.processes=1 and --set train.accumulate=1"
        )
    normalised = "batch" in (recipe.network.generator_norm, recipe.network.discriminator_norm)
    if normalised and batch_size == parts:
        raise UsageError(
            f"train.batch_size = {batch_size} gives batch norm one image at a time in {parts} parts, and it needs two; "
            f"use --set train.batch_size={2 * parts} or more"
        )
    if image_shape(recipe, dataset).classes:
        check_learnable(dataset, limited=recipe.data.count is not None)
    with torch.device("meta"):  # what the families themselves refuse, before a run folder exists
        shape = image_shape(recipe, dataset)
        build_generator(recipe.network, shape)
        build_discriminator(recipe.network, shape)


def image_shape(recipe: Recipe, dataset: Images) -> Shape:
    """What the networks must know of the data; without conditioning the classes do not count."""
    _, channels, _, size = dataset.pixels.shape
    conditional = recipe.network.conditioning != "none"
    return Shape(channels, size, len(dataset.class_names) if conditional and dataset.labels is not None else 0)


def resolve_run(
    recipe: Recipe | str | Path, out: str | Path | None, overrides: Mapping[str, Any]
) -> tuple[Recipe, Path]:
    """The recipe with its overrides, and the run folder: `out`, or runs/NAME (runs/NAME-seedK for another seed)."""
    if not isinstance(recipe, Recipe):
        recipe = runs.resolve_trainable(str(recipe), out)
        if recipe not in config.shipped() and runs.exists(Path(recipe)):
            out = recipe if out is None else out
            recipe = runs.open_run(recipe).read_recipe()
        else:
            recipe = config.load(recipe)
    recipe = config.override(recipe, overrides)
    recipe = config.override(recipe, {"data.name": resolved_name(recipe.data.name)})
    if out is None:
        out = Path("runs") / (recipe.name + (f"-seed{recipe.seed}" if recipe.seed else ""))
    return recipe, Path(out)
