"""Searches: trials of a space, chosen by Optuna, each trained by a process of its own; the best trained over seeds.

    searches/NAME/space.toml     the resolved space; `modiste search searches/NAME` continues it
                  recipes/       a copy of the recipe file, where it is not a shipped one
                  optuna.db      Optuna's storage (SQLite), unless --storage names another; optuna-dashboard opens it
                  runs/          a run folder per trial, numbered as Optuna numbers them
                  logs/          the output of the commands
                  finalists/     the study of the best trials over seeds, named by their numbers
                  trials.csv     one row per trial
                  best.toml      the best recipe, ready for `modiste train`

Any number of these processes may work on one storage, in one folder or in several.
"""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console

from modiste import environment, files, parts, progress
from modiste.errors import ModisteError, UsageError
from modiste.experiments import results, study_config
from modiste.experiments.folder import ExperimentFolder, RecipeCopy, recipe_copies
from modiste.experiments.search import finalists, spaces, trials
from modiste.experiments.search.finalists import FinalistsResult
from modiste.experiments.search.spaces import Space
from modiste.experiments.search.trials import Search, TrialRow

STARTED = ("optuna.db", "optuna.db-journal")
"""Files that an interrupted start leaves in the folder, beside those with a known text."""

LEAST_DATABASE = 2**18
"""Size in bytes of the database of a search of a few trials."""


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search, and its finalists."""

    path: Path
    space: Space
    trials: list[TrialRow]
    finished: bool
    finalists: FinalistsResult | None = None
    """None while trials or finalists are missing."""


@dataclass(frozen=True)
class SearchOptions:
    """What a call of `modiste search` changes in a space; None leaves the space's own."""

    trials: int | None = None
    """How many trials in all; finished ones count."""
    seed: int | None = None
    """Fixes which trials are made, and is their training seed."""
    budget: str | None = None
    """The length of a trial: 5min, 3 epochs or 60000 images."""
    finalists: int | None = None
    """How many of the best trials are trained over seeds."""
    seeds: int | None = None
    """How many training seeds each finalist has."""
    finalist_budget: str | None = None
    """The length of a finalist's run."""
    overrides: Mapping[str, Any] | None = None
    """Changes of every run by dotted key."""
    storage: str | None = None
    """An Optuna URL or a file NAME.journal; default is optuna.db in the folder."""

    def changes(self) -> dict[str, Any]:
        """The keys of a space that are given."""
        seeds = None if self.seeds is None else study_config.checked_count(self.seeds)
        finalists = {"count": self.finalists, "seeds": seeds, "budget": self.finalist_budget}
        top = {"trials": self.trials, "seed": self.seed, "budget": self.budget, "set": dict(self.overrides or {})}
        return {**top, "finalists": finalists}


def search(
    what: Space | str | Path,
    out: str | Path | None = None,
    *,
    trials: int | None = None,
    seed: int | None = None,
    budget: str | None = None,
    finalists: int | None = None,
    seeds: int | None = None,
    finalist_budget: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    storage: str | None = None,
    console: Console | None = None,
) -> SearchResult:
    """Carry out a search, continue the one in the folder, or help other workers on the same storage.

    `what` is a shipped space's name, a TOML file, a Space, or the folder of a search. `trials` is their number in all,
    `finalists` the number of the best that are trained over `seeds` seeds; `budget` and `finalist_budget` are lengths
    of runs (5min, 3 epochs, 60000 images), `overrides` changes every run. `storage` is an Optuna URL or a file
    NAME.journal; default is optuna.db in the folder.

    >>> found = search("noronha", trials=20)  # doctest: +SKIP
    >>> found.finalists.recipe  # doctest: +SKIP
    PosixPath('searches/noronha/best.toml')
    """
    options = SearchOptions(trials, seed, budget, finalists, seeds, finalist_budget, overrides, storage)
    space, path = resolve_search(what, out, options)
    return run_search(space, path, options.storage, console or progress.console())


