"""A trained generator to hand on: as ONNX for other programs, or as a small run folder for Modiste itself.

    FOLDER/generator.onnx         noise [N, z_dim] (and labels [N] int64) -> images [N, C, H, W], float32 in [-1, 1]
           generator.safetensors  the weights of the run
           generator.json         how to build the network for them
           README.md              the model card, which model hubs show
           grid.png               its picture

A pretrained run has its weights in float16, recipe.toml, manifest.json and the records of its scores instead of model
and picture. Every folder is made beside its place, what lies in it is compared with the network, and only then it is
renamed.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import io
import json
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from modiste import config, progress, runs
from modiste import files as safe_files
from modiste.data import inspection
from modiste.data.images import to_pixels
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records, sources
from modiste.exports.cards import published_recipe
from modiste.networks.build import Shape
from modiste.paths import last_part, without_paths
from modiste.sampling import generators, onnx_models, writers
from modiste.version import __version__

FILES = ("README.md", "generator.json", "generator.onnx", "generator.safetensors", "grid.png")
PRETRAINED_FILES = ("README.md", "generator.json", "generator.safetensors", "manifest.json", "recipe.toml")
MEASURED_FILES = ("metrics*.json", "audit-worst*.png")
ONNX_MEASURED_FILES = ("generator.metrics*.json", "generator.audit-worst*.png")
OPSET = 17
"""Old enough for every onnxruntime that the extra `onnx` allows, and for browsers; no generator needs a newer one."""
COMPARED = 64
TOLERANCE = 1
"""Of 255: two programs add up the same products in another order, and a sum beside a half rounds to either side."""
SEEN = {"name", "resize", "resize_filter", "fit", "background", "group_by", "heldout"}
"""The keys of a recipe's section `data` by which the pixels are known that a generator learned from."""
HUB_NAMES = {"fashion-mnist": "zalando-datasets/fashion_mnist", "mnist": "ylecun/mnist"}
PIXELS = "float32 in [-1, 1], N x channels x height x width; pixel = round((x + 1) * 127.5) in 0 to 255"


class Export(NamedTuple):
    """An exported generator."""

    folder: Path
    difference: int
    """The largest difference between a pixel of what was written and the network's own, of 255."""
    measured: bool
    """Whether the model card has scores."""


def export(
    run: str | Path | runs.Run, out: str | Path | None = None, checkpoint: Literal["last", "best"] = "last"
) -> Export:
    """A run's generator as a folder with an ONNX model, its weights and a model card; RUN/onnx unless `out` is given.

    An earlier export in that place is replaced, and a folder with anything else in it is refused.
    """
    require_packages()
    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    out = run.outputs / "onnx" if out is None else Path(out)
    writers.recover(out)
    refuse_strangers(out, also=ONNX_MEASURED_FILES)
    weights = run.path / generators.CHECKPOINTS[checkpoint]
    if not weights.is_file():
        raise UsageError(f"{run.path} has no {weights.name} yet; train on, or choose another --checkpoint")
    content = weights.read_bytes()
    with writers.beside(out) as folder:
        # The network is built from the copies: what is exported, compared and drawn is what lies in the folder.
        write = partial(writers.write_file, folder, out)
        write("generator.safetensors", content)
        write("generator.json", (run.path / "generator.json").read_bytes())
        name = run.path.absolute().name
        trained = generators.TrainedGenerator(*generators.load_network(folder), name)
        model = to_onnx(trained.network, trained.shape, trained.z_dim, metadata_of(run, trained))
        write("generator.onnx", model)
        if (out / "generator.onnx").is_file() and (out / "generator.onnx").read_bytes() == model:  # its records hold
            for place in (place for pattern in ONNX_MEASURED_FILES for place in out.glob(pattern)):
                write(place.name, place.read_bytes())
        difference = largest_difference(folder / "generator.onnx", trained)
        if difference > TOLERANCE:
            raise ModisteError(
                f"the ONNX model of {run.path} differs from its network by {difference} of 255 in a pixel, so nothing "
                "was written; try other versions of torch and onnxruntime, or use its generator.safetensors"
            )
        title = f"generated by {trained.source}"
        picture = generators.fixed_grid(trained.network, trained.z_dim, trained.shape.classes, title)
        write("grid.png", picture)
        measured = measurements(run, hashlib.sha256(content).hexdigest()[:16])
        write("README.md", safe_files.text_with_mark(card(run, trained, checkpoint, measured, difference)))
        writers.replace(folder, out)
    return Export(out, difference, bool(measured))


