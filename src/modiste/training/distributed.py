"""One training over several processes: gradients are averaged here, networks are not wrapped.

Each rank works on its slice of the same global batch, so that batch size, noise, data order and schedules mean the
same for any number of processes. For a single process all functions here do nothing. torchrun starts the ranks on
several GPUs or machines; for `train.processes` the main process starts the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]

from modiste import files, progress, subprocesses
from modiste.errors import ModisteError, UsageError
from modiste.training import shared_memory

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank and the number of processes that share a training."""

    rank: int = 0
    size: int = 1
    shared_sum: shared_memory.Sum | None = field(default=None, compare=False)
    """Of tensors on the CPU, where all processes are on this machine; else gloo or nccl adds up."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def slice(self, batch_size: int) -> slice:
        """This rank's part of a global batch."""
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)


RENDEZVOUS = "MODISTE_RENDEZVOUS"
"""The environment variable with the file through which ranks find each other that torchrun did not start."""
PATIENCE_SECONDS = 30.0


def plan_group(device: str, wanted: int) -> ProcessGroup:
    """The group that this process will join: as launched, else the main process of `wanted` on the CPU."""
    if _ranks_started() > 1:
        return ProcessGroup(int(os.environ["RANK"]), _ranks_started())
    return ProcessGroup(0, wanted if device == "cpu" else 1)


def _ranks_started() -> int:
    """The number of ranks that a launcher or the main process has started."""
    size, rank = os.environ.get("WORLD_SIZE") or "1", os.environ.get("RANK") or "0"
    if not size.isdecimal() or not rank.isdecimal() or (int(size) > 1 and "RANK" not in os.environ):
        raise UsageError(
            f"WORLD_SIZE is {size!r} and RANK {os.environ.get('RANK')!r} here, and a launcher sets both to "
            "whole numbers; start the training with torchrun, or unset them"
        )
    return int(size)


@contextmanager
def join_group(
    group: ProcessGroup, device: str, worker_command: Callable[[Path], Sequence[str]]
) -> Iterator[ProcessGroup]:
    """Connect with the other ranks of the planned group (gloo on the CPU, nccl on CUDA); yields the connected group.

    Unless a launcher started them, workers are started here: `worker_command` returns their Modiste command and may
    write files into the folder it is given, which is removed at the end. They get an equal share of this process's
    threads. ModisteError when one of them ends early.
    """
    if group.size == 1:
        yield group
        return
    with ExitStack() as stack:
        store: FileStore | None = None
        if _ranks_started() == 1:
            store = stack.enter_context(_workers(group, worker_command))
            dist.init_process_group("gloo", store=store, rank=group.rank, world_size=group.size)
        elif RENDEZVOUS in os.environ:
            store = FileStore(os.environ[RENDEZVOUS], group.size)
            store.set(_ready_key(group.rank), "")
            dist.init_process_group("gloo", store=store, rank=group.rank, world_size=group.size)
        else:
            if device == "cuda":
                torch.cuda.set_device(_own_gpu(group))  # what "cuda" means in this process from now on
            # What the ranks agree on goes from CPU to CPU, so that no GPU is waited for.
            dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
        stack.callback(dist.destroy_process_group)
        if store:
            added = stack.enter_context(shared_memory.connected(group.rank, group.size, store))
            group = replace(group, shared_sum=added)
        yield group


def _own_gpu(group: ProcessGroup) -> int:
    """The number of this process's GPU on its machine; UsageError where the launcher gives it none of its own."""
    number, count = os.environ.get("LOCAL_RANK", ""), torch.cuda.device_count()
    if number.isdecimal() and int(number) < count:
        return int(number)
    raise UsageError(
        f"process {group.rank} has no GPU of its own: LOCAL_RANK is {number or 'not set'}, and this machine has {count}"
        f"; start the training with torchrun --nproc-per-node {count}, or with --set train.device=cpu"
    )


def _ready_key(rank: int) -> str:
    return f"rank {rank} is ready"


