"""Paths through the noise: from one image to another, and a map between four.

The noise between two seeds lies on the great circle through both (slerp), where training has seen noise. Between two
classes the label is mixed, which training has never seen: the page says so.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from modiste.errors import UsageError
from modiste.networks.build import FAMILIES
from modiste.sampling.generators import TrainedGenerator, great_circle, seed_noise
from modiste.studio import library, wall
from modiste.studio.queries import entry_of, number, numbers

MOST_FRAMES = 121
MOST_SIDE = 33
"""Images along a side of the map."""
COLUMNS = 10
"""Frames in a row of a path's picture."""


def path(request: Request) -> Response:
    """The frames of a path between two seeds, ten in a row, ends included."""
    generator = library.load(entry_of(request), request.query_params.get("checkpoint", "last"))
    seeds, labels, truncation = ends_of(request, generator)
    parts = torch.linspace(0, 1, int(number(request, "frames", 2, MOST_FRAMES, default=61) or 2))
    start, end = seed_noise(seeds, generator.z_dim, truncation)
    frames = wall.draw(generator, great_circle(start, end, parts), labels_between(generator, labels, parts))
    return wall.png_response(frames, COLUMNS)


def about(request: Request) -> Response:
    """The command that makes a path, None where its classes differ."""
    entry, checkpoint = entry_of(request), request.query_params.get("checkpoint", "last")
    generator = library.load(entry, checkpoint)
    seeds, labels, truncation = ends_of(request, generator)
    if labels and labels[0] != labels[1]:
        check_mixes(generator)
        return JSONResponse({"command": None})
    point = wall.Point(seeds[0], labels[0] if labels else None, truncation)
    which = ("--interpolate", *map(str, seeds))
    return JSONResponse({"command": wall.command(entry, point, generator, checkpoint, which, "between.gif")})


def ends_of(request: Request, generator: TrainedGenerator) -> tuple[list[int], list[int], float | None]:
    """Two seeds, two classes (none without classes) and the truncation of a request."""
    seeds = numbers(request, "seeds", 0, 2**32 - 1)
    labels = numbers(request, "labels", 0, generator.shape.classes - 1) if generator.shape.classes else []
    if len(seeds) != 2 or len(labels) not in (0, 2):
        raise UsageError("a path has two ends; give two seeds, and two classes where the generator has classes")
    return seeds, labels, number(request, "truncation", 0.01, 10.0, default=None, kind=float)


def labels_between(
    generator: TrainedGenerator, labels: list[int], parts: Tensor
) -> NDArray[np.int64] | NDArray[np.float32] | None:
    """The labels [N] of the frames, or weights of the classes [N, classes] where these differ; None without classes."""
    if not labels:
        return None
    first, last = labels
    if first == last:
        return np.full(len(parts), first, np.int64)
    check_mixes(generator)
    weights = np.zeros((len(parts), generator.shape.classes), np.float32)
    weights[:, first], weights[:, last] = 1 - parts.numpy(), parts.numpy()
    return weights


def check_mixes(generator: TrainedGenerator) -> None:
    """UsageError unless the network takes weights of classes for a label, as the families of Modiste do."""
    if type(generator.network) not in {family[0] for family in FAMILIES.values()}:
        raise UsageError(f"the network of {generator.source} takes one class at a time; choose the same at both ends")


def noise_map(request: Request) -> Response:
    """A square of images between those of four seeds, which are its corners, row by row."""
    generator = library.load(entry_of(request), request.query_params.get("checkpoint", "last"))
    corners = numbers(request, "seeds", 0, 2**32 - 1)
    if len(corners) != 4:
        raise UsageError(f"a map has four corners, not {len(corners)}; give four seeds")
    side = int(number(request, "side", 2, MOST_SIDE, default=9) or 2)
    classes = generator.shape.classes
    label = number(request, "label", 0, classes - 1, default=0) if classes else None
    truncation = number(request, "truncation", 0.01, 10.0, default=None, kind=float)
    noise = noise_between(seed_noise(corners, generator.z_dim, truncation), side)
    labels = None if label is None else np.full(len(noise), label, np.int64)
    return wall.png_response(wall.draw(generator, noise, labels), side)


def noise_between(corners: Tensor, side: int) -> Tensor:
    """Noise [side * side, z_dim] row by row between four corners [4, z_dim]: left and right above, then below.

    Great circles along the left and the right edge, and from each point of one to its counterpart on the other.
    """
    parts = torch.linspace(0, 1, side)
    left, right = great_circle(corners[0], corners[2], parts), great_circle(corners[1], corners[3], parts)
    return torch.cat([great_circle(one, other, parts) for one, other in zip(left, right, strict=True)])


ROUTES = [
    Route("/api/runs/{id}/path.png", path),
    Route("/api/runs/{id}/path", about),
    Route("/api/runs/{id}/map.png", noise_map),
]
