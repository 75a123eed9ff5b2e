"""The training step: discriminator updates, then one generator update. The whole algorithm is in this file.

`make_step_functions` turns a recipe into functions, and `step` calls them without asking for options. Neither knows
data sets, files or ticks. Losses and penalties are values per image, averaged once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from modiste.config import Recipe, Train
from modiste.errors import ModisteError
from modiste.training import diffaugment, distributed, flat, losses, penalties
from modiste.training.distributed import ProcessGroup
from modiste.training.losses import AdversarialLoss
from modiste.training.penalties import Penalty

T = TypeVar("T")


class Diverged(ModisteError):
    """A loss, penalty or gradient is infinite or not a number."""


@dataclass(frozen=True)
class Batch:
    """Real images float [N, C, H, W] in [-1, 1], their labels int64 [N] or None, and noise [N, z_dim]."""

    real: Tensor
    labels: Tensor | None
    noise: Tensor


@dataclass(frozen=True)
class StepFunctions:
    """The functions and settings of one training step, as a recipe asks for them."""

    generator: Callable[[Tensor, Tensor | None], Tensor]
    discriminator: Callable[[Tensor, Tensor | None], Tensor]
    both_logits: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
    """Logits [N] of real and of generated images."""
    loss: AdversarialLoss
    penalty: Penalty
    backward: Callable[[Tensor, Tensor | None, int], None]
    """Takes the discriminator's losses [N], their labels and the number of parts of the batch; adds the gradient of
    this part's share of the mean to the weights."""
    generator_mean: Callable[[Tensor, Tensor, int], Tensor]
    """Takes the generator's losses [N], the logits and the images shown; returns the scalar it learns from."""
    after_discriminator: Sequence[Callable[[State, Tensor], None]]
    """Called after each discriminator update with its accuracy on real images."""
    check: Callable[[int, Mapping[str, Tensor]], None]
    """Takes the images shown and named terms before they change the weights; raises Diverged if one is not finite. Each
    check would wait for a GPU, so there it does nothing, and the trainer checks before it saves."""
    autocast: Callable[[], AbstractContextManager[Any]]
    discriminator_steps: int
    batch_size: int
    learning_rates: Callable[[int], Sequence[float | Tensor]]
    """The generator's and the discriminator's learning rate after so many images."""
    ema_decay: Callable[[int], float | Tensor]


@dataclass
class State:
    """Everything that changes during training."""

    generator: nn.Module
    discriminator: nn.Module
    ema: nn.Module
    ema_weights: Tensor
    """The average's parameters, joined."""
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    meter: Tensor
    augment_probability: Tensor
    augmented: bool = False
    """Whether an automatic augmentation is on: its probability is above 0."""
    images: int = 0
    seconds: float = 0.0
    frozen: int = 0
    """So many of the discriminator's joined numbers, from the first, keep their values (`finetune`)."""


@dataclass(frozen=True)
class MeterTerm:
    """One sum of `State.meter`: its name in the log, and the count of updates it is averaged over (None: a count)."""

    name: str
    over: str | None = None


METER_D = (
    MeterTerm("updates_d"),
    MeterTerm("loss_d", "updates_d"),
    MeterTerm("d_accuracy_real", "updates_d"),
    MeterTerm("d_accuracy_fake", "updates_d"),
    MeterTerm("penalty", "updates_d"),
    MeterTerm("gradient_norm_d", "updates_d"),
)
METER_G = (MeterTerm("updates_g"), MeterTerm("loss_g", "updates_g"), MeterTerm("gradient_norm_g", "updates_g"))
METER = METER_D + METER_G
"""The sums of `State.meter` since the last tick, in this order."""

REMEDY = "train anew (--fresh) with a smaller learning rate or train.precision=float32"


