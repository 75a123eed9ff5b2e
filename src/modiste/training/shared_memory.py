"""Sums over the processes of a training on one machine, through memory that they share.

gloo sends the same numbers through sockets and threads of its own, which takes a seventh of a short step
(docs/performance.md). It stays for everything that happens once per tick, and between machines.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined]

from modiste import files

SHARED_MEMORY = Path("/dev/shm")
"""A folder that never reaches a disk, on Linux."""
ROOM = 2**28
"""Bytes that must be free there; containers often have a quarter of it."""

Sum = Callable[[Tensor], None]


@contextlib.contextmanager
def connected(rank: int, size: int, store: FileStore) -> Iterator[Sum]:
    """Meet the other ranks through the store; a function that replaces a tensor on the CPU by its sum over all ranks.

    All ranks call it in the same order with tensors of the same shape, and get the same bits. RuntimeError where
    another rank has ended, also before they have met.
    """
    with contextlib.ExitStack() as stack:
        if rank == 0:
            folder = stack.enter_context(files.temporary_folder(_roomy_place()))
            store.set("shared memory", str(folder))
            store.set("password", secrets.token_hex())
        folder, password = Path(store.get("shared memory").decode()), store.get("password")
        listener = stack.enter_context(Listener(_address(), backlog=size, authkey=password))
        store.set(f"address of {rank}", listener.address)
        others: list[Connection] = []
        with _ended_named():
            for other in range(rank):
                store.set(f"{rank} calls {other}", "")
                others.append(stack.enter_context(Client(store.get(f"address of {other}").decode(), authkey=password)))
            for other in range(rank + 1, size):
                store.get(
                    f"{other} calls {rank}"
                )  # which ends after a while where it never does; accept waits for ever
                others.append(stack.enter_context(listener.accept()))
        yield _sum(rank, size, others, folder)


def _address() -> str | None:
    """Where to listen: on Linux a name without a file, since the path of one may be too long; None = as usual."""
    return f"\0modiste-{secrets.token_hex(8)}" if sys.platform == "linux" else None


@contextlib.contextmanager
def _ended_named() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise RuntimeError("another process of this training has ended") from error


def _roomy_place() -> Path | None:
    """Where the shared files are; None = the system's temporary folder."""
    roomy = os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > ROOM
    return SHARED_MEMORY if roomy else None


def _sum(rank: int, size: int, others: Sequence[Connection], folder: Path) -> Sum:
    """The function that `connected` yields. Each rank writes into a row of its own, tells the others, and adds up all
    rows when they have told it. Rows are used by turns, so that none is written while another rank still reads it."""
    tables: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}
    turn = 0

    def make_tables(file: Path, values: Tensor) -> tuple[Tensor, Tensor]:
        with files.errors_name_place(file):
            _reserve(file, 2 * size * values.nbytes)
        both = torch.from_file(str(file), shared=True, size=2 * size * values.numel(), dtype=values.dtype)
        first, second = both.view(2, size, values.numel())
        return first, second

    def sum_in_place(values: Tensor) -> None:
        nonlocal turn
        key = (values.numel(), values.dtype)
        file = None if key in tables else folder / f"{key[0]}-{values.dtype}"
        if file:
            tables[key] = make_tables(file, values)
        rows, turn = tables[key][turn], 1 - turn
        rows[rank].copy_(values.view(-1))
        with _ended_named():
            for other in others:
                other.send_bytes(b"written")
            for other in others:
                other.recv_bytes()
        if file and rank == 0:  # all ranks have opened it; what has no name ends with them, also by a kill
            with contextlib.suppress(OSError):
                file.unlink()
        torch.sum(rows, 0, out=values.view(-1))

    return sum_in_place


def _reserve(file: Path, size: int) -> None:
    """Make a file of at least this size whose pages exist, since a page that a full disk cannot give is a crash."""
    with file.open("ab") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        else:
            opened.truncate(size)
