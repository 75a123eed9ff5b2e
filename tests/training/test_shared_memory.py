"""Sums through shared memory: ranks are threads here, and processes in test_distributed.py."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined]

from modiste import files
from modiste.training import shared_memory

TURNS = 20


def with_ranks(size: int, place: Path, work: Callable[[int, shared_memory.Sum], Any]) -> list[Any]:
    """What each of so many ranks returns."""

    def meet(rank: int) -> Any:
        with shared_memory.connected(rank, size, FileStore(str(place / "meeting"), size)) as add_up:
            return work(rank, add_up)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(meet, range(size)))


def values_of(rank: int, turn: int) -> list[Tensor]:
    """Tensors of several shapes and types, other ones for each rank and turn."""
    random = torch.Generator().manual_seed(100 * turn + rank)
    return [
        torch.randn(3, 1000, generator=random),
        torch.randn(7, generator=random, dtype=torch.float64),
        torch.randn(7, generator=random),
    ]


@pytest.mark.parametrize("size", [2, 3])
def test_all_ranks_get_the_same_sum(size: int, tmp_path: Path) -> None:
    def work(rank: int, add_up: shared_memory.Sum) -> list[Tensor]:
        found = []
        for turn in range(TURNS):
            for values in values_of(rank, turn):
                add_up(values)
                found.append(values)
        return found

    one, *others = with_ranks(size, tmp_path, work)
    expected = [
        torch.stack(parts).sum(0)
        for turn in range(TURNS)
        for parts in zip(*(values_of(rank, turn) for rank in range(size)), strict=True)
    ]
    for found, right in zip(one, expected, strict=True):
        torch.testing.assert_close(found, right)
    for other in others:
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_rank_that_has_ended_is_noticed(tmp_path: Path) -> None:
    def work(rank: int, add_up: shared_memory.Sum) -> str:
        if rank == 1:
            return "ended"
        with pytest.raises(RuntimeError, match="another process of this training has ended"):
            add_up(torch.ones(3))
        return "noticed"

    assert with_ranks(2, tmp_path, work) == ["noticed", "ended"]


def test_a_rank_that_never_comes_is_noticed(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "meeting"), 2)
    store.set_timeout(timedelta(seconds=0.5))
    with pytest.raises(RuntimeError), shared_memory.connected(0, 2, store):
        raise AssertionError("they have met")


def test_files_have_no_name_once_all_have_them_and_small_places_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[Path]]] = []

    def work(rank: int, add_up: shared_memory.Sum) -> None:
        for count in (3, 1):
            add_up(torch.ones(count))
        add_up(torch.ones(1))  # rank 0 has taken the names away before it tells the others that it is here
        if rank == 0:
            seen.append((len(list(place.iterdir())), [path for path in place.rglob("*") if path.is_file()]))

    elsewhere = tmp_path / "where the path of a socket would be too long".ljust(120, "-")
    for place, room in ((tmp_path / "roomy", 1), (elsewhere, 2**62)):
        place.mkdir()
        monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "roomy")
        monkeypatch.setattr(shared_memory, "ROOM", room)
        monkeypatch.setattr(files.tempfile, "tempdir", str(elsewhere))
        meeting = tmp_path / f"meeting-{room}"
        meeting.mkdir()
        with_ranks(2, meeting, work)
        assert seen.pop() == (1, [])
        assert not list(place.iterdir())
