"""The directions of a run: found, measured, drawn, kept in its folder, and read from there.

    directions.safetensors    one tensor [max(1, classes), z_dim] per direction, and of which generator they are
    directions.json           what each direction does, with its protocol
    directions.png            a strip of pictures of each

Those of another checkpoint than the last one are in directions-CHECKPOINT.*.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modiste import environment, files, progress, runs, schema
from modiste.data.images import Images
from modiste.data.sets import native_data
from modiste.errors import ModisteError, UsageError
from modiste.latent import attributes, directions, effects
from modiste.latent.directions import Direction
from modiste.latent.effects import Effect
from modiste.latent.encoder import weights_digest
from modiste.latent.pictures import fitted
from modiste.metrics import features
from modiste.metrics.features import Extractor
from modiste.plotting import figures
from modiste.provenance import metadata
from modiste.sampling import generators
from modiste.sampling.generators import TrainedGenerator, generate, seed_noise
from modiste.wording import quoted

IMAGES = 10_000
"""From which directions are found, classes in turn."""
FEWEST_PER_CLASS = 200
MEASURED = 300
STEPS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
MOST_STEP = 5.0
"""Beyond it all noise is unlike any that the generator knows."""
SHOWN_CLASSES = 2
NAME_PATTERN = r"[a-z][a-z0-9-]*"
TAKEN = rf"{'|'.join((*attributes.OF_GREY, *attributes.OF_COLOUR))}|class|random|(features|closed-form)-\d+"
"""Names that a direction by example cannot have, as others have them."""


@dataclass(frozen=True)
class Example:
    """A direction by example: its name, and pictures with and without what it is to bring."""

    name: str
    having: Images
    lacking: Images


@dataclass(frozen=True)
class Steering:
    """The directions of a run with what they do, and where that is kept."""

    effects: tuple[Effect, ...]
    protocol: Mapping[str, Any]
    vectors: Path
    record: Path
    picture: Path
    notes: tuple[str, ...] = ()


def find(
    run: runs.Run,
    *,
    checkpoint: str = "last",
    example: Example | None = None,
    images: int = IMAGES,
    out: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Steering:
    """Find and measure the directions of a run, and write them into its folder, or into `out`.

    Directions by example that were found before for the same generator are kept beside the new one. UsageError for
    fewer images than the least squares need, and an example called like a direction of another kind.
    """
    if example is not None and re.fullmatch(TAKEN, example.name):
        raise UsageError(f"{example.name!r} is what another direction is called; give the example another --name")
    generator = generators.load(run, checkpoint)
    classes = max(1, generator.shape.classes)
    per_class = max(images // classes, FEWEST_PER_CLASS)
    if per_class <= generator.z_dim:
        raise UsageError(
            f"{per_class} images of each class cannot tell {generator.z_dim} directions apart; ask for "
            f"--images {2 * generator.z_dim * classes} or more"
        )
    folder = out or run.outputs
    vectors, record, picture = (place(folder, checkpoint, suffix) for suffix in ("safetensors", "json", "png"))
    for file in (record, picture, vectors):
        files.refuse_foreign_file(file, record)
    with files.errors_name_place(folder):
        folder.mkdir(parents=True, exist_ok=True)
    judge, notes = judge_of(run)
    log(f"finding directions from {per_class * classes:,} generated images")
    chosen = directions.find(generator, judge, per_class)
    chosen += [one for one in _kept(vectors, generator) if example is None or one.name != example.name]
    if example is not None:
        if judge is None:
            raise UsageError(f"{run.name} has no features to tell the two folders apart in: {notes[0]}")
        kinds = {True: example.having, False: example.lacking}
        pictures = {key: fitted(one, generator.shape, generator.source, resizes=False) for key, one in kinds.items()}
        chosen.append(directions.by_example(generator, judge, example.name, pictures, per_class))
    chosen.append(directions.random_direction(generator))
    log(f"measuring {len(chosen)} directions on {MEASURED} other images each")
    measured = effects.measure(generator, judge, chosen, MEASURED)
    protocol = {
        "generator": weights_digest(generator.network),
        "checkpoint": checkpoint,
        "found_from": per_class * classes,
        "measured_on": MEASURED,
        "length": round(math.sqrt(generator.z_dim) / 2, 4),
        "judge": dict(judge.facts) if judge else None,
        "versions": {key: environment.describe_machine()[key] for key in ("modiste", "torch", "numpy")},
    }
    write_vectors(vectors, generator, chosen)
    tree = {"protocol": protocol, "directions": [effect.to_json() for effect in measured]}
    files.write_json(record, {**tree, "files": [vectors.name, picture.name]})
    files.write_bytes(picture, draw(generator, chosen, measured))
    return Steering(tuple(measured), protocol, vectors, record, picture, tuple(notes))


def judge_of(run: runs.Run) -> tuple[Extractor | None, list[str]]:
    """The extractor of the run's data set with its warning, or None and why there is none."""
    try:
        found = features.primary_extractor(native_data(run.read_recipe().data))
        return found, [found.warning] if found.warning else []
    except ModisteError as error:
        return None, [f"its images cannot be read, so nothing holds the class still ({error})"]


