"""Model cards and data cards: what an exported model or a synthetic set says of itself, as Markdown."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from modiste import config, environment, paths, progress, runs, subprocesses
from modiste.data import inspection
from modiste.data.images import class_folder
from modiste.data.sets import is_known_set
from modiste.environment import __version__
from modiste.evaluation import records, score_tables, sources
from modiste.evaluation.records import Record
from modiste.exports.duplicates import GeneratedSet
from modiste.exports.options import SyntheticSetOptions
from modiste.latent import steering
from modiste.sampling import discriminators, generators
from modiste.sampling.generators import TrainedGenerator
from modiste.wording import counted

PIXEL_KEYS = {"name", "classes", "resize", "resize_filter", "fit", "background", "group_by", "heldout"}
"""The keys of a recipe's section `data` that determine the pixels that a generator learned from."""
HUB_NAMES = {"fashion-mnist": "zalando-datasets/fashion_mnist", "mnist": "ylecun/mnist"}
PIXELS = "float32 in [-1, 1], N x channels x height x width; pixel = round((x + 1) * 127.5) in 0 to 255"


def published_recipe(recipe: config.Recipe) -> config.Recipe:
    """The recipe with its data's path cut to the last part, marked as a path where a known set has that name."""
    name = paths.last_part(recipe.data.name)
    name = f"./{name}" if is_known_set(name) and name != recipe.data.name else name
    ancestor = paths.last_part(recipe.finetune.ancestor) if recipe.finetune.ancestor else None
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"name": name}),
            "finetune": recipe.finetune.model_copy(update={"ancestor": ancestor}),
        }
    )


def onnx_metadata(run: runs.Run, trained: TrainedGenerator) -> dict[str, str]:
    """Origin of an ONNX file, for its metadata; `class_names` is JSON, where `modiste evaluate` looks for it."""
    recipe = run.read_recipe()
    facts = {
        "modiste.run": trained.source,
        "modiste.data": published_recipe(recipe).data.model_dump_json(include=PIXEL_KEYS),
        "modiste.recipe": recipe.name,
        "modiste.recipe_hash": config.content_hash(recipe),
        "modiste.version": __version__,
    }
    return {**facts, "class_names": json.dumps(trained.class_names)} if trained.class_names else facts


def weights_hash(content: bytes) -> str:
    """The hash by which records name the weights that they were measured on."""
    return hashlib.sha256(content).hexdigest()[:16]


def records_of(run: runs.Run, weights: str) -> dict[str, Record]:
    """The run's records that were measured on exactly the weights of that hash, by file name, metrics.json first.

    For the shipped run also those that were measured here.
    """
    places = [place for folder in run.folders for place in folder.glob("metrics*.json")]
    places.sort(key=lambda place: (place.name != "metrics.json", place.name))
    by_name = {place.name: records.read(place) for place in places}
    return {name: record for name, record in by_name.items() if record.source.get("hash") == weights}


def records_sampled_alike(run: runs.Run, options: SyntheticSetOptions) -> dict[str, Record]:
    """Those records of the run's weights whose images were sampled as the set's are, by file name."""
    if options.directions:
        return {}
    weights = run.path / generators.CHECKPOINTS[options.checkpoint]
    return {
        name: record
        for name, record in records_of(run, weights_hash(weights.read_bytes())).items()
        if record.source.get("truncation") == options.truncation
        and record.source.get("batch_norm_statistics", "running") == options.batch_norm
    }


def model_card(
    run: runs.Run,
    trained: TrainedGenerator,
    checkpoint: str,
    measured: Mapping[str, Record],
    difference: int,
    compared: int,
    *,
    onnx: bool = True,
) -> str:
    """The model card, with a head that model hubs read; without `onnx` that of a pretrained run.

    Pixels of `compared` seeds differ by at most `difference` of 255 from the network's own.
    """
    recipe, manifest = run.read_recipe(), run.read_manifest()
    if manifest.pretrained:
        checkpoint = manifest.pretrained.checkpoint
    return _render(
        "model_card.md",
        [record for record in measured.values() if records.is_usual(record)],
        name=trained.source,
        recipe=recipe,
        recipe_hash=manifest.recipe_hash or config.content_hash(recipe),
        recipe_toml=config.to_toml(published_recipe(recipe)).strip(),
        command=paths.published_command(manifest.command),
        manifest=manifest,
        ancestors=_ancestors(manifest),
        duration=progress.duration(manifest.seconds),
        shown=sources.images_shown(run, run.path / generators.CHECKPOINTS[checkpoint]) or 0,
        checkpoint=checkpoint,
        hub_name=HUB_NAMES.get(recipe.data.name),
        shape=trained.shape,
        z_dim=trained.z_dim,
        classes=trained.class_names,
        alarms=_alarms(measured.values()),
        limits=inspection.limits_of_data(manifest.data.name, bool(trained.shape.classes)),
        difference=difference,
        compared=compared,
        pixels=PIXELS,
        version=__version__,
        onnx=onnx,
        discriminator=not onnx and discriminators.is_kept(run),
        discriminator_note="" if onnx else discriminators.read_note(run),
        directions=not onnx and steering.are_kept(run.path, trained),
        pretrained=runs.PRETRAINED,
        word=shlex.quote(trained.source),
        class_word=shlex.quote(trained.class_names[-1]) if trained.class_names else "",
    )


