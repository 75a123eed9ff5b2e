"""Weight gradients by matrix products are the gradients that PyTorch gives."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import modiste
from modiste import config, runs
from modiste.networks.convolution import use_matrix_gradients, weight_gradient

LAYERS = [
    (nn.Conv2d(5, 7, 4, 2, 1), (3, 5, 8, 8)),
    (nn.Conv2d(1, 8, 4, 2, 1, bias=False), (4, 1, 9, 9)),
    (nn.Conv2d(5, 7, 3, 1, 1), (3, 5, 6, 6)),
    (nn.ConvTranspose2d(6, 8, 4, 1, 0, bias=False), (9, 6, 1, 1)),
    (nn.ConvTranspose2d(5, 7, 3, 2, 0), (3, 5, 4, 4)),
    (nn.ConvTranspose2d(5, 1, 3, 2, 1, output_padding=1), (3, 5, 4, 4)),
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
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value))
def test_gradients_are_those_of_pytorch(layer: nn.Module, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    one = copy.deepcopy(layer).to(memory_format=layout)
    other = copy.deepcopy(one)
    use_matrix_gradients(other)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    for expected, found in zip(gradients(one, values), gradients(other, values), strict=True):
        assert torch.linalg.vector_norm(found - expected) <= 0.005 * torch.linalg.vector_norm(expected)


def test_weight_gradient_by_hand() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    gradient = weight_gradient(image, torch.ones(1, 1, 2, 2), torch.Size((2, 2)), (1, 1), (0, 0))
    assert gradient[0, 0].tolist() == [[12.0, 16.0], [24.0, 28.0]]  # sums of the four patches' corners


def test_without_autocast_the_layer_is_untouched_and_twice_differentiable() -> None:
    layer = nn.Conv2d(2, 3, 3)
    values = torch.randn(2, 2, 5, 5, requires_grad=True)
    before = layer(values)
    use_matrix_gradients(layer)
    assert torch.equal(layer(values), before)
    (slope,) = torch.autograd.grad(layer(values).square().sum(), values, create_graph=True)
    slope.square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_bfloat16_resumes_bit_for_bit(tiny: config.Recipe, tmp_path: Path) -> None:
    changes = {"train.precision": "bfloat16", "train.images": 160, "loss.r1_gamma": 0.1}
    whole = modiste.train(tiny, tmp_path / "whole", overrides=changes)
    modiste.train(tiny, tmp_path / "parts", overrides={**changes, "train.images": 80})
    parts = modiste.train(tiny, tmp_path / "parts", overrides=changes, extend=True)
    one, other = (runs.load_state(run)[0] for run in (whole, parts))
    assert one is not None and other is not None
    for name in ("generator", "discriminator", "ema"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])
