"""Start a training from another run's weights: classes, labels and colours may be others, the networks are the same or
wider.

The ancestor's generator is its average. A class of the same name keeps its weights. A new class starts from those of
the ancestor's classes whose generated pictures are the nearest neighbours of its images, in proportion to their number:
this needs no labels in common, no discriminator and no judge. Networks without classes become ones whose pictures do
not depend on the class yet; the other way round the classes' weights are averaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modiste import config, parts, paths, runs
from modiste.config import Network, Recipe
from modiste.data import readers
from modiste.data.images import Images, Pixels
from modiste.data.sets import set_name
from modiste.errors import UsageError
from modiste.networks import transfer
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.networks.transfer import WIDENED
from modiste.sampling import discriminators, generators
from modiste.training.step import State

Copy = Callable[[nn.Module, nn.Module, ImageShape, ImageShape, Tensor, str], None]
DRAWN, SEEN = 64, 100
"""Generated pictures of each class of the ancestor, and images of each new class, that are compared."""
SHOWN = 0.05
"""The smallest share of a class that the log names."""
FREE = {"dropout", "leaky_slope", "generator_slope", "init", "conditioning"}
"""The settings of networks that a user may set otherwise than the ancestor's."""
WIDTHS = ("generator_widths", "discriminator_widths")
OF_DISCRIMINATOR = ("discriminator_widths", "discriminator_norm", "leaky_slope", "dropout")


def ancestor_name(name: str) -> str:
    """The name of the run that ships as it is, a folder's path in full, so that it is the same one everywhere."""
    path = readers.expanded(name)
    return name if name == runs.PRETRAINED and not path.exists() else str(path.resolve())


def with_networks_of_ancestor(recipe: Recipe, overrides: Container[str], path: Path) -> Recipe:
    """The recipe with the networks of its ancestor; UsageError where an overridden key of them says otherwise.

    A run in the folder `path` that started from it has them already, and needs the ancestor no more. Conditioning is
    the recipe's where the ancestor has none and its networks are Modiste's, and so is a discriminator that is not kept.
    """
    if not recipe.finetune.ancestor:
        return recipe
    name = ancestor_name(recipe.finetune.ancestor)
    recipe = config.override(recipe, {"finetune.ancestor": name})
    begun = runs.Run(path).read_recipe() if runs.exists(path) else None
    if begun is not None and begun.finetune.ancestor == name:
        settings, was_conditional = begun.network, True
    else:
        settings = settings_of(name)
        was_conditional = settings.conditioning != "none"
        if not discriminators.exists(find(name)) and recipe.network.family == settings.family:
            own_ones = {key: getattr(recipe.network, key) for key in OF_DISCRIMINATOR}
            settings = settings.model_copy(update=own_ones)
    theirs, own = settings.model_dump(), recipe.network.model_dump()
    kept = {key for key in FREE if f"network.{key}" in overrides}
    wider = {key: own[key] for key in WIDTHS if f"network.{key}" in overrides}
    if transfer.can_widen(settings, settings.model_copy(update=wider)):
        kept |= wider.keys()
    for key in (key for key in own if f"network.{key}" in overrides and key not in kept and own[key] != theirs[key]):
        remedy = ", or make none of as many widths smaller" if key in WIDTHS and settings.family in WIDENED else ""
        raise UsageError(
            f"network.{key} = {own[key]!r} is set, and {_short(name)} has weights for {key} = "
            f"{theirs[key]!r}; leave one of --set and --from out{remedy}"
        )
    if not was_conditional and not parts.parse(settings.family):
        kept.add("conditioning")
    if kept & {"conditioning"} and was_conditional and own["conditioning"] not in ("none", theirs["conditioning"]):
        raise UsageError(
            f"network.conditioning = {own['conditioning']!r} is set, and {_short(name)} has weights for "
            f"{theirs['conditioning']!r}; leave it out, or set it to 'none' to train without classes"
        )
    return config.override(recipe, {f"network.{key}": theirs[key] for key in theirs.keys() - kept}, "--from")


def settings_of(name: str) -> Network:
    """The settings of a run's networks; of its discriminator as it was kept."""
    run = find(name)
    settings, _, _ = generators.read_description(run.path)
    if not (run.path / discriminators.DESCRIPTION).is_file():
        return settings
    other, _, _ = generators.read_description(run.path, discriminators.DESCRIPTION)
    return settings.model_copy(update={key: getattr(other, key) for key in OF_DISCRIMINATOR})