def make_step_functions(
    recipe: Recipe, state: State, group: ProcessGroup, device: str, precision: str
) -> StepFunctions:
    """The functions and settings of one training step, as this recipe asks for them."""
    train, loss, augment = recipe.train, recipe.loss, recipe.augment
    assert augment.policy != "auto"  # one of its two policies is in force, see `overfitting`
    compiled = torch.compile if train.compile else _unchanged
    discriminator = compiled(state.discriminator)
    augmented = partial(_augment, augment.policy, state) if augment.policy else _unchanged
    shown = _unchanged if loss.balanced_consistency_weight else augmented  # bCR: the loss sees images without it
    has_batch_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in state.discriminator.modules())
    by_class = partial(backward_by_class, state.discriminator, loss.group_clip)
    top = partial(losses.mean_of_top, loss.top_k_share, loss.top_k_images)
    after = [partial(clip_weights, loss.weight_clip)] if loss.weight_clip else []
    after += [partial(adapt_augmentation, recipe, group)] if augment.policy and augment.adapt_target else []
    return StepFunctions(
        generator=compiled(state.generator),
        discriminator=lambda images, labels: discriminator(shown(images), labels),
        both_logits=partial(both_logits, discriminator, shown, has_batch_norm),
        loss=losses.adversarial(loss, recipe.network.conditioning == "auxiliary"),
        penalty=penalties.make_penalty(loss, state.discriminator, augmented, train.batch_size),
        backward=by_class if loss.group_clip else backward_of_mean,
        generator_mean=top if loss.top_k_share < 1 else losses.mean_of_all,
        after_discriminator=after,
        check=stop_unless_finite if device == "cpu" else unchecked,
        autocast=partial(torch.autocast, device, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext,
        discriminator_steps=train.discriminator_steps,
        batch_size=train.batch_size,
        learning_rates=partial(learning_rates, with_shared_rates(recipe)),
        ema_decay=partial(ema_decay, train),
    )


def step(state: State, functions: StepFunctions, group: ProcessGroup, batch_at: Callable[[int], list[Batch]]) -> None:
    """The discriminator updates and one generator update; `batch_at` returns the parts of the batch at a position."""
    for turn in range(functions.discriminator_steps):
        parts = batch_at(state.images)
        # The generator's update reuses the last fakes. With several parts their graphs take too much memory: made anew.
        shared = turn == functions.discriminator_steps - 1 and len(parts) == 1
        with torch.set_grad_enabled(shared), functions.autocast():
            fakes = [functions.generator(part.noise, part.labels) for part in parts]
        real_logits = update_discriminator(state, functions, group, parts, fakes)
        state.images += functions.batch_size
    update_generator(state, functions, group, parts, fakes, real_logits)
    if state.ema is not state.generator:
        buffers = zip(state.ema.buffers(), state.generator.buffers(), strict=True)
        update_ema(
            [(state.ema_weights, flat.weights_of(state.optimizer_g)), *buffers], functions.ema_decay(state.images)
        )


def update_discriminator(
    state: State, functions: StepFunctions, group: ProcessGroup, parts: Sequence[Batch], fakes: Sequence[Tensor]
) -> list[Tensor]:
    """Real logits up, fake logits down; returns the real logits of each part, detached."""
    gradient = flat.gradient_of(state.optimizer_d).zero_()
    sums = torch.zeros(4, device=fakes[0].device)
    seen = []
    for part, fake in zip(parts, fakes, strict=True):
        with functions.autocast():
            real_logits, fake_logits = functions.both_logits(part.real, fake.detach(), part.labels)
        real_logits, fake_logits = real_logits.float(), fake_logits.float()
        loss = functions.loss.discriminator(real_logits, fake_logits)
        penalty = functions.penalty(part.real, fake.detach(), part.labels, real_logits, fake_logits, state.images)
        functions.backward(loss + penalty, part.labels, len(parts))
        with torch.no_grad():
            right = losses.accuracies(functions.loss, real_logits, fake_logits)
            sums += torch.cat([loss.mean()[None], right, penalty.mean()[None]])
        seen.append(real_logits.detach())
    distributed.average_gradient(gradient, group)
    gradient[: state.frozen].zero_()
    norm = torch.linalg.vector_norm(gradient)
    sums = sums / len(parts)
    terms = {"discriminator loss": sums[0], "penalty": sums[3], "discriminator gradient": norm}
    functions.check(state.images, terms)
    set_learning_rate(state.optimizer_d, functions.learning_rates(state.images)[1])
    state.optimizer_d.step()
    for follow in functions.after_discriminator:
        follow(state, sums[1])
    state.meter[: len(METER_D)] += torch.cat([sums.new_ones(1), sums, norm[None]])
    return seen


def update_generator(
    state: State,
    functions: StepFunctions,
    group: ProcessGroup,
    parts: Sequence[Batch],
    fakes: Sequence[Tensor],
    real_logits: Sequence[Tensor],
) -> None:
    """Fake logits up, with the discriminator's weights fixed (its batch norm still updates its statistics)."""
    gradient = flat.gradient_of(state.optimizer_g).zero_()
    state.discriminator.requires_grad_(False)
    mean_loss = torch.zeros((), device=fakes[0].device)
    for part, fake, real in zip(parts, fakes, real_logits, strict=True):
        with functions.autocast():
            if not fake.requires_grad:
                fake = functions.generator(part.noise, part.labels)
            logits = functions.discriminator(fake, part.labels)
        logits = logits.float()
        loss = functions.generator_mean(functions.loss.generator(real, logits), logits, state.images) / len(parts)
        torch.autograd.backward(loss)
        mean_loss += loss.detach()
    state.discriminator.requires_grad_(True)
    distributed.average_gradient(gradient, group)
    norm = torch.linalg.vector_norm(gradient)
    functions.check(state.images, {"generator loss": mean_loss, "generator gradient": norm})
    set_learning_rate(state.optimizer_g, functions.learning_rates(state.images)[0])
    state.optimizer_g.step()
    state.meter[len(METER_D) :] += torch.stack([torch.ones_like(norm), mean_loss, norm])


@torch.no_grad()
def update_ema(averages: Sequence[tuple[Tensor, Tensor]], decay: float | Tensor) -> None:
    """Move each average by 1 - decay towards the generator's value; counters are copied."""
    for old, new in averages:
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def both_logits(
    discriminator: Callable[..., Tensor],
    shown: Callable[[Tensor], Tensor],
    separately: bool,
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Logits of real and of fake images.

    With batch norm each needs statistics of its own (Radford et al. 2016); without it one pass over both is cheaper.
    """
    if separately:
        return discriminator(shown(real), labels), discriminator(shown(fake), labels)
    twice = None if labels is None else torch.cat([labels, labels])
    real_logits, fake_logits = discriminator(shown(torch.cat([real.to(fake.dtype), fake])), twice).chunk(2)
    return real_logits, fake_logits


def backward_of_mean(values: Tensor, labels: Tensor | None, parts: int) -> None:
    """Add the gradient of the mean over the batch, of which this is one of equal parts."""
    torch.autograd.backward(values.mean() / parts)


def backward_by_class(
    module: nn.Module, largest_norm: float, values: Tensor, labels: Tensor | None, parts: int
) -> None:
    """Add the mean over classes of each class's gradient, clipped to this norm (Kenfack et al. 2022, algorithm 1).

    One backward pass per class in the part, so it costs as many times as much as the mean over the batch. The parts of
    a batch are clipped separately and then averaged.
    """
    assert labels is not None  # recipes without classes are refused
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    classes = torch.unique(labels).tolist()
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for number in classes:
        of_class = values[labels == number].mean()
        gradients = torch.autograd.grad(of_class, parameters, retain_graph=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        factor = (largest_norm / norm.clamp(min=1e-12)).clamp(max=1) / (len(classes) * parts)
        torch._foreach_add_(total, [gradient * factor for gradient in gradients])
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


@torch.no_grad()
def clip_weights(largest: float, state: State, accuracy_real: Tensor) -> None:
    """Clamp the discriminator's weights to [-largest, largest] (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in state.discriminator.parameters():
        parameter.clamp_(-largest, largest)


def adapt_augmentation(recipe: Recipe, group: ProcessGroup, state: State, accuracy_real: Tensor) -> None:
    """Move the share of augmented images with the discriminator's overfitting, averaged over all ranks."""
    mean = distributed.sum_over_processes(accuracy_real, group) / group.size
    share = recipe.train.batch_size / recipe.augment.adapt_images
    probability = state.augment_probability
    probability.copy_(diffaugment.adapted(probability, mean, recipe.augment.adapt_target, share))


def learning_rates(train: Train, images: int) -> tuple[float, float]:
    """The generator's and the discriminator's learning rate after so many images."""
    share = min(1.0, images / (train.images or 1))
    factor = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}[train.lr_schedule]
    warm = min(1.0, (images + train.batch_size) / train.lr_warmup_images) if train.lr_warmup_images else 1.0
    return train.lr_generator * factor * warm, train.lr_discriminator * factor * warm


def with_shared_rates(recipe: Recipe) -> Train:
    """The settings of the training, whose learning rates are a share of theirs where it starts from an ancestor."""
    train, share = recipe.train, recipe.finetune.rate_share if recipe.finetune.ancestor else 1.0
    rates = {"lr_generator": train.lr_generator * share, "lr_discriminator": train.lr_discriminator * share}
    return train.model_copy(update=rates)


def ema_decay(train: Train, images: int) -> float:
    """The share of the average kept at one generator update (half-life and ramp as in Karras et al. 2020)."""
    halflife = min(train.ema_halflife_images, images * train.ema_ramp) if train.ema_ramp else train.ema_halflife_images
    return float(0.5 ** (train.batch_size * train.discriminator_steps / max(halflife, 1e-8)))


def _unchanged(thing: T) -> T:
    return thing


def _augment(policy: tuple[str, ...], state: State, images: Tensor) -> Tensor:
    return diffaugment.augment(policy, images, state.augment_probability)


def stop_unless_finite(images: int, terms: Mapping[str, Tensor]) -> None:
    """Raise Diverged with the name of the first term that is infinite or not a number."""
    if math.isfinite(sum(terms.values(), torch.zeros(())).item()):
        return
    name = next((name for name, term in terms.items() if not math.isfinite(term.item())), "sum of all terms")
    raise Diverged(
        f"the {name} is no finite number after {images:,} images, and it did not touch the weights; {REMEDY}"
    )


def unchecked(images: int, terms: Mapping[str, Tensor]) -> None:
    """No check, for GPUs; see `StepFunctions.check`."""


def stop_unless_sums_finite(images: int, sums: Mapping[str, float]) -> None:
    """Raise Diverged if one of the meter's sums is infinite or not a number; called before anything is saved."""
    for name, value in sums.items():
        if not math.isfinite(value):
            raise Diverged(
                f"{name} was no finite number shortly before {images:,} images, and nothing of it was saved; {REMEDY}"
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float | Tensor) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
