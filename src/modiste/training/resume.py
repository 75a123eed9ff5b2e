"""The folder of a training: made, or found to fit what is asked, with the state to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from modiste import config, environment, files, progress, runs
from modiste.config import Recipe
from modiste.data.images import Images, content_digest
from modiste.data.notes import ReadFrom
from modiste.data.sets import remarks
from modiste.environment import gpu_name
from modiste.errors import ModisteError, UsageError
from modiste.training import checkpoint_selection
from modiste.training.distributed import ProcessGroup


@dataclass(frozen=True)
class OpenedRun:
    """A run folder ready to train in: where, the manifest's facts, and the state to go on from (None = the start)."""

    path: Path
    manifest: runs.Manifest
    saved: Mapping[str, Any] | None = None
    finished: bool = False


def open_folder(
    recipe: Recipe, path: Path, dataset: Images, device: str, group: ProcessGroup, extend: bool, console: Console
) -> OpenedRun:
    """Create the run folder, or check that the one there fits and find its newest state."""
    digest = content_digest(dataset)
    if not runs.exists(path):
        manifest = _new_manifest(recipe, dataset, digest, device, group)
        return OpenedRun(path, runs.create_run(path, recipe, manifest).read_manifest())
    run = runs.Run(path)
    manifest = run.read_manifest()
    same_data = manifest.data.digest == digest and manifest.data.classes == dataset.class_names
    differing = _check_same(run, recipe, same_data, extend)
    if manifest.data.digest != digest:
        raise UsageError(
            f"{path} was trained on other images than {dataset.name} holds now; use --fresh for a new folder"
        )
    saved, notes = runs.load_state(run)
    damaged = bool(notes)
    if run.read_recipe().data.name != recipe.data.name:
        text = f"note: the images of {run.read_recipe().data.name} are in {recipe.data.name} now"
        progress.log(console, text)
    if manifest.status == "finished" and not _bending(differing, same_data) and not notes:
        if recipe.data.name != run.read_recipe().data.name:
            files.write_text(path / "recipe.toml", config.to_toml(recipe))
            runs.update_manifest(run, recipe_hash=config.content_hash(recipe))
        notes = [f"{path} is finished with {manifest.images:,} images; --fresh trains it anew beside it"]
        progress.log(console, notes[0])
        return OpenedRun(path, manifest, finished=True)
    if saved is None and (len(run.read_log()) > 1 or manifest.images):
        raise ModisteError(f"the saved states of {path} are gone, so it cannot go on; use --fresh for a new folder")
    here = {"device": device, "gpu": gpu_name(device), "torch": torch.__version__, "processes": group.size}
    for key, now in here.items():
        if (then := getattr(manifest, key)) != now:
            notes.append(f"the run was started with {key} {then}, now {now}: it goes on, but not bit for bit")
    images = saved["images"] if saved else 0
    if extend and images >= (recipe.train.images or 0):
        more = "--set train.images=N asks for more" if recipe.train.lr_schedule == "constant" else "its rates end there"
        notes.append(
            f"all {images:,} images of this training were shown already, so there is nothing left of it; {more}"
        )
    if (
        damaged and (best := checkpoint_selection.best(run.read_log())) and best[1]["images"] > images
    ):  # kept with the damaged state
        (path / "best.safetensors").unlink(missing_ok=True)
    runs.rewind(run, images)
    # First, so that no run is called finished that its recipe wants longer, whatever dies in between.
    stood = {"images": images, "seconds": saved["seconds"] if saved else 0.0, "reason": None}
    runs.update_manifest(run, status="running", end=None, recipe_hash=config.content_hash(recipe), **stood)
    if differing:
        files.write_text(path / "recipe.toml", config.to_toml(recipe))
    for text in [*(f"note: {note}" for note in notes), f"resuming {path} at {images:,} images"]:
        progress.log(console, text)
    return OpenedRun(path, manifest, saved)


def as_begun(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with what `begun_with` keeps of the run in that folder, if there is one."""
    return begun_with(recipe, runs.Run(path).read_recipe()) if runs.exists(path) else recipe


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
    if dataset.labels is None or not runs.exists(path) or runs.Run(path).read_manifest().data.classes:
        return dataset
    notes = tuple(note for note in dataset.notes if not (isinstance(note, ReadFrom) and note.kind == "labels"))
    bare = replace(dataset, labels=None, class_names=(), notes=notes)
    return bare if content_digest(bare) == runs.Run(path).read_manifest().data.digest else dataset


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
    differing = config.differences(run.read_recipe(), recipe)
    bending = _bending(differing, same_data)
    only_length = all(line.startswith(("train.images:", "train.budget_seconds:")) for line in bending)
    longer = (recipe.train.images or 0) - (run.read_recipe().train.images or 0)
    # A budget never bends the path; a length does where the learning rate falls with it.
    extensible = only_length and (longer == 0 or (longer > 0 and recipe.train.lr_schedule == "constant"))
    if bending and not (extend and extensible):
        hint = ", or --extend to train it longer" if extensible else ""
        raise UsageError(
            f"{run.path} was started with another recipe ({'; '.join(bending)}); "
            f"use the same settings to resume it, --fresh for a new folder beside it{hint}"
        )
    return differing


def _new_manifest(recipe: Recipe, dataset: Images, digest: str, device: str, group: ProcessGroup) -> runs.Manifest:
    """The manifest of a run that starts here."""
    count, channels, height, width = dataset.pixels.shape
    notes = tuple(remarks(dataset))
    data = runs.DataFacts(dataset.name, digest, count, channels, (height, width), dataset.class_names, notes)
    return runs.Manifest(
        **environment.describe_machine(),
        device=device,
        gpu=gpu_name(device),
        precision=environment.choose_precision(recipe.train.precision, device),
        threads=max(1, recipe.train.threads // group.size) if recipe.train.threads else torch.get_num_threads(),
        processes=group.size,
        data=data,
    )