def export_pretrained(
    run: str | Path | runs.Run, out: str | Path | None = None, checkpoint: Literal["last", "best"] = "last"
) -> Export:
    """A run's generator as a pretrained run: float16 weights with recipe, manifest, scores and model card.

    RUN/pretrained unless `out` is given. Rounding changes the weights, so scores of the run are not taken along:
    evaluate the new folder, and export it again, by default into itself, to have its scores in the card. Spectral
    norms are worked out once and stored as plain weights. An earlier such folder is replaced, any other is refused.
    """
    writers.recover(run.path if isinstance(run, runs.Run) else Path(run))  # which may have been exported into itself
    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    in_itself = run.is_pretrained() and not run.shipped
    out = (run.path if in_itself else run.outputs / runs.PRETRAINED) if out is None else Path(out)
    writers.recover(out)
    refuse_strangers(out, PRETRAINED_FILES, MEASURED_FILES)
    name, weights = out.absolute().name, generators.CHECKPOINTS[checkpoint]
    original = generators.TrainedGenerator(*generators.load_network(run.path, weights), name)
    content = halved(original.network, str(run.path / weights))
    described = json.loads((run.path / "generator.json").read_text(encoding="utf-8"))
    described["network"]["generator_spectral"] = False
    known = (run.path, run.read_recipe().data.name)
    with writers.beside(out) as folder:
        write = partial(writers.write_file, folder, out)
        write("generator.safetensors", content)
        write("generator.json", safe_files.as_json(described))
        kept = generators.TrainedGenerator(*generators.load_network(folder), name)
        difference = _largest(original.sample(COMPARED), kept.sample(COMPARED))
        # In a run that is pretrained already the facts of its first rounding stand.
        manifest = run.read_manifest()
        rounded = manifest.pretrained or runs.Pretrained(
            checkpoint, sources.images_shown(run, run.path / weights), "float16", difference
        )
        write("recipe.toml", config.to_toml(published_recipe(run.read_recipe())))
        measured = measurements(run, hashlib.sha256(content).hexdigest()[:16])
        for place, record in measured.items():
            write(place, safe_files.as_json(without_paths(record, known)))
            picture = run.path / Path(record.get("audit", {}).get("picture", "none")).name
            if picture.is_file():
                write(picture.name, picture.read_bytes())
        tree = replace(manifest, pretrained=rounded).to_json()
        write("manifest.json", safe_files.as_json(without_paths(tree, known)))
        text = card(runs.Run(folder), kept, checkpoint, measured, rounded.difference, onnx=False)
        write("README.md", safe_files.text_with_mark(text))
        writers.replace(folder, out)
    return Export(out, rounded.difference, bool(measured))


def halved(generator: nn.Module, place: str) -> bytes:
    """A generator's weights as safetensors in float16, spectral norms worked out; `place` is for the sentence."""
    from safetensors.torch import save

    network = copy.deepcopy(generator).cpu().float().eval()
    _store_plain_weights(network)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ModisteError(
            f"{place} has numbers beyond {torch.finfo(torch.float16).max:,.0f}, the largest in float16; "
            "hand the run on as it is, or export it with --onnx"
        )
    content: bytes = save(tensors)
    return content


@progress.stage("writing the ONNX model")
def to_onnx(generator: nn.Module, shape: Shape, z_dim: int, metadata: Mapping[str, str] | None = None) -> bytes:
    """An ONNX model of a generator in eval mode: noise [N, z_dim] and, for `shape.classes`, labels [N] to images.

    The number of images N is free. Spectral norms are worked out once and stored as plain weights.
    """
    network = copy.deepcopy(generator).cpu().float().eval()
    _store_plain_weights(network)
    noise = torch.zeros(2, z_dim)
    example = (noise, torch.arange(2) % shape.classes) if shape.classes else (noise,)
    names = ["noise", "labels"][: len(example)]
    # The exporter that follows one pass: it needs no further package, and generators have no branches to miss.
    followed = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it calls itself old, and what it doubts is compared with the network later
        torch.onnx.export(
            network,
            example,
            buffer,  # type: ignore[arg-type]
            input_names=names,
            output_names=["images"],
            dynamic_axes={name: {0: "N"} for name in (*names, "images")},
            opset_version=OPSET,
            **followed,  # type: ignore[arg-type]
        )
    onnx = importlib.import_module("onnx")
    model = onnx.load_model_from_string(buffer.getvalue())
    sides = model.graph.output[0].type.tensor_type.shape.dim[1:]
    for side, value in zip(sides, (shape.channels, shape.size, shape.size), strict=True):
        side.dim_value = value
    onnx.helper.set_model_props(model, {"noise": "standard normal", "pixels": PIXELS, **(metadata or {})})
    content: bytes = model.SerializeToString()
    return content


def _store_plain_weights(network: nn.Module) -> None:
    """Replace parametrised weights by their values, in a copy: torch's own removal would break the original too,
    since a copied layer shares its class.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            values = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value))


@progress.stage("comparing onnxruntime's pixels with the network's own")
def largest_difference(model: Path, trained: generators.TrainedGenerator) -> int:
    """The largest difference of 255 between pixels from onnxruntime and the network's own, for 64 seeds."""
    own = trained.sample_set(COMPARED)
    output = onnx_models.load(model).run(generators.seed_noise(range(COMPARED), trained.z_dim).numpy(), own.labels)
    return _largest(to_pixels(torch.from_numpy(output)).numpy(), own.pixels)


def _largest(pixels: np.ndarray, others: np.ndarray) -> int:
    return int(np.abs(pixels.astype(np.int16) - others).max())


