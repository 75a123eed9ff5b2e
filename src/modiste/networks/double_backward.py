"""Layers for gradient penalties: their gradient by the image can be differentiated again efficiently.

A penalty on ||grad_x D(x)|| differentiates a backward pass. PyTorch does so by convolutions whose
kernels are whole maps (28 x 28), for each group of channels alone, and by sending zeros back through the whole forward
pass of every rectifier. Here the gradient by the image is a transposed convolution, whose own backward
pass uses ordinary kernels, and a rectifier is a product with slopes that count as constants, which they are wherever
there is a slope. The numbers are the same; docs/performance.md says what it saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_depth = [0]  # of the contexts around


@contextmanager
def for_gradient_penalties() -> Iterator[None]:
    """Context in which layers prepare for `create_graph=True`; the first backward pass is by images only."""
    _depth[0] += 1
    try:
        yield
    finally:
        _depth[0] -= 1


def is_active() -> bool:
    """Whether this forward pass is one of a gradient penalty."""
    return _depth[0] > 0


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, groups: int) -> Tensor:
    """A convolution for `for_gradient_penalties`, [N, C, H, W] -> [N, O, h, w]."""
    result: Tensor = _Convolution.apply(images, weight, bias, stride, padding, groups)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.options = (stride, padding, groups)
        return torch.conv2d(images, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, groups = ctx.options
        by_images = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            sides = zip(images.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, strict=True)
            rest = [side - ((of_map - 1) * step - 2 * pad + kernel) for side, of_map, kernel, step, pad in sides]
            by_images = F.conv_transpose2d(gradient, weight, None, stride, padding, rest, groups)
        if not torch.is_grad_enabled():  # a last backward pass; `create_graph` would have enabled it
            options = ([len(weight)], stride, padding, (1, 1), False, (0, 0), groups)
            _, by_weight, by_bias = torch.ops.aten.convolution_backward(
                gradient, images, weight, *options, [False, *ctx.needs_input_grad[1:3]]
            )
        return by_images, by_weight, by_bias, None, None, None


class ReLU(nn.ReLU):
    """PyTorch's, but for gradient penalties, and with a gradient in place where the layer is in place, too."""

    def forward(self, input: Tensor) -> Tensor:
        if is_active():
            return input * (input > 0)
        return _rectify_in_place(input, 0.0) if self.inplace and _is_trained(input) else super().forward(input)


class LeakyReLU(nn.LeakyReLU):
    """PyTorch's, but for gradient penalties, and with a gradient in place where the layer is in place, too."""

    def forward(self, input: Tensor) -> Tensor:
        if not is_active():
            slope = self.negative_slope
            return _rectify_in_place(input, slope) if self.inplace and _is_trained(input) else super().forward(input)
        values = input.detach()
        return input * torch.full_like(values, self.negative_slope).masked_fill(values > 0, 1.0)


def _is_trained(input: Tensor) -> bool:
    """Whether a gradient by this map will be asked for on a processor."""
    return input.requires_grad and input.device.type == "cpu" and not torch.compiler.is_compiling()


def _rectify_in_place(input: Tensor, slope: float) -> Tensor:
    result: Tensor = _RectifyInPlace.apply(input, slope)  # type: ignore[no-untyped-call]
    return result


class _RectifyInPlace(torch.autograd.Function):
    """Both ways in place, so that maps stay in the processor's cache; what follows must make a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, slope: float) -> Tensor:
        ctx.mark_dirty(input)
        result = F.leaky_relu_(input, slope)
        ctx.save_for_backward(result)
        ctx.slope = slope
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (result,) = ctx.saved_tensors
        if torch.is_grad_enabled() or 0 in gradient.stride():  # it is needed once more, or places share a number
            return torch.ops.aten.leaky_relu_backward(gradient, result, ctx.slope, True), None
        backward = torch.ops.aten.leaky_relu_backward.grad_input
        return backward(gradient, result, ctx.slope, True, grad_input=gradient), None
