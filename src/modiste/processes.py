"""One training over several processes: launched by torchrun, gradients averaged by hand, networks left unwrapped.

Each rank works on its slice of the same global batch, so that batch size, noise, data order and schedules mean the
same thing for any number of processes. A single process passes through every function here untouched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process's place among those that share a training."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process keeps the run folder."""
        return self.rank == 0

    def slice(self, batch_size: int) -> slice:
        """This rank's part of a global batch."""
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """The team that torchrun started this process in (gloo on the CPU, nccl on CUDA), else a team of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what "cuda" means in this process from now on
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def average_gradients(module: nn.Module, team: Team) -> None:
    """Replace each gradient by its mean over the ranks, in one flat all-reduce."""
    if team.size == 1:
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= team.size
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient))


def share_buffers(modules: Iterable[nn.Module], team: Team) -> None:
    """Give every rank the first one's running statistics."""
    if team.size > 1:
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def total(values: Tensor, team: Team) -> Tensor:
    """The sum of a tensor over the ranks."""
    if team.size > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def any_of(flag: bool, team: Team, device: torch.device) -> bool:
    """Whether the flag is up on any rank: what all must agree on, as when to stop."""
    if team.size == 1:
        return flag
    return bool(total(torch.tensor(float(flag), device=device), team) > 0)


def from_first(value: T | None, team: Team) -> T:
    """The first rank's value, on every rank."""
    box: list[Any] = [value]
    if team.size > 1:
        dist.broadcast_object_list(box)
    return cast(T, box[0])


def wait(team: Team) -> None:
    """Go on when every rank has come here."""
    if team.size > 1:
        dist.barrier()
