"""The picture on the README's front: generated garments beside real ones, which is which in small letters below.

    python benchmarks/front.py                     # the shipped generator, into docs/front.png
    python benchmarks/front.py --run runs/mine --out mine.png

Nothing is chosen: the images of seeds 0, 1, 2, ... in each class, and the first test images of each class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modiste import files
from modiste.config import Data
from modiste.data.sets import open_data
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling import generators, grids

COLUMNS = 9
GAP, BELOW, LETTERS = 24, 26, 15  # pixels


def picture(run: str, dataset: str) -> Image.Image:
    """Two grids of one row per class, generated left and real right, and a line of small letters below."""
    generator = generators.load(run)
    real = open_data(Data(name=dataset), part="test")
    assert real.labels is not None
    generated = np.concatenate([generator.sample(COLUMNS, label=name) for name in generator.class_names])
    first = [np.flatnonzero(real.labels == k)[:COLUMNS] for k in range(len(real.class_names))]
    halves = [tiles.grid(pixels, COLUMNS) for pixels in (generated, real.pixels[np.concatenate(first)])]
    wide, tall = halves[0].size
    canvas = Image.new("L", (2 * wide + GAP, tall + BELOW), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTERS)
    for k, (half, words) in enumerate(zip(halves, ("generated", "real: Fashion-MNIST's test images"), strict=True)):
        left = k * (wide + GAP)
        canvas.paste(half, (left, 0))
        draw.text((left + wide / 2, tall + BELOW / 2 + 2), words, fill=110, font=font, anchor="mm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="pretrained")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("docs/front.png"))
    options = parser.parse_args()
    facts = {"Title": "Generated garments beside real ones"}
    content = grids.png(picture(options.run, options.data))
    files.write_bytes(options.out, metadata.stamp(content, facts, metadata.COMPOSITE_TYPE))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