def place(folder: Path, checkpoint: str, suffix: str) -> Path:
    """The file of a run's directions."""
    return folder / f"directions{'' if checkpoint == 'last' else f'-{Path(checkpoint).stem}'}.{suffix}"


def read(run: runs.Run, generator: TrainedGenerator, checkpoint: str = "last") -> dict[str, Direction]:
    """The directions of a run by name: those that ship with it, and those found since.

    UsageError where there are none, or those of another state of the generator.
    """
    found: dict[str, Direction] = {}
    stale = None
    for folder in reversed(run.folders):
        file = place(folder, checkpoint, "safetensors")
        if not file.is_file():
            continue
        kept = read_vectors(file, generator)
        if kept is None:
            stale = file
        found |= {one.name: one for one in kept or ()}
    if not found:
        which = "" if checkpoint == "last" else f" --checkpoint {checkpoint}"
        why = f"{stale} was made for another state of its generator" if stale else f"{run.name} has no directions yet"
        raise UsageError(f"{why}; find them with: modiste directions {run.word}{which}")
    return found


def steered(
    run: runs.Run, generator: TrainedGenerator, steps: Mapping[str, float], checkpoint: str = "last"
) -> TrainedGenerator:
    """The generator whose images all take these steps, by direction; UsageError for one that the run does not have."""
    if not steps:
        return generator
    known = read(run, generator, checkpoint)
    for name in steps:
        if name not in known:
            raise UsageError(
                f"{run.name} has no direction {name!r}{schema.nearest(name, known)}; it has {', '.join(known)}"
            )
        if not abs(steps[name]) <= MOST_STEP:  # nor is it infinite or no number
            raise UsageError(f"{name}={steps[name]:g} is too wide a step; take -{MOST_STEP:g} to {MOST_STEP:g}")

    def move(labels: NDArray[np.int64] | None, count: int) -> torch.Tensor:
        return torch.stack([directions.shift(known[name], step, labels, count) for name, step in steps.items()]).sum(0)

    return replace(generator, move=move)


def words(steps: Mapping[str, float]) -> str:
    """Steps as the command line takes them: `brightness=1.5 width=-1`."""
    return " ".join(f"{name}={step:g}" for name, step in steps.items())


def parse_steps(texts: Sequence[str]) -> dict[str, float]:
    """Steps by direction from texts like `brightness=1.5`."""
    steps = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name.strip() in steps:
            raise UsageError(f"the direction {name.strip()[:60]} is given twice; give it once, with one number")
        try:
            steps[name.strip()] = float(value)
        except ValueError:
            raise UsageError(
                f"the direction {quoted(text)} has no number; write NAME=1.5, or NAME=-1 for the other way"
            ) from None
    return steps


