"""The published recipes the way PyTorch tutorials write them: what Modiste's speed is measured against.

Layers, batch, losses and Adam's settings are those of each recipe. All else is what a newcomer's first script does: a
data set that makes a picture of every image and transforms it when it is asked for, a DataLoader over it, float32,
eager layers in PyTorch's own layout, probabilities with BCELoss, a backward pass for the real batch and one for the
fake batch, the generator's backward pass through all of the discriminator, and every number printed fetched with
`.item()`.

Both updates share one batch of generated images, as in Modiste and in PyTorch's DCGAN tutorial: the generator runs once
a step, the discriminator three times (real, fake, and fake again after its update). Real and fake images go through the
discriminator one after the other, where Modiste joins them if there is no batch norm. The generator's update computes
gradients of the discriminator's weights, too, and discards them. 5 x 5 kernels are padded by 2 on all sides, where
Keras' "same" is 1 before and 2 after: the same map sizes and cost.

    python benchmarks/tutorial_gan.py diaz-a        # one epoch on drawn toy images
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import line_protocol
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = 10


class Garments(Dataset[tuple[Tensor, int]]):
    """Pictures as float32 [1, side, side] in [-1, 1] with their classes, each transformed when it is fetched."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], side: int) -> None:
        self.pixels, self.labels, self.side = pixels, labels, side  # pixels [N, height, width]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index])
        if picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return normalise(to_tensor(picture)), int(self.labels[index])


def to_tensor(picture: Image.Image) -> Tensor:
    """A grey picture as float32 [1, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).unsqueeze(0).float().div(255)


def normalise(image: Tensor, mean: float = 0.5, deviation: float = 0.5) -> Tensor:
    """The image moved and scaled to [-1, 1]."""
    return image.sub(mean).div(deviation)


class ScaledSigmoid(nn.Module):
    """A sigmoid moved and scaled to [-1, 1]."""

    def forward(self, logits: Tensor) -> Tensor:
        return 2 * torch.sigmoid(logits) - 1


class KerasNorm2d(nn.BatchNorm2d):
    """Batch norm with the defaults of Keras."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)


def noronha() -> tuple[nn.Module, nn.Module]:
    """A dense layer and 5 x 5 kernels; dropout."""
    generator = nn.Sequential(
        nn.Linear(100, 128 * 7 * 7, bias=False),
        nn.BatchNorm1d(128 * 7 * 7, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 128, 5, 1, 2, bias=False),
        KerasNorm2d(128),
        nn.LeakyReLU(0.3, inplace=True),
        nn.ConvTranspose2d(128, 32, 5, 2, 2, output_padding=1, bias=False),
        KerasNorm2d(32),
        nn.LeakyReLU(0.3, inplace=True),
        nn.ConvTranspose2d(32, 1, 5, 2, 2, output_padding=1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 5, 2, 2),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Dropout(0.3),
        nn.Conv2d(64, 256, 5, 2, 2),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(256 * 7 * 7, 1),
        nn.Sigmoid(),
    )
    return generator, discriminator


def dense_sigmoid() -> tuple[nn.Module, nn.Module]:
    """A dense layer and 5 x 5 kernels without batch norm; a sigmoid at the end."""
    generator = nn.Sequential(
        nn.Linear(100, 128 * 7 * 7),
        nn.ReLU(True),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, output_padding=1),
        nn.ReLU(True),
        nn.ConvTranspose2d(64, 1, 5, 2, 2, output_padding=1),
        ScaledSigmoid(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 5, 2, 2),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Conv2d(64, 128, 5, 2, 2),
        nn.LeakyReLU(0.3, inplace=True),
        nn.Flatten(),
        nn.Linear(128 * 7 * 7, 1),
        nn.Sigmoid(),
    )
    return generator, discriminator


