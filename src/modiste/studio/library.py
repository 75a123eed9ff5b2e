"""The runs in a folder, by id, and their generators.

A request never names a path: ids come from a listing of the folder. A link that leads out of it is not followed.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from modiste import runs
from modiste.errors import ModisteError, UsageError
from modiste.sampling import generators
from modiste.sampling.generators import TrainedGenerator

DEPTH = 5
"""Folders within folders that are searched: a study's runs lie three deep."""
GENERATORS = 4
"""Generators in memory, those asked for last."""
_compute = ThreadPoolExecutor(1, "studio-compute")
"""The one thread that networks run in: two at once would only share the same cores."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """A run of the listing, or why it cannot be used."""

    id: str
    name: str
    """Its path within the folder."""
    run: runs.Run
    problem: str = ""

    @property
    def is_usable(self) -> bool:
        return not self.problem


def list_runs(folder: Path) -> list[Entry]:
    """All runs in the folder, newest first, and then the shipped one."""
    entries = [_entry(path, folder) for path in _run_folders(folder)]
    entries.sort(key=lambda entry: _changed(entry.run.path), reverse=True)
    shipped = _shipped()
    return [*entries, shipped] if shipped else entries


def find(folder: Path, id: str) -> Entry:
    """The listed run of that id; UsageError where there is none or where it is broken. No other run is read."""
    places = (path for path in _run_folders(folder) if id_of(runs.Run(path), folder) == id)
    entry = next((_entry(path, folder) for path in places), _shipped() if id == runs.PRETRAINED else None)
    if entry is None:
        raise UsageError("no run of the listing has this id; it may have been moved: load the page again")
    if not entry.is_usable:
        raise UsageError(entry.problem)
    return entry


def load(entry: Entry, checkpoint: str = "last") -> TrainedGenerator:
    """The generator of a run, kept in memory until its file changes; checkpoint: last or best."""
    return _loaded(entry.run, checkpoint, changed_at(entry, checkpoint))


def changed_at(entry: Entry, checkpoint: str) -> int:
    """When the file of a generator was written, in nanoseconds; UsageError where there is none."""
    if checkpoint not in generators.CHECKPOINTS:
        raise UsageError(f"{checkpoint!r} is no checkpoint here; take last or best")
    file = entry.run.path / generators.CHECKPOINTS[checkpoint]
    if not file.is_file():
        raise UsageError(f"{entry.name} has no {file.name} yet; wait for the first tick of its training")
    return file.stat().st_mtime_ns


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


def _shipped() -> Entry | None:
    try:
        shipped = runs.open_run(runs.PRETRAINED)
    except ModisteError:  # this copy of the package has none
        return None
    return Entry(runs.PRETRAINED, runs.PRETRAINED, shipped) if shipped.shipped else None


def id_of(run: runs.Run, folder: Path) -> str:
    """The id of a run in the folder, or of the shipped one."""
    if run.shipped:
        return runs.PRETRAINED
    return hashlib.sha256(os.fsencode(run.path.relative_to(folder).as_posix())).hexdigest()[:12]


def _entry(path: Path, folder: Path) -> Entry:
    run = runs.Run(path)
    return Entry(id_of(run, folder), _name(path, folder), run, _problem(run, folder))


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return folder.resolve().name if name == "." else name


def _problem(run: runs.Run, folder: Path) -> str:
    """Why a run cannot be used; empty where it can."""
    try:
        if (link := _leading_out(run.path, folder)) is not None:
            return f"{link.name} is a link that leads out of the folder; copy what it leads to"
        run.read_manifest()
        run.read_recipe()
        runs.read_last_record(run)
        if (run.path / "generator.json").is_file():
            generators.read_description(run.path)
    except ModisteError as error:
        return str(error).replace(f"{run.path}{os.sep}", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its files cannot be read ({type(error).__name__}: {str(error)[:200]})"
    return ""


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
