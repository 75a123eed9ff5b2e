"""The contract between the parts: every network, with every game, conditioning, size and number of channels."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from modiste import config, runs
from modiste.config import Recipe
from modiste.data import toy
from modiste.data.images import Images
from modiste.exports import model
from modiste.networks.build import FAMILIES, build_generator
from modiste.networks.layers import ImageShape
from modiste.training import flat, losses, setup, trainer
from modiste.training.distributed import ProcessGroup
from modiste.training.step import State, make_step_functions, step

SIZES = (28, 32, 64)
CONDITIONINGS = ("none", "one-hot", "projection", "auxiliary")
STEPS = 20
DATA = {size: toy.draw(16, size, 0) for size in SIZES}


def widths(family: str, size: int) -> dict[str, Any]:
    """Narrow networks of that family that fit the size."""
    generator = {"dcgan": 2, "conditional-dcgan": 4 if size == 64 else 3, "residual": 2}.get(family, 3)
    discriminator = {"dcgan": 2, "conditional-dcgan": 4 if size == 64 else 3, "dense-dcgan": 2}.get(family, 3)
    return {
        "network.generator_widths": [6, 4, 4, 4][:generator],
        "network.discriminator_widths": [4, 4, 6, 6][:discriminator],
        "network.generator_norm": "none" if family == "norm-free" else "batch",
        "network.discriminator_norm": "none" if family == "norm-free" else "spectral",
    }


def recipe_of(family: str, game: str, conditioning: str, size: int) -> Recipe:
    changes = {
        "network.family": family,
        "network.z_dim": 4,
        "network.conditioning": conditioning,
        **widths(family, size),
        "loss.adversarial": game,
        "train.batch_size": 4,
        "train.images": 4 * STEPS,
        "train.precision": "float32",
        "train.beta1": 0.0,
        "train.ema_halflife_images": 10,
    }
    return config.override(Recipe(), changes)


def images_of(size: int, channels: int) -> Images:
    drawn = DATA[size]
    return replace(drawn, pixels=np.repeat(drawn.pixels, channels, axis=1))


def trained(recipe: Recipe, dataset: Images, steps: int = STEPS) -> State:
    state = setup.make_state(recipe, setup.image_shape(recipe, dataset), "cpu")
    go_on(state, recipe, dataset, steps)
    return state


def go_on(state: State, recipe: Recipe, dataset: Images, steps: int) -> None:
    shape, group = setup.image_shape(recipe, dataset), ProcessGroup()
    functions = make_step_functions(recipe, state, group, "cpu", "float32")
    batch_at = setup.batches(recipe, dataset, shape, group, "cpu")
    for _ in range(steps):
        step(state, functions, group, batch_at)


def in_turn(family: str, game: str, conditioning: str, size: int) -> bool:
    """Whether a network of that conditioning and size has this game where not all are played.

    At 28 pixels some of them, so that every family and every conditioning meets every game; else one.
    """
    turn, games = list(FAMILIES).index(family) + CONDITIONINGS.index(conditioning), list(losses.ADVERSARIAL)
    if size == 28:
        return games.index(game) % len(CONDITIONINGS) == turn % len(CONDITIONINGS)
    return games.index(game) == (turn + SIZES.index(size)) % len(games)


# The rest of all combinations in the slow tests.
CROSS = [
    case if in_turn(*case) else pytest.param(*case, marks=pytest.mark.slow)
    for case in product(FAMILIES, losses.ADVERSARIAL, CONDITIONINGS, SIZES)
]


@pytest.mark.parametrize(("family", "game", "conditioning", "size"), CROSS)
def test_everything_goes_with_everything(family: str, game: str, conditioning: str, size: int) -> None:
    recipe = recipe_of(family, game, conditioning, size)
    channels = 3 if (len(family) + len(game)) % 2 else 1
    state = trained(recipe, images_of(size, channels))
    assert state.images == 4 * STEPS
    for name, module in (("generator", state.generator), ("discriminator", state.discriminator)):
        for key, parameter in module.named_parameters():
            assert parameter.isfinite().all(), f"{name}.{key}"
    for optimizer, module in ((state.optimizer_g, state.generator), (state.optimizer_d, state.discriminator)):
        moments = flat.optimizer_state(optimizer, module)["state"]
        for index, (key, _) in enumerate(module.named_parameters()):
            if not cancels(game, key):
                assert moments[index]["exp_avg_sq"].sum() > 0, f"no gradient ever reached {key}"
    noise, labels = torch.randn(3, 4), torch.tensor([0, 3, 9]) if conditioning != "none" else None
    ema = state.ema.eval()
    with torch.no_grad():
        images = ema(noise, labels)
        assert images.shape == (3, channels, size, size) and images.abs().max() <= 1 and images.isfinite().all()
        logits = state.discriminator.eval()(images, labels)
        assert logits.shape == ((3, 2) if conditioning == "auxiliary" else (3,))
        again = setup.make_state(recipe, setup.image_shape(recipe, images_of(size, channels)), "cpu").generator
        again.load_state_dict(ema.state_dict())
        assert torch.equal(again.eval()(noise, labels), images)


def cancels(game: str, key: str) -> bool:
    """The logit's bias in games that see differences only, as hinge does within its margin."""
    return key.startswith("logit") and key.endswith("bias") and game in ("relativistic", "wasserstein", "hinge")


