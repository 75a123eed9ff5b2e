"""The step: one generator update and the discriminator updates before it, free of options.

What varies between recipes is in the objects handed to the step (`Rules`); it knows nothing of data sets, files or
ticks. Losses and penalties are values per image, averaged once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modiste.errors import ModisteError
from modiste.training import distributed
from modiste.training.distributed import ProcessGroup
from modiste.training.losses import AdversarialLoss, accuracies
from modiste.training.penalties import Penalty


class Diverged(ModisteError):
    """A loss, penalty or gradient that is no finite number."""


@dataclass(frozen=True)
class Batch:
    """Real images float [N, C, H, W] in [-1, 1], their labels int64 [N] or None, and noise [N, z_dim]."""

    real: Tensor
    labels: Tensor | None
    noise: Tensor


@dataclass(frozen=True)
class StepFunctions:
    """How one recipe plays: networks as callables, the game, the penalty, precision, and the split of a batch."""

    generator: Callable[[Tensor, Tensor | None], Tensor]
    discriminator: Callable[[Tensor, Tensor | None], Tensor]
    both_logits: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
    pair: AdversarialLoss
    penalty: Penalty
    backward: Callable[[Tensor, Tensor | None, int], None]
    """Of the discriminator's losses [N] in one of so many parts of a batch, and their labels: adds this part's share of
    the mean gradient to the weights."""
    generator_mean: Callable[[Tensor, Tensor, int], Tensor]
    """Of the generator's losses [N], the logits and the images shown: what it learns from, a scalar."""
    after_discriminator: Sequence[Callable[[State, Tensor], None]]
    """What follows each of the discriminator's steps, given its accuracy on real images."""
    check: Callable[..., None]
    """Of the images shown and named terms, before they reach the weights: Diverged if one is no finite number. A GPU
    would have to be waited for at each step, so there this looks at nothing, and the trainer looks before it saves."""
    autocast: Callable[[], AbstractContextManager[Any]]
    discriminator_steps: int
    batch_size: int
    learning_rates: Callable[[int], Sequence[float | Tensor]]
    """The generator's and the discriminator's after so many images."""
    ema_decay: Callable[[int], float | Tensor]


@dataclass
class State:
    """All that changes during a training."""

    generator: nn.Module
    discriminator: nn.Module
    ema: nn.Module
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    meter: Tensor
    augment_probability: Tensor
    images: int = 0
    seconds: float = 0.0


METER_D = ("updates_d", "loss_d", "d_accuracy_real", "d_accuracy_fake", "penalty", "gradient_norm_d")
METER_G = ("updates_g", "loss_g", "gradient_norm_g")
METER = METER_D + METER_G
"""What `State.meter` sums up from one tick to the next, in this order."""


CALMER = "train anew (--fresh) with a smaller learning rate or train.precision=float32"


def step(state: State, functions: StepFunctions, group: ProcessGroup, batch_at: Callable[[int], list[Batch]]) -> None:
    """One generator update and the discriminator updates before it; `batch_at` gives a position's parts of a batch."""
    for turn in range(functions.discriminator_steps):
        parts = batch_at(state.images)
        # The last fakes serve the generator's update too. With several parts their graphs would not fit: made again.
        shared = turn == functions.discriminator_steps - 1 and len(parts) == 1
        with torch.set_grad_enabled(shared), functions.autocast():
            fakes = [functions.generator(part.noise, part.labels) for part in parts]
        real_logits = update_discriminator(state, functions, group, parts, fakes)
        state.images += functions.batch_size
    update_generator(state, functions, group, parts, fakes, real_logits)
    update_ema(state.ema, state.generator, functions.ema_decay(state.images))


