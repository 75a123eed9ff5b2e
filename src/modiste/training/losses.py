"""Adversarial losses on logits, one value [N] per image and network.

Each network minimises its own. `r` and `f` are the discriminator's logits for real and
for generated images, D = sigmoid(logit), and softplus(x) = log(1 + e^x), so that -log D = softplus(-logit)
and -log(1 - D) = softplus(logit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from modiste import parts
from modiste.config import Loss
from modiste.errors import UsageError


def at_zero(r: Tensor, f: Tensor) -> Tensor:
    """The logit of a probability of one half."""
    return r.new_zeros(())


def half_way(r: Tensor, f: Tensor) -> Tensor:
    """The middle between both means, for losses that leave the logit's zero undetermined."""
    return (r.mean() + f.mean()) / 2


def half_way_of_each(r: Tensor, f: Tensor) -> Tensor:
    """[N]: the middle of each pair, for losses that only compare pairs: logits of two classes may lie far apart."""
    return (r + f) / 2


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses [N] of both networks as functions of the logits r of real and f of generated images, each [N] (or
    [N, 2], see `with_classes`)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Of (r, f)."""
    generator: Callable[[Tensor, Tensor], Tensor]
    """Of (r, f), with r from the discriminator's last update, detached; most losses ignore it."""
    boundary: Callable[[Tensor, Tensor], Tensor] = at_zero
    """Of (r, f): the logit above which an image counts as judged real, for accuracies; a scalar or one per pair [N]."""


def cross_entropy(r: Tensor, f: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), Goodfellow et al. 2014, eq. 1; shared by the two losses below."""
    return softplus(-r) + softplus(f)


ADVERSARIAL: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, section 3: the generator maximises log D(G(z)).
    "nonsaturating": AdversarialLoss(cross_entropy, lambda r, f: softplus(-f)),
    # Goodfellow et al. 2014, eq. 1, the zero-sum game: the generator minimises log(1 - D(G(z))).
    "minimax": AdversarialLoss(cross_entropy, lambda r, f: -softplus(f)),
    # Mao et al. 2017, eq. 9 (a = 0, b = c = 1); the logit itself is regressed on.
    "least-squares": AdversarialLoss(
        lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2, lambda r, f: r.new_full((), 0.5)
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eqs. 16 and 17.
    "hinge": AdversarialLoss(lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    # Arjovsky et al. 2017, eqs. 2 and 3; the Lipschitz bound is left to spectral norm or a penalty.
    "wasserstein": AdversarialLoss(lambda r, f: f - r, lambda r, f: -f, half_way),
    # Jolicoeur-Martineau 2018, eqs. 7 and 8 (paired): each generated image against the real one of its row, which has
    # the same label. The generator's r come from the discriminator's last update, one step old, to spare a pass.
    "relativistic": AdversarialLoss(lambda r, f: softplus(f - r), lambda r, f: softplus(r - f), half_way_of_each),
}


def adversarial(loss: Loss, auxiliary: bool = False) -> AdversarialLoss:
    """The adversarial loss of a recipe, with its label smoothing and auxiliary classifier.

    One-sided smoothing (Salimans et al. 2016, section 3.4): with the target 1 - s for real images their term
    is -(1 - s) log D - s log(1 - D) = softplus(-r) + s r. The terms of generated images stay as they are.
    """
    plain, smoothing = named(loss.adversarial), loss.label_smoothing
    smooth = replace(plain, discriminator=lambda r, f: plain.discriminator(r, f) + smoothing * r)
    chosen = smooth if smoothing else plain
    return with_classes(chosen, loss.class_weight) if auxiliary else chosen


def named(name: str) -> AdversarialLoss:
    """The loss of that name; or the user's own (see `parts`), an AdversarialLoss or a function of r and f [N] that
    returns the losses [N] of discriminator and generator."""
    if not parts.parse(name):
        return ADVERSARIAL[name]
    own = parts.load(name)
    if isinstance(own, AdversarialLoss):
        return own
    if not callable(own):
        raise UsageError(
            f"{parts.short(name)} is of type {type(own).__name__} and no loss; make it a function of r and f that "
            "returns the losses of discriminator and generator"
        )
    return AdversarialLoss(lambda r, f: own(r, f)[0], lambda r, f: own(r, f)[1])


def with_classes(loss: AdversarialLoss, weight: float) -> AdversarialLoss:
    """The loss with an auxiliary classifier: both networks want the label to be recognised (Odena et al. 2017, L_C).

    Its logits are [N, 2]: the adversarial one, and log p(y | x) of the label that each image has or was made for.
    """
    return AdversarialLoss(
        lambda r, f: loss.discriminator(r[:, 0], f[:, 0]) - weight * (r[:, 1] + f[:, 1]),
        lambda r, f: loss.generator(r[:, 0], f[:, 0]) - weight * f[:, 1],
        lambda r, f: loss.boundary(r[:, 0], f[:, 0]),
    )


def adversarial_logit(logits: Tensor) -> Tensor:
    """The adversarial logit [N], without the column of an auxiliary classifier."""
    return logits if logits.ndim == 1 else logits[:, 0]


def accuracies(loss: AdversarialLoss, r: Tensor, f: Tensor) -> Tensor:
    """[2]: the shares of real images above and of generated ones below the boundary."""
    boundary = loss.boundary(r, f)
    return torch.stack(
        [(adversarial_logit(r) > boundary).float().mean(), (adversarial_logit(f) < boundary).float().mean()]
    )


def mean_of_all(losses: Tensor, logits: Tensor, images: int) -> Tensor:
    """The generator's loss over the whole batch."""
    return losses.mean()


def mean_of_top(share: float, over_images: int, losses: Tensor, logits: Tensor, images: int) -> Tensor:
    """The generator's loss over the images that the discriminator rates highest (Sinha et al. 2020, eq. 1).

    Their share of the batch falls from 1 to `share` in proportion to the first `over_images` images shown.
    """
    now = 1 - (1 - share) * min(1.0, images / over_images if over_images else 1.0)
    count = max(1, round(now * len(losses)))
    return losses[adversarial_logit(logits).topk(count).indices].mean()
