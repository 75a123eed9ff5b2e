"""Cheaper convolutions give the maps and gradients that PyTorch gives."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support import narrower, set_up, sums
from torch import Tensor, nn

import modiste
from modiste import config, runs, schema
from modiste.networks.convolution import Conv2d, ConvTranspose2d, DoublingConv2d, HalvingConv2d, weight_gradient
from modiste.training.distributed import ProcessGroup
from modiste.training.step import step

LAYERS = [
    (Conv2d(5, 7, 4, 2, 1), nn.Conv2d(5, 7, 4, 2, 1), (3, 5, 8, 8)),
    (Conv2d(1, 8, 4, 2, 1, bias=False), nn.Conv2d(1, 8, 4, 2, 1, bias=False), (4, 1, 9, 9)),
    (Conv2d(5, 7, 3, 1, 1), nn.Conv2d(5, 7, 3, 1, 1), (3, 5, 6, 6)),
    (ConvTranspose2d(6, 8, 4, bias=False), nn.ConvTranspose2d(6, 8, 4, bias=False), (9, 6, 1, 1)),
    (ConvTranspose2d(5, 7, 3, 2, 0), nn.ConvTranspose2d(5, 7, 3, 2, 0), (3, 5, 4, 4)),
    (ConvTranspose2d(5, 1, 3, 2, 1, 1), nn.ConvTranspose2d(5, 1, 3, 2, 1, 1), (3, 5, 4, 4)),
]


def gradients(layer: nn.Module, values: Tensor) -> list[Tensor]:
    """The output under autocast, then its gradients by input and parameters for one fixed cotangent."""
    values = values.clone().requires_grad_(True)
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(values)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * cotangent).sum().backward()
    found = [output.detach(), values.grad, *(weight.grad for weight in layer.parameters())]
    assert all(gradient is not None for gradient in found)
    return [gradient.float() for gradient in found if gradient is not None]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS, ids=lambda value: str(value))
def test_gradients_are_those_of_pytorch(
    ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    one, other = (copy.deepcopy(layer).to(memory_format=layout) for layer in (theirs, ours))
    other.load_state_dict(one.state_dict())
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    for expected, found in zip(gradients(one, values), gradients(other, values), strict=True):
        assert torch.linalg.vector_norm(found - expected) <= 0.005 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize(("count", "threads"), [(1, 1), (8, 2), (9, 2), (16, 3)])
def test_weight_gradient_by_hand(count: int, threads: int) -> None:
    """Sums of the four patches' corners, for one image and, in equal parts, for many copies of it."""
    before = torch.get_num_threads()
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    image = image.bfloat16().repeat(count, 1, 1, 1)
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            gradient = weight_gradient(image, torch.ones_like(image[:, :, :2, :2]), image[:1, :, :2, :2], 1, 0)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert (gradient[0, 0] / count).tolist() == [[12.0, 16.0], [24.0, 28.0]]


IMAGE_LAYERS = [
    *(
        (kernel, padding, more)
        for kernel in (2, 3, 4, 5)
        for padding in (0, 1, 2)
        for more in (0, 1)
        if padding < kernel
    )
]


