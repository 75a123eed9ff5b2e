"""Directions of a generator that is known: what they change, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.latent import attributes, directions, effects
from modiste.metrics import features
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator

Z = 6
SHAPE = ImageShape(1, 16, 2)


class Bars(nn.Module):
    """A bar whose brightness is the noise's first number and whose width is the second; class 1 has them swapped."""

    z_dim = Z

    def __init__(self, swapped: bool = True) -> None:
        super().__init__()
        self.swapped = swapped
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        bright, wide = noise[:, 0], noise[:, 1]
        if self.swapped and labels is not None:
            bright, wide = torch.where(labels == 1, wide, bright), torch.where(labels == 1, bright, wide)
        distance = (torch.arange(16) - 7.5).abs()
        shape = torch.sigmoid(4 + wide[:, None] - distance)  # [N, 16]
        value = torch.sigmoid(bright / 2)[:, None, None, None]
        return (shape[:, None, None, :] * value * 2 - 1).expand(-1, 1, 16, -1)


@pytest.fixture(scope="module")
def bars() -> TrainedGenerator:
    return TrainedGenerator(Bars().eval(), SHAPE, ("plain", "swapped"), "bars")


@pytest.fixture(scope="module")
def found(bars: TrainedGenerator) -> dict[str, directions.Direction]:
    """From two attributes, as this generator's images differ in two numbers only, and no more can be held apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "OF_GREY", {"brightness": attributes.brightness, "width": attributes.width})
        return {one.name: one for one in directions.find(bars, None, 400)}


def test_an_attribute_has_the_direction_that_moves_it_alone(found: dict[str, directions.Direction]) -> None:
    """Per class: the number of the noise that makes it, with hardly anything of the others."""
    length = np.sqrt(Z) / 2
    for name, numbers in (("brightness", (0, 1)), ("width", (1, 0))):
        for vector, number in zip(found[name].vectors, numbers, strict=True):
            assert np.linalg.norm(vector) == pytest.approx(length, rel=1e-5)
            assert vector[number] == vector.max() > 0.7 * length, name


def test_effects_are_those_of_the_noise(bars: TrainedGenerator, found: dict[str, directions.Direction]) -> None:
    chosen = [found["brightness"], found["width"], directions.random_direction(bars)]
    bright, wide, _ = effects.measure(bars, None, chosen, 200)
    assert bright.moves["brightness"].low > 0.5 > abs(bright.moves["width"].value)
    assert wide.moves["width"].low > 0.5 > abs(wide.moves["brightness"].value)
    assert next(iter(bright.clear_moves)) == "brightness" and bright.class_kept is None
    one = bright.moves["brightness"]
    assert one.low < one.value < one.high


def test_steps_move_the_noise_by_class(bars: TrainedGenerator, found: dict[str, directions.Direction]) -> None:
    labels = np.array([0, 1, 1])
    shift = directions.shift(found["width"], -2.0, labels, 3)
    np.testing.assert_allclose(shift, -2 * found["width"].vectors[labels], rtol=1e-6)


def test_the_closed_form_is_the_first_layers_largest_singular_vector() -> None:
    network = nn.Sequential(nn.Linear(Z, 9), nn.Linear(9, 9))
    network.z_dim = Z
    generator = TrainedGenerator(network, ImageShape(1, 3), (), "linear")
    weight = network[0].weight.detach().numpy()
    expected = np.linalg.svd(weight)[2][0]
    one = directions.closed_form(generator)[0]
    assert abs(one.vectors[0] @ expected) == pytest.approx(np.linalg.norm(one.vectors[0]), rel=1e-4)
    no_layer = TrainedGenerator(Bars(), SHAPE, ("plain", "swapped"), "bars")
    assert directions.closed_form(no_layer) == []


def test_by_example_pictures_show_what_to_bring(bars: TrainedGenerator) -> None:
    """Bright pictures against dark ones of the generator's own kind lead along its brightness."""
    judge = features.random_network(ImageShape(1, 16))
    noise = torch.randn(80, Z, generator=torch.Generator().manual_seed(3))
    noise[:, 0] = torch.where(torch.arange(80) % 2 == 1, 2.0, -2.0)
    pixels = ((Bars(swapped=False)(noise, None) + 1) * 127.5).round().byte().numpy()
    pictures = {bool(k): Images(pixels[k::2], None, (), f"pictures {k}") for k in (0, 1)}
    one = directions.by_example(bars, judge, "light", pictures, 300)
    assert one.vectors[0][0] > 0.8 * np.linalg.norm(one.vectors[0]) and one.kind == "example"
    with pytest.raises(UsageError, match="holds one picture"):
        directions.by_example(bars, judge, "light", {**pictures, False: pictures[False].select(slice(1))}, 300)
    with pytest.raises(UsageError, match="hold the same pictures"):
        directions.by_example(bars, judge, "light", {**pictures, False: pictures[True]}, 300)


def test_what_never_changes_has_no_direction(bars: TrainedGenerator) -> None:
    """Every bar is its own mirror image."""
    assert "symmetry" not in {one.name for one in directions.find(bars, None, 50)}


def test_class_numbers() -> None:
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]], np.float32)
    seen = features.Features(np.zeros((2, 4), np.float32), logits)
    images = Images(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), ("a", "b", "c"), "two")
    odds = directions.class_numbers(seen, images)["class"]
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = chance[[0, 1], [0, 1]]
    np.testing.assert_allclose(odds, np.log(own / (1 - own)), rtol=1e-6)
    unlabelled = Images(images.pixels, None, (), "two")
    assert set(directions.class_numbers(seen, unlabelled)) == {"class 0", "class 1", "class 2"}


def test_the_interval_of_a_share_stays_a_share() -> None:
    """Wilson's interval of 9 of 10, as statsmodels' proportion_confint gives it."""
    found = effects._share(np.array([1.0] * 9 + [0.0]))
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.595850, 0.982124), abs=1e-6)
    assert effects._share(np.ones(1000)).high == pytest.approx(1.0) and effects._share(np.ones(1000)).low < 0.999
