"""The same command gives the same weights, bit for bit: with two threads or processes, unbroken or killed and resumed.

Each training is also compared with one for which PyTorch allows only algorithms of fixed order: where both are equal,
no sum depended on which thread came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import assert_same, content, narrower
from torch import Tensor

import modiste
from modiste import config, runs, schema
from modiste.config import Recipe
from modiste.data import toy
from modiste.networks.layers import ClassNoise, ConditionalBatchNorm
from modiste.sampling import generators
from modiste.training import diffaugment, trainer

PRECISIONS = ("float32", "bfloat16")
REPEATS = 20
"""Of a gradient: a sum in no fixed order differs in nearly all of them."""


@pytest.fixture(scope="module")
def wardrobe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file of 160 garments, 28 pixels wide."""
    drawn = toy.draw(160, 28, 3)
    path = tmp_path_factory.mktemp("data") / "wardrobe.npz"
    np.savez(path, images=drawn.pixels, labels=drawn.labels, class_names=np.array(drawn.class_names))
    return path


@contextmanager
def any_algorithm() -> Iterator[None]:
    """As users train: PyTorch takes its fastest kernels, also such as add up in no fixed order."""
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def small(name: str, data: Path, **changes: Any) -> Recipe:
    """A shipped recipe with all its layers, at an eighth of its widths, for two updates, each a tick."""
    recipe = config.load(name)
    most = 8 if changes["train.precision"] == "bfloat16" else 16  # which this processor may imitate
    batch = min(recipe.train.batch_size, most)
    turns = min(recipe.train.discriminator_steps, 2)
    tick = batch * turns
    length = {"train.images": 2 * tick, "train.epochs": None, "train.batch_size": batch, "train.tick_images": tick}
    length["train.discriminator_steps"] = turns
    rest = {"data.name": str(data), "train.threads": 2, "train.processes": 1, "evaluate.every_images": 0}
    return config.override(recipe, {**narrower(recipe), **length, **rest, **changes})


def killed_and_resumed(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run holds that died at its second tick, before anything of it was written."""

    class Killed(BaseException):
        pass

    ticked = trainer.tick

    def tick(session: trainer.Session, *rest: Any, **more: Any) -> None:
        if session.run.read_log():
            raise Killed
        ticked(session, *rest, **more)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "tick", tick)
        modiste.train(recipe, out)
    run = runs.open_run(out)
    assert len(run.read_log()) == 1 and run.read_manifest().status == "running"
    return content(modiste.train(recipe, out))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", schema.shipped())
def test_every_recipe(
    name: str, precision: str, wardrobe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(name, wardrobe, **{"train.precision": precision})
    ordered = content(modiste.train(recipe, tmp_path / "ordered"))
    assert [record["images"] for record in ordered["log"]] == [recipe.train.tick_images, recipe.train.images]
    with any_algorithm():
        assert_same(killed_and_resumed(recipe, tmp_path / "killed", monkeypatch), ordered)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, marks=() if (name, precision) == ("swift", "float32") else pytest.mark.slow)
        for name in schema.shipped()
        for precision in PRECISIONS
    ],
)
def test_every_recipe_with_two_processes(name: str, precision: str, wardrobe: Path, tmp_path: Path) -> None:
    recipe = small(name, wardrobe, **{"train.precision": precision, "train.processes": 2})
    with any_algorithm():
        once, twice = (modiste.train(recipe, tmp_path / word) for word in ("once", "twice"))
    assert once.read_manifest().processes == 2
    assert_same(content(twice), content(once))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: ConditionalBatchNorm(1024, 10), (128, 1024)),
        (lambda: ConditionalBatchNorm(64, 10), (128, 64, 14, 14)),
        (lambda: ClassNoise(64, 10), (64, 64)),
    ],
)
def test_gradients_of_tables_by_class(
    layer: Callable[[], torch.nn.Module], shape: tuple[int, ...], two_threads: None
) -> None:
    torch.manual_seed(0)
    module, images = layer(), torch.randn(shape)
    labels, weight = torch.randint(0, 10, shape[:1]), torch.randn(shape)

    def gradients() -> list[Tensor]:
        module.zero_grad()
        (module(images, labels) * weight).sum().backward()
        return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]

    with any_algorithm():
        first = gradients()
        assert all(
            torch.equal(one, other) for _ in range(REPEATS) for one, other in zip(first, gradients(), strict=True)
        )
    # The right sums, not only the same ones: class by class in double precision.
    module.double()
    images, weight = images.double(), weight.double()
    for one, other in zip(first, gradients(), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3)


def test_gradients_through_augmentation(two_threads: None) -> None:
    torch.manual_seed(0)
    images, weight = torch.randn(64, 1, 28, 28, requires_grad=True), torch.randn(64, 1, 28, 28)

    def gradient() -> Tensor:
        torch.manual_seed(1)
        changed = diffaugment.augment(tuple(diffaugment.TRANSFORMATIONS), images)
        return torch.autograd.grad((changed * weight).sum(), images)[0]

    ordered = gradient()
    with any_algorithm():
        assert all(torch.equal(ordered, gradient()) for _ in range(REPEATS))


@pytest.mark.parametrize("label", [None, 3])
def test_the_shipped_generator_draws_the_same_pixels(label: int | None, two_threads: None) -> None:
    generator = generators.load("pretrained")
    ordered = generator.sample_set(130, label=label)
    with any_algorithm():
        repeated = generator.sample_set(130, label=label)
        alone = generator.sample_set(label=label, seeds=range(100, 103))
    assert np.array_equal(ordered.pixels, repeated.pixels) and np.array_equal(ordered.pixels[100:103], alone.pixels)
    expected = np.arange(130) % 10 if label is None else np.full(130, label)
    assert repeated.labels is not None and np.array_equal(repeated.labels, expected)
