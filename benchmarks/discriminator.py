"""Train the discriminator that ships beside the shipped generator, whose own was not kept.

    python benchmarks/discriminator.py                 # `make discriminator`: sixteen minutes on one core

The generator's weights stay as they are. The discriminator has the recipe's networks and loss (relativistic, spectral
norm, real and generated image of a pair with the same class) and sees real images of the part `fit`. It is then asked
which image of a held-out real one and a generated one of the same class is real, and written in float16.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line does; before torch is imported

import numpy as np
import torch
from torch import nn

from modiste import config, environment, runs
from modiste.data.images import Images, to_unit
from modiste.data.sets import open_data
from modiste.sampling import discriminators, generators
from modiste.training import setup
from modiste.training.distributed import ProcessGroup
from modiste.training.step import State, make_step_functions, update_discriminator

WIDTHS = (96, 128, 160)
"""Narrower than the recipe's, so that the package stays below 6 MB."""
BATCH, RATE = 64, 5e-4
SEED_OF_TEST = 1_000_000
"""The first seed of the generated images that are compared with held-out ones."""


def train(recipe: config.Recipe, state: State, dataset: Images, seconds: float, say: Callable[[str], None]) -> None:
    """Discriminator updates for so many seconds; the rate falls linearly with the time."""
    group, shape = ProcessGroup(), setup.image_shape(recipe, dataset)
    functions = make_step_functions(recipe, state, group, "cpu", environment.choose_precision("auto", "cpu"))
    batch_at = setup.batches(recipe, dataset, shape, group, "cpu")
    state.generator.eval()  # as it is sampled
    state.discriminator.train()
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        rate = RATE * (1 - spent / seconds)
        parts = batch_at(state.images)
        with torch.no_grad(), functions.autocast():
            fakes = [functions.generator(part.noise, part.labels) for part in parts]
        update_discriminator(
            state, replace(functions, learning_rates=lambda images, rate=rate: (rate, rate)), group, parts, fakes
        )
        state.images += BATCH
        if state.images % (BATCH * 100) == 0:
            updates, loss, real, *_ = state.meter.tolist()
            say(f"{state.images:,} images, {spent:.0f} s: loss {loss / updates:.4f}, right {real / updates:.3f}")
            state.meter.zero_()


@torch.no_grad()
def test(discriminator: nn.Module, trained: generators.TrainedGenerator, real: Images) -> dict[str, float]:
    """Of pairs of the same class, the share in which the real image has the larger logit; and of each class the area
    under the curve, averaged."""
    discriminator.eval()
    labels = torch.from_numpy(real.labels)
    seeds = range(SEED_OF_TEST, SEED_OF_TEST + len(real))
    fake = generators.generate(trained.network, generators.seed_noise(seeds, trained.z_dim), real.labels)

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
    parser.add_argument("--minutes", type=float, default=16)
    parser.add_argument("--out", default=str(runs.SHIPPED), help="the folder to write into; default the package's")
    options = parser.parse_args(arguments)
    run = runs.open_run(runs.PRETRAINED)
    trained = generators.load(run)
    recipe = config.override(
        run.read_recipe(),
        {"network.discriminator_widths": WIDTHS, "train.batch_size": BATCH, "augment.adapt_target": 0,
         "augment.policy": [], "train.compile": False},
    )  # fmt: skip
    dataset, real = open_data(recipe.data), open_data(recipe.data, part="heldout")
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, "cpu")
    state.generator.load_state_dict(trained.network.state_dict())
    print("before:", test(state.discriminator, trained, real), flush=True)
    train(recipe, state, dataset, 60 * options.minutes, lambda line: print(line, flush=True))
    discriminators.save(Path(options.out), state.discriminator, recipe.network, shape, dataset.class_names)
    kept = discriminators.load(runs.Run(Path(options.out)))
    print(f"{state.images:,} images; as kept:", test(kept.network, trained, real))


if __name__ == "__main__":
    main()