@contextmanager
def _workers(group: ProcessGroup, worker_command: Callable[[Path], Sequence[str]]) -> Iterator[FileStore]:
    """Start the other ranks and yield the store shared with them; they have ended when the context ends."""
    threads = torch.get_num_threads()
    with files.temporary_folder() as folder:
        each = max(1, threads // group.size)
        command = worker_command(folder)
        shared = {"WORLD_SIZE": str(group.size), RENDEZVOUS: str(folder / "meeting"), "OMP_NUM_THREADS": str(each)}
        # All ranks are on this machine; gloo would look for its address in a network that may not exist.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        workers = {}
        for rank in range(1, group.size):
            with (folder / f"{rank}.log").open("wb") as log:
                workers[rank] = subprocesses.start(command, log, environment={**shared, "RANK": str(rank)})
        torch.set_num_threads(each)
        try:
            store = FileStore(str(folder / "meeting"), group.size)
            with _ended_by_sigterm(), progress.stage(f"starting {group.size - 1} more processes"):
                while not store.check([_ready_key(rank) for rank in workers]):
                    if any(worker.poll() is not None for worker in workers.values()):
                        raise RuntimeError("a worker has ended")
                    time.sleep(0.02)
            yield store
            for worker in workers.values():
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(PATIENCE_SECONDS)
        except RuntimeError as error:
            if reason := _first_failure(workers, folder):
                raise ModisteError(f"{reason}; train again, it goes on from the last saved state") from error
            raise
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()
                subprocesses.let_go(worker)
            torch.set_num_threads(threads)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that started processes end with this one."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _first_failure(workers: Mapping[int, subprocess.Popen[bytes]], folder: Path) -> str:
    """Which worker has ended with an error, and the last line of its log; empty if none has."""
    for rank, worker in workers.items():
        with suppress(subprocess.TimeoutExpired):
            worker.wait(1.0)  # the connection breaks shortly before the process ends
        if worker.returncode:
            lines = (folder / f"{rank}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1].removeprefix("modiste: ") if lines else f"exit code {worker.returncode}"
            return f"process {rank} of the {len(workers) + 1} that shared this training ended ({last})"
    return ""


def average_gradient(gradient: Tensor, group: ProcessGroup) -> None:
    """Replace a network's joined gradient by its mean over the ranks."""
    if group.size > 1:
        _add_up(gradient, group)
        gradient /= group.size


def _add_up(values: Tensor, group: ProcessGroup) -> None:
    """Replace a tensor by its sum over the ranks."""
    if group.shared_sum and values.device.type == "cpu":
        group.shared_sum(values)
    else:
        dist.all_reduce(values)


def share_buffers(modules: Iterable[nn.Module], group: ProcessGroup) -> None:
    """Give every rank the main process's running statistics."""
    if group.size > 1:
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def sum_over_processes(values: Tensor, group: ProcessGroup) -> Tensor:
    """The sum of a tensor over the ranks."""
    if group.size > 1:
        values = values.clone()
        _add_up(values, group)
    return values


def gather(values: Tensor, group: ProcessGroup) -> Tensor:
    """[ranks, ...]: the tensors of all ranks."""
    if group.size == 1:
        return values[None]
    rows = [torch.empty_like(values) for _ in range(group.size)]
    dist.all_gather(rows, values)
    return torch.stack(rows)


def any_of(flags: Sequence[bool], group: ProcessGroup) -> list[bool]:
    """For each flag, whether it is set on any rank: so that all agree, as on when to stop."""
    votes = sum_over_processes(torch.tensor([float(flag) for flag in flags]), group)  # on the CPU, whatever trains
    return [vote > 0 for vote in votes.tolist()]


def broadcast_from_main(value: T | None, group: ProcessGroup) -> T:
    """The main process's value, on every rank."""
    box: list[Any] = [value]
    if group.size > 1:
        dist.broadcast_object_list(box)
    return cast(T, box[0])


def barrier(group: ProcessGroup) -> None:
    """Wait until every rank calls this."""
    if group.size > 1:
        dist.barrier()
