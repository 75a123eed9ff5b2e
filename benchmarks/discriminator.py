"""Train the discriminator that ships beside the shipped generator, whose own was not kept.

    modiste train swift --budget 20min --out runs/swift
    python benchmarks/discriminator.py runs/swift      # `make discriminator RUN=runs/swift`: ten minutes on one core

It begins as the discriminator of that run, which has seen garments for long, and learns to tell real images of the part
`fit` from pictures of the shipped generator, whose weights stay as they are (relativistic loss and spectral norm as in
the recipe; both images of a pair have the same class). It is then asked which image of a held-out real one and a
generated one of the same class is real, and written in float16.
"""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line does; before torch is imported

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modiste import runs
from modiste.data.images import Images, Pixels, to_unit
from modiste.data.sets import open_data
from modiste.sampling import discriminators, generators
from modiste.training import losses

Log = Callable[..., None]

BATCH, RATE = 32, 1e-3
PICTURES = 20_000
"""Generated once, as making one takes longer than learning from it."""
SEED_OF_BANK, SEED_OF_TEST = 3_000_000, 1_000_000
"""The first seeds of the generated images that are learned from, and of those compared with held-out ones."""


def train(
    discriminator: nn.Module, trained: generators.TrainedGenerator, real: Images, seconds: float, say: Log
) -> int:
    """Updates for so many seconds, the rate falling linearly with the time; returns the number of images shown."""
    labels = np.arange(PICTURES) % len(real.class_names)
    fake = made(trained, SEED_OF_BANK, labels)
    say(f"{PICTURES:,} pictures made")
    rows = [np.flatnonzero(real.labels == number) for number in range(len(real.class_names))]
    loss, random = losses.ADVERSARIAL["relativistic"], np.random.default_rng(0)
    optimizer = torch.optim.Adam(discriminator.parameters(), RATE, (0.0, 0.99))
    discriminator.train()
    start, shown, sums = time.perf_counter(), 0, torch.zeros(2)
    while (spent := time.perf_counter() - start) < seconds:
        optimizer.param_groups[0]["lr"] = RATE * (1 - spent / seconds)
        chosen = random.choice(PICTURES, BATCH, replace=False)
        pairs = np.concatenate([real.pixels[[random.choice(rows[label]) for label in labels[chosen]]], fake[chosen]])
        both = torch.from_numpy(np.tile(labels[chosen], 2))
        r, f = discriminator(to_unit(torch.from_numpy(pairs)), both).chunk(2)
        mean = loss.discriminator(r, f).mean()
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        sums += torch.stack([mean.detach(), (r > f).float().mean()])
        shown += BATCH
        if shown % 16_000 == 0:
            say(f"{shown:,} images, {spent:.0f} s: loss {sums[0] / 500:.4f}, right {sums[1] / 500:.3f}")
            sums.zero_()
    return shown


def made(trained: generators.TrainedGenerator, seed: int, labels: NDArray[np.int64]) -> Pixels:
    """Generated pictures of these classes from consecutive seeds."""
    noise = generators.seed_noise(range(seed, seed + len(labels)), trained.z_dim)
    return generators.generate(trained.network, noise, labels)


@torch.no_grad()
def test(discriminator: nn.Module, trained: generators.TrainedGenerator, real: Images) -> dict[str, float]:
    """Of pairs of the same class, the share in which the real image has the larger logit; and of each class the area
    under the curve, averaged."""
    discriminator.eval()
    labels = torch.from_numpy(real.labels)
    fake = made(trained, SEED_OF_TEST, real.labels)

    def logits(pixels: np.ndarray) -> torch.Tensor:
        parts = zip(torch.from_numpy(np.ascontiguousarray(pixels)).split(500), labels.split(500), strict=True)
        return torch.cat([discriminator(to_unit(images), of) for images, of in parts])

    r, f = logits(real.pixels), logits(fake)
    areas = []
    for number in range(len(real.class_names)):
        rows = labels == number
        areas.append((r[rows][:, None] > f[rows]).float().mean().item())
    return {"pairs": (r > f).float().mean().item(), "area": float(np.mean(areas)), "gap": (r - f).mean().item()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description="Train the discriminator beside the shipped generator.")
    parser.add_argument("run", help="a run of `swift`, whose discriminator it begins as")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", default=str(runs.SHIPPED), help="the folder to write into; default the package's")
    options = parser.parse_args(arguments)
    run = runs.open_run(runs.PRETRAINED)
    trained, began, data = generators.load(run), discriminators.load(options.run), run.read_recipe().data
    dataset, real = open_data(data), open_data(data, part="heldout")
    say = partial(print, flush=True)
    before = test(began.network, trained, real)
    say("as it begins:", before)
    shown = train(began.network, trained, dataset, 60 * options.minutes, say)
    after = test(began.network, trained, real)
    start = (runs.read_last_record(runs.open_run(options.run)) or {}).get("images", 0)
    text = note(start, len(dataset), shown, options.minutes, (before["pairs"], after["pairs"]), len(real))
    discriminators.save(Path(options.out), replace(began, note=text))
    kept = discriminators.load(runs.Run(Path(options.out)))
    say(f"after {shown:,} images, as kept:", test(kept.network, trained, real))


def note(start: int, real: int, pairs: int, minutes: float, right: tuple[float, float], tested: int) -> str:
    """What the model card says of it: `right` are the shares of `tested` pairs before and after."""
    return textwrap.fill(
        "The one that the generator was trained with was not kept. This one, with the narrow networks of `swift`, "
        f"began as the discriminator of a `swift` ({start:,} images shown), and learned to tell the {real:,} training "
        f"images from {PICTURES:,} pictures of this generator, whose weights stayed as they are: {pairs:,} pairs of "
        f"the same class, {minutes:g} minutes on one core (`make discriminator RUN=runs/swift`). Of {tested:,} pairs "
        f"of a held-out image and a new picture of its class it finds the real one in {right[1]:.1%} ({right[0]:.1%} "
        "before; half would be chance).",
        120,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    main()