def find(name: str) -> runs.Run:
    """The ancestor's run; UsageError where there is none with weights, or it brings code that has not run here."""
    run = runs.find_run(name)
    if run is None:
        raise UsageError(
            f"{name} is no run to start from (it has no manifest.json); name a run folder, or pretrained, with --from"
        )
    if not (run.path / "generator.safetensors").is_file():
        raise UsageError(
            f"{_short(name)} has no generator.safetensors to start from; train it to its first tick, or name another "
            "run with --from"
        )
    parts.require_trusted([generators.read_description(run.path)[0].family], run.path)
    return run


def facts(name: str) -> runs.Ancestor:
    """What manifest, card and protocol say of the ancestor."""
    run = find(name)
    manifest = run.read_manifest()
    record = runs.read_last_record(run)
    shown = manifest.pretrained.images_shown if manifest.pretrained else record["images"] if record else None
    digest = hashlib.sha256((run.path / "generator.safetensors").read_bytes()).hexdigest()[:16]
    before = None if manifest.ancestor is None else asdict(manifest.ancestor)
    return runs.Ancestor(run.path.name, digest, shown, manifest.data.name, discriminators.exists(run), before)


def check(recipe: Recipe, dataset: Images, shape: ImageShape) -> None:
    """UsageError where the ancestor's weights cannot be meant for these images."""
    ancestor = recipe.finetune.ancestor or ""
    name, run = _short(ancestor), find(ancestor)
    generators.load(run)  # so that damaged weights are told before there is a run folder
    settings, before, class_names = generators.read_description(run.path)
    own = parts.parse(settings.family)
    if own:
        if (before, class_names) != (shape, dataset.class_names if shape.classes else ()):
            raise UsageError(
                f"{name} has networks of its user's own, whose weights Modiste carries over to the same size, colours "
                f"and classes only, and {dataset.name} has others; train from scratch"
            )
    elif before.channels > shape.channels:
        raise UsageError(f"{name} makes pictures in colour, and {dataset.name} has grey images; start from a grey run")
    elif before.channels < shape.channels and settings.generator_spectral:
        raise UsageError(
            f"{name} makes grey pictures with spectral norm in its generator, which cannot be carried over to the "
            f"colours of {dataset.name}; start from another run"
        )
    elif before.size != shape.size and _depends_on_side(settings, before, shape.size):
        raise UsageError(
            f"{name} makes pictures of {before.size} pixels, {dataset.name} has images of {shape.size}, and the "
            f"weights of {settings.family} networks depend on the side; add --resize {before.size}"
        )
    with torch.device("cpu" if own else "meta"), torch.random.fork_rng([]):
        layers = len(transfer.weighted_layers(build_discriminator(recipe.network, shape)))
    if recipe.finetune.frozen_layers >= layers:
        raise UsageError(
            f"finetune.frozen_layers = {recipe.finetune.frozen_layers} leaves nothing to train of the discriminator's "
            f"{layers} layers; lower it"
        )


def _depends_on_side(settings: Network, before: ImageShape, size: int) -> bool:
    """Whether some weight has another shape, or the side is refused."""
    other = ImageShape(before.channels, size, before.classes)
    with torch.device("meta"):
        for build in (build_generator, build_discriminator):
            try:
                one, two = build(settings, before), build(settings, other)
            except UsageError:
                return True
            if [weight.shape for weight in one.parameters()] != [weight.shape for weight in two.parameters()]:
                return True
    return False