def metadata_of(run: runs.Run, trained: generators.TrainedGenerator) -> dict[str, str]:
    """What the ONNX file says of its origin; `class_names` is JSON, where `modiste evaluate` looks for it."""
    recipe = run.read_recipe()
    facts = {
        "modiste.run": trained.source,
        "modiste.data": published_recipe(recipe).data.model_dump_json(include=SEEN),
        "modiste.recipe": recipe.name,
        "modiste.recipe_hash": config.content_hash(recipe),
        "modiste.version": __version__,
    }
    return {**facts, "class_names": json.dumps(trained.class_names)} if trained.class_names else facts


def measurements(run: runs.Run, weights_hash: str) -> dict[str, records.Record]:
    """The run's records that were measured on exactly these weights by their files' names, metrics.json first.

    For the shipped run also those that were measured here.
    """
    places = [place for folder in dict.fromkeys((run.outputs, run.path)) for place in folder.glob("metrics*.json")]
    places.sort(key=lambda place: (place.name != "metrics.json", place.name))
    found = {place.name: records.read(place) for place in places}
    return {name: record for name, record in found.items() if record["subject"].get("hash") == weights_hash}


def card(
    run: runs.Run,
    trained: generators.TrainedGenerator,
    checkpoint: str,
    measured: Mapping[str, records.Record],
    difference: int,
    *,
    onnx: bool = True,
) -> str:
    """The model card as Markdown, with a head that model hubs read; without `onnx` that of a pretrained run."""
    import jinja2

    recipe, manifest = run.read_recipe(), run.read_manifest()
    tables = []
    for record in filter(records.is_usual, measured.values()):
        rows = records.rows(record)
        tables.append(
            (
                records.describe_protocol(record["protocol"]),
                records.markdown(list(rows[0]), [[*row.values()] for row in rows]),
            )
        )
    if manifest.pretrained:
        checkpoint = manifest.pretrained.checkpoint
    program, *arguments = manifest.command or ["modiste"]
    command = ["modiste" if program == "__main__.py" else program, *map(last_part, arguments)]
    data_name = manifest.data.name
    templates = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    template = templates.from_string(Path(__file__).with_name("model_card.md").read_text(encoding="utf-8"))
    return template.render(
        name=trained.source,
        recipe=recipe,
        recipe_hash=manifest.recipe_hash,
        recipe_toml=config.to_toml(published_recipe(recipe)).strip(),
        command=shlex.join(command),
        manifest=manifest,
        duration=progress.duration(manifest.seconds),
        shown=sources.images_shown(run, run.path / generators.CHECKPOINTS[checkpoint]) or 0,
        checkpoint=checkpoint,
        hub_name=HUB_NAMES.get(recipe.data.name),
        shape=trained.shape,
        z_dim=trained.z_dim,
        classes=trained.class_names,
        tables=tables,
        alarms=list(dict.fromkeys(alarm for record in measured.values() for alarm in record.get("alarms", []))),
        limits=inspection.limits_of_data(data_name, bool(trained.shape.classes)),
        difference=difference,
        compared=COMPARED,
        pixels=PIXELS,
        version=__version__,
        onnx=onnx,
        pretrained=runs.PRETRAINED,
        word=shlex.quote(trained.source),
        class_word=shlex.quote(trained.class_names[-1]) if trained.class_names else "",
    )


def refuse_strangers(out: Path, files: Sequence[str] = FILES, also: Sequence[str] = ()) -> None:
    """UsageError unless the place is free, an empty folder or an earlier export: these files, and those like `also`."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file and not a folder; choose another with --out")
    whole = all((out / name).is_file() for name in files)
    safe_files.refuse_foreign_folder(out, "export", (*files, *also) if whole else ())
    if not whole:
        return
    card = out / "README.md"  # which says what the files beside it are
    measured = [place for pattern in also for place in sorted(out.glob(pattern))]
    for place in (card, out / "manifest.json", out / "grid.png", *measured):
        records_there = [other for other in measured if other.suffix == ".json"]
        if not any(safe_files.is_named(place.name, record) for record in records_there if safe_files.is_ours(record)):
            safe_files.refuse_foreign_file(place)
    if not _fit_together(out):
        raise UsageError(
            f"the files of {out} are no export of Modiste as it was written, so they are not replaced; move the folder "
            "away, or choose another with --out"
        )


def _fit_together(out: Path) -> bool:
    """Whether weights and recipe are of the network that generator.json describes, and an ONNX model is Modiste's."""
    model = out / "generator.onnx"
    try:
        generators.load_network(out)
        described = json.loads((out / "generator.json").read_text(encoding="utf-8"))["network"]
        network = (
            runs.Run(out).read_recipe().network if (out / "recipe.toml").is_file() else config.Network(**described)
        )
    except ModisteError:
        return False
    plain = [one.model_copy(update={"generator_spectral": False}) for one in (network, config.Network(**described))]
    return plain[0] == plain[1] and (not model.is_file() or b"modiste.version" in model.read_bytes())


def require_packages() -> None:
    """ModisteError where the packages are missing that an export to ONNX needs."""
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ModisteError(
                f"the export to ONNX needs {name}; install it with pip install 'modiste[onnx]'"
            ) from None
