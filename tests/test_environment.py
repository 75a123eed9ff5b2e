from __future__ import annotations

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
