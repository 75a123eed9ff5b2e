"""An encoder guesses better than chance, is learned once for each generator, and stays where it was put."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modiste import runs
from modiste.data.images import tensor_of, to_unit
from modiste.latent import encoder as encoders
from modiste.latent import projection
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator

SAMPLES = 3_200


@pytest.fixture(scope="module")
def learned(painter: TrainedGenerator) -> encoders.Encoder:
    return encoders.train(painter, SAMPLES)[0]


def test_its_guess_is_nearer_than_another_image(painter: TrainedGenerator, learned: encoders.Encoder) -> None:
    images = painter.sample_set(30)
    with_it = projection.project(painter, images.pixels, images.labels, encoder=learned, steps=0)
    without = projection.project(painter, images.pixels, images.labels, steps=0)
    assert (with_it.errors <= without.errors).all()
    assert with_it.errors.mean() < 0.9 * without.errors.mean()


def test_it_is_the_same_each_time(painter: TrainedGenerator) -> None:
    one, other = (encoders.train(painter, 128) for _ in range(2))
    assert one[1] == other[1] and one[1].samples == 128
    images = to_unit(tensor_of(painter.sample(3)))
    labels = torch.tensor([0, 1, 2])
    assert torch.equal(encoders.encode(one[0], images, labels), encoders.encode(other[0], images, labels))


def test_a_row_does_not_depend_on_the_others(painter: TrainedGenerator, learned: encoders.Encoder) -> None:
    images, labels = to_unit(tensor_of(painter.sample(70))), torch.arange(70) % 3
    every = encoders.encode(learned, images, labels)
    assert torch.equal(every[66:67], encoders.encode(learned, images[66:67], labels[66:67]))


@pytest.mark.parametrize("size", [8, 17, 28, 64])
def test_it_takes_any_size(size: int) -> None:
    network = encoders.Encoder(ImageShape(3, size, 0), 5).eval()
    assert network(torch.zeros(2, 3, size, size), None).shape == (2, 5)


def test_it_is_kept_for_its_generator_alone(
    painter: TrainedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    folder, made = tmp_path / "run", []
    folder.mkdir()
    learn = encoders.train
    monkeypatch.setattr(encoders, "train", lambda *words: made.append(1) or learn(*words))
    first = encoders.open_encoder(painter, folder, samples=64)
    again = encoders.open_encoder(painter, folder, samples=64)
    assert made == [1] and (folder / encoders.FILE).is_file()
    assert all(
        np.array_equal(one, other)
        for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )
    network = deepcopy(painter.network)
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    other = replace(painter, network=network)
    encoders.open_encoder(other, folder, samples=64)  # takes the first one's place
    encoders.open_encoder(other, folder, samples=64)
    assert len(made) == 2
    encoders.open_encoder(other, samples=64)  # without a folder: in the cache
    encoders.open_encoder(other, samples=64)
    assert len(made) == 3
    (folder / encoders.FILE).write_bytes(b"damaged")
    encoders.open_encoder(other, folder, samples=64)  # the cache has it
    assert len(made) == 3


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.Run, "is_pretrained", lambda run: run.shipped)
    run = runs.Run(tmp_path)
    assert encoders.folder_of(run, "last") == tmp_path
    assert encoders.folder_of(run, "best") is None
    assert encoders.folder_of(runs.Run(tmp_path, shipped=True), "last") is None