def dcgan(widest: int, stages: int) -> tuple[nn.Module, nn.Module]:
    """PyTorch's DCGAN tutorial: a 4 x 4 map from the noise doubled so often, widths halved down to 64, and back."""
    widths = [widest >> stage for stage in range(stages)]
    layers: list[nn.Module] = [nn.Unflatten(1, (100, 1, 1)), nn.ConvTranspose2d(100, widest, 4, 1, 0, bias=False)]
    for wide, narrow in zip(widths, [*widths[1:], 1], strict=True):
        layers += [nn.BatchNorm2d(wide), nn.ReLU(True), nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
    generator = nn.Sequential(*layers, nn.Tanh())
    layers = [nn.Conv2d(1, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for wide, narrow in reversed(list(pairwise(widths))):
        layers += [
            nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return generator, nn.Sequential(*layers, nn.Conv2d(widest, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def bare_naich() -> tuple[nn.Module, nn.Module]:
    """Kernels without padding, and one-hot labels beside the noise and beside the image."""
    generator = nn.Sequential(
        nn.Unflatten(1, (64 + CLASSES, 1, 1)),
        nn.ConvTranspose2d(64 + CLASSES, 256, 3, 2, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(True),
        nn.ConvTranspose2d(256, 128, 3, 2, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(True),
        nn.ConvTranspose2d(128, 64, 3, 2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(True),
        nn.ConvTranspose2d(64, 1, 4, 2, 2),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1 + CLASSES, 64, 4, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, 2, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 256, 4, 2, bias=False),
        nn.BatchNorm2d(256),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(256, 1, 4, 2),
        nn.Sigmoid(),
    )
    return generator, discriminator


class Script(NamedTuple):
    """What differs between the scripts."""

    networks: Callable[[], tuple[nn.Module, nn.Module]]
    side: int
    z_dim: int
    batch_size: int
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    epsilon: float = 1e-8
    conditional: bool = False
    minimax: bool = False


SCRIPTS = {
    "noronha": Script(noronha, 28, 100, 256, 1e-4, (0.9, 0.999), 1e-7, minimax=True),
    "diaz-a": Script(lambda: dcgan(256, 3), 32, 100, 128),
    "roh": Script(lambda: dcgan(512, 4), 64, 100, 128),
    "dense-sigmoid": Script(dense_sigmoid, 28, 100, 24, 1e-4, (0.001, 0.999), 1e-7),
    "bare-naich": Script(bare_naich, 28, 64, 128, conditional=True),
}


def endless(dataset: Garments, workers: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of pictures [N, 1, side, side] and classes [N], epoch after epoch."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def make_step(
    script: Script,
    networks: tuple[nn.Module, nn.Module],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    workers: int = 0,
    batch_size: int | None = None,
) -> Callable[[], dict[str, float]]:
    """A function that trains on the next batch of these grey images [N, H, W]; the numbers to print come back."""
    batches = endless(Garments(pixels, labels, script.side), workers, batch_size or script.batch_size)
    generator, discriminator = (module.train() for module in networks)
    criterion = nn.BCELoss()
    optimizer_d, optimizer_g = (
        torch.optim.Adam(module.parameters(), lr=script.rate, betas=script.betas, eps=script.epsilon)
        for module in (discriminator, generator)
    )

    def judge(images: Tensor, classes: Tensor) -> Tensor:
        if script.conditional:
            maps = classes[:, :, None, None].expand(-1, -1, script.side, script.side)
            images = torch.cat([images, maps], dim=1)
        return discriminator(images).view(-1)

    def step() -> dict[str, float]:
        real, numbers = next(batches)
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        classes = F.one_hot(numbers, CLASSES).float()

        # The discriminator: real images up, then generated ones down.
        discriminator.zero_grad()
        output = judge(real, classes)
        loss_real = criterion(output, ones)
        loss_real.backward()
        mean_real = output.mean().item()
        noise = torch.randn(len(real), script.z_dim)
        fake = generator(torch.cat([noise, classes], dim=1) if script.conditional else noise)
        output = judge(fake.detach(), classes)
        loss_fake = criterion(output, zeros)
        loss_fake.backward()
        mean_fake = output.mean().item()
        optimizer_d.step()

        # The generator: generated images up.
        generator.zero_grad()
        output = judge(fake, classes)
        loss_generator = -criterion(output, zeros) if script.minimax else criterion(output, ones)
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


def compete(settings: dict[str, object]) -> None:
    """Be a contestant of bench_rivals.py."""
    script, data = SCRIPTS[str(settings["recipe"])], np.load(str(settings["data"]))
    networks, batch_size = script.networks(), settings["batch_size"]
    assert isinstance(batch_size, int)
    counts = [sum(weight.numel() for weight in module.parameters()) for module in networks]
    step = make_step(script, networks, data["pixels"], data["labels"], batch_size=batch_size)
    facts = {"parameters": counts, "version": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads()}
    line_protocol.serve(facts, line_protocol.plain(step))


def main() -> None:
    """One epoch on the toy set, a line every ten steps; or a contestant's part."""
    if sys.argv[1:2] == ["--serve"]:
        return compete(json.loads(sys.argv[2]))
    from modiste.data import toy

    script = SCRIPTS[sys.argv[1] if len(sys.argv) > 1 else "diaz-a"]
    images = toy.draw(10_000, 28, 0)
    assert images.labels is not None
    step = make_step(script, script.networks(), images.pixels[:, 0], images.labels)
    start = time.perf_counter()
    for done in range(1, len(images) // script.batch_size + 1):
        numbers = step()
        if done % 10 == 0:
            speed = done * script.batch_size / (time.perf_counter() - start)
            print(f"step {done}", *(f"{key} {value:.3f}" for key, value in numbers.items()), f"{speed:.0f} images/s")


if __name__ == "__main__":
    main()
