"""Penalties of the discriminator: gradient penalties and consistency, one value [N] per image.

They see images without augmentation, in float32: squares of small gradients underflow in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from modiste.config import Loss
from modiste.networks.double_backward import for_gradient_penalties
from modiste.training.losses import adversarial_logit

Discriminator = Callable[[Tensor, Tensor | None], Tensor]
Penalty = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor, int], Tensor]
"""Takes real and generated images [N, C, H, W] (detached), their labels, the logits of both (with a graph) and the
images shown; returns the weighted penalty [N]."""


def slope(discriminator: Discriminator, images: Tensor, labels: Tensor | None) -> Tensor:
    """The gradient of the logit at these images, [N, C, H, W] float32, with a graph for the weights."""
    with torch.autocast(images.device.type, enabled=False), for_gradient_penalties():
        points = images.detach().float().requires_grad_(True)
        logits = adversarial_logit(discriminator(points, labels))
        (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    return gradient


def zero_centred(discriminator: Discriminator, images: Tensor, labels: Tensor | None) -> Tensor:
    """1/2 ||grad_x D(x)||^2, [N]: R1 at real images, R2 at generated ones (Mescheder et al. 2018, eqs. 9 and 10)."""
    return slope(discriminator, images, labels).square().sum((1, 2, 3)) / 2


def one_centred(discriminator: Discriminator, images: Tensor, labels: Tensor | None) -> Tensor:
    """(||grad_x D(x)|| - 1)^2, [N] (Gulrajani et al. 2017, eq. 3)."""
    squared = slope(discriminator, images, labels).square().sum((1, 2, 3))
    return ((squared + 1e-12).sqrt() - 1) ** 2  # the root has no derivative at zero


def between(real: Tensor, fake: Tensor) -> Tensor:
    """A random point on the line from each real image to the generated one of its row (WGAN-GP, algorithm 1)."""
    place = torch.rand(len(real), 1, 1, 1, device=real.device)
    return torch.lerp(real.float(), fake.float(), place)


def around(real: Tensor) -> Tensor:
    """Points between each real image and it plus uniform noise in [0, s/2], s the deviation of the batch's pixels.

    As in the authors' code of DRAGAN; their paper has normal noise (Kodali et al. 2017, section 2.3).
    """
    return between(real, real + torch.rand_like(real) * real.std() / 2)


def consistency(discriminator: Discriminator, real: Tensor, labels: Tensor | None) -> Tensor:
    """|D(x') - D(x'')|, [N]: two passes over a real image, which differ by their dropout (Wei et al. 2018, eq. 4).

    With M' = 0, and without the term of the second-to-last layer, which has a tenth of the weight there. This is the
    equation; the authors' code squares the difference, so their weight of 2 has another scale.
    """
    first, second = (adversarial_logit(discriminator(real, labels)).float() for _ in range(2))
    return (first - second).abs()


def balanced_consistency(
    discriminator: Discriminator,
    augment: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None,
    logits: Tensor,
) -> Tensor:
    """(D(x) - D(T(x)))^2, [N], for real and for generated images alike (Zhao et al. 2020, algorithm 1)."""
    changed = discriminator(augment(images.float()), labels)
    return (adversarial_logit(logits) - adversarial_logit(changed)) ** 2


Term = Callable[[Discriminator, Tensor, Tensor, Tensor | None], Tensor]

GRADIENT_PENALTIES: dict[str, Term] = {
    "r1_gamma": lambda discriminator, real, fake, labels: zero_centred(discriminator, real, labels),
    "r2_gamma": lambda discriminator, real, fake, labels: zero_centred(discriminator, fake, labels),
    "gradient_penalty_weight": lambda discriminator, real, fake, labels: one_centred(
        discriminator, between(real, fake), labels
    ),
    "dragan_weight": lambda discriminator, real, fake, labels: one_centred(discriminator, around(real), labels),
}
"""Gradient penalties by the key of their weight."""


def make_penalty(
    loss: Loss, discriminator: Discriminator, augment: Callable[[Tensor], Tensor], batch_size: int
) -> Penalty:
    """The weighted sum of a recipe's penalties; zero if it has none.

    Gradient penalties are computed at every n-th update, n = `penalty_every`, with n times the weight (Karras et al.
    2020, section 3), consistency at each update.
    """
    gradients = [
        (weight * loss.penalty_every, GRADIENT_PENALTIES[key]) for key, weight in loss.gradient_penalties.items()
    ]
    balance = loss.balanced_consistency_weight

    def penalty(
        real: Tensor, fake: Tensor, labels: Tensor | None, on_real: Tensor, on_fake: Tensor, images: int
    ) -> Tensor:
        total = real.new_zeros(len(real), dtype=torch.float32)
        if images // batch_size % loss.penalty_every == 0:
            for weight, term in gradients:
                total = total + weight * term(discriminator, real, fake, labels)
        if loss.consistency_weight:
            total = total + loss.consistency_weight * consistency(discriminator, real, labels)
        for picture, logits in ((real, on_real), (fake, on_fake)) if balance else ():
            total = total + balance * balanced_consistency(discriminator, augment, picture, labels, logits)
        return total

    return penalty
