"""Steps along directions of the noise, which `modiste directions` finds: a row of images that all take them."""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modiste import subprocesses
from modiste.errors import UsageError
from modiste.latent import steering
from modiste.sampling.generators import TrainedGenerator, seed_noise
from modiste.studio import library, wall
from modiste.studio.queries import entry_of, number, numbers

MOST_IMAGES = 12


def known(request: Request) -> Response:
    """The directions of a run with what each does; without any, the command that finds them."""
    entry, checkpoint = entry_of(request), request.query_params.get("checkpoint", "last")
    generator = library.load(entry, checkpoint)
    try:
        found = steering.read(entry.run, generator, checkpoint)
    except UsageError:
        which = ["--checkpoint", checkpoint] if checkpoint != "last" else []
        command = subprocesses.printable(["directions", entry.run.word, *which])
        return JSONResponse({"directions": [], "command": command})
    about = steering.read_effects(entry.run, checkpoint)
    listed = [
        {"name": name, "kind": one.kind, "about": steering.sentence(about[name]) if name in about else ""}
        for name, one in found.items()
    ]
    return JSONResponse({"directions": listed, "command": None})


def steered(request: Request) -> Response:
    """Images of consecutive seeds and one class in a row, after the same steps."""
    entry, generator, seeds, label, truncation, steps = _asked(request)
    labels = None if label is None else np.full(len(seeds), label, np.int64)
    noise = seed_noise(seeds, generator.z_dim, truncation)
    if steps:
        checkpoint = request.query_params.get("checkpoint", "last")
        move = steering.steered(entry.run, generator, steps, checkpoint).move
        assert move is not None
        noise = noise + move(labels, len(seeds))
    return wall.png_response(wall.draw(generator, noise, labels), len(seeds))


def about(request: Request) -> Response:
    """The command that makes these images."""
    entry, generator, seeds, label, truncation, steps = _asked(request)
    which = ["--seeds", f"{seeds[0]}-{seeds[-1]}"]
    which += [word for step in steering.words(steps).split() for word in ("--direction", step)]
    checkpoint = request.query_params.get("checkpoint", "last")
    point = wall.Point(seeds[0], label, truncation)
    return JSONResponse({"command": wall.command(entry, point, generator, checkpoint, which, "steered.png")})


def _asked(
    request: Request,
) -> tuple[library.Entry, TrainedGenerator, list[int], int | None, float | None, dict[str, float]]:
    """Run, generator, seeds, class, truncation and steps of a request."""
    entry = entry_of(request)
    generator = library.load(entry, request.query_params.get("checkpoint", "last"))
    seeds = numbers(request, "seeds", 0, 2**32 - 1)
    if len(seeds) > MOST_IMAGES:
        raise UsageError(f"a row has at most {MOST_IMAGES} images, not {len(seeds)}")
    classes = generator.shape.classes
    label = number(request, "label", 0, classes - 1, default=0) if classes else None
    truncation = number(request, "truncation", 0.01, 10.0, default=None, kind=float)
    steps = steering.parse_steps([text for text in request.query_params.get("steps", "").split(",") if text])
    return entry, generator, seeds, None if label is None else int(label), truncation, steps


ROUTES = [
    Route("/api/runs/{id}/directions", known),
    Route("/api/runs/{id}/steered.png", steered),
    Route("/api/runs/{id}/steered", about),
]
