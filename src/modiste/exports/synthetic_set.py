"""A set of generated images to hand on: as many of each class, without copies of training images, with a data card."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modiste import environment, files, paths, runs
from modiste.data import inspection
from modiste.data.images import Images, class_folder, content_digest
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import score_tables
from modiste.exports import model
from modiste.metrics import memorisation, suite
from modiste.metrics.nearest_neighbours import nearest
from modiste.networks.layers import ImageShape
from modiste.provenance import c2pa, metadata
from modiste.provenance import watermark as watermarks
from modiste.sampling import generators, writers

BLOCK = 64 * generators.CHUNK
MOST_TRIED = 4
"""Times as many images as asked for are made at most, to replace near-duplicates."""

Say = Callable[[str], None]
Make = Callable[..., Images]


@dataclass(frozen=True)
class Order:
    """What a set is to be, as `write_set` was asked for it."""

    kind: str
    per_class: int | None
    count: int | None
    seeds: Sequence[int] | None
    label: int | str | None
    truncation: float | None
    checkpoint: Literal["last", "best"]
    batch_norm: generators.Statistics
    keep_duplicates: bool
    watermarked: bool
    signed: bool
    """Whether the PNG files are signed (C2PA)."""


class Originals(NamedTuple):
    """The training images of a generator, and how near to them is too near."""

    rows: NDArray[np.float32]
    """Their pixels [M, D], black 0, white 1, at the generator's shape."""
    shape: ImageShape
    threshold: float
    """The Euclidean distance up to which an image is a near-duplicate."""
    heldout: str
    """The unseen real images that the threshold comes from; empty where there are none: it is 0 then."""
    heldout_count: int
    unseen_share: float
    """The share of these that lie as near: 0.01 of many."""


@dataclass(frozen=True)
class Search:
    """What the search for near-duplicates of training images found."""

    originals: Originals | None
    reason: str = ""
    """Why there was none; empty where there was."""
    tried: int = 0
    """Images that were made."""
    removed: tuple[int, ...] = ()
    """Seeds of those that were removed and replaced."""
    exact: int = 0
    """How many of these were equal to a training image."""


@dataclass(frozen=True)
class Written:
    """A set on disk."""

    out: Path
    kind: str
    count: int
    card: Path
    search: Search
    label: tuple[int, str] | None = None
    """The number and the name of the class that all images are of; None for all classes."""


def write_set(
    run: str | Path | runs.Run,
    out: str | Path,
    *,
    kind: str | None = None,
    per_class: int | None = None,
    count: int | None = None,
    seeds: Sequence[int] | None = None,
    label: int | str | None = None,
    truncation: float | None = None,
    checkpoint: Literal["last", "best"] = "last",
    batch_norm: generators.Statistics = "running",
    keep_duplicates: bool = False,
    watermark: str | None = None,
    sign: bool = False,
    certificate: Path | None = None,
    private_key: Path | None = None,
    say: Say = lambda _: None,
) -> Written:
    """Write a set of a run's images and its data card, in one of `formats.FORMATS` (by default the one `out` asks for).

    `per_class` images of every class, or `count` in all (classes in turn, or all of `label`), or those of `seeds`.
    Near-duplicates of training images are replaced by images of further seeds of the same class, unless
    `keep_duplicates` or `seeds` say otherwise or the training images are gone. A failure leaves nothing behind.
    """
    run, out = run if isinstance(run, runs.Run) else runs.open_run(run), Path(out)
    kind, signed = kind or writers.format_of(out), sign or certificate is not None or private_key is not None
    writers.check_marks(out, kind, signed, watermark is not None)
    order = Order(kind, per_class, count, seeds, label, truncation, checkpoint, batch_norm, keep_duplicates,
                  watermark is not None, signed)  # fmt: skip
    trained = generators.load(run, checkpoint, batch_norm)
    wanted = _wanted(order, trained)
    labels = trained.labels(label, wanted)
    writers.check(out, kind, trained.shape.channels, seeds, trained.class_names, labels)
    files.refuse_foreign_file(writers.card_place(out, kind))
    mark = c2pa.make_signer(certificate, private_key) if signed else metadata.stamp
    facts = _facts_of_run(run, trained, order)
    with files.folder_beside(out) as place:
        originals, reason = _originals(run, trained.shape, order, say)
        make = partial(trained.sample_set, label=label, truncation=truncation)
        images, used, search = choose(make, wanted, _turns(order, trained), originals, trained.source, say)
        if watermark is not None:
            images = replace(images, pixels=watermarks.embed(images.pixels, watermark))
        told = {"Run": trained.source, "Recipe hash": str(facts["recipe_hash"])}
        writers.fill(place, images, used, out, kind, mark, told, say)
        search = replace(search, reason=reason)
        sizes = writers.parquet_sizes(place) if kind == "huggingface" else None
        writers.write_card(place, out, kind, card(images, used, search, order, out, {**facts, "sizes": sizes}))
        writers.commit(place, out, kind)
    return Written(out, kind, len(images), writers.card_place(out, kind), search, trained.class_of(label))


