from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.data.images import to_unit
from modiste.data.sets import open_data
from modiste.errors import UsageError
from modiste.networks.layers import ImageShape
from modiste.training import overfitting, setup, trainer

AUTO = {"augment.policy": "auto", "data.split": "fit", "evaluate.every_images": 10**6, "train.images": 320}
CALM, LEARNED = ({"d_accuracy_train": 0.7, "d_accuracy_heldout": accuracy} for accuracy in (0.65, 0.3))


class Memory(nn.Module):
    """A discriminator that takes for real what it has seen, and nothing else."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.register_buffer("known", known)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        same = (images.flatten(1)[:, None] - self.known.flatten(1)[None]).abs().amax(2) < 1e-6
        return 2.0 * same.any(1) - 1


def test_a_discriminator_that_knows_half_of_its_training_images_is_recognised(tiny: Recipe) -> None:
    recipe = config.override(tiny, AUTO)
    dataset = open_data(recipe.data)
    shape = setup.image_shape(recipe, dataset)
    measure = overfitting.make_measure(recipe, dataset, shape)
    state = setup.make_state(recipe, shape, "cpu")
    assert measure is not None
    state.discriminator = Memory(to_unit(torch.from_numpy(dataset.pixels))).train()
    assert measure(state) == {"d_accuracy_train": 1.0, "d_accuracy_heldout": 0.0}
    assert state.discriminator.training and state.ema.training
    half = dataset.pixels[: len(dataset) // 2]
    state.discriminator = Memory(to_unit(torch.from_numpy(half)))
    assert 0.2 < measure(state)["d_accuracy_train"] < 0.8


def test_both_kinds_stand_against_the_same_images_of_the_same_classes(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = config.override(tiny, AUTO)
    dataset = open_data(recipe.data)
    assert dataset.labels is not None
    dataset = dataset.select(np.flatnonzero(dataset.labels != 3))  # held out, and never seen in training
    shape = setup.image_shape(recipe, dataset)
    calls: list[tuple[Any, Any]] = []

    def logits(_: Any, pixels: Any, labels: Any) -> Tensor:
        calls.append((pixels, labels))
        return torch.zeros(len(pixels))

    monkeypatch.setattr(overfitting, "_logits", logits)
    measure = overfitting.make_measure(recipe, dataset, shape)
    assert measure is not None
    measure(setup.make_state(recipe, shape, "cpu"))
    (_, made), (real, _), (unseen, asked) = calls
    assert made is asked and 3 not in made and len(np.unique(made)) == 9
    heldout = open_data(recipe.data, part="heldout")
    for pixels, images in ((real, dataset), (unseen, heldout)):
        for picture, label in zip(pixels, asked, strict=True):
            of_class = images.pixels[images.labels == label]
            assert (of_class == picture).all((1, 2, 3)).any()


def test_nothing_is_measured_where_no_images_are_held_out(tiny: Recipe, tmp_path: Path) -> None:
    dataset, shape = open_data(tiny.data), ImageShape(1, 16, 10)
    for without in ({"data.split": "train"}, {"evaluate.every_images": 0}):
        recipe = config.override(tiny, {**AUTO, **without})
        assert overfitting.make_measure(recipe, dataset, shape) is None
        assert any("stays off" in line for line in setup.fit_to_data(recipe, tmp_path, ())[2])
    assert not any("stays off" in line for line in setup.fit_to_data(config.override(tiny, AUTO), tmp_path, ())[2])


def test_the_probability_follows_what_was_measured() -> None:
    assert overfitting.moved(0.0, LEARNED) == overfitting.SHARE
    assert overfitting.moved(overfitting.SHARE, CALM) == 0.0 == overfitting.moved(0.0, CALM)
    assert overfitting.moved(overfitting.LARGEST_SHARE, LEARNED) == overfitting.LARGEST_SHARE
    assert overfitting.moved(0.2, {"images": 20}) == 0.2  # not measured


@pytest.mark.parametrize(("channels", "policy"), [(1, ("translation",)), (3, ("color", "translation"))])
def test_the_policy_follows_the_channels(channels: int, policy: tuple[str, ...], tiny: Recipe) -> None:
    recipe = overfitting.with_policy(config.override(tiny, AUTO), ImageShape(channels, 16, 0))
    assert recipe.augment.policy == policy and overfitting.without_policy(recipe).augment.policy == ()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the measurements after so many images what a test gives."""

    def patch(by_images: dict[int, dict[str, float]]) -> None:
        monkeypatch.setattr(overfitting, "EVERY_IMAGES", 80)
        monkeypatch.setattr(overfitting, "make_measure", lambda *_: lambda state: by_images.get(state.images, CALM))
        selector = SimpleNamespace(due=lambda *_: False, score=lambda _: {})
        monkeypatch.setattr(trainer.checkpoint_selection, "make_selector", lambda *_: selector)

    return patch


def states(run: runs.Run) -> Any:
    return torch.load(runs.states(run)[0], weights_only=True)["generator"]


def alike(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_automatic_augmentation_is_off_until_the_discriminator_overfits_and_resumes_bit_for_bit(
    tiny: Recipe, tmp_path: Path, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    measured({160: LEARNED})

    def train(name: str, **changes: Any) -> runs.Run:
        return modiste.train(tiny, tmp_path / name, overrides={**AUTO, "train.lr_schedule": "constant", **changes})

    complete = train("complete")
    shares = [record["augment_probability"] for record in complete.read_log()]
    assert shares == [0.0, 0.0, overfitting.SHARE, 0.0]  # of the tick that ends; measured calm after 240
    errors = capsys.readouterr().err
    assert errors.count("'auto' is on from here") == 1 == errors.count("'auto' is off again")

    plain = {"augment.policy": []}
    until = [
        train(f"{name}-160", **{"train.images": 160}, **changes) for name, changes in (("plain", plain), ("auto", {}))
    ]
    assert alike(*map(states, until))
    assert not alike(states(complete), states(train("plain", **plain)))
    resumed = modiste.train(tiny, until[1].path, extend=True, overrides={**AUTO, "train.lr_schedule": "constant"})
    assert alike(states(resumed), states(complete))


def test_a_run_from_before_automatic_augmentation_resumes_without(tiny: Recipe, tmp_path: Path) -> None:
    kept = {**AUTO, "train.images": 32, "evaluate.every_images": 0}
    run = modiste.train(tiny, tmp_path / "run", overrides={**kept, "augment.policy": []})
    newer = config.override(tiny, kept)
    assert modiste.train(newer, run.path).read_recipe().augment.policy == ()
    with pytest.raises(UsageError, match=r"augment\.policy: \[\] -> auto"):
        modiste.train(newer, run.path, overrides={"augment.policy": "auto"})
    assert config.content_hash(run.read_recipe()) != config.content_hash(newer)


def test_what_automatic_augmentation_cannot_be_joined_with_is_refused(tiny: Recipe) -> None:
    for other in ({"loss.balanced_consistency_weight": 1.0}, {"augment.adapt_target": 0.6}):
        with pytest.raises(UsageError, match="'auto'"):
            config.override(tiny, {**AUTO, **other})
