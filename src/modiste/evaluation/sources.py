"""Sources of images to evaluate: a run, a checkpoint, an .npz file, a folder of pictures by any tool, an ONNX model.

Images of other tools are never rescaled to their own darkest and brightest value; a warning names what looks as if it
had lost something (compression, brightness, range).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from modiste import config, runs
from modiste.data import folders, idx, image_files, notes, npz, readers
from modiste.data.classes import is_balanced, label_of, labelled
from modiste.data.images import Images, Pixels, Split, content_digest, to_pixels
from modiste.data.sets import list_warnings
from modiste.data.subsets import drawn_subset
from modiste.errors import ModisteError, UsageError
from modiste.evaluation.class_matching import AS_IN_REFERENCE, IN_EQUAL_SHARES, counts_of
from modiste.evaluation.options import EvaluateOptions
from modiste.sampling import generators, onnx_models
from modiste.wording import counted

KINDS = "a run folder, a checkpoint inside one, an .npz file, a folder of pictures or an .onnx generator"
IMAGE_KEYS = (*npz.STANDARD_NAMES["images"]["train"], *npz.STANDARD_NAMES["images"]["test"], "arr_0")
CHECKPOINT_FILES = (".safetensors", ".pt")
FEW_IMAGES = 50
RANGE_SLACK = 1e-3  # how far beyond 0, 1 or -1 rounding may carry a float


@dataclass(frozen=True)
class Source:
    """Images to evaluate, with the facts that the record has about them."""

    name: str
    images: Images
    """Labelled where the generator was asked for classes or the files have labels; see `class_matching`."""
    facts: dict[str, Any]
    """JSON values; only what applies."""
    warnings: tuple[str, ...] = ()
    """Sentences for the user."""
    run: runs.Run | None = None
    """The run the images come from."""
    more: Callable[[range], Images] | None = None
    """Images of other seeds, sampled as these were, where they come from a run."""


@dataclass(frozen=True)
class Origin:
    """Kind and place of what is to be evaluated, before its images are made or read."""

    kind: Literal["run", "checkpoint", "npz", "folder", "onnx"]
    path: Path
    name: str
    run: runs.Run | None = None
    data: dict[str, Any] | None = None
    """What an ONNX model learned from, by its own account: keys of the recipe's section."""


def origin(what: str | Path) -> Origin:
    """The kind of WHAT, and the run that it is or lies in; UsageError where it cannot be evaluated."""
    if not str(what):  # which would be the folder that one is in
        raise UsageError(f"the name of what to evaluate is empty; give {KINDS}")
    path = readers.expanded(what)
    if run := runs.find_run(path):
        return Origin("run", path, run.path.absolute().name, run)
    if not path.exists():
        raise UsageError(f"{path} does not exist; give {KINDS}")
    if path.is_dir():
        return Origin("folder", path, path.absolute().name)
    if npz.is_npz(path):
        return Origin("npz", path, path.stem)
    if path.suffix == ".onnx":
        return Origin("onnx", path, path.stem, data=onnx_models.load(path).data)
    if path.suffix not in CHECKPOINT_FILES:
        raise UsageError(f"{path} is not a kind of file that can be evaluated; give {KINDS}")
    folder = path.absolute().parent
    folder = folder.parent if path.suffix == ".pt" else folder
    if not runs.exists(folder):
        raise UsageError(f"{path} is not inside a run folder, which says how to build its network; give {KINDS}")
    return Origin("checkpoint", path, folder.name, runs.Run(folder))


def open_source(what: str | Path, options: EvaluateOptions, *, like: Images | None = None) -> Source:
    """The images of WHAT: a run folder, a checkpoint, an .npz file, a folder of pictures, an ONNX model.

    A generator makes `count` images from the seeds seed * count, seed * count + 1, ..., so that different `seed`s never
    share a noise; each of its classes comes as often as in `like`, the images that it is compared with, and in turn
    where that has none. From a file or folder with more than `count` images so many are drawn without replacement, the
    same share of each class where there are labels; `seed` chooses which. One with fewer gives all, with a warning.
    """
    count, seed = options.count, options.seed
    if count < 1 or seed < 0:
        raise UsageError(f"count {count} and seed {seed} are not possible; count starts at 1 and seed at 0")
    place = origin(what)
    path = place.path
    if (options.truncation is not None or options.batch_norm != "running") and place.run is None:
        raise UsageError(
            f"truncation and batch-norm statistics are a run's to choose, and {path} is none; leave them out"
        )
    if options.checkpoint != "last" and place.kind != "run":
        raise UsageError(f"checkpoint {options.checkpoint!r} belongs to a run folder, and {path} is none; leave it out")
    if place.run:
        return _from_run(place, place.run, options, like)
    if place.kind == "onnx":
        return _from_onnx(path, _seeds(options), like)
    return _from_npz(path, count, seed) if place.kind == "npz" else _from_folder(path, count, seed)


