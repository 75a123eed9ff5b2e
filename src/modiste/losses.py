"""What the two networks play for: adversarial pairs and penalties, on logits, one value [N] per image.

Lower is better for the network that owns the term. `r` and `f` are the discriminator's logits for real and
for generated images, D = sigmoid(logit), and softplus(x) = log(1 + e^x), so that -log D = softplus(-logit)
and -log(1 - D) = softplus(logit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from modiste.config import Loss

Discriminator = Callable[[Tensor, Tensor | None], Tensor]


def at_zero(r: Tensor, f: Tensor) -> Tensor:
    """Where a probability of one half lies on the logit's axis."""
    return r.new_zeros(())


def half_way(r: Tensor, f: Tensor) -> Tensor:
    """The middle between the means of both, for games in which the logit has no zero of its own."""
    return (r.mean() + f.mean()) / 2


@dataclass(frozen=True)
class Pair:
    """A game in logits r of real and f of generated images, each [N]: one loss [N] per network."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Of (r, f)."""
    generator: Callable[[Tensor, Tensor], Tensor]
    """Of (r, f), r as the discriminator's last update saw them, without a graph; most games leave them aside."""
    boundary: Callable[[Tensor, Tensor], Tensor] = at_zero
    """Of (r, f): the logit above which an image counts as judged real, for the accuracies in the log."""


def cross_entropy(r: Tensor, f: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), Goodfellow et al. 2014, eq. 1; both games below share it."""
    return softplus(-r) + softplus(f)


ADVERSARIAL: dict[str, Pair] = {
    # Goodfellow et al. 2014, section 3: the generator maximises log D(G(z)).
    "nonsaturating": Pair(cross_entropy, lambda r, f: softplus(-f)),
    # Goodfellow et al. 2014, eq. 1, the zero-sum game: the generator minimises log(1 - D(G(z))).
    "minimax": Pair(cross_entropy, lambda r, f: -softplus(f)),
    # Mao et al. 2017, eq. 9 (a = 0, b = c = 1); the logit itself is regressed on.
    "least-squares": Pair(
        lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2, lambda r, f: r.new_full((), 0.5)
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eqs. 16 and 17.
    "hinge": Pair(lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    # Arjovsky et al. 2017, eqs. 2 and 3; the Lipschitz bound is left to spectral norm or a penalty.
    "wasserstein": Pair(lambda r, f: f - r, lambda r, f: -f, half_way),
    # Jolicoeur-Martineau 2018, eqs. 7 and 8 (paired): each generated image against the real one of its row, which has
    # the same label. The generator's r come from the discriminator's last update, one step old, to spare a pass.
    "relativistic": Pair(lambda r, f: softplus(f - r), lambda r, f: softplus(r - f), half_way),
}


def adversarial(loss: Loss) -> Pair:
    """The pair that this recipe plays, with its label smoothing built in.

    One-sided smoothing (Salimans et al. 2016, section 3.4): with the target 1 - s for real images their term
    is -(1 - s) log D - s log(1 - D) = softplus(-r) + s r. The terms of generated images stay as they are.
    """
    pair, smoothing = ADVERSARIAL[loss.adversarial], loss.label_smoothing
    if not smoothing:
        return pair
    return replace(pair, discriminator=lambda r, f: pair.discriminator(r, f) + smoothing * r)


def r1(discriminator: Discriminator, real: Tensor, labels: Tensor | None) -> Tensor:
    """1/2 ||grad_x D(x)||^2 of the logit at real images, [N] (Mescheder et al. 2018, eq. 9, without gamma).

    The result has a graph. Autocast is off inside: squares of small gradients do not survive in bfloat16.
    """
    with torch.autocast(real.device.type, enabled=False):
        images = real.detach().float().requires_grad_(True)
        logits = discriminator(images, labels)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)) / 2