# Every network with every conditioning; size, channels and game take turns.
PAIRS = [
    (
        family,
        conditioning,
        SIZES[(i + k) % 3],
        1 + 2 * ((i + k // 2) % 2),
        list(losses.ADVERSARIAL)[(i + k) % len(losses.ADVERSARIAL)],
    )
    for (i, family), (k, conditioning) in product(enumerate(FAMILIES), enumerate(CONDITIONINGS))
]


def test_pairs_take_every_turn() -> None:
    for family in FAMILIES:
        mine = [pair for pair in PAIRS if pair[0] == family]
        assert {pair[2] for pair in mine} == {*SIZES} and {pair[3] for pair in mine} == {1, 3}
    assert {pair[4] for pair in PAIRS} == {*losses.ADVERSARIAL}


@pytest.mark.parametrize(("family", "conditioning", "size", "channels", "game"), PAIRS)
def test_what_is_exported_equals_what_was_trained(
    family: str, conditioning: str, size: int, channels: int, game: str
) -> None:
    dataset = images_of(size, channels)
    recipe = recipe_of(family, game, conditioning, size)
    generator = trained(recipe, dataset, steps=3).ema.eval()
    session = onnxruntime.InferenceSession(
        model.to_onnx(generator, setup.image_shape(recipe, dataset), 4), providers=["CPUExecutionProvider"]
    )
    noise, labels = torch.randn(5, 4), torch.tensor([0, 3, 9, 9, 1]) if conditioning != "none" else None
    given = {"noise": noise.numpy()} | ({} if labels is None else {"labels": labels.numpy()})
    (made,) = session.run(None, given)
    assert made.shape == (5, channels, size, size)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(made), generator(noise, labels), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("family", "conditioning", "size", "channels", "game"), PAIRS)
def test_training_goes_on_from_its_file_as_if_it_had_not_stopped(
    family: str, conditioning: str, size: int, channels: int, game: str, tmp_path: Path
) -> None:
    dataset, recipe = images_of(size, channels), recipe_of(family, game, conditioning, size)
    state = trained(recipe, dataset, steps=3)
    session: Any = SimpleNamespace(group=ProcessGroup(), run=runs.Run(tmp_path))
    clock: Any = SimpleNamespace(seconds=0.0)
    (tmp_path / "state").mkdir()
    trainer.save(session, state, clock)
    saved, notes = runs.load_state(session.run)
    assert saved is not None and not notes
    again = setup.make_state(recipe, setup.image_shape(recipe, dataset), "cpu")
    trainer.restore(again, saved, ProcessGroup())
    for one in (state, again):
        go_on(one, recipe, dataset, steps=2)
    assert again.images == state.images == 20
    for name in ("generator", "discriminator", "ema"):
        for (key, mine), other in zip(
            getattr(again, name).state_dict().items(), getattr(state, name).state_dict().values(), strict=True
        ):
            assert torch.equal(mine, other), f"{name}.{key}"


@pytest.mark.parametrize(
    "family, conditioning", [pair for pair in product(FAMILIES, CONDITIONINGS) if pair[0] in ("slim", "residual")]
)
def test_labels_matter_after_training(family: str, conditioning: str) -> None:
    recipe = recipe_of(family, "hinge", conditioning, 28)
    generator = trained(recipe, images_of(28, 1)).generator.eval()
    noise = torch.randn(2, 4)
    with torch.no_grad():
        one, other = (generator(noise, torch.full((2,), label) if conditioning != "none" else None) for label in (0, 7))
    assert torch.equal(one, other) == (conditioning == "none")


@pytest.mark.parametrize(("family", "conditioning"), list(product(FAMILIES, CONDITIONINGS[1:])))
def test_weights_of_classes_are_mixed_and_a_weight_of_one_is_the_class(family: str, conditioning: str) -> None:
    network = recipe_of(family, "nonsaturating", conditioning, 32).network
    torch.manual_seed(0)
    generator = build_generator(network, ImageShape(1, 32, 10)).eval()
    noise, labels = torch.randn(3, 4), torch.tensor([0, 3, 9])
    with torch.no_grad():
        for parameter in generator.parameters():  # the classes' gains start equal
            parameter += 0.1 * torch.randn_like(parameter)
        images = generator(noise, labels)
        assert torch.equal(generator(noise, torch.eye(10)[labels]), images)
        halves = generator(noise, (torch.eye(10)[labels] + torch.eye(10)[labels - 1]) / 2)
        assert not torch.equal(halves, images) and not torch.equal(halves, generator(noise, (labels - 1) % 10))
