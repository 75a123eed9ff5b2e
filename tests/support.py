"""What several tests share that is no fixture."""

from __future__ import annotations

import struct
from typing import Any

import torch

from modiste import runs

TIMES = ("seconds", "images_per_second")


def content(run: runs.Run) -> dict[str, Any]:
    """All that must be the same in two equal runs: state, log without times, grids, generators."""
    state, notes = runs.load_state(run)
    assert state is not None and not notes
    del state["seconds"]
    log = [{key: value for key, value in record.items() if key not in TIMES} for record in run.read_log()]
    grids = {grid.name: grid.read_bytes() for grid in run.list_grids()}
    generators = {file.name: file.read_bytes() for file in run.path.glob("*.safetensors")}
    return {"state": state, "log": log, "grids": grids, "generators": generators}


def assert_same(one: Any, other: Any, place: str = "run") -> None:
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for k, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}[{k}]")
    else:
        assert one == other, place


def idx(array):
    """An array of bytes as a file in the format of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
