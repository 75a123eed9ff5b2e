"""A DCGAN the way tutorials write it: what Modiste's speed is measured against.

The networks, the batch and Adam's settings are those of the recipe diaz-a. All else is what a newcomer's first script
does: a data set that makes a picture of every image and transforms it when it is asked for, a DataLoader over it,
float32, eager layers, probabilities with BCELoss, a backward pass for the real batch and one for the fake batch, the
generator's backward pass through all of the discriminator, and every number printed fetched with `.item()`.

    python benchmarks/tutorial_dcgan.py        # one epoch on drawn toy images
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIDE = 32
NOISE = 100
BATCH_SIZE = 128


class Garments(Dataset[Tensor]):
    """Pictures resized to 32 x 32, as float32 [1, 32, 32] in [-1, 1], each transformed when it is fetched."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels  # [N, height, width]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.pixels[index])
        return normalise(to_tensor(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))


def to_tensor(picture: Image.Image) -> Tensor:
    """A grey picture as float32 [1, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).unsqueeze(0).float().div(255)


def normalise(image: Tensor, mean: float = 0.5, deviation: float = 0.5) -> Tensor:
    """The image moved and scaled to [-1, 1]."""
    return image.sub(mean).div(deviation)


def make_generator() -> nn.Module:
    """Noise [N, 100, 1, 1] to images [N, 1, 32, 32]."""
    return nn.Sequential(
        nn.ConvTranspose2d(NOISE, 256, 4, 1, 0, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(True),
        nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(True),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(True),
        nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def make_discriminator() -> nn.Module:
    """Images [N, 1, 32, 32] to probabilities [N, 1, 1, 1] of being real."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 256, 4, 2, 1, bias=False),
        nn.BatchNorm2d(256),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(256, 1, 4, 1, 0, bias=False),
        nn.Sigmoid(),
    )


def endless(pixels: NDArray[np.uint8], workers: int, batch_size: int) -> Iterator[Tensor]:
    """Shuffled batches [N, 1, 32, 32], epoch after epoch."""
    loader = DataLoader(
        Garments(pixels),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def make_step(
    pixels: NDArray[np.uint8], workers: int = 0, batch_size: int = BATCH_SIZE
) -> Callable[[], dict[str, float]]:
    """A function that trains on the next batch of these grey images [N, H, W]; the numbers to print come back."""
    batches = endless(pixels, workers, batch_size)
    generator, discriminator = make_generator().train(), make_discriminator().train()
    criterion = nn.BCELoss()
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))

    def step() -> dict[str, float]:
        real = next(batches)
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

        # The discriminator: real images up, then generated ones down.
        discriminator.zero_grad()
        output = discriminator(real).view(-1)
        loss_real = criterion(output, ones)
        loss_real.backward()
        mean_real = output.mean().item()
        fake = generator(torch.randn(len(real), NOISE, 1, 1))
        output = discriminator(fake.detach()).view(-1)
        loss_fake = criterion(output, zeros)
        loss_fake.backward()
        mean_fake = output.mean().item()
        optimizer_d.step()

        # The generator: generated images up.
        generator.zero_grad()
        output = discriminator(fake).view(-1)
        loss_generator = criterion(output, ones)
        loss_generator.backward()
        mean_after = output.mean().item()
        optimizer_g.step()

        return {
            "loss_d": loss_real.item() + loss_fake.item(),
            "loss_g": loss_generator.item(),
            "mean_real": mean_real,
            "mean_fake": mean_fake,
            "mean_after": mean_after,
        }

    return step


def main() -> None:
    """One epoch on the toy set, a line every ten steps."""
    from modiste.data import toy

    pixels = toy.draw(10_000, 28, 0).pixels[:, 0]
    step = make_step(pixels)
    start = time.perf_counter()
    for done in range(1, len(pixels) // BATCH_SIZE + 1):
        numbers = step()
        if done % 10 == 0:
            speed = done * BATCH_SIZE / (time.perf_counter() - start)
            print(f"step {done}", *(f"{key} {value:.3f}" for key, value in numbers.items()), f"{speed:.0f} images/s")


if __name__ == "__main__":
    main()