def _seeds(options: EvaluateOptions) -> range:
    return range(options.seed * options.count, (options.seed + 1) * options.count)


def unevenness(source: Source, classes: str, real: Images) -> list[str]:
    """A warning where the classes come in other shares than in the reference; `classes` is `shares`' text."""
    if classes in (IN_EQUAL_SHARES, AS_IN_REFERENCE):
        return []
    return [f"the classes of {source.name} come otherwise than in {real.name} ({classes}), which is part of every "
            "distance; make or choose as many of each class as there"]  # fmt: skip


def scarcity(source: Source, real: Images) -> list[str]:
    """A warning where a score of so few images says little."""
    counts = {source.name: len(source.images), real.name: len(real)}
    few = [f"{name} ({counted(count)})" for name, count in counts.items() if count < FEW_IMAGES]
    return [f"too little for scores to be relied upon: {' and '.join(few)}; read them beside their errors and what "
            "real images get"] if few else []  # fmt: skip


def unlike(source: Source, real: Images, named: bool) -> list[str]:
    """A warning where images seem to imitate another data set than the reference, or lack or lose its colours.

    UsageError for colour against grey where no data set was named. A run, and an ONNX model that says what it learned
    from, need no sentence for another size.
    """
    made, reference = source.images.pixels, real.pixels
    if named or "data" in source.facts:
        if _coloured(made) and reference.shape[1] == 1:
            return [f"{source.name} has images in colour and {real.name} grey ones: they are measured as grey ones, "
                    "and no score is of their colours"]  # fmt: skip
        if made.shape[1] == 1 and reference.shape[1] == 3:
            return [f"{source.name} has grey images and {real.name} images in colour, which they are measured against"]
        return []
    if made.shape[1:] == reference.shape[1:]:
        return []
    own, other = f"{source.name} has {_kind(made)} images", f"{real.name}, {_kind(reference)}"
    if made.shape[1] > reference.shape[1]:
        raise UsageError(f"{own}, which are not of the kind of {other}; name the data set they imitate with --data")
    return [f"{own} and is measured against {other}; if they imitate another data set, name it with --data"]


def _coloured(pixels: Pixels) -> bool:
    return pixels.shape[1] == 3 and bool((pixels[:, :1] != pixels).any())


def _kind(pixels: Pixels) -> str:
    return f"{'colour' if pixels.shape[1] == 3 else 'grey'} {pixels.shape[3]} x {pixels.shape[2]}"


# generators


def _loaded(
    run: runs.Run, checkpoint: str, batch_norm: generators.Statistics, file: Path
) -> tuple[generators.TrainedGenerator, str]:
    """The generator of this file and the hash of the same content, also while a training replaces the file."""
    before, now = "", "?"
    while before != now:
        before = _hash(file)
        generator = generators.load(run, checkpoint, batch_norm)
        now = _hash(file)
    return generator, now