def start(state: State, recipe: Recipe, dataset: Images, shape: ImageShape, expected: runs.Ancestor) -> list[str]:
    """Give new networks the ancestor's weights; returns lines for the log. UsageError unless it is the expected one."""
    name = recipe.finetune.ancestor or ""
    if facts(name).weights != expected.weights:
        raise UsageError(
            f"{_short(name)} has other weights now than when this run was made; start a new one with --fresh"
        )
    run = find(name)
    trained = generators.load(run)
    found = discriminators.load(run) if expected.discriminator else None
    family, before = recipe.network.family, trained.shape
    same_classes = parts.parse(family) is not None or set_name(expected.data) == set_name(dataset.name)
    shares, lines = class_shares(trained, dataset, shape, same_classes)
    of_ancestor = settings_of(name).model_dump(include=set(WIDTHS if found else WIDTHS[:1]))
    narrow = recipe.network.model_copy(update=of_ancestor)

    def carry(copy: Copy, build: Callable[[Network, ImageShape], nn.Module], new: nn.Module, old: nn.Module) -> None:
        if narrow == recipe.network:
            return copy(new, old, before, shape, shares, family)
        with torch.random.fork_rng([]):
            between = build(narrow, shape)
        copy(between, old, before, shape, shares, family)
        return transfer.widen(new, between)

    carry(transfer.copy_generator, build_generator, state.generator, trained.network)
    state.ema.load_state_dict(state.generator.state_dict())
    shown = "" if expected.images_shown is None else f" ({expected.images_shown:,} images shown)"
    share = recipe.finetune.rate_share
    rates = "" if share == 1 else f"; both learning rates are {share:g} of the recipe's"
    lines = [f"starting from the weights of {expected.name}{shown}{rates}", *lines]
    if narrow != recipe.network:
        lines.append("the networks are wider than the ancestor's, and begin with its pictures")
    if found is None:
        return [*lines, f"note: of {expected.name} only the generator was kept, so the discriminator starts anew"]
    carry(transfer.copy_discriminator, build_discriminator, state.discriminator, found.network)
    layers = recipe.finetune.frozen_layers
    grown = narrow.discriminator_widths != recipe.network.discriminator_widths
    if layers and (grown or before.channels != shape.channels):
        what = "channels" if grown else "colours"
        return [*lines, f"note: the discriminator has {what} to learn, so none of its layers is frozen"]
    state.frozen = frozen_numbers(state.discriminator, layers)
    if layers:
        words = "first layer keeps its" if layers == 1 else f"first {layers} layers keep their"
        lines.append(f"the discriminator's {words} weights")
    return lines


def frozen_numbers(discriminator: nn.Module, layers: int) -> int:
    """How many of its joined numbers belong to so many first layers with weights."""
    _, following = transfer.weighted_layers(discriminator)[layers]
    return (
        min(int(weight.storage_offset()) for weight in following.parameters()) if layers else 0
    )  # views, by `flat.join`


def class_shares(
    trained: generators.TrainedGenerator, dataset: Images, shape: ImageShape, same_set: bool = False
) -> tuple[Tensor, list[str]]:
    """What each class starts from, as shares of the ancestor's classes [classes, its classes], and lines for the log.

    Names that are mere numbers mean the same in the same set only.
    """
    old, new = trained.class_names, dataset.class_names if shape.classes else ()
    shares = torch.zeros(len(new), trained.shape.classes)
    if not old or not new:
        if old or new:
            words = "has no classes: every class starts alike" if new else "has classes: their weights are averaged"
            return torch.ones_like(shares), [f"note: {trained.source} {words}"]
        return shares, []
    known = {name: number for number, name in enumerate(old) if same_set or not name.isdecimal()}
    kept = [name for name in new if name in known]
    for number, name in enumerate(new):
        if name in known:
            shares[number, known[name]] = 1
    lines = [f"classes kept: {', '.join(kept)}"] if kept else []
    others = [number for number, name in enumerate(new) if name not in known]
    if not others:
        return shares, lines
    drawn, labels = pictures_of(trained, dataset.pixels.shape[-1])
    assert dataset.labels is not None  # there are classes
    for number in others:
        rows = np.flatnonzero(dataset.labels == number)[:SEEN]
        seen = as_grey(dataset.pixels[rows], dataset.pixels.shape[-1])
        nearest = labels[torch.cdist(seen, drawn).argmin(1)]
        shares[number] = torch.bincount(nearest, minlength=len(old)) / max(1, len(rows))
        if not len(rows):
            shares[number] = 1 / len(old)
        by_share = sorted(zip(shares[number].tolist(), old, strict=True), reverse=True)
        listed = ", ".join(f"{name} ({share:.0%})" for share, name in by_share if share >= SHOWN)
        lines.append(f"class {new[number]} is new and starts from {listed}, by the nearest generated pictures")
    return shares, lines


def pictures_of(trained: generators.TrainedGenerator, side: int) -> tuple[Tensor, Tensor]:
    """Generated pictures as grey rows, and their labels."""
    count = DRAWN * trained.shape.classes
    labels = np.arange(count) % trained.shape.classes
    pixels = generators.generate(trained.network, generators.seed_noise(range(count), trained.z_dim), labels)
    return as_grey(pixels, side), torch.from_numpy(labels)


def as_grey(pixels: Pixels, side: int) -> Tensor:
    """Rows [N, side * side] of grey values from 0 to 1."""
    grey = torch.from_numpy(np.ascontiguousarray(pixels)).float().mean(1, keepdim=True) / 255
    if grey.shape[-1] != side:
        grey = F.interpolate(grey, (side, side), mode="bilinear", antialias=True)
    return grey.flatten(1)


def _short(name: str) -> str:
    return paths.short_path(Path(name)) if Path(name).is_absolute() else name