def data_card(
    run: runs.Run,
    trained: TrainedGenerator,
    generated: GeneratedSet,
    options: SyntheticSetOptions,
    out: Path,
    measured: Mapping[str, Record],
    sizes: tuple[int, int] | None = None,
) -> str:
    """The data card of a set; `sizes` (of its file, packed and unpacked) are for the head of a Hugging Face set."""
    images, seeds, search = generated
    counts = None
    if images.labels is not None:
        by_label = np.bincount(images.labels, minlength=len(images.class_names))
        counts = [
            {"number": number, "name": name, "folder": class_folder(name, number), "count": int(count)}
            for number, (name, count) in enumerate(zip(images.class_names, by_label, strict=True))
        ]
    weights, manifest = run.path / generators.CHECKPOINTS[options.checkpoint], run.read_manifest()
    name = paths.normalised(run.path).name
    word = run.path.name if run.shipped else paths.short_path(run.path)
    recipe = run.read_recipe()
    return _render(
        "data_card.md",
        list(measured.values()),
        title=f"{counted(len(images))} by {name}",
        run=name,
        word=word,
        recipe=recipe,
        recipe_hash=manifest.recipe_hash or config.content_hash(recipe),
        manifest=manifest,
        ancestors=_ancestors(manifest),
        weights=weights.name,
        weights_hash=weights_hash(weights.read_bytes()),
        shape=trained.shape,
        classes_alternate=options.label is None and trained.shape.classes > 1,
        normalised=bool(generators.batch_norms(trained.network)),
        alarms=_alarms(measured.values()),
        limits=inspection.limits_of_data(manifest.data.name, bool(trained.shape.classes)),
        versions=environment.describe_machine(),
        count=len(images),
        counts=counts,
        seeds=format_seeds(seeds) if options.seeds is not None else f"{seeds[0]:,} to {seeds[-1]:,}",
        search=search,
        options=options,
        file=out.name,
        again=sample_command(options, word, out),
        evaluate=subprocesses.printable(["evaluate", word, *_sampling_words(options)]),
        sizes=sizes,
    )


def sample_command(options: SyntheticSetOptions, run: str, out: Path) -> str:
    """The command that writes the set again, without the secrets of watermarks and signatures."""
    words: list[str] = []
    for option, value in (("per-class", options.per_class), ("count", options.count), ("class", options.label)):
        words += [] if value is None else [f"--{option}", str(value)]
    if options.seeds is not None:
        words += ["--seeds", format_seeds(options.seeds)]
    words += _sampling_words(options)
    words += [word for step in steering.words(options.directions).split() for word in ("--direction", step)]
    words += ["--keep-duplicates"] if options.keep_duplicates else []
    words += ["--format", str(options.kind), "--out", paths.normalised(out).name]
    return subprocesses.printable(["sample", run, *words])


def _sampling_words(options: SyntheticSetOptions) -> list[str]:
    """The options, which `modiste evaluate` has too, that say how the generator is sampled."""
    words = ["--checkpoint", "best"] if options.checkpoint == "best" else []
    words += [] if options.truncation is None else ["--truncation", str(options.truncation)]
    return words + (["--batch-norm", "standing"] if options.batch_norm == "standing" else [])


def format_seeds(seeds: Sequence[int]) -> str:
    """Seeds as `generators.parse_seeds` reads them, as `0-63,70`."""
    starts = [k for k in range(len(seeds)) if not k or seeds[k] != seeds[k - 1] + 1]
    ends = [*(k - 1 for k in starts[1:]), len(seeds) - 1]
    return ",".join(str(seeds[a]) if a == b else f"{seeds[a]}-{seeds[b]}" for a, b in zip(starts, ends, strict=True))


def _ancestors(manifest: runs.Manifest) -> list[Mapping[str, Any]]:
    """The run that the training started from, that from which it started, and so on."""
    found: list[Mapping[str, Any]] = [] if manifest.ancestor is None else [asdict(manifest.ancestor)]
    while found and found[-1]["ancestor"]:
        found.append(found[-1]["ancestor"])
    return found


def _alarms(measured: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(alarm for record in measured for alarm in record.alarms))


def _render(template_name: str, measured: Sequence[Record], **facts: Any) -> str:
    """A template of this package with these facts and the tables of these records."""
    import jinja2

    templates = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    template = templates.from_string(Path(__file__).with_name(template_name).read_text(encoding="utf-8"))
    return template.render(tables=score_tables.described(measured), legend=score_tables.LEGEND, **facts)
