"""All weights of a network as one tensor, so that an optimiser's step, a norm and an average are one operation each.

Parameters become views of a joined tensor, and their gradients of another, where they add up. A saved state still holds
each parameter's moments by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 16
"""Each tensor begins at a multiple of so many numbers, 64 bytes in float32; kernels are slower from other places."""


def join(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor [numbers] with the values of these, all of one type and dense; they become views of it."""
    whole = tensors[0].new_zeros(sum(map(_room, tensors)))
    for tensor, part in zip(tensors, parts(whole, tensors), strict=True):
        tensor.data = part.copy_(tensor.detach())
    return whole


def join_weights(module: nn.Module) -> nn.Parameter:
    """A network's parameters as one, with a gradient to which theirs add up; they must not be moved or replaced."""
    parameters = list(module.parameters())
    whole = nn.Parameter(join(parameters))
    whole.grad = torch.zeros_like(whole)
    for parameter, gradient in zip(parameters, parts(whole.grad, parameters), strict=True):
        parameter.grad = gradient
    return whole


def parts(whole: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """Views of a joined tensor that are shaped and laid out like the tensors that it was joined from."""
    views, start = [], 0
    for tensor in like:
        views.append(whole.as_strided(tensor.shape, tensor.stride(), start))
        start += _room(tensor)
    return views


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() // ALIGNMENT) * ALIGNMENT


def weights_of(optimizer: torch.optim.Optimizer) -> Tensor:
    """The joined parameters that an optimiser of this module's networks has."""
    whole: Tensor
    (whole,) = optimizer.param_groups[0]["params"]
    return whole


def gradient_of(optimizer: torch.optim.Optimizer) -> Tensor:
    """The joined gradient [numbers]."""
    gradient = weights_of(optimizer).grad
    assert gradient is not None  # join_weights made it
    return gradient


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Any]:
    """The state as PyTorch saves that of an optimiser of a network's single parameters."""
    parameters, saved = list(module.parameters()), optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in saved["state"].get(0, {}).items():
        each = parts(value, parameters) if value.ndim else [value.clone() for _ in parameters]
        for index, part in enumerate(each):
            moments.setdefault(index, {})[key] = part
    return {"state": moments, "param_groups": [saved["param_groups"][0] | {"params": list(range(len(parameters)))}]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module, saved: Mapping[str, Any]) -> None:
    """The inverse of `optimizer_state`."""
    parameters, moments = list(module.parameters()), saved["state"]
    joined: dict[str, Tensor] = {}
    for key, first in moments[0].items() if moments else ():
        joined[key] = torch.zeros_like(weights_of(optimizer)) if first.ndim else first
        for index, part in enumerate(parts(joined[key], parameters)) if first.ndim else ():
            part.copy_(moments[index][key])
    groups = [saved["param_groups"][0] | {"params": [0]}]
    optimizer.load_state_dict({"state": {0: joined} if joined else {}, "param_groups": groups})