def run_search(space: Space, path: Path, storage: str | None, console: Console) -> SearchResult:
    """Carry out the resolved search in that folder, or continue it there."""
    folder = ExperimentFolder(path, "search")
    for sentence in space.warnings:
        progress.log(console, f"warning: {sentence}")
    for note in () if (path / "space.toml").is_file() else trials.check_data(space):
        progress.log(console, f"warning: {note}")
    with _storage_errors(path):
        started = _open(space, folder, storage, console)
        with _worker(started) as worker, environment.interruptible() as stopped:
            trials.run_trials(worker, stopped)
            interrupted = stopped()
        rows = started.read_rows()
    space = started.space
    if interrupted:
        return SearchResult(path, space, rows, finished=False)
    with folder.step("finals"):  # a second worker finds everything done
        files.write_text(path / "trials.csv", _table(rows))
        if not any(row.state == "finished" for row in rows):
            reasons = dict.fromkeys(row.reason for row in rows if row.reason)
            raise ModisteError(f"no trial of the search {space.name} finished: {'; '.join(reasons) or 'all pruned'}")
        if not space.finalists.count:
            return SearchResult(path, space, rows, finished=True)
        final = finalists.compare_finalists(space, path, rows, console)
    return SearchResult(path, space, rows, final is not None, final)


def resolve_search(
    what: Space | str | Path, out: str | Path | None = None, options: SearchOptions = SearchOptions()
) -> tuple[Space, Path]:
    """The space with its changes, and the folder: `out`, the one it was read from, or searches/NAME."""
    space = what if isinstance(what, Space) else spaces.load(what)
    if out is None and not isinstance(what, Space) and what not in spaces.shipped() and Path(what).is_dir():
        out = what
    path = Path("searches") / space.name if out is None else Path(out)
    return spaces.revise(space, **options.changes()), path


# --- the storage


def _optuna() -> Any:
    try:
        optuna = import_module("optuna")
    except ImportError:
        raise UsageError("searches need Optuna; run pip install 'modiste[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@progress.stage("opening the search")
def _open(space: Space, folder: ExperimentFolder, url: str | None, console: Console) -> Search:
    """The search in that folder and storage, made if it is not there; UsageError if another one is."""
    path = folder.path
    optuna, own = _optuna(), path / "optuna.db"
    _refuse_others(folder, space)
    if url is None and not own.is_file() and (path / "space.toml").is_file():
        raise UsageError(f"{path} has no optuna.db, as its storage is elsewhere; name it again with --storage")
    if url is not None and own.is_file():
        raise UsageError(f"{path} has its own storage, optuna.db; leave --storage out, or choose another --out")
    with folder.step("lock"):
        if url is None:
            _check_room(path)
        storage = _storage(optuna, url or _url(own))
        direction = "maximize" if space.better == "higher" else "minimize"
        if space.pruner == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=trials.UNPRUNED_TRIALS)
        else:
            pruner = optuna.pruners.NopPruner()
        study = optuna.create_study(
            study_name=space.name, storage=storage, direction=direction, pruner=pruner, load_if_exists=True
        )
        before = study.user_attrs.get("identity")
        if before is None:
            study.set_user_attr("identity", spaces.identity(space))
        else:
            space = spaces.with_begun_data(space, before)
        if before:
            found = spaces.differences(spaces.updated_identity(before), spaces.identity(space))
            remedy = "choose another name, or another folder with --out where no storage is named"
            folder.refuse_other_settings(found, "trials", f"the storage of {space.name}", remedy)
        copies = recipe_copies([space.recipe])
        folder.make()
        folder.write_recipes(copies)  # not before: other workers read the copy that is there
        local = space.model_copy(update={"recipe": str(folder.recipes / copies[0].name)}) if copies else space
        parts.write_copies(path, spaces.own_parts(local))
        files.write_text(path / "space.toml", spaces.to_toml(_portable(space, copies)))
    return Search(local, path, optuna, storage, study, console)


def _portable(space: Space, copies: Sequence[RecipeCopy]) -> Space:
    """The space as its folder holds it: a recipe file by its path in the folder."""
    return space.model_copy(update={"recipe": copies[0].portable}) if copies else space


