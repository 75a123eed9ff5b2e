"""The layers of networks and what they cost: layer tables, parameter counts, floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modiste import parts
from modiste.config import Network, Recipe
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.double_backward import for_gradient_penalties
from modiste.networks.layers import ImageShape

BATCH = 2  # operations are counted for so many images and divided; batch norm needs two


@dataclass(frozen=True)
class LayerRow:
    """One layer: its class name, its output without the batch dimension, its parameters."""

    layer: str
    output_shape: tuple[int, ...]
    parameters: int


def layer_table(module: nn.Module, *inputs: Tensor | None) -> list[LayerRow]:
    """A row per layer in the order of a forward pass on `inputs`.

    Parameters are counted as Keras counts them: batch norm's running mean and variance are among them, the
    vectors of spectral norm's power iteration are not. Done in evaluation mode, so the module stays as it is.
    """
    rows: list[LayerRow] = []

    def record(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        statistics = (buffer for name, buffer in layer.named_buffers() if name.startswith("running_"))
        count = sum(tensor.numel() for tensor in chain(layer.parameters(), statistics))
        rows.append(LayerRow(_class_name(layer), tuple(output.shape[1:]), count))

    training = module.training
    hooks = [layer.register_forward_hook(record) for layer in _leaves(module)]
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def _leaves(module: nn.Module) -> list[nn.Module]:
    children = [child for name, child in module.named_children() if name != "parametrizations"]
    return [leaf for child in children for leaf in _leaves(child)] if children else [module]


def _class_name(layer: nn.Module) -> str:
    return type(layer).__name__.removeprefix("Parametrized")  # the prefix that spectral norm leaves


def parameter_count(module: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops_per_image(network: Network, shape: ImageShape) -> tuple[float, float]:
    """Operations of generator and discriminator per image: 2 per multiply-add in convolutions and matrix products."""
    generator, discriminator, noise, images, labels = _weightless(network, shape)
    with torch.no_grad():
        return (
            _operations(lambda: generator(noise, labels)) / BATCH,
            _operations(lambda: discriminator(images, labels)) / BATCH,
        )


def training_flops(recipe: Recipe, shape: ImageShape) -> float:
    """Operations per real image shown, counted while `weightless_step` runs.

    Gradient penalties count by their frequency; consistency terms and gradient accumulation, which generates images
    twice, are left out.
    """
    turns, step, penalty = weightless_step(recipe, shape, BATCH)
    total = _operations(step) / turns
    if count := len(recipe.loss.gradient_penalties):
        total += count * _operations(penalty) / recipe.loss.penalty_every
    return total / BATCH


def shape_without_data(recipe: Recipe) -> ImageShape:
    """The image shape of the recipe's data set as published: grey, 28 pixels unless resized, ten classes."""
    return ImageShape(1, recipe.data.resize or 28, 10 if recipe.network.conditioning != "none" else 0)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe in a few facts: name, about, source, length, size in pixels, and gflop_per_image of its training."""
    shape, train = shape_without_data(recipe), recipe.train
    length = f"{train.epochs:g} epochs" if train.epochs else f"{train.images:,} images"
    operations = training_flops(recipe, shape)
    row = {"name": recipe.name, "about": recipe.about, "source": recipe.source, "length": length}
    return {**row, "size": shape.size, "gflop_per_image": round(operations / 1e9, 4)}


def weightless_step(
    recipe: Recipe, shape: ImageShape, batch_size: int
) -> tuple[int, Callable[[], None], Callable[[], None]]:
    """The discriminator updates per step, and functions that make the passes of a step and of one gradient penalty
    for so many images on the meta device.

    A discriminator update generates images, passes real and generated ones through the discriminator, and goes back
    through it. The generator update passes the last generated images again and goes back through both networks, but
    not into the discriminator's weights.
    """
    # Norms cost next to nothing, and the counter cannot follow spectral norm into a layer.
    network = recipe.network.model_copy(update={"discriminator_norm": "none"})
    generator, discriminator, noise, images, labels = _weightless(network, shape, batch_size)
    turns = recipe.train.discriminator_steps

    def step() -> None:
        for _ in range(turns):
            fake = generator(noise, labels)
            logits = discriminator(images, labels) - discriminator(fake.detach(), labels)
            torch.autograd.backward(logits.sum())
        discriminator.requires_grad_(False)
        torch.autograd.backward(discriminator(fake, labels).sum())
        discriminator.requires_grad_(True)

    def penalty() -> None:
        real = images.detach().requires_grad_(True).clone()  # the counter's hooks fail on a leaf here
        with for_gradient_penalties():
            logits = discriminator(real, labels)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        torch.autograd.backward(gradient.square().sum())

    return turns, step, penalty


def tables(network: Network, shape: ImageShape) -> dict[str, list[LayerRow]]:
    """The layer tables of a generator and its discriminator."""
    norm = network.discriminator_norm
    unnormed = network.model_copy(update={"discriminator_norm": "none"} if norm == "spectral" else {})
    generator, discriminator, noise, images, labels = _weightless(unnormed, shape)
    return {
        "generator": layer_table(generator, noise, labels),
        "discriminator": layer_table(discriminator, images, labels),
    }


def _weightless(
    network: Network, shape: ImageShape, batch_size: int = BATCH
) -> tuple[nn.Module, nn.Module, Tensor, Tensor, Tensor | None]:
    """Both networks and their inputs on the meta device, which computes shapes only; a user's own are really built."""
    own = parts.parse(network.family) is not None
    with torch.device("cpu" if own else "meta"), torch.random.fork_rng([]):
        labels = torch.zeros(batch_size, dtype=torch.int64) if shape.classes else None
        noise = torch.empty(batch_size, network.z_dim)
        images = torch.empty(batch_size, shape.channels, shape.size, shape.size)
        return build_generator(network, shape), build_discriminator(network, shape), noise, images, labels


def _operations(work: Callable[[], object]) -> int:
    backward = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=backward) as counter:
        work()
    total: int = counter.get_total_flops()
    return total


def _convolution_backward(
    gradient: Sequence[int],
    images: Sequence[int],
    weight: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _more: object,
    _groups: int,
    wanted: Sequence[bool],
    out_shape: object = None,
) -> int:
    """Operations of a convolution's backward pass from its shapes: for each gradient as many as forward.

    PyTorch's own count takes the weight gradient of a convolution in groups for one without.
    """
    count, _, *sides = images if transposed else gradient
    return 2 * count * math.prod(sides) * math.prod(weight) * sum(wanted[:2])
