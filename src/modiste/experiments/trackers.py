"""Trackers: the log of a run and the scores of a study, mirrored in TensorBoard or MLflow.

A mirror that is opened again adds what it lacks and repeats nothing, so a resumed run continues in it, and a run that
was trained without a tracker is sent completely.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modiste import config, environment, files, progress, runs
from modiste.config import Recipe
from modiste.environment import __version__
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.training.callbacks import Listener

RUN_ID = "mlflow.txt"
"""The file of a run folder that holds the id of its MLflow run."""
ENDS = {"finished": "FINISHED", "interrupted": "KILLED"}
"""MLflow's names of a run's final status; every other one is FAILED."""
MOST_AT_ONCE = 100
"""The largest number of parameters that MLflow takes in one call."""


@dataclass(frozen=True)
class Tracker:
    """The two functions that mirror a run."""

    follow: Callable[[runs.Run], AbstractContextManager[Listener]]
    """Opens the mirror of a training for its ticks."""
    judged: Callable[[runs.Run, Path, Mapping[str, Any]], None]
    """Sends the scores of a finished run from the record in that file, with tags."""


@progress.stage("opening the tracker")
def choose(name: str) -> Tracker:
    """The tracker of that name, which is installed and answers; UsageError or ModisteError otherwise."""
    trackers = {"tensorboard": _tensorboard, "mlflow": _mlflow}
    if name not in trackers:
        raise UsageError(f"no tracker is named {name!r}; choose one of {', '.join(trackers)}")
    return trackers[name]()


def score_values(file: Path) -> dict[str, float]:
    """A record's scores as `scores/NAME` and their uncertainties as `uncertainty/NAME`; without what is not finite."""
    scores = records.read(file).scores
    found = {f"scores/{name}": score.value for name, score in scores.items()}
    found |= {f"uncertainty/{name}": score.uncertainty for name, score in scores.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


# --- TensorBoard


def _tensorboard() -> Tracker:
    """Event files in the run's folder `tensorboard`: every number of the log and the sample grids, by images shown."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed; run pip install 'modiste[track]'") from None

    @contextmanager
    def follow(run: runs.Run) -> Iterator[Listener]:
        folder, log = run.path / "tensorboard", run.read_log()
        for old in folder.glob("events.*"):  # what was sent before is sent again: some of it may have been lost
            if old.suffix != ".scores":
                old.unlink()
        with SummaryWriter(str(folder)) as writer:

            def listen(record: Mapping[str, Any]) -> None:
                images = record["images"]
                for key, value in record.items():
                    if key != "images":
                        writer.add_scalar(key, value, images)
                place = run.path / "samples" / f"{images:09d}.png"
                if place.is_file():
                    with Image.open(place) as grid:
                        pixels = np.asarray(grid)
                    writer.add_image("samples", pixels, images, dataformats="HW" if pixels.ndim == 2 else "HWC")
                writer.flush()

            for record in log:
                listen(record)
            yield listen

    def judged(run: runs.Run, file: Path, _: Mapping[str, Any]) -> None:
        folder = run.path / "tensorboard"
        if not any(folder.glob("events.*")):
            with follow(run):
                pass
        for old in folder.glob("*.scores"):
            old.unlink()
        with SummaryWriter(str(folder), filename_suffix=".scores") as writer:
            for name, value in score_values(file).items():
                writer.add_scalar(name, value, run.read_manifest().images)

    return Tracker(follow, judged)


# --- MLflow


@dataclass(frozen=True)
class Store:
    """MLflow's store: the package, a client of it and the experiment that the runs belong to."""

    mlflow: Any
    client: Any
    experiment: str


def _mlflow() -> Tracker:
    """Runs of the experiment `modiste` (or MLFLOW_EXPERIMENT_NAME), where MLFLOW_TRACKING_URI says or in mlflow.db."""
    store = _open_store()

    @contextmanager
    def follow(run: runs.Run) -> Iterator[Listener]:
        with _mlflow_errors(store.mlflow):
            run_id = _open_run(store, run)
            known = _send_missing(store, run, run_id)
        works = True

        def listen(record: Mapping[str, Any]) -> None:
            nonlocal works
            if works:  # a server that is gone takes minutes to fail: once is enough
                works = _attempt(lambda: _send(store, run, run_id, [record], known))

        try:
            yield listen
        finally:
            if works:
                _attempt(lambda: _end(store, run, run_id))

    def judged(run: runs.Run, file: Path, tags: Mapping[str, Any]) -> None:
        _attempt(lambda: _send_scores(store, run, file, tags))

    return Tracker(follow, judged)


def _open_store() -> Store:
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # users decide themselves whether others learn of their trainings
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # seven are four minutes
    }
    for key, value in quiet.items():
        os.environ.setdefault(key, value)
    try:
        mlflow = import_module("mlflow")
        exceptions = import_module("mlflow.exceptions")
        with _mlflow_errors(mlflow):
            client = mlflow.MlflowClient()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "modiste")
            experiment = client.get_experiment_by_name(name)
            try:
                # MLflow would paste the working folder into a URL, where a % in its name means something.
                here = None if mlflow.is_tracking_uri_set() else Path("mlruns").absolute().as_uri()
                number = experiment.experiment_id if experiment else client.create_experiment(name, here)
            except exceptions.MlflowException:  # another process was faster
                number = client.get_experiment_by_name(name).experiment_id
    except ImportError as error:
        raise UsageError(f"MLflow is not installed as a whole ({error}); run pip install 'modiste[mlflow]'") from None
    return Store(mlflow, client, number)