def update_discriminator(
    state: State, functions: StepFunctions, group: ProcessGroup, parts: Sequence[Batch], fakes: Sequence[Tensor]
) -> list[Tensor]:
    """Real logits up, fake logits down; the real logits of each part come back, without a graph."""
    state.optimizer_d.zero_grad(set_to_none=True)
    sums = torch.zeros(4, device=fakes[0].device)
    seen = []
    for part, fake in zip(parts, fakes, strict=True):
        with functions.autocast():
            real_logits, fake_logits = functions.both_logits(part.real, fake.detach(), part.labels)
        real_logits, fake_logits = real_logits.float(), fake_logits.float()
        loss = functions.pair.discriminator(real_logits, fake_logits)
        penalty = functions.penalty(part.real, fake.detach(), part.labels, real_logits, fake_logits, state.images)
        functions.backward(loss + penalty, part.labels, len(parts))
        with torch.no_grad():
            right = accuracies(functions.pair, real_logits, fake_logits)
            sums += torch.cat([loss.mean()[None], right, penalty.mean()[None]])
        seen.append(real_logits.detach())
    distributed.average_gradients(state.discriminator, group)
    norm = gradient_norm(state.discriminator)
    sums = sums / len(parts)
    functions.check(state.images, discriminator_loss=sums[0], penalty=sums[3], discriminator_gradient=norm)
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
    """Fake logits up, through a discriminator whose weights stand still (its batch norm goes on counting)."""
    state.optimizer_g.zero_grad(set_to_none=True)
    state.discriminator.requires_grad_(False)
    mean_loss = torch.zeros((), device=fakes[0].device)
    for part, fake, real in zip(parts, fakes, real_logits, strict=True):
        with functions.autocast():
            if not fake.requires_grad:
                fake = functions.generator(part.noise, part.labels)
            logits = functions.discriminator(fake, part.labels)
        logits = logits.float()
        loss = functions.generator_mean(functions.pair.generator(real, logits), logits, state.images) / len(parts)
        torch.autograd.backward(loss)
        mean_loss += loss.detach()
    state.discriminator.requires_grad_(True)
    distributed.average_gradients(state.generator, group)
    norm = gradient_norm(state.generator)
    functions.check(state.images, generator_loss=mean_loss, generator_gradient=norm)
    set_learning_rate(state.optimizer_g, functions.learning_rates(state.images)[0])
    state.optimizer_g.step()
    state.meter[len(METER_D) :] += torch.stack([torch.ones_like(norm), mean_loss, norm])


@torch.no_grad()
def update_ema(ema: nn.Module, generator: nn.Module, decay: float | Tensor) -> None:
    """Move the average's weights and running statistics by 1 - decay towards the generator's; counters are copied."""
    if ema is generator:
        return
    pairs = [
        *zip(ema.parameters(), generator.parameters(), strict=True),
        *zip(ema.buffers(), generator.buffers(), strict=True),
    ]
    floats = [(old, new) for old, new in pairs if old.is_floating_point()]
    averages = [old for old, _ in floats]
    moves = torch._foreach_sub([new for _, new in floats], averages)
    torch._foreach_mul_(moves, 1 - decay)
    torch._foreach_add_(averages, moves)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def backward_of_mean(losses: Tensor, labels: Tensor | None, parts: int) -> None:
    """The gradient of the mean over the batch, of which this is one of equal parts."""
    torch.autograd.backward(losses.mean() / parts)


def backward_by_class(
    module: nn.Module, largest_norm: float, losses: Tensor, labels: Tensor | None, parts: int
) -> None:
    """The mean over classes of each class's gradient, cut to this norm (Kenfack et al. 2022, algorithm 1).

    One backward pass per class that the part has, so it costs as many times as much as the mean over the batch. The
    parts of a batch are cut each for itself and then averaged.
    """
    assert labels is not None  # recipes without classes are refused
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    there = torch.unique(labels).tolist()
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for number in there:
        of_class = losses[labels == number].mean()
        gradients = torch.autograd.grad(of_class, parameters, retain_graph=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        factor = (largest_norm / norm.clamp(min=1e-12)).clamp(max=1) / (len(there) * parts)
        torch._foreach_add_(total, [gradient * factor for gradient in gradients])
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


@torch.no_grad()
def clip_weights(largest: float, state: State, accuracy_real: Tensor) -> None:
    """All of the discriminator's weights into [-largest, largest] (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in state.discriminator.parameters():
        parameter.clamp_(-largest, largest)


def gradient_norm(module: nn.Module) -> Tensor:
    """The Euclidean norm of all gradients of a network, as a scalar tensor."""
    norms = [
        torch.linalg.vector_norm(parameter.grad) for parameter in module.parameters() if parameter.grad is not None
    ]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def stop_unless_finite(images: int, **terms: Tensor) -> None:
    """Diverged, naming the first term that is infinite or not a number, before it reaches the weights."""
    if math.isfinite(sum(terms.values(), torch.zeros(())).item()):
        return
    name = next((name for name, term in terms.items() if not math.isfinite(term.item())), "sum of all terms")
    raise Diverged(
        f"the {name.replace('_', ' ')} is no finite number after {images:,} images, and it did not touch the weights; "
        + CALMER
    )


def unchecked(images: int, **terms: Tensor) -> None:
    """For GPUs, see `Rules.check`."""


def stop_unless_sums_finite(images: int, sums: Mapping[str, float]) -> None:
    """Diverged where one of the meter's sums is infinite or not a number, before anything of it is saved."""
    for name, value in sums.items():
        if not math.isfinite(value):
            raise Diverged(
                f"{name} was no finite number shortly before {images:,} images, and nothing of it was saved; {CALMER}"
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float | Tensor) -> None:
    """Use this rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = value
