"""Images of a run written as the user asks: a grid, an animation, a few images, or a set with its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modiste import runs
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.exports import synthetic_set
from modiste.exports.options import SyntheticSetOptions
from modiste.exports.synthetic_set import SyntheticSet
from modiste.latent import codes, steering
from modiste.provenance import watermark
from modiste.sampling import generators, writers
from modiste.sampling.generators import TrainedGenerator


@dataclass(frozen=True)
class WrittenImages:
    """Images on disk that are no set."""

    out: Path
    kind: str
    """One of `writers.FORMATS`."""
    count: int
    name: str
    label: tuple[int, str] | None
    """The number and the name of the class that all images are of; None for all classes."""
    removed_card: Path | None
    """The card of an earlier set in this place."""


def check_words(options: SyntheticSetOptions, interpolate: tuple[int, int] | None) -> None:
    """UsageError where two options contradict each other."""
    if interpolate and options.seeds:
        raise UsageError("--interpolate has its two seeds already; leave --seeds out")
    others = (interpolate, options.seeds, options.count, options.per_class, options.label, options.truncation)
    if options.codes and any(one is not None for one in others):
        raise UsageError("--codes says which images; leave out what else does, as --seeds, --count and --class")
    if options.per_class is not None and (interpolate or options.seeds or options.count or options.label):
        raise UsageError("--per-class says which images; leave --class, --count, --seeds and --interpolate out")


def write(
    run: str | Path | runs.Run, out: Path, options: SyntheticSetOptions, interpolate: tuple[int, int] | None = None,
    columns: int | None = None, log: Callable[[str], None] = lambda _: None,
) -> WrittenImages | SyntheticSet:  # fmt: skip
    """Write images of a run: a set with its data card where the format and the count make it one, else as they are."""
    check_words(options, interpolate)
    kind = options.kind or writers.format_of(out)
    writers.check_format(kind)
    if columns is not None and kind != "png":
        raise UsageError(f"--columns {columns} is of a grid, and {out} in the format {kind} has none; leave it out")
    options = replace(options, kind=kind)
    count = len(options.seeds) if options.seeds else options.count or 64
    if interpolate or options.codes or not writers.is_set(kind, count, options.per_class):
        return _write_images(run, out, kind, options, interpolate, columns)
    if options.seeds is None and options.per_class is None:
        options = replace(options, count=options.count or 64)
    return synthetic_set.write_set(run, out, options, log=log)


def load(run: str | Path | runs.Run, options: SyntheticSetOptions) -> TrainedGenerator:
    """The generator of a run as the options ask for it, with the steps that all of its images take."""
    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    generator = generators.load(run, options.checkpoint, options.batch_norm)
    return steering.steered(run, generator, options.directions, options.checkpoint)


def generate(
    generator: TrainedGenerator, options: SyntheticSetOptions, interpolate: tuple[int, int] | None, kind: str
) -> tuple[Sequence[int] | None, Images]:
    """The seeds (none of an interpolation or of codes) and the images that the options ask for."""
    if options.codes:
        return None, codes.draw(generator, codes.read(options.codes, generator))
    if interpolate:
        frames = options.count or (30 if kind == "gif" else 10)
        return None, generator.interpolate(
            *interpolate, frames=frames, label=options.label, truncation=options.truncation
        )
    seeds = _seeds(generator, options)
    return seeds, generator.sample_set(options.count, options.label, seeds, options.truncation)


def _seeds(generator: TrainedGenerator, options: SyntheticSetOptions) -> Sequence[int]:
    if options.seeds is not None:
        return options.seeds
    return range(generator.balanced(options.per_class) if options.per_class is not None else options.count or 64)


def _write_images(
    run: str | Path | runs.Run, out: Path, kind: str, options: SyntheticSetOptions,
    interpolate: tuple[int, int] | None, columns: int | None,
) -> WrittenImages:  # fmt: skip
    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    generator = load(run, options)
    writers.check_marks(out, kind, options.signed, options.watermark is not None)
    mark = options.marker()
    if options.codes:
        seeds, labels = None, codes.read(options.codes, generator).labels
    else:
        seeds = None if interpolate else _seeds(generator, options)
        labels = generator.labels(options.label, [interpolate[0]] if interpolate else seeds or [])
    writers.check(out, kind, generator.shape.channels, seeds, generator.class_names, labels)
    seeds, images = generate(generator, options, interpolate, kind)
    if options.watermark is not None:
        images = replace(images, pixels=watermark.embed(images.pixels, options.watermark))
    facts = {"Run": generator.source, "Recipe hash": run.read_manifest().recipe_hash or "unknown"}
    facts |= {"Directions": steering.words(options.directions)} if options.directions else {}
    card = writers.card_place(out, kind)
    removed = card if writers.is_card(card) else None
    writers.write(images, seeds, out, kind, mark, facts, columns)
    return WrittenImages(out, kind, len(images), images.name, generator.class_of(options.label), removed)