def _wanted(order: Order, trained: generators.TrainedGenerator) -> Sequence[int]:
    """The seeds that are asked for, before any near-duplicate among them is replaced."""
    if order.per_class is not None:
        if order.count is not None or order.seeds is not None or order.label is not None:
            raise UsageError("so many images per class say which ones; leave the count, the seeds and the class out")
        return range(trained.balanced(order.per_class))
    if order.seeds is not None and len(order.seeds):
        if order.count not in (None, len(order.seeds)):
            raise UsageError(
                f"count {order.count} and {len(order.seeds)} seeds contradict each other; give one of them"
            )
        return order.seeds
    if order.count is None or order.count < 1:
        raise UsageError(f"a set of {order.count or 0} images is none; say how many per class or in all")
    return range(order.count)


def _turns(order: Order, trained: generators.TrainedGenerator) -> int:
    """The number of classes where they take turns with the seeds, else 1."""
    return trained.shape.classes if order.label is None and trained.shape.classes else 1


# near-duplicates


def _originals(run: runs.Run, shape: ImageShape, order: Order, say: Say) -> tuple[Originals | None, str]:
    """The training images, or none and why near-duplicates of them are not searched for."""
    if order.keep_duplicates:
        return None, "they were to be kept"
    if order.seeds is not None:
        return None, "the images were chosen by their seeds"
    used = run.read_recipe().data
    try:
        train = open_data(used)
        part: Part | None = "test" if has_test(used) else "heldout" if used.split == "fit" else None
        unseen = open_data(used, part=part) if part else None
    except ModisteError as error:
        say(f"near-duplicates of training images are not searched for: {error}")
        return None, "the training images could not be opened when the set was made"
    if content_digest(train) != run.read_manifest().data.digest:
        say(f"near-duplicates of training images are not searched for: {train.name} holds other images now")
        return None, "the training images had been changed or replaced when the set was made"
    rows = suite.flat(train, shape)
    if unseen is None:
        return Originals(rows, shape, 0.0, "", 0, 0.0), ""
    say(f"how near {unseen.name} comes to {train.name}")
    distances = suite.unseen_to_train(train, unseen, shape)
    threshold = memorisation.near_threshold(distances)
    share = float((np.asarray(distances) <= threshold).mean())
    return Originals(rows, shape, threshold, unseen.name, len(unseen), share), ""


def choose(
    make: Make, seeds: Sequence[int], turns: int, originals: Originals | None, source: str, say: Say
) -> tuple[Images, list[int], Search]:
    """The images of these seeds, near-duplicates replaced by ones of further seeds; the seeds; what was found.

    Without originals nothing is replaced. A replacement is of the first unused seed k with the same k modulo `turns`.
    ModisteError when more than MOST_TRIED times as many images would have to be made.
    """
    following = [len(seeds) + (turn - len(seeds)) % turns for turn in range(turns)]
    parts: list[Images] = []
    kept: list[int] = []
    removed: list[int] = []
    exact, todo = 0, list(seeds)
    while todo:
        if len(kept) + len(removed) + len(todo) > MOST_TRIED * len(seeds) + 100:
            raise ModisteError(
                f"{source} copies: {len(removed):,} of its {len(kept) + len(removed):,} images are near-duplicates of "
                f"training images, so {len(seeds):,} others are not to be had; keep them with --keep-duplicates, or "
                "train a generator that copies less"
            )
        images, distances = _made(make, todo, originals, say)
        near = distances <= (originals.threshold if originals else -1.0)
        if not near.all():
            parts.append(images.select(~near))
        exact += int((distances == 0).sum())
        kept += [seed for seed, gone in zip(todo, near, strict=True) if not gone]
        again = [seed for seed, gone in zip(todo, near, strict=True) if gone]
        removed, todo = removed + again, []
        for seed in again:
            todo.append(following[seed % turns])
            following[seed % turns] += turns
    images = _joined(parts)
    search = Search(originals, tried=len(kept) + len(removed), removed=tuple(sorted(removed)), exact=exact)
    if not removed:
        return images, kept, search
    order = np.argsort(kept)
    return images.select(order), [kept[k] for k in order], search


