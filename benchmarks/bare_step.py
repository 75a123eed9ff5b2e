"""The arithmetic of a recipe's step and nothing else: the least that a trainer can cost.

One batch that never changes, fresh noise, both losses, both updates. No data set, no seeds, no losses kept, no norms,
no checks, no moving average, no files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from modiste.config import Recipe
from modiste.networks.layers import ImageShape
from modiste.training import setup


def make_step(recipe: Recipe, shape: ImageShape, real: Tensor, precision: str) -> Callable[[], None]:
    """A function that does one step of an unconditional non-saturating DCGAN on these images [N, C, H, W]."""
    state = setup.make_state(recipe, shape, "cpu")
    generator, discriminator = state.generator.train(), state.discriminator.train()
    optimizer_g, optimizer_d = state.optimizer_g, state.optimizer_d
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    real = real.to(memory_format=torch.channels_last)

    def step() -> None:
        with autocast:
            fake = generator(torch.randn(len(real), recipe.network.z_dim))
            real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
        optimizer_d.zero_grad(set_to_none=False)
        (softplus(-real_logits.float()).mean() + softplus(fake_logits.float()).mean()).backward()
        optimizer_d.step()

        discriminator.requires_grad_(False)
        with autocast:
            logits = discriminator(fake)
        optimizer_g.zero_grad(set_to_none=False)
        softplus(-logits.float()).mean().backward()
        discriminator.requires_grad_(True)
        optimizer_g.step()

    return step
