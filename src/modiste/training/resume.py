"""Open the folder of a training: create it, or check that its run fits and load the newest state."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from modiste import config, environment, files, progress, runs
from modiste.config import Change, Recipe
from modiste.data.images import Images, content_digest
from modiste.data.notes import ReadFrom
from modiste.data.sets import list_warnings
from modiste.environment import gpu_name
from modiste.errors import ModisteError, UsageError
from modiste.training import checkpoint_selection, finetune
from modiste.training.distributed import ProcessGroup

ENDS = ("train.budget_seconds", "evaluate.patience")
"""Keys that may end a training before its length does."""


@dataclass(frozen=True)
class OpenedRun:
    """A run folder ready to train in, with its manifest and the state to resume from (None = the start)."""

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
        if recipe.finetune.ancestor:
            manifest = replace(manifest, ancestor=finetune.facts(recipe.finetune.ancestor))
        return OpenedRun(path, runs.create_run(path, recipe, manifest).read_manifest())
    run = runs.Run(path)
    manifest = run.read_manifest()
    same_data = manifest.data.digest == digest and manifest.data.classes == dataset.class_names
    changes, altered = _check_same(run, recipe, same_data, extend)
    if manifest.data.digest != digest:
        raise UsageError(
            f"{path} was trained on other images than {dataset.name} holds now; use --fresh for a new folder"
        )
    saved, notes = runs.load_state(run)
    damaged = bool(notes)
    started = run.read_recipe()
    if started.data.name != recipe.data.name:
        progress.log(console, f"note: the images of {started.data.name} are in {recipe.data.name} now")
    if manifest.status == "finished" and not altered and not damaged:
        if recipe.data.name != started.data.name:
            files.write_text(path / "recipe.toml", config.to_toml(recipe))
            runs.update_manifest(run, recipe_hash=config.content_hash(recipe))
        progress.log(console, f"{path} is finished with {manifest.images:,} images; --fresh trains it anew beside it")
        return OpenedRun(path, manifest, finished=True)
    if saved is None and (len(run.read_log()) > 1 or manifest.images):
        raise ModisteError(f"the saved states of {path} are gone, so it cannot go on; use --fresh for a new folder")
    now = {"device": device, "gpu": gpu_name(device), "torch": torch.__version__, "processes": group.size}
    for key, value in now.items():
        if (before := getattr(manifest, key)) != value:
            notes.append(f"the run was started with {key} {before}, now {value}: it goes on, but not bit for bit")
    images, seconds = (saved["images"], saved["seconds"]) if saved else (0, 0.0)
    budget = recipe.train.budget_seconds
    if altered and budget is not None and seconds >= budget:
        raise UsageError(
            f"{path} was trained for {progress.duration(seconds)} already, so that train.budget_seconds = {budget:g} "
            "leaves nothing to do; give a longer time, as --budget 10min"
        )
    if extend and images >= (recipe.train.images or 0):
        more = "--set train.images=N asks for more" if recipe.train.lr_schedule == "constant" else "its rates end there"
        notes.append(
            f"all {images:,} images of this training were shown already, so there is nothing left of it; {more}"
        )
    if damaged and (best := checkpoint_selection.best(run.read_log())) and best.images > images:
        (path / "best.safetensors").unlink(missing_ok=True)  # it belongs to the damaged state
    runs.rewind(run, images)
    # The manifest first, so that no run counts as finished that its recipe wants longer, wherever this is killed.
    runs.update_manifest(
        run,
        status="running",
        end=None,
        reason=None,
        images=images,
        seconds=seconds,
        recipe_hash=config.content_hash(recipe),
    )
    if changes:
        files.write_text(path / "recipe.toml", config.to_toml(recipe))
    for text in [*(f"note: {note}" for note in notes), f"resuming {path} at {images:,} images"]:
        progress.log(console, text)
    return OpenedRun(path, manifest, saved)


def with_settings_of_run(recipe: Recipe, path: Path, overrides: Container[str]) -> Recipe:
    """The recipe with the settings kept by the run in that folder, if there is one; see `with_settings_of`."""
    return with_settings_of(recipe, runs.Run(path).read_recipe(), overrides) if runs.exists(path) else recipe


def with_settings_of(recipe: Recipe, started: Recipe, overrides: Container[str]) -> Recipe:
    """The recipe with data.heldout of the recipe that a run was started with, data.fit unless it is set, and no
    automatic augmentation where the run has none, unless the overrides ask for it.

    Older runs were started when there was no choice (`config.with_older_defaults`).
    """
    recipe = config.with_heldout_of(recipe, started)
    if recipe.augment.policy == "auto" and started.augment.policy == () and "augment.policy" not in overrides:
        recipe = config.override(recipe, {"augment.policy": ()})
    return recipe if "fit" in recipe.data.model_fields_set else config.override(recipe, {"data.fit": started.data.fit})


def settings_changes(recipe: Recipe, started: Recipe, overrides: Container[str]) -> dict[str, Any]:
    """The changes, by dotted key, that `with_settings_of` makes to a recipe."""
    after = with_settings_of(recipe, started, overrides)
    changes = {
        "data.fit": (recipe.data.fit, after.data.fit),
        "data.heldout": (recipe.data.heldout, after.data.heldout),
        "augment.policy": (recipe.augment.policy, after.augment.policy),
    }
    return {key: new for key, (old, new) in changes.items() if new != old}


def with_labels_of_run(dataset: Images, path: Path) -> Images:
    """The images without labels where the run in that folder was started by a version that did not read them."""
    if dataset.labels is None or not runs.exists(path):
        return dataset
    facts = runs.Run(path).read_manifest().data
    if facts.classes:
        return dataset
    notes = tuple(note for note in dataset.notes if not (isinstance(note, ReadFrom) and note.kind == "labels"))
    unlabelled = replace(dataset, labels=None, class_names=(), notes=notes)
    return unlabelled if content_digest(unlabelled) == facts.digest else dataset


def _check_same(run: runs.Run, recipe: Recipe, same_data: bool, extend: bool) -> tuple[tuple[Change, ...], bool]:
    """The changes from the run's recipe to this one, and whether any alters the path of the training.

    UsageError if one does, unless `extend` is given and the changes only make the training longer.
    """
    started = run.read_recipe()
    changes = config.differences(started, recipe)
    # A step is the same with and without a graph, and so are the same images from another place or other settings.
    neutral = {"train.cuda_graph", *(("data.name", "data.fit", "data.background") if same_data else ())}
    altering = [change for change in changes if change.key not in neutral]
    only_length = all(change.key in ("train.images", *ENDS) for change in altering)
    more_images = (recipe.train.images or 0) - (started.train.images or 0)
    # What ends a training never alters the path; a length does where the learning rate falls with it.
    extensible = only_length and (more_images == 0 or (more_images > 0 and recipe.train.lr_schedule == "constant"))
    if altering and extend and only_length and not extensible:
        why = "its learning rates fall with its length" if more_images > 0 else "its recipe is no shorter"
        raise UsageError(
            f"{run.path} cannot be extended so ({'; '.join(map(str, altering))}), since {why}; use --fresh for a new "
            "folder beside it"
        )
    if altering and not (extend and extensible):
        hint = ", or --extend to train it longer" if extensible else ""
        raise UsageError(
            f"{run.path} was started with other settings ({'; '.join(map(str, altering))}); "
            f"use the same settings to resume it, --fresh for a new folder beside it{hint}"
        )
    return changes, bool(altering)


def _new_manifest(recipe: Recipe, dataset: Images, digest: str, device: str, group: ProcessGroup) -> runs.Manifest:
    """The manifest of a run that starts here."""
    count, channels, height, width = dataset.pixels.shape
    notes = tuple(list_warnings(dataset))
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
