"""A loss and networks of the user's own, tried on a few made-up images before anything is trained or written."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modiste import parts
from modiste.config import Recipe
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.training import losses
from modiste.training.losses import AdversarialLoss

IMAGES = 4
"""Of the trial batch; batch norm needs two."""
BEYOND = 1e-3
"""How far a pixel may lie outside [-1, 1], by rounding."""


def check(recipe: Recipe, shape: ImageShape) -> None:
    """UsageError, with the remedy, where the user's own loss or networks do not return what a training needs.

    PyTorch's random numbers are as before when it ends.
    """
    loss, networks = recipe.loss.adversarial, recipe.network.family
    with torch.random.fork_rng([]), torch.enable_grad():
        torch.manual_seed(0)
        if parts.parse(loss):
            with parts.errors_named(f"{parts.short(loss)}, called with (r, f),"):
                _check_loss(parts.short(loss), losses.named(loss))
        if parts.parse(networks):
            with parts.errors_named(f"{parts.short(networks)}, tried on {IMAGES} images,"):
                _check_networks(recipe, shape, parts.short(networks))


def are_networks(recipe: Recipe) -> bool:
    """Whether the networks are the user's own."""
    return parts.parse(recipe.network.family) is not None


def _check_loss(name: str, loss: AdversarialLoss) -> None:
    r, f = (torch.randn(IMAGES, requires_grad=True) for _ in range(2))
    for owner, function in (("discriminator", loss.discriminator), ("generator", loss.generator)):
        values = function(r, f)
        _require(values, f"{name}: the {owner}'s loss", (IMAGES,), "one value per image, so take no mean")
        gradients = torch.autograd.grad(values.sum(), [r, f], allow_unused=True) if values.requires_grad else [None]
        needed = gradients[-1:] if owner == "generator" else gradients
        if not any(gradient is not None and bool(gradient.any()) for gradient in needed):
            raise UsageError(f"{name}: the {owner}'s loss does not change with the logits, so nothing can be learned "
                             "from it; compute it from r and f by torch's functions")  # fmt: skip
    boundary = loss.boundary(r, f)
    if boundary.shape not in ((), (IMAGES,)):
        raise UsageError(f"{name}: the boundary has the shape {list(boundary.shape)}; return a scalar or one per image")


def _check_networks(recipe: Recipe, shape: ImageShape, name: str) -> None:
    network = recipe.network
    generator, discriminator = build_generator(network, shape), build_discriminator(network, shape)
    labels = torch.arange(IMAGES) % shape.classes if shape.classes else None
    images = generator(torch.randn(IMAGES, network.z_dim), labels)
    sides = (IMAGES, shape.channels, shape.size, shape.size)
    _require(images, f"{name}: Generator's output", sides, "images [N, C, H, W] as `shape` says")
    if (largest := float(images.detach().abs().max())) > 1 + BEYOND:
        raise UsageError(f"{name}: Generator's pixels reach {largest:.3g} and must lie in [-1, 1]; end it with tanh")
    logits = discriminator(images, labels)
    auxiliary = network.conditioning == "auxiliary"
    words = "a logit and the label's log-probability per image" if auxiliary else "one logit per image, so flatten it"
    _require(logits, f"{name}: Discriminator's output", (IMAGES, 2) if auxiliary else (IMAGES,), words)
    if logits.requires_grad:
        logits.sum().backward()
    for module, what in ((generator, "Generator"), (discriminator, "Discriminator")):
        if not any(one.grad is not None and bool(one.grad.isfinite().all()) for one in module.parameters()):
            raise UsageError(f"{name}: no finite gradient of the logits comes to {what}'s weights; leave out detach(), "
                             "no_grad() and rounding")  # fmt: skip
        _require_separate(module, f"{name}: {what}")


def _require(values: Tensor, what: str, shape: tuple[int, ...], words: str) -> None:
    """UsageError unless the values are finite floating-point numbers of that shape."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise UsageError(f"{what} is {kind} and no tensor of floating-point numbers; return {words}")
    if values.shape != shape:
        raise UsageError(f"{what} has the shape {list(values.shape)} and not {list(shape)}; return {words}")
    if not bool(values.isfinite().all()):
        raise UsageError(f"{what} is not finite for ordinary inputs; look for a division, log or root of zero in it")


def _require_separate(module: nn.Module, what: str) -> None:
    """UsageError where two weights share their memory, which files of weights cannot hold."""
    places = [tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel()]
    if len(set(places)) < len(places):
        raise UsageError(f"{what} has one weight under two names; give each layer weights of its own")
