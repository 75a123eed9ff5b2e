"""Pictures of generated images: the grid that stands for a run, grids by class, animations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from modiste import files, runs
from modiste.data.images import Images
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling.generators import generate, seed_noise

PER_CLASS, WITHOUT_CLASSES = 10, 64
"""Images in the grid of a run: so many of each class, or so many in all."""
MOST_FRAMES = 60
"""Of an animation."""


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def fixed_noise(z_dim: int, classes: int) -> tuple[Tensor, NDArray[np.int64] | None, int]:
    """Noise, labels and columns of a run's grids: ten images of each class in a row, or 64 without classes."""
    if not classes:
        return seed_noise(range(WITHOUT_CLASSES), z_dim), None, 8
    noise = seed_noise(range(PER_CLASS), z_dim)  # the same noises in every row: one class per row, one noise per column
    return noise.repeat(classes, 1), np.repeat(np.arange(classes), PER_CLASS), PER_CLASS


def fixed_grid(generator: nn.Module, z_dim: int, classes: int, title: str) -> bytes:
    """The grid that stands for a generator (see `fixed_noise`), as a PNG file that says it is synthetic."""
    noise, labels, columns = fixed_noise(z_dim, classes)
    return metadata.stamp(png(tiles.grid(generate(generator, noise, labels), columns)), {"Title": title})


def class_grid(images: Images, columns: int | None) -> Image.Image:
    """A grid in which the classes follow each other, one per row where all have the same number of images."""
    if images.labels is None:
        return tiles.grid(images.pixels, columns or full_rows(len(images)))
    _, counts = np.unique(images.labels, return_counts=True)
    is_balanced = len(counts) > 1 and counts.min() == counts.max()
    order = np.argsort(images.labels, kind="stable")
    each_in_a_row = int(counts[0]) if is_balanced else full_rows(len(images))
    return tiles.grid(images.pixels[order], columns or each_in_a_row)


def full_rows(count: int) -> int:
    """Images in a row, from 10 down to 5, so that the last row is full; 10 where that cannot be."""
    return count if count <= 10 else next((n for n in range(10, 4, -1) if count % n == 0), 10)


def gif(frames: Sequence[Image.Image], seconds: float = 6.0, synthetic: bool = True) -> bytes:
    """An endless animation of that length whose last frame stays two seconds more; a comment says `synthetic`."""
    each = max(40, round(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [each + 2000]
    first, *rest = [frame.convert("L") if frame.mode == "L" else frame.convert("RGB") for frame in frames]
    comment, buffer = metadata.SOURCE_TYPE if synthetic else "", io.BytesIO()
    first.save(
        buffer, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, comment=comment.encode()
    )
    return files.with_mark(buffer.getvalue())


def write_animation(run: runs.Run) -> Path | None:
    """Write progress.gif from the run's grids (evenly chosen, first and last included); None while there is no grid."""
    grids = run.list_grids()
    if not grids:
        return None
    chosen = sorted({round(k) for k in np.linspace(0, len(grids) - 1, min(MOST_FRAMES, len(grids)))})
    frames = []
    for k in chosen:
        with Image.open(grids[k]) as picture:
            frames.append(picture.copy())
    files.write_bytes(run.path / "progress.gif", gif(frames))
    return run.path / "progress.gif"
