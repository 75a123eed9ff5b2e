"""What the watermark survives and what it costs, on real images that stand for generated ones.

Detection: Fashion-MNIST's test images, marked, changed in the ways listed, in disjoint sets of 1, 10 and 100; found
means p below 1e-6. The same sets unmarked, under many keys, show how often it is found where it is not. Cost: the
Fréchet distance against the test images of the real baseline's images (held out and first others) with the mark, minus
without it, per key.

    python benchmarks/watermark.py                    # some minutes
    python benchmarks/watermark.py --images 200 --cost-images 0 --keys 1   # does it run at all?
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable

import numpy as np
from PIL import Image

from modiste.config import Data
from modiste.data.images import resized
from modiste.data.sets import open_data
from modiste.metrics import features, functional, judge
from modiste.provenance import watermark

RATE = 1e-6
SETS = (1, 10, 100)


def jpeg(pixels: np.ndarray, quality: int = 75) -> np.ndarray:
    """The images after a JPEG file of that quality."""
    rows = []
    for image in pixels[:, 0]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        rows.append(np.asarray(Image.open(buffer)))
    return np.stack(rows)[:, None]


def moved(pixels: np.ndarray) -> np.ndarray:
    """The images one pixel further down and right, black coming in."""
    return np.pad(pixels, ((0, 0), (0, 0), (1, 0), (1, 0)))[:, :, :-1, :-1]


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "8-bit rounding only": lambda pixels: pixels,
    "JPEG quality 75": jpeg,
    "1-pixel shift, both ways": moved,
    "resize to 32": lambda pixels: resized(pixels, 32, "bilinear"),
    "resize to 32 and back": lambda pixels: resized(resized(pixels, 32, "bilinear"), 28, "bilinear"),
}


def detection(real: np.ndarray, key: str, strength: float) -> dict[str, dict[int, list[float]]]:
    """The statistics of every disjoint set of marked images, per change and size of the set."""
    marked = watermark.embed(real, key, strength)
    found = {}
    for name, change in ATTACKS.items():
        changed = change(marked)
        found[name] = {
            size: [
                watermark.detect(changed[k : k + size], key).p_value for k in range(0, len(changed) - size + 1, size)
            ]
            for size in SETS
        }
    return found


def false_positives(real: np.ndarray, keys: int) -> list[float]:
    """p-values of unmarked images: sets of 1, 10 and 100 under as many keys."""
    return [
        watermark.detect(real[(k * size) % (len(real) - size + 1) :][:size], f"decoy {k}").p_value
        for size in SETS
        for k in range(keys)
    ]


def cost(count: int, keys: list[str], strength: float) -> dict[str, object]:
    """Fréchet distances (garment judge) with and without the mark."""
    extractor = features.from_judge(judge.load("garment"), "garment")
    reference = functional.moments(features.extract(extractor, open_data(Data(), part="test"), cached=True).vectors)
    parts = [open_data(Data(), part=part).pixels for part in ("heldout", "fit")]
    real = np.concatenate(parts)[:count]
    plain = functional.moments(extractor.examine(real).vectors)
    base, rows = functional.frechet(reference, plain), []
    for key in keys:
        marked = functional.moments(extractor.examine(watermark.embed(real, key, strength)).vectors)
        rows.append([functional.frechet(reference, marked) - base, functional.frechet(plain, marked)])
        print(
            f"cost with {key!r}: {rows[-1][0]:+.5f} on {base:.5f}; marked against unmarked {rows[-1][1]:.5f}",
            flush=True,
        )
    return {"images": count, "unmarked": base, "difference, against unmarked": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="test images for detection")
    parser.add_argument("--cost-images", type=int, default=10_000, help="images for the Fréchet distance; 0 leaves it")
    parser.add_argument("--keys", type=int, default=2)
    parser.add_argument("--decoys", type=int, default=300, help="keys tried on unmarked images, per size of set")
    parser.add_argument("--strength", type=float, default=watermark.STRENGTH)
    options = parser.parse_args()
    keys = [f"key {k}" for k in range(options.keys)]
    real = open_data(Data(), part="test").pixels[: options.images]
    result: dict[str, object] = {"strength": options.strength}
    pooled: dict[str, dict[int, list[float]]] = {name: {size: [] for size in SETS} for name in ATTACKS}
    for key in keys:
        for name, sizes in detection(real, key, options.strength).items():
            for size, values in sizes.items():
                pooled[name][size] += values
    print(f"strength {options.strength}, {options.images} images, {len(keys)} keys; found means p < {RATE}")
    for name, sizes in pooled.items():
        cells = [
            f"{size}: {np.mean(np.array(p) < RATE):7.2%} (median p {np.median(p):.1e})" for size, p in sizes.items()
        ]
        print(f"{name:26} " + "   ".join(cells), flush=True)
    result["found"] = {n: {s: float(np.mean(np.array(p) < RATE)) for s, p in z.items()} for n, z in pooled.items()}
    if options.decoys:
        nulls = np.array(false_positives(real, options.decoys))
        result["unmarked"] = {"tests": len(nulls), "below 0.05": float((nulls < 0.05).mean()), "least": nulls.min()}
        print(f"unmarked: {result['unmarked']}", flush=True)
    if options.cost_images:
        result["cost"] = cost(options.cost_images, keys, options.strength)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