@contextmanager
def _mlflow_errors(mlflow: Any) -> Iterator[None]:
    """Turns a failure of MLflow into a ModisteError."""
    try:
        yield
    except (ModisteError, ImportError):
        raise
    except Exception as error:  # its stores raise what their libraries raise
        place = _without_password(mlflow.get_tracking_uri())
        raise ModisteError(
            f"MLflow cannot use {place} ({_reason(error)}); "
            "set MLFLOW_TRACKING_URI to a store that answers, or leave --track out"
        ) from None


def _attempt(send: Callable[[], object]) -> bool:
    """Send something and return whether it worked; a failure is printed and never ends a training."""
    try:
        send()
    except Exception as error:  # its stores raise what their libraries raise
        print(
            f"note: MLflow did not take it ({_reason(error)}); nothing is lost, the run folder has it all, and "
            "the next start with --track mlflow sends what is missing",
            file=sys.stderr,
        )
        return False
    return True


def _reason(error: Exception) -> str:
    """The first line of a message, without the password that a server's address may hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _without_password(lines[0])[:200].rstrip(".")


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _open_run(store: Store, run: runs.Run) -> str:
    """The id of the folder's MLflow run, a new one if it has none that still exists; parameters and tags are set."""
    place = run.path / RUN_ID
    manifest, recipe, entities = run.read_manifest(), run.read_recipe(), store.mlflow.entities
    found = None
    if place.is_file():
        with suppress(import_module("mlflow.exceptions").MlflowException):
            found = store.client.get_run(place.read_text(encoding="utf-8").strip())
    if found is None or found.info.lifecycle_stage != "active":
        began = _milliseconds(manifest.start)
        found = store.client.create_run(store.experiment, start_time=began, run_name=run.name)
    run_id = str(found.info.run_id)

    # MLflow never changes a parameter: what a longer run changes becomes a tag.
    known = found.data.params
    wanted = parameters(recipe)
    new = [entities.Param(key, value) for key, value in wanted.items() if key not in known]
    for start in range(0, len(new), MOST_AT_ONCE):
        store.client.log_batch(run_id, params=new[start : start + MOST_AT_ONCE])
    tags = {key: value for key, value in wanted.items() if known.get(key, value) != value}
    tags |= {
        "recipe": recipe.name,
        "recipe_hash": manifest.recipe_hash,
        "seed": str(recipe.seed),
        "run_folder": str(run.path.absolute()),
        "modiste": __version__,
        **({"mlflow.note.content": recipe.about} if recipe.about else {}),
    }
    store.client.log_batch(run_id, tags=[entities.RunTag(key, value) for key, value in tags.items()])
    store.client.update_run(run_id, status="RUNNING")
    files.write_text(place, run_id + "\n")
    return run_id


def parameters(recipe: Recipe) -> dict[str, str]:
    """Every setting of the recipe by its dotted key, as text; not its name and prose."""
    tree = recipe.model_dump(mode="json")
    found: dict[str, str] = {}
    for key in config.KEYS:
        section, _, leaf = key.rpartition(".")
        value = (tree[section] if section else tree)[leaf]
        found[key] = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return {key: value for key, value in found.items() if key not in ("name", "about", "source")}


@dataclass(frozen=True)
class Known:
    """The contents of an MLflow run: images shown at its ticks, and names of its sample grids."""

    images: set[int]
    grids: set[str]


def _send_missing(store: Store, run: runs.Run, run_id: str) -> Known:
    """Send what the run folder has and MLflow has not; returns what MLflow then holds."""
    images = {metric.step for metric in store.client.get_metric_history(run_id, "epoch")}
    grids = {Path(file.path).name for file in store.client.list_artifacts(run_id, "samples")}
    known = Known(images, grids)
    _send(store, run, run_id, run.read_log(), known)
    return known


def _send(store: Store, run: runs.Run, run_id: str, log: Iterable[Mapping[str, Any]], known: Known) -> None:
    """Send the ticks and grids that are new; after a crash some ticks are trained again, equal to what they were."""
    start = _milliseconds(run.read_manifest().start)
    for record in log:
        if record["images"] not in known.images:
            metrics = {key: value for key, value in record.items() if key != "images"}
            _send_metrics(store, run_id, metrics, record["images"], start + round(1000 * record["seconds"]))
            known.images.add(record["images"])
    for grid in run.list_grids():
        if grid.name not in known.grids:
            store.client.log_artifact(run_id, str(grid), "samples")
            known.grids.add(grid.name)


def _send_scores(store: Store, run: runs.Run, file: Path, tags: Mapping[str, Any]) -> None:
    """Send the scores of a finished run that are new, and the record itself, after everything else that is missing."""
    run_id = _open_run(store, run)
    _send_missing(store, run, run_id)
    manifest, there = run.read_manifest(), store.client.get_run(run_id).data.metrics
    new = {name: value for name, value in score_values(file).items() if there.get(name) != value}
    if new:
        _send_metrics(store, run_id, new, manifest.images or 0, _milliseconds(environment.utc_now()))
        store.client.log_artifact(run_id, str(file))
    for key, value in tags.items():
        store.client.set_tag(run_id, key, str(value))
    _end(store, run, run_id)


def _send_metrics(store: Store, run_id: str, metrics: Mapping[str, float], images: int, time: int) -> None:
    metric = store.mlflow.entities.Metric
    store.client.log_batch(run_id, metrics=[metric(key, float(value), time, images) for key, value in metrics.items()])


def _end(store: Store, run: runs.Run, run_id: str) -> None:
    manifest = run.read_manifest()
    end = _milliseconds(manifest.end or environment.utc_now())
    store.client.set_terminated(run_id, ENDS.get(manifest.status, "FAILED"), end)


def _milliseconds(time: str) -> int:
    """Milliseconds since 1970 of a time in ISO 8601."""
    return round(1000 * datetime.fromisoformat(time).timestamp())
