"""Modiste's own loop as a contestant of bench_rivals.py: `python benchmarks/our_gan.py --serve JSON`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench  # sets the threads' waiting as the command line does, before torch is imported
import line_protocol
import torch

from modiste.config import Recipe
from modiste.data.sets import open_data
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.summary import parameter_count
from modiste.training import setup


def compete(settings: dict[str, Any]) -> None:
    """Train the recipe of these settings in a run folder of its own."""
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    recipe = Recipe.model_validate(settings["whole_recipe"])
    dataset = open_data(recipe.data)
    shape = setup.image_shape(recipe, dataset)
    with torch.device("meta"):
        networks = build_generator(recipe.network, shape), build_discriminator(recipe.network, shape)
    facts = {
        "parameters": [parameter_count(network) for network in networks],
        "version": f"PyTorch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as folder:
        line_protocol.serve(facts, bench.modiste(recipe, dataset, Path(folder) / "run", settings["precision"]))


if __name__ == "__main__":
    compete(json.loads(sys.argv[2]))