@pytest.mark.parametrize(("kernel", "padding", "more"), IMAGE_LAYERS)
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("channels", [2, 6])
def test_maps_in_float32_of_few_channels_or_with_uneven_padding(
    channels: int, kernel: int, padding: int, more: int, side: int
) -> None:
    """Both directions of a kernel at stride 2, against PyTorch's on padded and cropped maps."""
    torch.manual_seed(0)
    down, up = Conv2d(channels, 5, kernel, 2, padding), ConvTranspose2d(5, channels, kernel, 2, padding)

    def plain_down(maps: Tensor) -> Tensor:
        padded = nn.functional.pad(maps, (0, more, 0, more))
        return nn.functional.conv2d(padded, down.weight, down.bias, 2, padding)

    def plain_up(maps: Tensor) -> Tensor:
        whole = nn.functional.conv_transpose2d(maps, up.weight, up.bias, 2, padding)
        return whole[:, :, : whole.shape[2] - more, : whole.shape[3] - more]

    for layer, plain, maps in (
        (down, plain_down, torch.randn(3, channels, side, side)),
        (up, plain_up, torch.randn(3, 5, side, side)),
    ):
        found, expected = [], []
        for way, results in ((lambda maps, layer=layer: layer.convolve(maps, more), found), (plain, expected)):
            layer.zero_grad()
            given = maps.clone().requires_grad_(True)
            output = way(given)
            output.square().sum().backward()
            results += [output, given.grad, layer.weight.grad, layer.bias.grad]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_without_autocast_the_layer_is_pytorchs_and_twice_differentiable() -> None:
    layer, plain = Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    plain.load_state_dict(layer.state_dict())
    values = torch.randn(2, 2, 5, 5, requires_grad=True)
    assert torch.equal(layer(values), plain(values))
    (slope,) = torch.autograd.grad(layer(values).square().sum(), values, create_graph=True)
    slope.square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [DoublingConv2d, HalvingConv2d])
def test_float32_takes_a_shorter_way_to_the_same_maps_and_gradients(
    kind: type[DoublingConv2d | HalvingConv2d], layout: torch.memory_format
) -> None:
    layer = kind(5, 7).to(memory_format=layout)
    plain = nn.Conv2d(5, 7, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    whole = {
        DoublingConv2d: lambda maps: plain(nn.functional.interpolate(maps, scale_factor=2)),
        HalvingConv2d: lambda maps: nn.functional.avg_pool2d(plain(maps), 2),
    }[kind]
    found, expected = [], []
    for way, results in ((layer, found), (whole, expected)):
        maps = torch.randn(3, 5, 6, 6, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
        output = way(maps.requires_grad_(True))
        output.square().sum().backward()
        results += [output, maps.grad]
    found += [layer.weight.grad, layer.bias.grad]
    expected += [plain.weight.grad, plain.bias.grad]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.eval()(maps), whole(maps), rtol=1e-4, atol=1e-4)


def test_the_shorter_way_can_be_differentiated_twice() -> None:
    layer, maps = HalvingConv2d(2, 3), torch.randn(2, 2, 6, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(maps).square().sum(), maps, create_graph=True)
    slope.square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", schema.shipped())
def test_every_recipe_trains_in_bfloat16_as_in_float32(name: str) -> None:
    """One step of each recipe's layers: the same losses up to bfloat16's three digits."""
    changes = {"data.name": "toy", "data.count": 64, "train.batch_size": 4, "train.discriminator_steps": 1}
    recipe = config.load(name)
    recipe = config.override(recipe, {**narrower(recipe), **changes})
    losses = []
    for precision in ("float32", "bfloat16"):
        state, functions, batch_at = set_up(recipe, precision=precision)
        step(state, functions, ProcessGroup(), batch_at)
        meter = sums(state)
        losses.append([meter[key] for key in ("loss_d", "loss_g", "gradient_norm_d", "gradient_norm_g")])
    assert losses[1] == pytest.approx(losses[0], rel=0.1, abs=0.02)


def test_bfloat16_resumes_bit_for_bit(tiny: config.Recipe, tmp_path: Path) -> None:
    changes = {"train.precision": "bfloat16", "train.images": 160, "loss.r1_gamma": 0.1}
    whole = modiste.train(tiny, tmp_path / "whole", overrides=changes)
    modiste.train(tiny, tmp_path / "parts", overrides={**changes, "train.images": 80})
    parts = modiste.train(tiny, tmp_path / "parts", overrides=changes, extend=True)
    one, other = (runs.load_state(run)[0] for run in (whole, parts))
    assert one is not None and other is not None
    for name in ("generator", "discriminator", "ema"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])