def write_vectors(file: Path, generator: TrainedGenerator, chosen: Sequence[Direction]) -> None:
    """Write the directions' vectors in float16; the random one is only measured."""
    from safetensors.torch import save

    tensors = {one.name: torch.from_numpy(one.vectors).half() for one in chosen if one.kind != "random"}
    kinds = {one.name: one.kind for one in chosen}
    files.write_bytes(file, save(tensors, {"generator": weights_digest(generator.network), "kinds": json.dumps(kinds)}))


def read_vectors(file: Path, generator: TrainedGenerator) -> list[Direction] | None:
    """The directions in that file; None where they are those of another generator."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            facts = opened.metadata() or {}
            if facts.get("generator") != weights_digest(generator.network):
                return None
            kinds = json.loads(facts["kinds"])
            return [
                Direction(name, kinds[name], opened.get_tensor(name).float().numpy())
                for name in sorted(opened.keys(), key=list(kinds).index)
            ]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModisteError(f"{file} cannot be read ({error}); remove it and find the directions again") from None


def read_effects(run: runs.Run, checkpoint: str = "last") -> dict[str, Effect]:
    """What each direction of a run was measured to do, by name; empty where it was not."""
    found: dict[str, Effect] = {}
    for folder in reversed(run.folders):
        with suppress(OSError, ValueError, KeyError, TypeError):
            tree = json.loads(place(folder, checkpoint, "json").read_text(encoding="utf-8"))
            found |= {effect.name: effect for effect in map(Effect.from_json, tree["directions"])}
    return found


def sentence(effect: Effect) -> str:
    """What a step along a direction does, in words."""
    moves = ", ".join(f"{name} {one.value:+.2f}" for name, one in list(effect.clear_moves.items())[:3])
    kept = f"; class kept {effect.class_kept.value:.0%}" if effect.class_kept else ""
    return f"{moves or 'nothing moves clearly'}{kept}"


def are_kept(folder: Path, generator: TrainedGenerator) -> bool:
    """Whether the folder has directions of exactly this generator."""
    file = place(folder, "last", "safetensors")
    return file.is_file() and read_vectors(file, generator) is not None


def _kept(file: Path, generator: TrainedGenerator) -> list[Direction]:
    """The directions by example that an earlier search left in that file."""
    kept: list[Direction] = []
    with suppress(ModisteError):
        kept = read_vectors(file, generator) or [] if file.is_file() else []
    return [one for one in kept if one.kind == "example"]


@progress.stage("drawing the directions")
def draw(generator: TrainedGenerator, chosen: Sequence[Direction], measured: Sequence[Effect]) -> bytes:
    """A picture (PNG) with a strip per direction: images of some classes at steps from -1.5 to 1.5."""
    names = generator.class_names or ("",)
    shown = [round(k) for k in np.linspace(0, len(names) - 1, min(SHOWN_CLASSES, len(names)))]
    labels = np.array(shown, np.int64) if generator.class_names else None
    noise = seed_noise(range(len(shown)), generator.z_dim)
    rows = []
    for direction, effect in zip(chosen, measured, strict=True):
        shifts = [directions.shift(direction, step, labels, len(noise)) for step in STEPS]
        frames = [generate(generator.network, noise + one, labels) for one in shifts]
        strips = [
            [figures.Tile(frame[k], f"{step:+g}" if step else "0") for step, frame in zip(STEPS, frames, strict=True)]
            for k in range(len(shown))
        ]
        rows.append((_row_label(effect), strips))
    heading = (
        "A step is half as long as typical noise. Numbers: change over one step in standard deviations within a class; "
        "images whose class is kept"
    )
    section = figures.TileRows(heading, [names[k] for k in shown], rows)
    title = f"Directions of {generator.source}"
    content = figures.encode(figures.tile_rows(title, [section]), "png", marked=False)
    return metadata.stamp(content, {"Title": title})


def _row_label(effect: Effect) -> str:
    first = next(iter(effect.clear_moves.items()), None)
    move = f"{first[0]} {first[1].value:+.2f}".removeprefix(f"{effect.name} ") if first else "nothing clearly"
    return "\n".join([effect.name, move, *([f"kept {effect.class_kept.value:.0%}"] if effect.class_kept else [])])
