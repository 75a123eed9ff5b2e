"""A training step as one CUDA graph: captured once, then replayed at every step.

A step of a small network is many short kernels, and starting each one takes the CPU longer than running it takes the
GPU. A graph starts them all at once. What changes from step to step lies in the graph's own memory and is copied there
before each replay: batches, learning rates, and the decay of the average. The code of the step is the same: it is given
functions that return tensors instead of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from modiste import config
from modiste.config import Recipe
from modiste.errors import ModisteError, is_out_of_memory
from modiste.training.distributed import ProcessGroup
from modiste.training.step import Batch, State, StepFunctions, set_learning_rate, step

EAGER_STEPS = 3
"""Steps before the capture, in which kernels are selected and memory is allocated."""

Batches = Callable[[int], list[Batch]]


def make_step(
    recipe: Recipe, state: State, functions: StepFunctions, group: ProcessGroup, batch_at: Batches, device: str
) -> Callable[[], None]:
    """A function that takes the training's next step, as a CUDA graph where possible."""
    if can_capture(recipe, group, device):
        return captured(state, functions, group, batch_at)
    return partial(step, state, functions, group, batch_at)


def can_capture(recipe: Recipe, group: ProcessGroup, device: str) -> bool:
    """Whether this training runs on one CUDA device, with Adam, and with the same kernels in all steps.

    Code of the user's own may decide anew at every step, which a replay would not repeat.
    """
    train, loss = recipe.train, recipe.loss
    if not (device == "cuda" and group.size == 1 and train.cuda_graph and train.optimizer == "adam"):
        return False
    changes = (loss.gradient_penalties and loss.penalty_every > 1) or loss.group_clip or loss.top_k_share < 1
    return not changes and not config.own_parts(recipe)


def captured(state: State, functions: StepFunctions, group: ProcessGroup, batch_at: Batches) -> Callable[[], None]:
    """A function that takes the next step: the first ones eagerly, then a capture, then its replays.

    A saved state has the same form as without a graph, so a run may be resumed without one. All batches of a step are
    fetched before it begins; where there are several, dropout and augmentation draw from the last one's seed.
    ModisteError if the capture fails.
    """
    turns = functions.discriminator_steps
    numbers = torch.zeros(turns + 1, 3, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    held: list[list[Batch]] = []
    eager_left, start = EAGER_STEPS, state.images

    def row(images: int) -> tuple[Tensor, ...]:
        return numbers[(images - start) // functions.batch_size].unbind()

    by_tensors = replace(
        functions, learning_rates=lambda images: row(images)[:2], ema_decay=lambda images: row(images)[2]
    )
    take = partial(step, state, by_tensors, group, lambda images: held[(images - start) // functions.batch_size])

    def advance() -> None:
        nonlocal eager_left, start
        start = state.images
        positions = [start + turn * functions.batch_size for turn in range(turns + 1)]
        values = [(*functions.learning_rates(images), functions.ema_decay(images)) for images in positions]
        numbers.copy_(torch.tensor(values).pin_memory(), non_blocking=True)
        fresh = [batch_at(images) for images in positions[:-1]]
        if not held:
            held.extend(fresh)
        else:
            copy_into(held, fresh)
        if eager_left > 0:
            eager_left -= 1
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                take()
            torch.cuda.current_stream().wait_stream(side)
        else:
            if eager_left == 0:
                eager_left = -1
                with named_failure(), capturable(state), torch.cuda.graph(graph):
                    take()  # recorded, not run; only the count of images changes
            graph.replay()
            state.images = positions[-1]
        # A saved state holds numbers.
        set_learning_rate(state.optimizer_g, values[-1][0])
        set_learning_rate(state.optimizer_d, values[-2][1])

    return advance


def copy_into(held: Sequence[Sequence[Batch]], fresh: Sequence[Sequence[Batch]]) -> None:
    """Copy the values of new batches into the tensors of held ones."""
    for old_parts, new_parts in zip(held, fresh, strict=True):
        for old, new in zip(old_parts, new_parts, strict=True):
            old.real.copy_(new.real)
            old.noise.copy_(new.noise)
            if old.labels is not None and new.labels is not None:
                old.labels.copy_(new.labels)


@contextmanager
def named_failure() -> Iterator[None]:
    """ModisteError with the remedy where PyTorch cannot capture a step; out-of-memory errors pass."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise ModisteError(
            f"this step cannot be captured as a CUDA graph ({reason}); go on with --set train.cuda_graph=false"
        ) from error


@contextmanager
def capturable(state: State) -> Iterator[None]:
    """Make the optimisers capturable, only meanwhile: the CPU refuses a saved state with this flag."""
    groups = [*state.optimizer_g.param_groups, *state.optimizer_d.param_groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False
