r"""The pictures on the README's front: generated garments beside real ones, and what longer trainings make.

    python benchmarks/front.py                     # the shipped generator, into docs/front.png
    python benchmarks/front.py --run runs/mine --out mine.png
    modiste train swift --budget "55000 images" --out runs/minute
    python benchmarks/speedrun.py --recipe swift --seeds 1 --minutes 10
    python benchmarks/front.py --out docs/strip.png --strip "1 minute=runs/minute" "10 minutes=runs/speedrun/swift-0" \
        "an hour=docs/studies/house/report_files/hour-end.png" "minutes on a GPU=pretrained"

Nothing is chosen: the images of seeds 0, 1, 2, ... in each class, and the first test images of each class. A strip
takes runs, and pictures that `modiste report` has written of a run's end (five images of each of ten classes).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from modiste import files
from modiste.config import Data
from modiste.data.sets import open_data
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling import generators, grids

COLUMNS = 9
GAP, BELOW, LETTERS = 24, 26, 15  # pixels
STRIP_COLUMNS = 5


def picture(run: str, dataset: str) -> Image.Image:
    """Two grids of one row per class, generated left and real right, and a line of small letters below."""
    generator = generators.load(run)
    real = open_data(Data(name=dataset), part="test")
    assert real.labels is not None
    generated = np.concatenate([generator.sample(COLUMNS, label=name) for name in generator.class_names])
    first = [np.flatnonzero(real.labels == k)[:COLUMNS] for k in range(len(real.class_names))]
    halves = [tiles.grid(pixels, COLUMNS) for pixels in (generated, real.pixels[np.concatenate(first)])]
    return side_by_side(halves, ("generated", "real: Fashion-MNIST's test images"))


def strip(sources: Mapping[str, str]) -> Image.Image:
    """The same seeds of every source, a row per class, with its label below."""
    columns = [tiles.grid(strip_images(source), STRIP_COLUMNS) for source in sources.values()]
    return side_by_side(columns, tuple(sources))


def strip_images(source: str) -> NDArray[np.uint8]:
    """Five images of each class, uint8 [50, 1, 28, 28], of a run or in a report's picture of one."""
    if source.endswith(".png"):
        with Image.open(source) as kept:
            dots = np.asarray(kept.convert("L"))
        step = 28 + tiles.GAP
        places = [(y, x) for y in range(0, dots.shape[0], step) for x in range(0, dots.shape[1], step)]
        return np.stack([dots[None, y : y + 28, x : x + 28] for y, x in places])
    generator = generators.load(source)
    return np.concatenate([generator.sample(STRIP_COLUMNS, label=name) for name in generator.class_names])


def side_by_side(grids_: Sequence[Image.Image], words: Sequence[str]) -> Image.Image:
    """Grids of one size in a line, with small letters below each."""
    wide, tall = grids_[0].size
    canvas = Image.new("L", (len(grids_) * (wide + GAP) - GAP, tall + BELOW), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTERS)
    for k, (one, text) in enumerate(zip(grids_, words, strict=True)):
        left = k * (wide + GAP)
        canvas.paste(one, (left, 0))
        draw.text((left + wide / 2, tall + BELOW / 2 + 2), text, fill=110, font=font, anchor="mm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="pretrained")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--strip", nargs="+", metavar="LABEL=SOURCE", help="trainings side by side instead")
    parser.add_argument("--out", type=Path, default=Path("docs/front.png"))
    options = parser.parse_args()
    if options.strip:
        drawn = grids.png(strip(dict(one.split("=", 1) for one in options.strip)))
        content = metadata.stamp(drawn, {"Title": "Garments of longer and longer trainings"})
    else:
        drawn = grids.png(picture(options.run, options.data))
        content = metadata.stamp(drawn, {"Title": "Generated garments beside real ones"}, metadata.COMPOSITE_TYPE)
    files.write_bytes(options.out, content)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
