"""Codes are drawn again pixel for pixel, and only by the generator that they were found for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modiste import files
from modiste.errors import UsageError
from modiste.latent import codes, projection
from modiste.sampling.generators import TrainedGenerator, generate


def test_codes_come_back(painter: TrainedGenerator, tmp_path: Path) -> None:
    found = projection.project(painter, 255 - painter.sample(5), steps=5)
    place = tmp_path / "codes.npz"
    place.write_bytes(codes.encoded(found, painter))
    assert files.is_ours(place)
    drawn = codes.draw(painter, codes.read(place, painter))
    assert np.array_equal(drawn.pixels, found.reconstructions)
    assert drawn.labels is not None and np.array_equal(drawn.labels, found.labels)
    assert drawn.class_names == ("a", "b", "c")


def test_codes_take_steps_along_directions(painter: TrainedGenerator, tmp_path: Path) -> None:
    found = projection.project(painter, painter.sample(3))
    place = tmp_path / "codes.npz"
    place.write_bytes(codes.encoded(found, painter))
    step = torch.eye(8)[2] * 2
    moved = replace(painter, move=lambda _, count: step.expand(count, 8))
    drawn = codes.draw(moved, codes.read(place, moved)).pixels
    assert np.array_equal(drawn, generate(painter.network, torch.from_numpy(found.noise) + step, found.labels))
    assert not np.array_equal(drawn, found.reconstructions)


def test_codes_of_another_generator_are_refused(
    painter: TrainedGenerator, classless: TrainedGenerator, tmp_path: Path
) -> None:
    place = tmp_path / "codes.npz"
    place.write_bytes(codes.encoded(projection.project(painter, painter.sample(2), steps=1), painter))
    network = deepcopy(painter.network)
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    for other in (classless, replace(painter, network=network)):
        with pytest.raises(UsageError, match=r"were found for other weights \(painter\)"):
            codes.read(place, other)


def test_what_is_no_file_of_codes(painter: TrainedGenerator, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 1, 4, 4), np.uint8))
    with pytest.raises(UsageError, match="holds no codes"):
        codes.read(tmp_path / "set.npz", painter)
    with pytest.raises(UsageError, match=r"gone.npz is no .npz file"):
        codes.read(tmp_path / "gone.npz", painter)


@pytest.mark.parametrize(
    "change", [{"noise": np.zeros((2, 3))}, {"labels": np.array([0, 99])}, {"labels": np.array([0])}], ids=str
)
def test_damaged_codes_are_refused(painter: TrainedGenerator, tmp_path: Path, change: dict[str, Any]) -> None:
    place = tmp_path / "codes.npz"
    place.write_bytes(codes.encoded(projection.project(painter, painter.sample(2), steps=1), painter))
    with np.load(place) as archive:
        np.savez(place, **{**archive, **change})
    with pytest.raises(UsageError, match=r"codes.npz is damaged: its noise or labels are none of this generator"):
        codes.read(place, painter)