def _made(
    make: Make, seeds: Sequence[int], originals: Originals | None, say: Say
) -> tuple[Images, NDArray[np.float64]]:
    """Images of these seeds with their distances [N] to the nearest training image, endless where none are known."""
    parts, distances = [], []
    for start in range(0, len(seeds), BLOCK):
        images = make(seeds=seeds[start : start + BLOCK])
        far = np.full(len(images), np.inf)
        if originals:
            far = nearest(suite.flat(images, originals.shape), originals.rows).distances[:, 0]
        parts.append(images)
        distances.append(far)
        if len(seeds) > BLOCK:
            compared = " and compared with the training images" if originals else ""
            say(f"{start + len(images):,} of {len(seeds):,} images made{compared}")
    return _joined(parts), np.concatenate(distances)


def _joined(parts: Sequence[Images]) -> Images:
    labels = [part.labels for part in parts if part.labels is not None]
    pixels = np.concatenate([part.pixels for part in parts])
    return replace(parts[0], pixels=pixels, labels=np.concatenate(labels) if labels else None)


# the card


def _facts_of_run(run: runs.Run, trained: generators.TrainedGenerator, order: Order) -> dict[str, Any]:
    """What the card says of the generator, with the scores that were measured on it as it is sampled here."""
    weights = run.path / generators.CHECKPOINTS[order.checkpoint]
    weights_hash = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    measured = [
        record
        for record in model.measurements(run, weights_hash).values()
        if record.source.get("truncation") == order.truncation
        and record.source.get("batch_norm_statistics", "running") == order.batch_norm
    ]
    return {
        "run": paths.normalised(run.path).name,
        "typed": run.path.name if run.shipped else paths.short_path(run.path),
        "recipe": run.read_recipe(),
        "recipe_hash": run.read_manifest().recipe_hash,
        "manifest": run.read_manifest(),
        "weights": weights.name,
        "weights_hash": weights_hash,
        "shape": trained.shape,
        "turns": _turns(order, trained) > 1,
        "normalised": bool(generators.batch_norms(trained.network)),
        "tables": score_tables.described(measured),
        "legend": score_tables.LEGEND,
        "alarms": list(dict.fromkeys(alarm for record in measured for alarm in record.alarms)),
        "limits": inspection.limits_of_data(run.read_manifest().data.name, bool(trained.shape.classes)),
        "versions": environment.describe_machine(),
    }


def card(images: Images, seeds: Sequence[int], search: Search, order: Order, out: Path, facts: dict[str, Any]) -> str:
    """The data card as Markdown; that of a Hugging Face set (`sizes` among the facts) has its features in the head."""
    import jinja2

    counts = None
    if images.labels is not None:
        each = np.bincount(images.labels, minlength=len(images.class_names))
        counts = [
            {"number": number, "name": name, "folder": class_folder(name, number), "count": int(of)}
            for number, (name, of) in enumerate(zip(images.class_names, each, strict=True))
        ]
    templates = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    template = templates.from_string(Path(__file__).with_name("data_card.md").read_text(encoding="utf-8"))
    return template.render(
        title=f"{len(images):,} images by {facts['run']}",
        count=len(images),
        counts=counts,
        seeds=spans(seeds) if order.seeds is not None else f"{seeds[0]:,} to {seeds[-1]:,}",
        search=search,
        order=order,
        file=out.name,
        again=command(order, facts["typed"], out),
        evaluate=shlex.join(["modiste", "evaluate", facts["typed"], *_sampling(order)]),
        **facts,
    )


def command(order: Order, run: str, out: Path) -> str:
    """What to type to make the set again; keys of watermarks and signatures are nobody's business."""
    which: list[str] = []
    for option, value in (("per-class", order.per_class), ("count", order.count), ("class", order.label)):
        which += [] if value is None else [f"--{option}", str(value)]
    if order.seeds is not None:
        which += ["--seeds", spans(order.seeds)]
    keep = ["--keep-duplicates"] if order.keep_duplicates else []
    return shlex.join(["modiste", "sample", run, *which, *_sampling(order), *keep, "--format", order.kind,
                       "--out", paths.normalised(out).name])  # fmt: skip


def _sampling(order: Order) -> list[str]:
    """The options, which `modiste evaluate` has too, that say how the generator is sampled."""
    options = ["--checkpoint", "best"] if order.checkpoint == "best" else []
    options += [] if order.truncation is None else ["--truncation", str(order.truncation)]
    return options + (["--batch-norm", "standing"] if order.batch_norm == "standing" else [])


def spans(seeds: Sequence[int]) -> str:
    """Seeds as `sample.parse_seeds` reads them, as `0-63,70`."""
    starts = [k for k in range(len(seeds)) if not k or seeds[k] != seeds[k - 1] + 1]
    ends = [*(k - 1 for k in starts[1:]), len(seeds) - 1]
    return ",".join(str(seeds[a]) if a == b else f"{seeds[a]}-{seeds[b]}" for a, b in zip(starts, ends, strict=True))
