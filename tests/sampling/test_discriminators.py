"""Discriminators of run folders: read from the newest state or from the file that is handed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modiste import config, runs
from modiste.config import Recipe
from modiste.data.images import to_unit
from modiste.errors import ModisteError, UsageError
from modiste.sampling import discriminators, generators
from modiste.training import finetune, trainer


@pytest.fixture
def run(tiny: Recipe, tmp_path: Path) -> runs.Run:
    changes = {"train.images": 16, "network.conditioning": "projection", "network.discriminator_norm": "spectral"}
    return trainer.train(config.override(tiny, changes), tmp_path / "run")


def test_a_run_has_its_discriminator_in_the_newest_state(run: runs.Run) -> None:
    before = torch.get_rng_state()
    found = discriminators.load(run)
    assert torch.equal(torch.get_rng_state(), before)
    state, _ = runs.load_state(run)
    assert state is not None and discriminators.exists(run)
    kept = found.network.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["discriminator"].items())
    assert not found.network.training and found.shape.classes == len(found.class_names) == 10
    assert found.network(torch.zeros(3, 1, 16, 16), torch.arange(3)).shape == (3,)


def test_what_is_handed_on_in_float16_judges_alike_and_may_have_other_widths(run: runs.Run, tmp_path: Path) -> None:
    found = discriminators.load(run)
    for state in runs.states(run):
        state.unlink()
    with pytest.raises(UsageError, match=r"has no discriminator .*only its generator was kept"):
        discriminators.load(run)
    assert not discriminators.exists(run)
    narrow = config.Network(**{**found.settings.model_dump(), "discriminator_widths": (4, 6)})
    other = discriminators.build_discriminator(narrow, found.shape)
    discriminators.save(run.path, replace(found, network=other, settings=narrow))
    assert discriminators.exists(run) and discriminators.load(run).settings.discriminator_widths == (4, 6)
    discriminators.save(run.path, found)
    kept = discriminators.load(run)
    images, labels = torch.rand(8, 1, 16, 16) * 2 - 1, torch.arange(8)
    torch.testing.assert_close(kept.network(images, labels), found.network(images, labels), atol=5e-3, rtol=5e-3)
    content = (run.path / discriminators.WEIGHTS).read_bytes()
    (run.path / discriminators.WEIGHTS).write_bytes(content[:100])
    with pytest.raises(ModisteError, match=r"the discriminator in .* cannot be loaded"):
        discriminators.load(run)


def test_the_shipped_one_belongs_to_the_shipped_generator() -> None:
    found, trained = discriminators.load("pretrained"), generators.load("pretrained")
    assert (found.shape, found.class_names) == (trained.shape, trained.class_names)
    made = trained.sample_set(20)
    logits = found.network(to_unit(torch.from_numpy(made.pixels)), torch.from_numpy(made.labels))
    assert logits.shape == (20,) and bool(logits.isfinite().all()) and logits.std() > 0.01
    assert finetune.facts("pretrained").discriminator
