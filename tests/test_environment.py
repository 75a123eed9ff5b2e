from __future__ import annotations

import threading

import pytest
import torch

from modiste import environment
from modiste.errors import UsageError


def test_device_and_precision() -> None:
    assert environment.choose_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"train\.device = 'cuda', but this PyTorch finds no such device"):
            environment.choose_device("cuda")
    assert environment.choose_precision("float32", "cpu") == "float32"
    assert environment.choose_precision("auto", "mps") == "float32"


def test_streams_differ_by_purpose_and_position() -> None:
    seeds = {
        environment.seed_for(seed, purpose, *place)
        for seed in (0, 1)
        for purpose in "ab"
        for place in ((), (0,), (0, 1))
    }
    assert len(seeds) == 12 and all(0 <= seed < 2**63 for seed in seeds)


def test_parts_are_computed_in_parallel_and_in_order() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        both = threading.Barrier(3)

        def work(part: int) -> tuple[int, int]:
            both.wait(60)  # for the others, which must be under way at the same time
            return part, torch.get_num_threads()

        assert environment.in_parallel(work, range(6)) == [(part, 1) for part in range(6)]
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            environment.in_parallel(lambda part: 1 // part, [1, 0])
        torch.set_num_threads(1)
        names = environment.in_parallel(lambda _: threading.current_thread().name, range(2))
        assert names == [threading.current_thread().name] * 2
    finally:
        torch.set_num_threads(before)
