"""Convolutions that are faster on a processor than PyTorch's, with the same weights and, up to rounding, the same maps.

On processors with bfloat16 matrix instructions weight gradients are matrix products. oneDNN's own bfloat16 kernel for
them is slow for wide 4 x 4 layers, and its threads wait for each other without yielding: on a machine with other work
it becomes 10 to 50 times slower, and a training with it up to 30 times. One product over unfolded patches is faster for
`diaz-a` and never blocks. A process with one thread does not wait, and there oneDNN's kernel for 3 x 3 is faster
(docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from modiste.networks import double_backward


class Conv2d(nn.Conv2d):
    """PyTorch's layer; under the processor's autocast its weight gradient is a matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        if double_backward.is_active():
            return double_backward.convolve(input, self.weight, self.bias, self.stride, self.padding, self.groups)
        if not _under_autocast(input) or self.groups > 1 or _suits_onednn(self):
            return super().forward(input)
        return _convolve(self, input, transposed=False)


class ConvTranspose2d(nn.ConvTranspose2d):
    """PyTorch's layer; under the processor's autocast its weight gradient is a matrix product."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not _under_autocast(input):
            return super().forward(input, output_size)
        return _convolve(self, input, transposed=True)


class DoublingConv2d(Conv2d):
    """A 3 x 3 convolution of the map with every position repeated, [N, C, H, W] -> [N, O, 2 H, 2 W].

    A row of the result depends on only two rows of the input, on one of them by the sum of two rows of the kernel. So
    it is a transposed 4 x 4 convolution at stride 2 of the map itself, with 16 products per position instead of 36,
    which training in float32 on a processor uses. Sampling and exports keep the plain form.
    """

    def __init__(self, channels: int, width: int, bias: bool = True) -> None:
        super().__init__(channels, width, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and _in_float32(input):
            kernel = four_from_three(self.weight).permute(1, 0, 2, 3).flip(2, 3)
            return F.conv_transpose2d(input, kernel.contiguous(), self.bias, stride=2, padding=1)
        return super().forward(F.interpolate(input, scale_factor=2.0))


class HalvingConv2d(Conv2d):
    """Means over 2 x 2 positions of a 3 x 3 convolution, [N, C, 2 H, 2 W] -> [N, O, H, W].

    The transpose of `DoublingConv2d`, up to a factor: training in float32 on a processor computes it as a 4 x 4
    convolution at stride 2.
    """

    def __init__(self, channels: int, width: int, bias: bool = True) -> None:
        super().__init__(channels, width, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and _in_float32(input):
            kernel = four_from_three(self.weight) / 4
            if double_backward.is_active():
                return double_backward.convolve(input, kernel, self.bias, (2, 2), (1, 1), 1)
            return F.conv2d(input, kernel, self.bias, stride=2, padding=1)
        return F.avg_pool2d(super().forward(input), 2)


def four_from_three(kernel: Tensor) -> Tensor:
    """[O, C, 4, 4] from [O, C, 3, 3]: the sum of the kernel at its four places in a window one larger."""
    return sum(
        (F.pad(kernel, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)), kernel.new_zeros(())
    )


def _in_float32(input: Tensor) -> bool:
    return input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _under_autocast(input: Tensor) -> bool:
    """Whether autocast is on; penalties and sampling use float32, and the compiler has kernels of its own."""
    return input.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def _suits_onednn(layer: nn.Conv2d) -> bool:
    """Small kernels at stride 1 on the only thread of this process."""
    return torch.get_num_threads() == 1 and max(layer.kernel_size) <= 3 and max(layer.stride) == 1


def _convolve(layer: Conv2d | ConvTranspose2d, images: Tensor, transposed: bool) -> Tensor:
    low = torch.get_autocast_dtype("cpu")
    weight, bias = layer.weight.to(low), None if layer.bias is None else layer.bias.to(low)
    options = (layer.stride, layer.padding, transposed, layer.output_padding)
    result: Tensor = _Convolution.apply(images.to(low), weight, bias, *options)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    """A convolution whose weight gradient is a matrix product; all else is PyTorch's."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        transposed: bool,
        more: Any,
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.options = (stride, padding, (1, 1), transposed, more, 1)
        return torch.convolution(images, weight, bias, *ctx.options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, _, transposed, *_ = ctx.options
        for_images, for_weight, for_bias = ctx.needs_input_grad[:3]
        by_images = by_weight = by_bias = None
        if for_images:
            by_images, _, _ = torch.ops.aten.convolution_backward(
                gradient, images, weight, None, *ctx.options, [True, False, False]
            )
        if for_weight:
            # A transposed convolution is the backward pass of a convolution: the two maps change places.
            wide, narrow = (gradient, images) if transposed else (images, gradient)
            by_weight = weight_gradient(wide, narrow, weight.shape[2:], stride, padding)
        if for_bias:
            by_bias = gradient.sum((0, 2, 3))
        return by_images, by_weight, by_bias, None, None, None, None


def weight_gradient(
    wide: Tensor, narrow: Tensor, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """[O, C, k, k] from a convolution's input [N, C, H, W] and the gradient by its output [N, O, h, w]."""
    (count, outputs, height, width), channels = narrow.shape, wide.shape[1]
    padded = F.pad(wide.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    per_image, per_row, per_column, _ = padded.stride()
    patches = padded.as_strided(
        (count, height, width, *kernel, channels),
        (per_image, stride[0] * per_row, stride[1] * per_column, per_row, per_column, 1),
    ).reshape(count * height * width, -1)  # [N h w, k k C]
    columns = narrow.permute(0, 2, 3, 1).reshape(-1, outputs).T  # [O, N h w]
    if channels > 1:
        columns = columns.contiguous()  # the product is faster for it, by more than the copy costs
    return (columns @ patches).view(outputs, *kernel, channels).permute(0, 3, 1, 2)