def _hash(file: Path) -> str:
    """Of its content; empty where there is no such file, for which `generators.load` raises an error."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _from_run(place: Origin, run: runs.Run, options: EvaluateOptions, like: Images | None) -> Source:
    path = place.path
    if place.kind == "run":
        checkpoint: str = options.checkpoint
        file = run.path / generators.CHECKPOINTS[checkpoint]
    else:
        file = path.absolute()
        checkpoint = str(file.relative_to(run.path))
    generator, content_hash = _loaded(run, checkpoint, options.batch_norm, file)
    recipe, manifest, warnings = run.read_recipe(), run.read_manifest(), []
    facts: dict[str, Any] = {
        "checkpoint": file.name,
        "hash": content_hash[:16],
        "weights": "ema" if recipe.train.ema_halflife_images else "raw",
        **({"kept_as": "float16"} if run.is_pretrained() else {}),
    }
    if generators.batch_norms(generator.network):
        standing = f"standing statistics of {generators.STANDING_BATCHES} batches of {generators.CHUNK}"
        facts["batch_norm"] = standing if options.batch_norm == "standing" else "running statistics"
        facts["batch_norm_statistics"] = options.batch_norm
    shown = images_shown(run, file)
    if shown is not None:
        facts["images_shown"] = shown
    facts["recipe"] = {"name": recipe.name, "hash": config.content_hash(recipe)}
    facts["data"] = {"name": manifest.data.name, "digest": manifest.data.digest}
    if manifest.ancestor:
        facts["ancestor"] = asdict(manifest.ancestor)
    if place.kind == "run" and manifest.status != "finished":
        warnings.append(f"the training of {path} is not finished (status {manifest.status}); this is what "
                        f"its checkpoint {file.name} makes now")  # fmt: skip
    if run.shipped and path.exists():
        warnings.append(f"{path} is the generator that ships with Modiste; to measure the {path} that lies here and "
                        "is no run, give its full path")  # fmt: skip

    counts = counts_of(generator.class_names, like)

    def make(seeds: range) -> Images:
        return generator.sample_set(seeds=seeds, truncation=options.truncation, class_counts=counts)

    images = make(_seeds(options))
    facts |= _noise(_seeds(options), images, counts)
    facts |= {} if options.truncation is None else {"truncation": options.truncation}
    return replace(_source(place.kind, path, place.name, images, facts, warnings), run=run, more=make)


def images_shown(run: runs.Run, file: Path) -> int | None:
    """How many training images the checkpoint has seen, where the run folder tells."""
    manifest = run.read_manifest()
    if manifest.pretrained:
        return manifest.pretrained.images_shown
    if file.suffix == ".pt":
        images = file.name.partition("-")[0]
        return int(images) if images.isdecimal() else None
    if file.name == generators.CHECKPOINTS["best"]:
        return manifest.best.images if manifest.best else None
    last = runs.read_last_record(run)
    return int(last["images"]) if last else None


def _noise(seeds: range, images: Images, counts: tuple[int, ...] | None) -> dict[str, Any]:
    noise = {"seeds": f"{seeds[0]:,} to {seeds[-1]:,}", "noise": "standard normal, one stream per seed"}
    if images.labels is None:
        return noise
    turns = "seed modulo the number of classes" if counts is None or is_balanced(counts) else AS_IN_REFERENCE
    return noise | {"classes": turns}


def _from_onnx(path: Path, seeds: range, like: Images | None) -> Source:
    generator = onnx_models.load(path)
    labels, counts = None, counts_of(generator.class_names, like)
    if generator.class_names:
        labels = label_of(seeds, counts or [1] * len(generator.class_names))
    noise = generators.seed_noise(seeds, generator.z_dim).numpy()
    output = npz.channels_first(generator.run(noise, labels), f"the output of {path.name}")
    pixels, warning = _quantised(output, f"the output of {path.name}", signed=True)
    images = Images(pixels, labels, generator.class_names, f"generated by {path.name}")
    facts: dict[str, Any] = {"hash": generator.fingerprint, **_noise(seeds, images, counts)}
    if generator.data:
        facts["data"] = generator.data
    return _source("onnx", path, path.stem, images, facts, [*generator.warnings, *warning])


# files


def _from_npz(path: Path, count: int, seed: int) -> Source:
    with npz.open_npz(path) as archive:
        part: Split = "train" if npz.find_images(archive, path, "train") else "test"
        key = npz.find_images(archive, path, part)
        if key is None:
            raise UsageError(f"{path} has no images: its keys are {', '.join(archive.files) or 'none'}; "
                             f"name the array one of {', '.join(IMAGE_KEYS)}")  # fmt: skip
        array = npz.channels_first(npz.read_array(archive, key, path), f"{path.name}[{key}]")
        label_key = npz.find_labels(archive, path, part, len(array))
        labels = npz.read_array(archive, label_key, path) if label_key else None
        names = npz.read_class_names(archive, path)
        seen = npz.array_notes(archive, path, key, label_key, len(array))
    if not len(array):
        raise UsageError(f"{path.name}[{key}] holds no images; check how it was written")
    pixels, warnings = _quantised(array, f"{path.name}[{key}]", signed=False)
    images = labelled(pixels, labels, names, path.stem)
    unread = tuple(one for one in seen if not isinstance(one, notes.ReadFrom))  # what was read is among the facts
    images = replace(images, notes=unread)
    images = images.select(drawn_subset(len(images), images.labels, count, seed))
    warnings += _suspicions(images)
    which = {"key": key, **({"labels_key": label_key} if label_key else {})}
    return _source("npz", path, path.stem, images, {**which, **_share(len(array), count, seed)}, warnings)


def _from_folder(path: Path, count: int, seed: int) -> Source:
    name = path.absolute().name
    if idx.idx_file(path, "train", "images") is not None:
        images = idx.read_idx_folder(path, "train")
        total, warnings = len(images), []
        images = images.select(drawn_subset(total, images.labels, count, seed))
    else:
        if not any(map(image_files.is_picture, path.rglob("*"))):
            raise UsageError(f"{path} holds no pictures and is no run; give {KINDS}")
        files, labels, names, unread = folders.list_folder(path, "train")
        total, chosen = len(files), drawn_subset(len(files), labels, count, seed)
        files, labels = [files[k] for k in chosen], None if labels is None else labels[chosen]
        warnings = _lossy(files)
        pixels, done = image_files.read_pixels(files)
        images = Images(pixels, labels, names, name, (*unread, *done))
    warnings += _suspicions(images)
    return _source("folder", path, name, images, _share(total, count, seed), warnings)


def _share(total: int, count: int, seed: int) -> dict[str, Any]:
    return {"drawn_from": total, "draw_seed": seed} if total > count else {"asked": count} if total < count else {}


def _quantised(array: NDArray[Any], place: str, *, signed: bool) -> tuple[Pixels, list[str]]:
    """Pixels uint8 from uint8, or from floats in [0, 1] or [-1, 1] by a fixed rule, and what to say about it.

    `signed`: [-1, 1] is what is expected and needs no word.
    """
    if array.dtype == np.uint8:
        return array, []
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{place} holds {array.dtype}, whose range is unknown; save uint8 pixels from 0 to 255")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1 - RANGE_SLACK and high <= 1 + RANGE_SLACK):  # also where either is not a number
        raise UsageError(f"{place} holds floats from {low:.4g} to {high:.4g}, neither in [0, 1] nor in [-1, 1]; "
                         "save uint8 pixels from 0 to 255")  # fmt: skip
    below = low < -RANGE_SLACK
    if below:
        pixels = to_pixels(torch.from_numpy(array.astype(np.float32))).numpy()
    else:
        pixels = np.round(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    if signed and below:
        return pixels, []
    assumed = "-1 to 1" if below else "0 to 1"
    return pixels, [f"{place} holds floats from {low:.4g} to {high:.4g}, taken for the range {assumed} and rounded to "
                    "whole numbers from 0 to 255; save uint8 pixels to be sure"]  # fmt: skip


def _lossy(files: list[Path]) -> list[str]:
    """A warning that counts the files whose format changes pixels, judged by their content."""
    formats = Counter(kind for file in files if (kind := _lossy_format(file)))
    if not formats:
        return []
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in formats.most_common())
    return [f"{formats.total():,} of {len(files):,} files lose detail ({kinds}); compression changes features, "
            "so save PNG"]  # fmt: skip


def _lossy_format(file: Path) -> str | None:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModisteError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"GIF8"):
        return "GIF"
    return "lossy WebP" if content.startswith(b"RIFF") and b"WEBP" in content[:12] and b"VP8L" not in content else None


def _suspicions(images: Images) -> list[str]:
    """Warnings about files that were not read, a changed brightness, and images that are not square."""
    warnings = list_warnings(images)
    height, width = images.pixels.shape[2:]
    if height != width:
        warnings.append(f"the images of {images.name} are {width} x {height} pixels and are stretched to a square")
    return warnings


def _source(
    kind: str,
    path: Path,
    name: str,
    images: Images,
    facts: dict[str, Any],
    warnings: list[str],
) -> Source:
    digest = content_digest(images)[:16]
    if "asked" in facts:
        warnings = [f"{path} holds {len(images):,} images and {facts['asked']:,} were asked for; "
                    f"scores are computed on {len(images):,} and say so", *warnings]  # fmt: skip
    head = {"kind": kind, "path": str(path), "hash": digest, "count": len(images)}
    size = {"size": list(images.pixels.shape[1:]), "pixels": digest, "labelled": images.labels is not None}
    return Source(name, images, {**head, **size, **facts}, tuple(warnings))
