"""What each part of the search for codes adds: encoder, judge, starts and steps; beside principal components.

    python benchmarks/projection.py runs/swift           # 200 test images, minutes on one core

Each row is a search for the codes of the same test images, whose class is given but in the last search. Principal
components of the training images, as many as a code has numbers, say what a linear model of that size comes to.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from modiste import runs
from modiste.data.images import Images, Pixels
from modiste.data.sets import native_data, open_data
from modiste.data.subsets import first_images
from modiste.latent import encoder, projection
from modiste.metrics import features
from modiste.metrics.features import Extractor
from modiste.sampling import generators

SEARCHES = {
    "as evaluate --reconstruct": {},
    "without the encoder": {"encoder": None},
    "25 steps": {"steps": 25},
    "25 steps, without the encoder": {"steps": 25, "encoder": None},
    "1 start": {"starts": 1},
    "4 starts": {"starts": 4},
    "300 steps": {"steps": 300},
    "with the judge's features, as project": {"extractor": True},
}


def components(train: Pixels, images: Pixels, count: int) -> Pixels:
    """The images from their first so many principal components of the training images."""
    rows = train.reshape(len(train), -1).astype(np.float32)
    mean = rows.mean(0)
    directions = np.linalg.eigh(np.cov(rows, rowvar=False))[1][:, -count:]
    found = (images.reshape(len(images), -1) - mean) @ directions @ directions.T + mean
    return found.reshape(images.shape).round().clip(0, 255).astype(np.uint8)


def agreement(judge: Extractor, pixels: Pixels, labels: NDArray[np.int64]) -> str:
    """How often the judge sees the class of the original in what was made."""
    logits = features.extract(judge, Images(pixels, None, (), "made")).logits
    return "-" if logits is None else f"{(logits.argmax(1) == labels).mean():.1%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=200, help="test images")
    words = parser.parse_args()
    run = runs.open_run(words.run)
    generator, data = generators.load(run), run.read_recipe().data
    learned = encoder.open_encoder(generator, encoder.folder_of(run, "last"))
    real, judge = first_images(open_data(data, part="test"), words.count), features.primary_extractor(native_data(data))
    assert real.labels is not None

    def row(name: str, pixels: Pixels, lengths: str, seconds: float) -> None:
        errors = projection.pixel_error(real.pixels, pixels)
        spread = f"{errors.mean():.2f} ± {errors.std(ddof=1) / np.sqrt(len(errors)):.2f}"
        seen = agreement(judge, pixels, real.labels)
        print(f"| {name} | {spread} | {seen} | {lengths} | {seconds / len(real):.3f} |", flush=True)

    print(f"{run.name}: {len(real)} of {real.name}")
    print("| search | error of 255 | judge sees the class | length of codes | s an image |\n|---|---|---|---|---|")
    for name, changes in SEARCHES.items():
        options = {"encoder": learned, **changes, **({"extractor": judge} if "extractor" in changes else {})}
        start = time.process_time()
        found = projection.project(generator, real.pixels, real.labels, **options)
        row(name, found.reconstructions, f"{found.lengths.mean():.2f}", time.process_time() - start)
    for name, extractor in (("", None), (", by the judge's features too", judge)):
        start = time.process_time()
        found = projection.project(generator, real.pixels, encoder=learned, extractor=extractor)
        seconds, right = time.process_time() - start, f"{(found.labels == real.labels).mean():.1%}"
        row(f"class found{name}: right in {right}", found.reconstructions, f"{found.lengths.mean():.2f}", seconds)
    row(
        f"{generator.z_dim} principal components",
        components(open_data(data).pixels, real.pixels, generator.z_dim),
        "-",
        0,
    )
    row("the images themselves", real.pixels, "-", 0)


if __name__ == "__main__":
    main()
