"""The wall: images by class and seed, and the facts of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from modiste import subprocesses
from modiste.data.images import Pixels
from modiste.errors import UsageError
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling.generators import TrainedGenerator, generate, seed_noise
from modiste.studio import library
from modiste.studio.queries import entry_of, number, numbers

MOST_IMAGES = 400
"""Images on one wall."""


@dataclass(frozen=True)
class Point:
    """What determines an image: seed, class (None without classes) and truncation."""

    seed: int
    label: int | None
    truncation: float | None


def draw(generator: TrainedGenerator, noise: Tensor, labels: NDArray[np.int64] | NDArray[np.float32] | None) -> Pixels:
    """Images uint8 [N, C, H, W], one network at a time."""
    return library.compute(generate, generator.network, noise, labels)


def png_of(pixels: Pixels, columns: int) -> bytes:
    """The images side by side without gaps as a PNG file that says they are synthetic."""
    return metadata.stamp(encoded(pixels, columns), {"Title": "generated"})


def encoded(pixels: Pixels, columns: int) -> bytes:
    """Images side by side without gaps as a PNG file, which is quick rather than small."""
    canvas = tiles.arrange(pixels, columns, gap=0)
    buffer = io.BytesIO()
    Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def png_response(pixels: Pixels, columns: int) -> Response:
    return Response(png_of(pixels, columns), media_type="image/png")


def point_of(request: Request, generator: TrainedGenerator) -> Point:
    """Seed, class and truncation of a request."""
    label = number(request, "label", 0, max(0, generator.shape.classes - 1)) if generator.shape.classes else None
    truncation = number(request, "truncation", 0.01, 10.0, default=None, kind=float)
    seed = number(request, "seed", 0, 2**32 - 1)
    return Point(int(seed or 0), None if label is None else int(label), truncation)


def draw_point(generator: TrainedGenerator, point: Point) -> Pixels:
    """The image [1, C, H, W] at a point."""
    labels = None if point.label is None else np.array([point.label], np.int64)
    return draw(generator, seed_noise([point.seed], generator.z_dim, point.truncation), labels)


def wall(request: Request) -> Response:
    """A sprite of the wall: a class per row and a seed per column, or seeds row by row without classes."""
    generator = library.load(entry_of(request), request.query_params.get("checkpoint", "last"))
    seeds = numbers(request, "seeds", 0, 2**32 - 1)
    labels = numbers(request, "labels", 0, generator.shape.classes - 1) if generator.shape.classes else []
    truncation = number(request, "truncation", 0.01, 10.0, default=None, kind=float)
    count = len(seeds) * max(1, len(labels))
    if not 1 <= count <= MOST_IMAGES:
        raise UsageError(f"a wall has 1 to {MOST_IMAGES} images, not {count}")
    noise = seed_noise(seeds, generator.z_dim, truncation)
    if not generator.shape.classes:
        columns = int(number(request, "columns", 1, len(seeds)) or 1)
        return png_response(draw(generator, noise, None), columns)
    labels_of_images = np.repeat(np.array(labels, np.int64), len(seeds))
    return png_response(draw(generator, noise.repeat(len(labels), 1), labels_of_images), len(seeds))


def image(request: Request) -> Response:
    """One image at its own size."""
    generator = library.load(entry_of(request), request.query_params.get("checkpoint", "last"))
    return png_response(draw_point(generator, point_of(request, generator)), 1)


def facts(request: Request) -> Response:
    """The class of an image and the command that makes it."""
    entry = entry_of(request)
    checkpoint = request.query_params.get("checkpoint", "last")
    generator = library.load(entry, checkpoint)
    point = point_of(request, generator)
    return JSONResponse(
        {"class": class_name(generator, point.label), "command": command(entry, point, generator, checkpoint)}
    )


def class_name(generator: TrainedGenerator, label: int | None) -> str | None:
    if label is None:
        return None
    return generator.class_names[label] if generator.class_names else str(label)


def command(
    entry: library.Entry,
    point: Point,
    generator: TrainedGenerator,
    checkpoint: str,
    which: Sequence[str] = (),
    out: str = "",
) -> str:
    """The command line that makes the image, or with `which` other images of its class in the file `out`."""
    words = ["sample", entry.run.word, *(which or ("--seeds", str(point.seed)))]
    name = class_name(generator, point.label)
    words += ["--class", name] if name is not None else []
    words += ["--truncation", f"{point.truncation:g}"] if point.truncation is not None else []
    words += ["--checkpoint", checkpoint] if checkpoint != "last" else []
    return subprocesses.printable([*words, "--out", out or f"seed-{point.seed}.png"])


ROUTES = [
    Route("/api/runs/{id}/wall.png", wall),
    Route("/api/runs/{id}/image.png", image),
    Route("/api/runs/{id}/image", facts),
]
