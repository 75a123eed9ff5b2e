"""The runs in a folder, by id, and their generators.

A request never names a path: ids come from a listing of the folder. A link that leads out of it is not followed.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from modiste import runs
from modiste.errors import ModisteError, UsageError
from modiste.sampling import generators
from modiste.sampling.generators import TrainedGenerator
from modiste.wording import quoted

DEPTH = 5
"""Folders within folders that are searched: a study's runs lie three deep."""
GENERATORS = 4
"""Generators in memory, those asked for last."""
_compute = ThreadPoolExecutor(1, "studio-compute")
"""The one thread that networks run in: two at once would only share the same cores."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class Facts:
    """What the listing shows of a run."""

    recipe: str
    data: str
    status: runs.Status
    images: int
    """Shown in training."""
    side: int | None = None
    """Of its images; None before it has a generator."""
    classes: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    """Those that can be loaded: last, best."""


@dataclass(frozen=True)
class Entry:
    """A run of the listing, and why it cannot be used, or not yet."""

    id: str
    name: str
    """Its path within the folder."""
    run: runs.Run
    facts: Facts | None
    """None where its files cannot be read."""
    problem: str = ""


def list_runs(folder: Path) -> list[Entry]:
    """All runs in the folder, newest first, and then the shipped one."""
    entries = [_entry(runs.Run(path), folder) for path in _run_folders(folder)]
    entries.sort(key=lambda entry: _changed(entry.run.path), reverse=True)
    return [*entries, *(_entry(run, folder) for run in _shipped())]


def find(folder: Path, id: str) -> Entry:
    """The listed run of that id; UsageError where there is none or where it is broken. No other run is read."""
    known = _shipped() if id == runs.PRETRAINED else map(runs.Run, _run_folders(folder))
    run = next((run for run in known if id_of(run, folder) == id), None)
    if run is None:
        raise UsageError("no run of the listing has this id; it may have been moved: load the page again")
    entry = _entry(run, folder)
    if entry.facts is None:
        raise UsageError(entry.problem)
    return entry


def load(entry: Entry, checkpoint: str = "last") -> TrainedGenerator:
    """The generator of a run, kept in memory until its file changes; checkpoint: last or best."""
    return _loaded(entry.run, checkpoint, changed_at(entry, checkpoint))


def changed_at(entry: Entry, checkpoint: str) -> int:
    """When the file of a generator was written, in nanoseconds; UsageError where there is none."""
    if entry.problem:
        raise UsageError(entry.problem)
    known = entry.facts.checkpoints if entry.facts else ()
    if checkpoint not in known:
        raise UsageError(f"{entry.name} has no checkpoint {quoted(checkpoint)}; take {' or '.join(known)}")
    return (entry.run.path / generators.CHECKPOINTS[checkpoint]).stat().st_mtime_ns


@functools.lru_cache(GENERATORS)
def _loaded(run: runs.Run, checkpoint: str, stamp: int) -> TrainedGenerator:
    return generators.load(run, checkpoint)


def compute(function: Callable[..., Result], *arguments: Any) -> Result:
    """The function's result, one call at a time in the thread that networks run in."""
    return _compute.submit(function, *arguments).result()


def _run_folders(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        if "manifest.json" in names:
            yield Path(top)
            folders.clear()
        depth = len(Path(top).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEPTH else []


def _shipped() -> list[runs.Run]:
    try:
        shipped = runs.open_run(runs.PRETRAINED)
    except ModisteError:  # this copy of the package has none
        return []
    return [shipped] if shipped.shipped else []


def id_of(run: runs.Run, folder: Path) -> str:
    """The id of a run in the folder, or of the shipped one."""
    if run.shipped:
        return runs.PRETRAINED
    return hashlib.sha256(os.fsencode(run.path.relative_to(folder).as_posix())).hexdigest()[:12]


def _entry(run: runs.Run, folder: Path) -> Entry:
    id, name = id_of(run, folder), runs.PRETRAINED if run.shipped else _name(run.path, folder)
    try:
        if not run.shipped and (link := _leading_out(run.path, folder)) is not None:
            raise ModisteError(f"{link.name} is a link that leads out of the folder; copy what it leads to")
        facts = _facts(run)
    except ModisteError as error:
        return Entry(id, name, run, None, str(error).replace(f"{run.path}{os.sep}", ""))
    except Exception as error:  # whatever its files hold, the other runs are listed
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        return Entry(id, name, run, None, f"its files cannot be read ({reason}); restore or remove them")
    remedy = generators.how_to_get_one(facts.status, "resume it", "train it anew")
    return Entry(id, name, run, facts, "" if facts.checkpoints else f"{name} has no generator; {remedy}")


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return folder.resolve().name if name == "." else name


def _facts(run: runs.Run) -> Facts:
    """What the files of a run say; an error where they say nothing."""
    recipe, status = run.read_recipe(), run.read_manifest().status
    facts = Facts(recipe.name, recipe.data.name, status, images_shown(run))
    if not (run.path / "generator.json").is_file():
        return facts
    _, shape, names = generators.read_description(run.path)
    checkpoints = tuple(name for name, file in generators.CHECKPOINTS.items() if (run.path / file).is_file())
    return replace(facts, side=shape.size, classes=names if shape.classes else (), checkpoints=checkpoints)


def images_shown(run: runs.Run) -> int:
    """How many images its training has shown: by the log, or by the manifest where it was stopped within a tick."""
    last = runs.read_last_record(run)
    return max(last["images"] if last else 0, operator.index(run.read_manifest().images or 0))


def _leading_out(path: Path, folder: Path) -> Path | None:
    """A link in the run's folder to a place outside of the listed folder."""
    root = folder.resolve()
    for top, folders, names in os.walk(path):
        for name in (*folders, *names):
            place = Path(top, name)
            if place.is_symlink() and not place.resolve().is_relative_to(root):
                return place
    return None


def _changed(path: Path) -> float:
    try:
        return (path / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0
