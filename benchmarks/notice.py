"""What do features notice? Real images, damaged as a generator's images are, in the features of each extractor.

    python benchmarks/notice.py                       # Fashion-MNIST: the judge, learned patches, the random network
    python benchmarks/notice.py --data FOLDER         # a set of your own; a minute or two

The table has the Frechet distance of the damaged images over that of the same images undamaged, both to the held-out
images: 1.0 is a damage that goes unnoticed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from modiste import config
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.metrics import features, functional, judge
from modiste.networks.layers import ImageShape

COUNT = 2_000
Pixels = NDArray[np.uint8]
Random = np.random.Generator


def rounded(values: NDArray[np.floating]) -> Pixels:
    return np.round(values).clip(0, 255).astype(np.uint8)


def blur(pixels: Pixels, random: Random) -> Pixels:
    """Radius of one pixel."""
    channels = pixels.reshape(-1, *pixels.shape[2:])
    blurred = [np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(1))) for one in channels]
    return np.stack(blurred).reshape(pixels.shape)


def chequerboard(pixels: Pixels, random: Random) -> Pixels:
    """Every other pixel 12 grey levels brighter or darker."""
    rows, columns = np.indices(pixels.shape[2:])
    return rounded(pixels + 12.0 * (1 - 2 * ((rows + columns) % 2)))


def cast(pixels: Pixels, random: Random) -> Pixels:
    """The first channel times 0.85: a colour cast; images of one channel become darker."""
    return rounded(pixels * np.array([0.85, 1, 1])[: pixels.shape[1], None, None])


def quarters(pixels: Pixels, random: Random) -> Pixels:
    """The four quarters of each image in another order."""
    half = pixels.shape[2] // 2
    places = [(slice(None), slice(None), slice(a, a + half), slice(b, b + half)) for a in (0, half) for b in (0, half)]
    mixed = pixels.copy()
    for to, source in zip(places, (places[k] for k in (1, 3, 0, 2)), strict=True):
        mixed[to] = pixels[source]
    return mixed


def holes(pixels: Pixels, random: Random) -> Pixels:
    """A square of a quarter of the side missing at a random place."""
    damaged, side = pixels.copy(), pixels.shape[2] // 4
    for image, (top, left) in zip(damaged, random.integers(0, pixels.shape[2] - side, (len(pixels), 2)), strict=True):
        image[:, top : top + side, left : left + side] = 0
    return damaged


def halves(pixels: Pixels, random: Random) -> Pixels:
    """The upper half of one image over the lower half of another: things that do not exist."""
    half = pixels.shape[2] // 2
    return np.concatenate([pixels[:, :, :half], pixels[random.permutation(len(pixels)), :, half:]], axis=2)


def noise(pixels: Pixels, random: Random) -> Pixels:
    """Gaussian, of 8 grey levels."""
    return rounded(pixels + random.normal(0, 8, pixels.shape))


def collapse(pixels: Pixels, random: Random) -> Pixels:
    """50 images, again and again."""
    return pixels[np.arange(len(pixels)) % 50]


DAMAGES: dict[str, Callable[[Pixels, Random], Pixels]] = {
    "blur, radius 1": blur,
    "chequerboard of 12 levels": chequerboard,
    "colour cast of 15 %": cast,
    "noise of 8 levels": noise,
    "quarters in another order": quarters,
    "halves of two images": halves,
    "a hole in each image": holes,
    "only 50 images": collapse,
}


def table(settings: config.Data) -> list[list[str]]:
    """Rows: a damage, then its ratio by extractor; the first has their names."""
    fit, heldout = (open_data(settings, part=part) for part in ("fit", "heldout"))
    rest = fit.select(slice(len(fit) // 2, None))  # the dictionary is learned from the other half
    count = min(COUNT, len(rest))
    real = rest.select(np.random.Generator(np.random.PCG64(0)).permutation(len(rest))[:count])
    shape = ImageShape(*heldout.pixels.shape[1:3])
    extractors = [features.learned_patches(fit.select(slice(len(fit) // 2))), features.random_network(shape)]
    if (known := judge.for_data(settings)) is not None:
        extractors.insert(0, features.from_judge(known, "judge"))
    rows = [["damage", *(one.name for one in extractors)]]
    references = [functional.moments(features.extract(one, heldout).vectors) for one in extractors]

    def distances(pixels: Pixels) -> list[float]:
        images = Images(pixels, None, (), "damaged")
        found = (functional.moments(features.extract(one, images).vectors) for one in extractors)
        return [functional.frechet(*pair) for pair in zip(references, found, strict=True)]

    clean = distances(real.pixels)
    for name, damage in DAMAGES.items():
        ratios = np.array(distances(damage(real.pixels, np.random.Generator(np.random.PCG64(1))))) / clean
        rows.append([name, *(f"{ratio:.1f}" for ratio in ratios)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--resize", type=int)
    options = parser.parse_args()
    rows = table(config.Data(name=options.data, resize=options.resize))
    print(f"{Path(options.data).name}, Frechet distance over that of undamaged images\n")
    for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
