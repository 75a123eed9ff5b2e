"""Convolutions that are faster on a processor than PyTorch's, with the same weights and, up to rounding, the same maps.

A convolution takes a wide map to a narrow one and a transposed one takes it back, so that both layers are one pair of
maps and one gradient by the weights:

- In bfloat16 that gradient is computed in equal parts of the batch, each by a thread of its own. oneDNN's kernel for
  the whole batch lets its threads wait for each other without yielding: on a machine with other work it becomes 10 to
  50 times slower, and a training with it up to 30 times. A single thread waits for nobody.
- A map from or to an image, which has few channels, at stride 2 is a convolution at stride 1 that gives the four pixels
  under each position (Shi et al. 2016, section 3.2), since kernels are slow where a result has few channels.

`benchmarks/convolutions.py` prints what each of them saves.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modiste.networks import double_backward

FEW_CHANNELS = 4
LEAST_PART = 4
"""Images in one thread's part of a batch, at least."""


_ONE_BY_ONE = torch.eye(9).view(9, 3, 3)
FOUR_PLACES = torch.stack([F.pad(_ONE_BY_ONE, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]).sum(0).flatten(1)
"""[9, 16]: to which places of a 4 x 4 window each place of a 3 x 3 kernel goes."""


class Geometry(NamedTuple):
    """Stride, and rows and columns of padding before and after the wide map."""

    stride: int
    before: int
    after: int


class Conv2d(nn.Conv2d):
    """PyTorch's layer, trained on a processor by the shorter ways of this module."""

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(input, 0)

    def convolve(self, input: Tensor, more: int) -> Tensor:
        """The layer with so many more rows and columns of padding after the map than before it."""
        if _takes_shorter_way(self, input, self.in_channels, more) and not double_backward.is_active():
            geometry = Geometry(self.stride[0], int(self.padding[0]), int(self.padding[0]) + more)
            return _apply(_Convolution, input, self.weight, self.bias, geometry)
        input = F.pad(input, (0, more, 0, more)) if more else input
        if double_backward.is_active():
            return double_backward.convolve(input, self.weight, self.bias, self.stride, self.padding, self.groups)
        return super().forward(input)


class ConvTranspose2d(nn.ConvTranspose2d):
    """PyTorch's layer, trained on a processor by the shorter ways of this module."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, output_size) if output_size else self.convolve(input, 0)

    def convolve(self, input: Tensor, less: int) -> Tensor:
        """The layer without the last rows and columns of its result, so many of each."""
        if _takes_shorter_way(self, input, self.out_channels, less):
            padding = int(self.padding[0])
            geometry = Geometry(self.stride[0], padding, padding + less - self.output_padding[0])
            return _apply(_TransposedConvolution, input, self.weight, self.bias, geometry)
        result = super().forward(input)
        return result[:, :, : result.shape[2] - less, : result.shape[3] - less] if less else result


class DoublingConv2d(Conv2d):
    """A 3 x 3 convolution of the map with every position repeated, [N, C, H, W] -> [N, O, 2 H, 2 W].

    A row of the result depends on only two rows of the input, on one of them by the sum of two rows of the kernel. So
    it is a transposed 4 x 4 convolution at stride 2 of the map itself, with 16 products per position instead of 36,
    which a processor uses in float32. Exports keep the plain form.
    """

    def __init__(self, channels: int, width: int, bias: bool = True) -> None:
        super().__init__(channels, width, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if _in_float32(input):
            kernel = four_from_three(self.weight).permute(1, 0, 2, 3).flip(2, 3)
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)
        return super().forward(F.interpolate(input, scale_factor=2.0))


class HalvingConv2d(Conv2d):
    """Means over 2 x 2 positions of a 3 x 3 convolution, [N, C, 2 H, 2 W] -> [N, O, H, W].

    The transpose of `DoublingConv2d`, up to a factor: a processor computes it in float32 as a 4 x 4 convolution at
    stride 2.
    """

    def __init__(self, channels: int, width: int, bias: bool = True) -> None:
        super().__init__(channels, width, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if _in_float32(input):
            kernel = four_from_three(self.weight) / 4
            if double_backward.is_active():
                return double_backward.convolve(input, kernel, self.bias, (2, 2), (1, 1), 1)
            return F.conv2d(input, kernel, self.bias, stride=2, padding=1)
        return F.avg_pool2d(super().forward(input), 2)


def four_from_three(kernel: Tensor) -> Tensor:
    """[O, C, 4, 4] from [O, C, 3, 3]: the sum of the kernel at its four places in a window one larger."""
    return (kernel.reshape(-1, 9) @ FOUR_PLACES).view(*kernel.shape[:2], 4, 4)


def _in_float32(input: Tensor) -> bool:
    """Whether a processor computes in float32, and not to follow the operations for an export."""
    if torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return input.device.type == "cpu" and input.dtype == torch.float32


def _takes_shorter_way(layer: nn.Conv2d | nn.ConvTranspose2d, input: Tensor, wide_channels: int, uneven: int) -> bool:
    """In bfloat16 always, in float32 to and from images and with uneven padding; sampling and the compiler take the
    plain way."""
    if input.device.type != "cpu" or not layer.training or torch.compiler.is_compiling():
        return False
    square = all(len(set(pair)) == 1 for pair in (layer.stride, layer.padding, layer.output_padding))
    if layer.groups > 1 or layer.dilation != (1, 1) or isinstance(layer.padding, str) or not square:
        return False
    return torch.is_autocast_enabled("cpu") or (
        layer.stride == (2, 2) and (uneven > 0 or wide_channels <= FEW_CHANNELS)
    )


def _apply(
    function: type[torch.autograd.Function], input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu")
        input, weight, bias = input.to(low), weight.to(low), None if bias is None else bias.to(low)
    result: Tensor = function.apply(input, weight, bias, geometry)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        padded, rest = _pad(wide, geometry)
        ctx.save_for_backward(padded, weight)
        ctx.geometry, ctx.rest, ctx.side = geometry, rest, wide.shape[2:]
        return F.conv2d(padded, weight, bias, geometry.stride, rest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        padded, weight = ctx.saved_tensors
        for_maps, for_weight, for_bias, _ = ctx.needs_input_grad
        return (
            narrow_to_wide(gradient, weight, None, ctx.geometry, ctx.side) if for_maps else None,
            weight_gradient(padded, gradient, weight, ctx.geometry.stride, ctx.rest) if for_weight else None,
            gradient.sum((0, 2, 3)) if for_bias else None,
            None,
        )


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, narrow: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(narrow, weight)
        ctx.geometry = geometry
        trim = weight.shape[2] - geometry.stride - geometry.before - geometry.after
        side = torch.Size(geometry.stride * length + trim for length in narrow.shape[2:])
        wide = narrow_to_wide(narrow, weight, bias, geometry, side)
        return wide.clone() if wide._is_view() else wide  # a rectifier may overwrite it, which views forbid

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        narrow, weight = ctx.saved_tensors
        for_maps, for_weight, for_bias, _ = ctx.needs_input_grad
        padded, rest = _pad(gradient, ctx.geometry)
        return (
            F.conv2d(padded, weight, None, ctx.geometry.stride, rest) if for_maps else None,
            weight_gradient(padded, narrow, weight, ctx.geometry.stride, rest) if for_weight else None,
            gradient.sum((0, 2, 3)) if for_bias else None,
            None,
        )


def _pad(wide: Tensor, geometry: Geometry) -> tuple[Tensor, int]:
    """The wide map with what a kernel cannot pad by itself, and how much is left to it on all sides."""
    rest = min(geometry.before, geometry.after)
    before, after = geometry.before - rest, geometry.after - rest
    return (F.pad(wide, (before, after, before, after)) if before or after else wide), rest


def narrow_to_wide(narrow: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, side: torch.Size) -> Tensor:
    """The transposed convolution [N, O, h, w] -> [N, C, H, W] by weights [O, C, k, k], to these sides H and W."""
    if geometry.stride == 2 and weight.shape[1] <= FEW_CHANNELS and not any(length % 2 for length in side):
        return _by_pixels(narrow, weight, bias, geometry.before, side)
    kernel, stride, before, _ = weight.shape[2], *geometry
    short = [
        length - (stride * (count - 1) + kernel - 2 * before)
        for length, count in zip(side, narrow.shape[2:], strict=True)
    ]
    whole = F.conv_transpose2d(narrow, weight, bias, stride, before, [max(0, rows) for rows in short])
    return whole[:, :, : side[0], : side[1]]


def _by_pixels(narrow: Tensor, weight: Tensor, bias: Tensor | None, before: int, side: torch.Size) -> Tensor:
    """`narrow_to_wide` at stride 2: the four pixels under each position as channels of a convolution at stride 1.

    Pixel 2 q + r of a row is the sum over taps t of the kernel of narrow[q + (r + before - t) / 2] * weight[t], where
    that is a whole number.
    """
    outputs, channels, taps, _ = weight.shape
    first, last, index = _taps(taps, before)
    kernel = F.pad(weight, (0, 1, 0, 1))[:, :, index][:, :, :, :, index]  # [O, C, 2, K, 2, K]
    kernel = kernel.permute(1, 2, 4, 0, 3, 5).reshape(4 * channels, outputs, last - first + 1, last - first + 1)
    missing = [length // 2 + last - count for length, count in zip(side, narrow.shape[2:], strict=True)]
    pad = max(0, min(-first, *missing))
    rest = (-first - pad, missing[1] - pad, -first - pad, missing[0] - pad)
    narrow = F.pad(narrow, rest) if any(rest) else narrow
    pixels = F.conv2d(narrow, kernel, None if bias is None else bias.repeat_interleave(4), 1, pad)
    return F.pixel_shuffle(pixels, 2)


@cache
def _taps(taps: int, before: int) -> tuple[int, int, Tensor]:
    """The first and last offset of `_by_pixels`, and [2, offsets] the tap of each; `taps` where there is none."""
    offsets = {
        (row, tap): (row + before - tap) // 2 for row in (0, 1) for tap in range(taps) if (row + before - tap) % 2 == 0
    }
    first, last = min(*offsets.values(), 0), max(*offsets.values(), 0)
    index = torch.full((2, last - first + 1), taps)
    for (row, tap), offset in offsets.items():
        index[row, offset - first] = tap
    return first, last, index


def weight_gradient(padded: Tensor, narrow: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """[O, C, k, k] from a convolution's input [N, C, H, W] and the gradient by its output [N, O, h, w]."""
    threads = torch.get_num_threads()
    count = min(threads, len(narrow) // LEAST_PART)
    if narrow.dtype != torch.bfloat16 or count < 2 or torch.is_grad_enabled():
        return _weight_gradient(padded, narrow, weight, stride, padding)

    def of_part(images: Tensor, gradient: Tensor) -> Tensor:
        with torch.no_grad():
            return _weight_gradient(images, gradient, weight, stride, padding)

    first, *others = zip(padded.chunk(count), narrow.chunk(count), strict=True)
    pool = _single_threads(threads - 1, os.getpid())
    begun = [pool.submit(of_part, *part) for part in others]
    try:
        torch.set_num_threads(1)
        total = _weight_gradient(*first, weight, stride, padding)
    finally:
        torch.set_num_threads(threads)
    for part in begun:
        total += part.result()
    return total


def _weight_gradient(padded: Tensor, narrow: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    options = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
    gradient: Tensor = torch.ops.aten.convolution_backward(
        narrow, padded, weight, None, *options, [False, True, False]
    )[1]
    return gradient


@cache
def _single_threads(count: int, process: int) -> ThreadPoolExecutor:
    """So many threads of this process that compute alone, each without OpenMP's help."""
    started = threading.Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # the first call takes the setting of all threads
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, "part-of-a-batch")
    for each in [pool.submit(start) for _ in range(count)]:
        each.result()
    return pool
