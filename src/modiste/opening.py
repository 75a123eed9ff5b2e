"""The folder of a training: made, or found to fit what is asked, with the state to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from modiste import assembly, config, data, runs, selection, terminal, writing
from modiste.config import Recipe
from modiste.data import Images
from modiste.data.findings import ReadFrom
from modiste.errors import ModisteError, UsageError
from modiste.processes import Team


@dataclass(frozen=True)
class Opened:
    """A run folder ready to train in: where, the manifest's facts, and the state to go on from (None = the start)."""

    path: Path
    manifest: Mapping[str, Any]
    saved: Mapping[str, Any] | None = None
    finished: bool = False


def open_folder(
    recipe: Recipe, path: Path, dataset: Images, device: str, team: Team, extend: bool, console: Console
) -> Opened:
    """Create the run folder, or check that the one there fits and find its newest state."""
    digest = data.digest(dataset)
    if not runs.exists(path):
        return Opened(path, runs.create(path, recipe, _facts(recipe, dataset, digest, device, team)).manifest)
    run = runs.Run(path)
    manifest = run.manifest
    same_data = manifest["data"]["digest"] == digest and manifest["data"]["classes"] == list(dataset.class_names)
    differing = _check_same(run, recipe, same_data, extend)
    if manifest["data"]["digest"] != digest:
        raise UsageError(
            f"{path} was trained on other images than {dataset.name} holds now; use --fresh for a new folder"
        )
    saved, notes = runs.load_state(run)
    damaged = bool(notes)
    if run.recipe.data.name != recipe.data.name:
        text = f"note: the images of {run.recipe.data.name} are in {recipe.data.name} now"
        terminal.say(console, text)
    if manifest["status"] == "finished" and not _bending(differing, same_data) and not notes:
        if recipe.data.name != run.recipe.data.name:
            writing.write_text(path / "recipe.toml", config.to_toml(recipe))
            runs.update_manifest(run, recipe_hash=config.content_hash(recipe))
        notes = [f"{path} is finished with {manifest['images']:,} images; --fresh trains it anew beside it"]
        terminal.say(console, notes[0])
        return Opened(path, manifest, finished=True)
    if saved is None and (len(run.log) > 1 or manifest.get("images")):
        raise ModisteError(f"the saved states of {path} are gone, so it cannot go on; use --fresh for a new folder")
    here = {"device": device, "gpu": None, **gpu(device), "torch": torch.__version__, "processes": team.size}
    for key, now in here.items():
        if (then := manifest.get(key)) != now:
            notes.append(f"the run was started with {key} {then}, now {now}: it goes on, but not bit for bit")
    images = saved["images"] if saved else 0
    if extend and images >= (recipe.train.images or 0):
        more = "--set train.images=N asks for more" if recipe.train.lr_schedule == "constant" else "its rates end there"
        notes.append(
            f"all {images:,} images of this training were shown already, so there is nothing left of it; {more}"
        )
    if damaged and (best := selection.best(run.log)) and best[1]["images"] > images:  # kept with the damaged state
        (path / "best.safetensors").unlink(missing_ok=True)
    runs.rewind(run, images)
    # First, so that no run is called finished that its recipe wants longer, whatever dies in between.
    stood = {"images": images, "seconds": saved["seconds"] if saved else 0.0, "reason": None}
    runs.update_manifest(run, status="running", end=None, recipe_hash=config.content_hash(recipe), **stood)
    if differing:
        writing.write_text(path / "recipe.toml", config.to_toml(recipe))
    for text in [*(f"note: {note}" for note in notes), f"resuming {path} at {images:,} images"]:
        terminal.say(console, text)
    return Opened(path, manifest, saved)


def as_begun(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with what `begun_with` keeps of the run in that folder, if there is one."""
    return begun_with(recipe, runs.Run(path).recipe) if runs.exists(path) else recipe


def begun_with(recipe: Recipe, started: Recipe) -> Recipe:
    """The recipe with data.heldout of what was started with the other one, and data.fit unless it is said.

    That may have been before there was a choice (`config.as_meant`).
    """
    recipe = config.keeping(recipe, started)
    return recipe if "fit" in recipe.data.model_fields_set else config.override(recipe, {"data.fit": started.data.fit})


def kept_of(recipe: Recipe, started: Recipe) -> dict[str, str]:
    """The changes that make of a recipe that of `begun_with`, by dotted key."""
    before, now = recipe.data, begun_with(recipe, started).data
    return {f"data.{key}": getattr(now, key) for key in ("fit", "heldout") if getattr(now, key) != getattr(before, key)}


def images_as_begun(dataset: Images, path: Path) -> Images:
    """The images without labels where the run in that folder began when these were not read."""
    if dataset.labels is None or not runs.exists(path) or runs.Run(path).manifest["data"].get("classes"):
        return dataset
    notes = tuple(note for note in dataset.notes if not (isinstance(note, ReadFrom) and note.kind == "labels"))
    bare = replace(dataset, labels=None, class_names=(), notes=notes)
    return bare if data.digest(bare) == runs.Run(path).manifest["data"]["digest"] else dataset


def _bending(differing: Sequence[str], same_data: bool) -> list[str]:
    """The differences that make two trainings of two runs; with and without a graph a step is the same.

    So are the same images in another place, or made from their files in another way.
    """
    made = ("data.name:", "data.fit:", "data.background:") if same_data else ()
    alike = ("train.cuda_graph:", *made)
    return [difference for difference in differing if not difference.startswith(alike)]


def _check_same(run: runs.Run, recipe: Recipe, same_data: bool, extend: bool) -> list[str]:
    """The differences between the run's recipe and this one, if they only make it longer or do not bend its path.

    UsageError otherwise.
    """
    differing = config.differences(run.recipe, recipe)
    bending = _bending(differing, same_data)
    only_length = all(line.startswith(("train.images:", "train.budget_seconds:")) for line in bending)
    longer = (recipe.train.images or 0) - (run.recipe.train.images or 0)
    # A budget never bends the path; a length does where the learning rate falls with it.
    extensible = only_length and (longer == 0 or (longer > 0 and recipe.train.lr_schedule == "constant"))
    if bending and not (extend and extensible):
        hint = ", or --extend to train it longer" if extensible else ""
        raise UsageError(
            f"{run.path} was started with another recipe ({'; '.join(bending)}); "
            f"use the same settings to resume it, --fresh for a new folder beside it{hint}"
        )
    return differing


def _facts(recipe: Recipe, dataset: Images, digest: str, device: str, team: Team) -> dict[str, Any]:
    """What the manifest says of a new run."""
    count, channels, height, width = dataset.pixels.shape
    described = {
        "name": dataset.name,
        "digest": digest,
        "count": count,
        "channels": channels,
        "size": [height, width],
    }
    return {
        **runs.describe_machine(),
        "device": device,
        **gpu(device),
        "precision": assembly.choose_precision(recipe.train.precision, device),
        "threads": max(1, recipe.train.threads // team.size) if recipe.train.threads else torch.get_num_threads(),
        "processes": team.size,
        "data": {**described, "classes": list(dataset.class_names), "notes": data.remarks(dataset)},
    }


def gpu(device: str) -> dict[str, str]:
    """What a manifest says of a GPU beyond its kind."""
    return {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
