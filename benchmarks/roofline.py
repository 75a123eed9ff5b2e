"""What a training step has to compute and to move, and what its device can do: the parts of peak.py.

Operations are 2 per multiply-add of convolutions and matrix products (`modiste.networks.summary.training_flops`).

Bytes that a step has to move at least, as if all else were fused into convolutions and matrix products, and as if no
map stayed in a cache between two of them. Counted are

- forward, per convolution or dense layer: its input, weights and bias read once, its output written once;
- backward, per such layer: the gradient by its output read once; the weights read and the gradient by its input
  written, where one is needed; its input read and the gradient by its weights written, where that is needed;
- Adam, once per update, in float32: weights, gradients and both moments read, weights and both moments written;
- the moving average, if there is one: weights read, averages read and written.

Values of the first two are as large as the precision says (4 or 2 bytes). Not counted: norms, activations and dropout,
which have to read maps a second time where they are not fused (batch norm always: its mean comes first), casts,
the real batch from the data set, and gradient penalties. Small steps keep their maps in a cache, so that they can be
faster than this bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from modiste.config import Recipe
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.networks.summary import parameter_count, weightless_step

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # of the square matrices of the peak
VALUES = {"cpu": 1 << 26, "cuda": 1 << 28, "mps": 1 << 27}  # of each array of the bandwidth, far more than caches hold
ADAM_VALUES, AVERAGE_VALUES = 7, 3  # read and written per parameter


class Counter(TorchDispatchMode):
    """Counts what runs under it: operations, and values that convolutions and matrix products read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.operations += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
            read = list(tensors(args))
            if packet is torch.ops.aten.convolution_backward:
                by_input, by_weight, _ = args[-1]
                gradient, images, weight = read[:3]
                read = [gradient, *([images] if by_weight else []), *([weight] if by_input else [])]
            self.values += sum(tensor.numel() for tensor in (*read, *tensors(result)))
        return result


def tensors(nested: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and tuples."""
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))


def bytes_per_image(recipe: Recipe, shape: ImageShape, precision: str) -> float:
    """Bytes that a step has to move at least, per real image shown: see above."""
    turns, step, _ = weightless_step(recipe, shape, recipe.train.batch_size)
    with Counter() as counter:
        step()
    with torch.device("meta"):
        generator, discriminator = build_generator(recipe.network, shape), build_discriminator(recipe.network, shape)
    averaged = AVERAGE_VALUES if recipe.train.ema_halflife_images else 0
    state = parameter_count(discriminator) * ADAM_VALUES * turns + parameter_count(generator) * (ADAM_VALUES + averaged)
    return (counter.values * DTYPES[precision].itemsize + 4 * state) / (turns * recipe.train.batch_size)


def finish(device: str) -> None:
    """Wait until the device has done all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def least_seconds(work: Callable[[], object], device: str, times: int) -> float:
    """The shortest of so many times that the work takes."""
    taken = []
    for _ in range(times):
        finish(device)
        start = time.perf_counter()
        work()
        finish(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def peak(device: str, precision: str, quick: bool) -> float:
    """Operations per second of a square matrix product, the best of ten."""
    side = 64 if quick else SIDES[device]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # as convolutions do it
    left, right = torch.randn(2, side, side, device=device, dtype=DTYPES[precision])
    return 2 * side**3 / least_seconds(lambda: left @ right, device, 10)


def bandwidth(device: str, quick: bool) -> float:
    """Bytes per second of the triad a = b + s c (McCalpin 1995) on large float32 arrays, the best of five.

    The least traffic is counted, three arrays; processors often read `a` as well before they write it.
    """
    first, second, result = torch.ones(3, 1 << 12 if quick else VALUES[device], device=device)
    triad = lambda: torch.add(first, second, alpha=3.0, out=result)  # noqa: E731
    return 3 * result.nbytes / least_seconds(triad, device, 5)
