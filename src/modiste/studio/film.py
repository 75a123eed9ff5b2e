"""The film: a run's grids and curves over its training, as far as it has come, and the notes on its health."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from modiste.config import Data
from modiste.data.sets import native_data
from modiste.errors import ModisteError, UsageError
from modiste.experiments import results
from modiste.metrics import metric_names
from modiste.studio import events, library
from modiste.studio.queries import entry_of, folder_of, number
from modiste.training import checkpoint_selection, diagnostics
from modiste.wording import counted

MOST_RUNS = 8
"""Runs side by side: as many as there are colours."""
MOST_POINTS = 400
"""Points of a curve that are sent and drawn."""
CURVES = ("loss_g", "loss_d", "d_accuracy_real", "d_accuracy_fake")
NEEDED = (*CURVES[2:], "gradient_norm_g")
"""Keys of a record that signs of a failing training are read from."""
WATCHED = ("log.jsonl", "manifest.json", "samples", *results.RECORDS)
"""What changes in the run's folder when its film does."""

Point = tuple[int, float]
"""Images shown and a logged value."""


@dataclass(frozen=True)
class Heldout:
    """The distance to held-out images over the training."""

    score: str
    data: str
    measured: str
    """Equal for runs whose distances were measured alike."""
    points: list[Point]
    best: int | None
    """Images shown to the generator that is kept as the best one."""


@dataclass(frozen=True)
class Note:
    """Something to know about a run's health, in a sentence."""

    kind: str
    """sign (of a failing training), alarm (of its scores), failure, or quiet where all is well or unknown."""
    text: str
    images: int | None = None
    """When it appeared."""


def film(request: Request) -> Response:
    """The film of a run as far as it has come."""
    return JSONResponse(describe(entry_of(request)))


def grid(request: Request) -> Response:
    """The grid that the run drew after so many images."""
    entry = entry_of(request)
    images = int(number(request, "images", 0, 10**15, default=0) or 0)
    found = next((path for path in entry.run.list_grids() if path.stem.isdigit() and int(path.stem) == images), None)
    if found is None:
        raise UsageError(f"{entry.name} has no grid of {images:,} images shown; load the page again")
    return FileResponse(found, media_type="image/png")


def growth(request: Request) -> Response:
    """A stream of the films of several runs: each at first, and again whenever it has grown."""
    ids = request.query_params.get("runs", "").split(",")[: MOST_RUNS + 1]
    if len(ids) > MOST_RUNS:
        raise UsageError(f"more than {MOST_RUNS} runs are too many for one film; choose fewer")
    entries = [library.find(folder_of(request), id) for id in ids]
    seen: dict[str, object] = {}

    def read() -> Iterator[dict[str, Any]]:
        for entry in entries:
            now = _stamps(entry)
            if seen.get(entry.id) != now:
                seen[entry.id] = now  # before it is read: what is written meanwhile counts as new
                yield describe(entry)

    return events.stream(request, lambda: list(read()))


def _stamps(entry: library.Entry) -> list[tuple[int, int, int] | None]:
    """When the files of a film were changed last, and their sizes."""
    found: list[tuple[int, int, int] | None] = []
    for name in WATCHED:
        try:
            facts = (entry.run.path / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((facts.st_ino, facts.st_mtime_ns, facts.st_size))
    return found


def describe(entry: library.Entry) -> dict[str, Any]:
    """The film as JSON; ModisteError where the run's files hold something else than a film."""
    try:
        return _describe(entry)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModisteError(f"the film of {entry.name} cannot be read ({type(error).__name__}: {error})") from None


def _describe(entry: library.Entry) -> dict[str, Any]:
    run = entry.run
    log, manifest = run.read_log(), run.read_manifest()
    return {
        "id": entry.id,
        "status": manifest.status,
        "ticks": len(log),
        "thinned": len(log) > MOST_POINTS,
        "images": log[-1]["images"] if log else manifest.images,
        "grids": [int(path.stem) for path in run.list_grids() if path.stem.isdigit()],
        "curves": {name: thin(points(log, name)) for name in CURVES},
        "heldout": asdict(found) if (found := heldout(entry, log)) else None,
        "notes": [asdict(note) for note in notes(entry, log)],
    }


def points(log: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """A logged number over images shown, where it was logged and is finite."""
    kept = [(record["images"], record.get(name)) for record in log]
    return [(images, value) for images, value in kept if value is not None and math.isfinite(value)]


def thin(line: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS of them: both ends, and the lowest and highest of equal stretches, so that no peak goes."""
    if len(line) <= MOST_POINTS:
        return list(line)
    kept = {0, len(line) - 1}
    for stretch in np.array_split(np.arange(1, len(line) - 1), (MOST_POINTS - 2) // 2):
        values = [line[k][1] for k in stretch]
        kept |= {int(stretch[np.argmin(values)]), int(stretch[np.argmax(values)])}
    return [line[k] for k in sorted(kept)]


def heldout(entry: library.Entry, log: Sequence[Mapping[str, Any]]) -> Heldout | None:
    """The held-out distances of a run by the newest name that they have in its log; None where it has none."""
    score = next((name for record in reversed(log) if (name := metric_names.heldout_score(record))), None)
    if score is None:
        return None
    data, best = entry.run.read_recipe().data, checkpoint_selection.best(log)
    key = hashlib.sha256(f"{score} {_compared_with(data.model_dump_json())}".encode()).hexdigest()[:12]
    return Heldout(score, data.name, key, thin(points(log, score)), best.images if best else None)


@functools.lru_cache(100)
def _compared_with(text: str) -> str:
    """The settings of the held-out images of a recipe's data; both as JSON. It may read the data set, so it is kept."""
    data = Data.model_validate_json(text)
    try:
        data = native_data(data)
    except ModisteError:  # the data set is no longer there
        return text
    unused = {"resize_filter", "fit"} if data.resize is None else set()
    return data.model_dump_json(exclude=unused)


def notes(entry: library.Entry, log: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Why a training failed, signs of a failing one, and the alarms of its scores."""
    manifest, found = entry.run.read_manifest(), []
    if manifest.status == "failed":
        found.append(Note("failure", f"the training failed: {manifest.reason or 'without a reason'}"))
    signs = diagnostics.diagnose(record for record in log if all(key in record for key in NEEDED))
    found += [Note("sign", str(sign), sign.images) for sign in signs]
    if not signs and log:
        enough = len(log) >= diagnostics.PATIENCE_TICKS
        text = f"no sign of a failing training in {counted(len(log), 'tick')}"
        found.append(Note("quiet", text if enough else f"{text}, of which {diagnostics.PATIENCE_TICKS} are needed"))
    measured = results.read_scores(entry.run)
    if measured.record is None:
        found.append(Note("quiet", f"no alarms of scores: {measured.reason}"))
    elif not measured.record.alarms:
        found.append(Note("quiet", "its scores raise no alarm"))
    else:
        found += [Note("alarm", alarm) for alarm in measured.record.alarms]
    return found


ROUTES = [
    Route("/api/runs/{id}/film", film),
    Route("/api/runs/{id}/grid.png", grid),
    Route("/api/film", growth),
]
