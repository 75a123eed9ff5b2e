"""Penalties on gradients: PyTorch's numbers, for fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from support import narrower
from torch import Tensor, nn

from modiste import config, schema
from modiste.networks import double_backward, summary
from modiste.networks.build import build_discriminator
from modiste.networks.convolution import Conv2d, HalvingConv2d
from modiste.networks.double_backward import LeakyReLU, ReLU
from modiste.networks.layers import ImageShape
from modiste.training import losses, penalties

LAYERS = {
    "3 x 3": lambda: nn.Sequential(Conv2d(2, 3, 3, padding=1), LeakyReLU(0.2)),
    "strided": lambda: nn.Sequential(Conv2d(2, 3, 4, 2, 1, bias=False), ReLU()),
    "strided, a row is left over": lambda: nn.Sequential(Conv2d(2, 3, 3, 2), LeakyReLU(0.1)),
    "groups": lambda: nn.Sequential(Conv2d(2, 4, 1), ReLU(), Conv2d(4, 6, 3, padding=1, groups=2), LeakyReLU(0.2)),
    "batch norm": lambda: nn.Sequential(Conv2d(2, 3, 3), nn.BatchNorm2d(3), LeakyReLU(0.2), Conv2d(3, 2, 3)),
    "halving": lambda: nn.Sequential(HalvingConv2d(2, 3), ReLU()),
}


def penalty_and_gradients(module: nn.Module, images: Tensor) -> list[Tensor]:
    """1/2 ||grad_x sum of squares||^2 and its gradients by all weights, zeros where there is none."""
    module.zero_grad()
    points = images.clone().requires_grad_(True)
    with double_backward.for_gradient_penalties():
        value = module(points).square().sum()  # squares, so that the forward pass has a share in the second gradient
    (slope,) = torch.autograd.grad(value, points, create_graph=True)
    penalty = slope.square().sum() / 2
    torch.autograd.backward(penalty)
    weights = module.parameters()
    return [penalty.detach(), *(torch.zeros_like(one) if one.grad is None else one.grad for one in weights)]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_penalties_and_their_gradients_are_pytorchs(
    make: Callable[[], nn.Module], layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = make().double().to(memory_format=layout)
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64).to(memory_format=layout)
    found = penalty_and_gradients(module, images)
    monkeypatch.setattr(double_backward, "is_active", lambda: False)
    for one, other in zip(found, penalty_and_gradients(module, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert found[0] > 0 and found[1].abs().sum() > 0


@pytest.mark.parametrize("name", [name for name in schema.shipped() if name != "roh"])
def test_every_discriminator_pays_what_it_paid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config.load(name)
    network = config.override(recipe, narrower(recipe)).network
    size = 32 if network.family == "dcgan" else recipe.data.resize or 28
    torch.manual_seed(0)
    module = build_discriminator(network, ImageShape(1, size, 10)).double()
    images, labels = torch.randn(4, 1, size, size, dtype=torch.float64), torch.arange(4)
    for call in (penalties.zero_centred, penalties.one_centred):
        paid = []
        for way in (double_backward.is_active, lambda: False):
            with monkeypatch.context() as patch:
                patch.setattr(double_backward, "is_active", way)
                patch.setattr(penalties, "slope", slope_in_double)
                one = copy.deepcopy(module)
                torch.manual_seed(1)  # for dropout
                penalty = call(one, images, labels)
                torch.autograd.backward(penalty.sum())
                weights = one.parameters()
                paid.append([penalty, *(torch.zeros_like(w) if w.grad is None else w.grad for w in weights)])
        for left, right in zip(*paid, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-9)  # logits are made in float32


def slope_in_double(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Tensor:
    """As `penalties.slope`, which rounds to float32."""
    points = images.detach().requires_grad_(True)
    with double_backward.for_gradient_penalties():
        logits = losses.adversarial_logit(discriminator(points, labels))
    return torch.autograd.grad(logits.sum(), points, create_graph=True)[0]


@pytest.mark.parametrize(("name", "penalties_on"), [("wgan-gp", 1), ("dragan", 1), ("r3gan-small", 2)])
def test_a_penalty_costs_four_passes(name: str, penalties_on: int) -> None:
    """Forward, back to the image, and back through that in both ways: no zeros through the forward pass."""
    recipe, shape = config.load(name), ImageShape(1, 28, 10)
    off = {"loss.r1_gamma": 0, "loss.r2_gamma": 0, "loss.gradient_penalty_weight": 0, "loss.dragan_weight": 0}
    cost = summary.training_flops(recipe, shape) - summary.training_flops(config.override(recipe, off), shape)
    once = summary.flops_per_image(recipe.network, shape)[1]
    assert 3.9 < cost / once / penalties_on < 4.1


def test_outside_of_penalties_layers_are_pytorchs() -> None:
    maps = torch.randn(2, 2, 4, 4)
    assert not double_backward.is_active()
    assert torch.equal(LeakyReLU(0.2)(maps), nn.functional.leaky_relu(maps, 0.2))
    with pytest.raises(ZeroDivisionError), double_backward.for_gradient_penalties():
        assert double_backward.is_active()
        assert torch.equal(LeakyReLU(0.2)(maps), nn.functional.leaky_relu(maps, 0.2))
        assert torch.equal(ReLU()(maps), nn.functional.relu(maps))
        raise ZeroDivisionError
    assert not double_backward.is_active()


@pytest.mark.parametrize("make", [lambda: LeakyReLU(0.2, True), lambda: ReLU(True)], ids=["leaky", "plain"])
def test_a_rectifier_in_place_both_ways_is_pytorchs(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    one, other = make(), nn.LeakyReLU(getattr(make(), "negative_slope", 0.0))
    values = torch.randn(3, 2, 4, 4).to(memory_format=torch.channels_last)
    direction = torch.randn(3, 2, 4, 4)
    for follow in (lambda maps: (maps * direction).sum(), lambda maps: maps.sum(), lambda maps: (maps + maps).sum()):
        found, expected = (values.clone().requires_grad_(True) for _ in range(2))
        torch.testing.assert_close(one(found * 1), other(expected))
        for points, layer in ((found, one), (expected, other)):
            torch.autograd.backward(follow(layer(points * 1)))
        torch.testing.assert_close(found.grad, expected.grad)
    points = values.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(one(points * points).square().sum(), points, create_graph=True)
    torch.autograd.backward(slope.square().sum())
    again = values.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(other(again * again).square().sum(), again, create_graph=True)
    torch.autograd.backward(slope.square().sum())
    torch.testing.assert_close(points.grad, again.grad)
