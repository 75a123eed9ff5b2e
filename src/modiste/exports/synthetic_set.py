"""Synthetic sets: equally many images of each class, without copies of training images, with a data card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from modiste import files, runs
from modiste.errors import UsageError
from modiste.exports import cards, duplicates
from modiste.exports.duplicates import DuplicateSearch
from modiste.exports.options import SyntheticSetOptions
from modiste.latent import steering
from modiste.provenance import watermark
from modiste.sampling import generators, writers

Log = Callable[[str], None]


@dataclass(frozen=True)
class SyntheticSet:
    """A set on disk."""

    out: Path
    kind: str
    count: int
    card: Path
    search: DuplicateSearch
    label: tuple[int, str] | None = None
    """The number and the name of the class that all images are of; None for all classes."""


def write_set(
    run: str | Path | runs.Run,
    out: str | Path,
    options: SyntheticSetOptions | None = None,
    *,
    log: Log = lambda _: None,
    **changes: Any,
) -> SyntheticSet:
    """Write a set of a run's images and its data card; `changes` are fields of `SyntheticSetOptions`.

    Near-duplicates of training images are replaced by images of further seeds of the same class, unless
    `keep_duplicates` or `seeds` say otherwise or the training images are gone. A failure leaves nothing behind.
    """
    run, out = run if isinstance(run, runs.Run) else runs.open_run(run), Path(out)
    options = replace(options or SyntheticSetOptions(), **changes)
    kind = options.kind or writers.format_of(out)
    if kind not in writers.SET_FORMATS:
        raise UsageError(f"no format of a set is named {kind!r}; choose one of {', '.join(writers.SET_FORMATS)}")
    options = replace(options, kind=kind)
    writers.check_marks(out, kind, options.signed, options.watermark is not None)
    trained = generators.load(run, options.checkpoint, options.batch_norm)
    trained = steering.steered(run, trained, options.directions, options.checkpoint)
    seeds = _requested_seeds(options, trained)
    labels = trained.labels(options.label, seeds)
    writers.check(out, kind, trained.shape.channels, options.seeds, trained.class_names, labels)
    files.refuse_foreign_file(writers.card_place(out, kind))
    mark, measured = options.marker(), cards.records_sampled_alike(run, options)
    with files.folder_beside(out) as place:
        training, reason = None, ""
        if options.keep_duplicates:
            reason = "they were to be kept"
        elif options.seeds is not None:
            reason = "the images were chosen by their seeds"
        else:
            training, reason = duplicates.open_training_images(run, trained.shape, log)
        generate = partial(trained.sample_set, label=options.label, truncation=options.truncation)
        period = trained.shape.classes if options.label is None and trained.shape.classes else 1
        images, seeds, search = duplicates.generate_without_duplicates(
            generate, seeds, period, training, trained.source, log
        )
        search = replace(search, reason=reason)
        if options.watermark is not None:
            images = replace(images, pixels=watermark.embed(images.pixels, options.watermark))
        facts = {"Run": trained.source, "Recipe hash": run.read_manifest().recipe_hash}
        writers.fill(place, images, seeds, out, kind, mark, facts, log)
        sizes = writers.parquet_sizes(place) if kind == "huggingface" else None
        card = cards.data_card(
            run, trained, duplicates.GeneratedSet(images, seeds, search), options, out, measured, sizes
        )
        writers.write_card(place, out, kind, card)
        writers.commit(place, out, kind)
    return SyntheticSet(out, kind, len(images), writers.card_place(out, kind), search, trained.class_of(options.label))


def _requested_seeds(options: SyntheticSetOptions, trained: generators.TrainedGenerator) -> Sequence[int]:
    """The seeds that the options ask for, before near-duplicates are replaced."""
    if options.per_class is not None:
        if options.count is not None or options.seeds is not None or options.label is not None:
            raise UsageError("so many images per class say which ones; leave the count, the seeds and the class out")
        return range(trained.balanced(options.per_class))
    if options.seeds is not None and len(options.seeds):
        if options.count not in (None, len(options.seeds)):
            raise UsageError(
                f"count {options.count} and {len(options.seeds)} seeds contradict each other; give one of them"
            )
        return options.seeds
    if options.count is None or options.count < 1:
        raise UsageError(f"a set of {options.count or 0} images is none; say how many per class or in all")
    return range(options.count)
