"""Joined weights: the same training as with PyTorch's optimisers on single parameters, and the same saved state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modiste.config import Train
from modiste.training import flat, setup

OPTIMIZERS = {
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01, betas=(0.5, 0.9)),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=0.01, alpha=0.9),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 1))
    return layers.to(memory_format=torch.channels_last)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad(set_to_none=False)
    images = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    torch.autograd.backward(module(images).square().mean())
    optimizer.step()


def joined(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = network()
    train = Train(optimizer=kind, beta1=0.5, beta2=0.9, epsilon=1e-8)
    return module, setup.make_optimizer(train, flat.join_weights(module), 0.01)


def assert_close(one: nn.Module, other: nn.Module) -> None:
    for (key, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_training_is_that_of_pytorchs_optimizer(kind: str) -> None:
    module, optimizer = joined(kind)
    plain = network()
    plain_optimizer = OPTIMIZERS[kind](plain.parameters())
    for seed in range(4):
        step(module, optimizer, seed)
        step(plain, plain_optimizer, seed)
    assert_close(module, plain)
    gradients = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])
    torch.testing.assert_close(flat.gradient_of(optimizer).norm(), gradients.norm())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_states_go_to_and_fro_between_joined_and_single_weights(kind: str) -> None:
    (module, optimizer), plain = joined(kind), network()
    plain_optimizer = OPTIMIZERS[kind](plain.parameters())
    step(module, optimizer, 0)
    saved = copy.deepcopy(flat.optimizer_state(optimizer, module))
    plain.load_state_dict(module.state_dict())
    plain_optimizer.load_state_dict(saved)
    step(module, optimizer, 1)
    step(plain, plain_optimizer, 1)
    assert_close(module, plain)

    again, its_optimizer = joined(kind)
    again.load_state_dict(plain.state_dict())
    flat.load_optimizer_state(its_optimizer, again, plain_optimizer.state_dict())
    step(again, its_optimizer, 2)
    step(module, optimizer, 2)
    assert_close(again, module)


def test_a_state_before_the_first_step_has_no_moments() -> None:
    (module, optimizer), (other, its_optimizer) = joined("adam"), joined("adam")
    saved = flat.optimizer_state(optimizer, module)
    assert saved["state"] == {} and saved["param_groups"][0]["params"] == [0, 1, 2, 3, 4, 5]
    flat.load_optimizer_state(its_optimizer, other, saved)
    assert its_optimizer.state_dict()["state"] == {}


def test_joined_tensors_keep_values_and_layout_and_begin_at_whole_cache_lines() -> None:
    module, plain = network(), network()
    whole = flat.join_weights(module)
    assert_close(module, plain)
    for parameter, before in zip(module.parameters(), plain.parameters(), strict=True):
        assert parameter.stride() == before.stride() and parameter.data_ptr() % 64 == whole.data_ptr() % 64
    with torch.no_grad():
        whole.fill_(2.0)
    assert all((parameter == 2).all() for parameter in module.parameters())
