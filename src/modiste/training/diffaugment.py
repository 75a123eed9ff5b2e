"""Differentiable augmentation of what the discriminator sees, real and generated alike (Zhao et al. 2020).

Every transformation takes images [N, C, H, W] in [-1, 1] and a mask of those to change (bool [N]), draws its
parameters, and lets gradients through to the pixels. Random numbers come from torch's default generator, which the
trainer seeds at each position. With a probability of one this is DiffAugment; a probability that follows the
discriminator's overfitting is adaptive augmentation (Karras et al. 2020, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def color(images: Tensor, chosen: Tensor) -> Tensor:
    """Brightness + U(-1/2, 1/2), then saturation x U(0, 2), then contrast x U(1/2, 3/2)."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device).to(images.dtype)
    changed = images + (brightness - 0.5)
    if images.shape[1] > 1:  # one channel is its own mean
        grey = changed.mean(1, keepdim=True)
        changed = grey + (changed - grey) * (2 * saturation)
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + (changed - mean) * (contrast + 0.5)
    return torch.where(chosen[:, None, None, None], changed, images)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Left and right exchanged in half of the chosen images."""
    half = torch.rand(len(images), device=images.device) < 0.5
    return torch.where((chosen & half)[:, None, None, None], images.flip(3), images)


def translation(images: Tensor, chosen: Tensor) -> Tensor:
    """Shift by whole pixels, up to an eighth of each side; the border is 0, a middle grey, as published."""
    count, _, height, width = images.shape
    down = _whole_numbers((height + 4) // 8, count, images.device) * chosen
    right = _whole_numbers((width + 4) // 8, count, images.device) * chosen
    padded = F.pad(images, (1, 1, 1, 1))  # a border of zeros, to which outside indices are clamped
    rows = (torch.arange(1, height + 1, device=images.device) - down[:, None]).clamp(0, height + 1)
    columns = (torch.arange(1, width + 1, device=images.device) - right[:, None]).clamp(0, width + 1)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, chosen: Tensor) -> Tensor:
    """Set a rectangle of half of each side, centred anywhere in the image, to 0."""
    count, _, height, width = images.shape
    top = torch.randint(0, height + 1, (count, 1), device=images.device) - height // 4
    left = torch.randint(0, width + 1, (count, 1), device=images.device) - width // 4
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (rows >= top) & (rows < top + height // 2)
    in_columns = (columns >= left) & (columns < left + width // 2)
    hole = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    return images * ~hole[:, None]


TRANSFORMATIONS = {"color": color, "flip": flip, "translation": translation, "cutout": cutout}


def augment(policy: Sequence[str], images: Tensor, probability: float | Tensor = 1.0) -> Tensor:
    """The images after each transformation of the policy in turn; each changes an image with this probability."""
    for name in policy:
        chosen = torch.rand(len(images), device=images.device) < probability
        images = TRANSFORMATIONS[name](images, chosen)
    return images


def adapted(probability: Tensor, accuracy_real: Tensor, target: float, share: float) -> Tensor:
    """The probability moved by `share`: up where r_t = E[sign D(x)] is above the target, down where it is below.

    r_t = 2 a - 1 for the discriminator's accuracy a on real images (Karras et al. 2020, section 3.1, eq. 1 right).
    """
    return (probability + share * torch.sign(2 * accuracy_real - 1 - target)).clamp(0, 1)


def _whole_numbers(reach: int, count: int, device: torch.device) -> Tensor:
    return torch.randint(-reach, reach + 1, (count,), device=device)