def _refuse_others(folder: ExperimentFolder, space: Space) -> None:
    """UsageError where the folder holds no search and more than an interrupted start of this one."""
    path = folder.path
    own, begun = path / "optuna.db", (path / "space.toml").is_file() and (path / "runs").is_dir()
    if not begun:
        copies = recipe_copies([space.recipe])
        texts = {copy.portable: copy.text for copy in copies}
        expected = {"space.toml": spaces.to_toml(_portable(space, copies)), **texts}
        folder.refuse_foreign_files(expected, STARTED)
    others = _studies_in(own) - {space.name} if own.is_file() and own.stat().st_size else set()
    if others and not (begun and space.name in _studies_in(own)):
        raise UsageError(
            f"{own} holds another study ({min(others)}) than the search {space.name}; choose another folder with --out"
        )


def _studies_in(file: Path) -> set[str]:
    """The names of the studies in an Optuna database, which is only read; UsageError for any other file."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if tables and not tables & {"studies", "version_info"}:
                raise UsageError(f"{file} is no database of Optuna; choose another folder with --out")
            found = database.execute("select study_name from studies") if "studies" in tables else ()
            return {name for (name,) in found}
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{file} is no database of Optuna ({error}); choose another folder with --out") from None


def _url(database: Path) -> str:
    """The URL of an SQLite file whatever characters its path has: it wraps a URI that only SQLite unquotes."""
    inner = database.absolute().as_uri()
    url = import_module("sqlalchemy").URL.create("sqlite", database=inner, query={"uri": "true"})
    return str(url.render_as_string(hide_password=False))


def _check_room(path: Path) -> None:
    """ModisteError where the folder's disk is full; a database would say that it cannot be opened."""
    with files.errors_name_place(path / "optuna.db"), tempfile.TemporaryFile(dir=path) as file:
        file.write(bytes(LEAST_DATABASE))


def _storage(optuna: Any, url: str) -> Any:
    query = url.partition("?")[2]
    if url.startswith("sqlite:") and query and not all("=" in part for part in query.split("&")):
        raise UsageError(
            f"--storage {url}: what follows the question mark is read as options, and {query!r} is none; "
            "give a path without a question mark"
        )
    try:
        if url.endswith(".journal"):
            backend = optuna.storages.journal.JournalFileBackend(url)
            return optuna.storages.JournalStorage(backend)
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except Exception as error:  # of any database; its message may hold a password
        raise UsageError(
            f"the storage of kind {url.partition(':')[0]!r} cannot be opened ({type(error).__name__}); give a URL such "
            "as sqlite:///search.db or mysql://user:password@host/base, or a file NAME.journal"
        ) from None


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turns errors of the storage into a ModisteError without their message, which may hold a password."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("optuna", "sqlalchemy", "sqlite3"):
            raise
        origin = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
        reason = str(origin) if type(origin).__module__ == "sqlite3" else type(error).__name__
        raise ModisteError(
            f"the storage of the search in {path} cannot be used ({reason}); see that its disk has room and that "
            "it can be reached, and search again: it goes on"
        ) from None


@contextmanager
def _worker(started: Search) -> Iterator[Search]:
    """The search with a new worker name, and a lock that the operating system releases when the process dies."""
    name = uuid.uuid4().hex[:12]
    place = started.path / "workers" / name
    with files.errors_name_place(place):
        place.parent.mkdir(exist_ok=True)
    with filelock.FileLock(place):
        _sweep(started, place)
        yield replace(started, worker=name)
    place.unlink(missing_ok=True)


def _sweep(started: Search, own: Path) -> None:
    """Remove the locks of workers that were killed, except those of running trials, which are queued again by them."""
    running = {str(trial.user_attrs.get("worker")) for trial in started.read_trials() if trial.state.name == "RUNNING"}
    for place in own.parent.iterdir():
        if place != own and place.name not in running:
            with suppress(filelock.Timeout, OSError), filelock.FileLock(place).acquire(timeout=0):
                place.unlink(missing_ok=True)


def _table(rows: Sequence[TrialRow]) -> str:
    """The trials as CSV, a column per setting."""
    trees = [row.to_json() for row in rows]
    flat = [{**{key: value for key, value in tree.items() if key != "settings"}, **tree["settings"]} for tree in trees]
    return results.as_csv(flat, list(dict.fromkeys(key for tree in flat for key in tree)))
