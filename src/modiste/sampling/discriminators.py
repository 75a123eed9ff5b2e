"""Trained discriminators: read from a run folder, and written into one beside its generator.

A run has its discriminator in the newest state, or, where it is handed on, in discriminator.safetensors with its
settings in discriminator.json.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from modiste import config, files, parts, runs
from modiste.errors import ModisteError, UsageError
from modiste.networks.build import build_discriminator
from modiste.networks.layers import ImageShape
from modiste.sampling import generators

FILES = WEIGHTS, DESCRIPTION = ("discriminator.safetensors", "discriminator.json")


@dataclass(frozen=True)
class TrainedDiscriminator:
    """A discriminator in eval mode and the images that it was trained on; `load` makes one.

    `network(images, labels)` takes images float [N, C, H, W] in [-1, 1], and labels int64 [N] where there are classes,
    and returns logits [N] (two columns with an auxiliary classifier).
    """

    network: nn.Module
    settings: config.Network
    shape: ImageShape
    class_names: tuple[str, ...]
    source: str
    note: str = ""
    """How it was made, where that was not together with the generator; for the model card."""


def load(run: str | Path | runs.Run) -> TrainedDiscriminator:
    """The discriminator of a run, on the CPU; UsageError where only its generator was kept.

    PyTorch's random numbers stay as they are.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    run = run if isinstance(run, runs.Run) else runs.open_run(run)
    weights = run.path / WEIGHTS
    settings, shape, class_names = generators.read_description(
        run.path, DESCRIPTION if weights.is_file() else "generator.json"
    )
    parts.require_trusted([settings.family], run.path)
    try:
        if weights.is_file():
            tensors = read(weights.read_bytes())
        else:
            state, _ = runs.load_state(run)
            if state is None:
                raise UsageError(
                    f"{run.path} has no discriminator (neither {WEIGHTS} nor a saved state): only its generator was "
                    "kept; name the run folder that it was trained in, or `pretrained`"
                )
            tensors = state["discriminator"]
        with torch.random.fork_rng([]):  # for the initial weights, which are replaced
            network = build_discriminator(settings, shape)
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ModisteError(
            f"the discriminator in {run.path} cannot be loaded ({reason}); use the version that manifest.json names"
        ) from None
    return TrainedDiscriminator(network.eval(), settings, shape, class_names, run.name, read_note(run))


def read_note(run: runs.Run) -> str:
    """How the discriminator in the folder was made; empty where it is the one that trained the generator."""
    place = run.path / DESCRIPTION
    return str(json.loads(place.read_text(encoding="utf-8")).get("note", "")) if place.is_file() else ""


def exists(run: runs.Run) -> bool:
    """Whether the run has a discriminator."""
    return is_kept(run) or bool(runs.states(run))


def is_kept(run: runs.Run) -> bool:
    """Whether the run was handed on with it."""
    return (run.path / WEIGHTS).is_file()


def save(folder: Path, discriminator: TrainedDiscriminator) -> None:
    """Write it into the folder of a run that is handed on, in float16."""
    for name, content in contents(discriminator).items():
        files.write_bytes(folder / name, content)


def contents(discriminator: TrainedDiscriminator) -> dict[str, bytes]:
    """The contents of both files by their names; ModisteError for weights beyond float16."""
    from safetensors.torch import save as written

    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in discriminator.network.state_dict().items()
    }
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ModisteError("the discriminator has numbers beyond 65,504, the largest in float16; leave it out")
    tree = {
        "network": discriminator.settings.model_dump(mode="json"),
        "shape": asdict(discriminator.shape),
        "class_names": list(discriminator.class_names),
        **({"note": discriminator.note} if discriminator.note else {}),
    }
    return {WEIGHTS: written(tensors), DESCRIPTION: files.as_json(tree).encode()}
