"""The pieces that recipes put into the step, alone and inside a training that is interrupted and resumed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import assert_same, content
from torch import nn

import modiste
from modiste import config
from modiste.config import Recipe
from modiste.networks.build import Shape
from modiste.training import setup
from modiste.training.step import backward_by_class, backward_of_mean, clip_weights

LABELS = torch.tensor([0, 0, 0, 2])


def linear(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Linear(3, 1), torch.randn(4, 3)


def test_classes_count_alike_however_many_images_they_have() -> None:
    layer, points = linear()
    backward_by_class(layer, 1e9, layer(points)[:, 0], LABELS, 1)
    torch.testing.assert_close(layer.weight.grad, (points[:3].mean(0) + points[3])[None] / 2)
    torch.testing.assert_close(layer.bias.grad, torch.ones(1))


def test_no_class_pulls_harder_than_the_largest_norm() -> None:
    layer, points = linear()
    points[3] *= 1000
    backward_by_class(layer, 0.5, layer(points)[:, 0], LABELS, 1)
    of_first = torch.cat([points[:3].mean(0), torch.ones(1)])
    of_second = torch.cat([points[3], torch.ones(1)])
    expected = sum(part * min(1, 0.5 / part.norm().item()) for part in (of_first, of_second)) / 2
    torch.testing.assert_close(torch.cat([layer.weight.grad[0], layer.bias.grad]), expected)


@pytest.mark.parametrize("largest_norm", [1e9, 0.5])
def test_two_equal_parts_of_a_batch_give_the_gradient_of_one(largest_norm: float) -> None:
    layer, points = linear()
    for backward in (partial(backward_by_class, layer, largest_norm), backward_of_mean):
        layer.zero_grad()
        backward(layer(points)[:, 0], LABELS, 1)
        once = layer.weight.grad.clone()
        layer.zero_grad()
        for _ in range(2):
            backward(layer(points)[:, 0], LABELS, 2)
        torch.testing.assert_close(layer.weight.grad, once)


def test_the_mean_is_the_plain_gradient() -> None:
    layer, points = linear()
    backward_of_mean(layer(points)[:, 0], None, 1)
    torch.testing.assert_close(layer.weight.grad, points.mean(0)[None])


def test_clipped_weights_lie_in_their_box(tiny: Recipe) -> None:
    recipe = config.override(tiny, {"network.conditioning": "none"})
    state = setup.make_state(recipe, Shape(1, 16), "cpu")
    before = [parameter.detach().clone() for parameter in state.discriminator.parameters()]
    clip_weights(0.01, state, torch.zeros(()))
    for old, new in zip(before, state.discriminator.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old.clamp(-0.01, 0.01))


TERMS: dict[str, dict[str, Any]] = {
    "wgan": {"loss.adversarial": "wasserstein", "loss.weight_clip": 0.01, "train.optimizer": "rmsprop"},
    "wgan-gp": {"loss.adversarial": "wasserstein", "loss.gradient_penalty_weight": 10.0},
    "dragan": {"loss.dragan_weight": 10.0},
    "r1 and r2": {"loss.adversarial": "relativistic", "loss.r1_gamma": 1.0, "loss.r2_gamma": 1.0},
    "ct-gan": {"loss.consistency_weight": 2.0, "network.dropout": 0.5},
    "bcr": {"loss.balanced_consistency_weight": 10.0, "augment.policy": ["translation", "cutout"]},
    "top-k": {"loss.top_k_share": 0.5, "loss.top_k_images": 160},
    "groups": {"loss.group_clip": 1.0},
    "auxiliary": {"network.conditioning": "auxiliary", "network.generator_norm": "batch"},
    "diffaug": {"augment.policy": ["color", "translation", "cutout"]},
    "adaptive": {
        "augment.policy": ["flip", "translation"],
        "augment.probability": 0.0,
        "augment.adapt_target": 0.1,
        "augment.adapt_images": 400,
    },
}


@pytest.mark.parametrize("term", TERMS)
def test_every_term_trains_stays_finite_and_resumes_bit_for_bit(term: str, tiny: Recipe, tmp_path: Path) -> None:
    recipe = config.override(tiny, TERMS[term])
    whole = modiste.train(recipe, tmp_path / "whole")
    record = whole.read_log()[-1]
    assert record["images"] == 320 and record["gradient_norm_g"] > 0 and record["gradient_norm_d"] > 0
    assert (record["penalty"] > 0) == (term in ("wgan-gp", "dragan", "r1 and r2", "ct-gan", "bcr"))
    half = tmp_path / "half"
    stopped_at(recipe, half, 200)
    assert_same(content(modiste.train(recipe, half)), content(whole))


def stopped_at(recipe: Recipe, out: Path, images: int) -> None:
    """Train until a step after so many images, as if somebody had pressed Ctrl-C there."""
    from modiste.training import trainer

    loop = trainer.loop

    def shorter(session: Any, state: Any, watch: Any) -> str:
        stop = lambda: state.images >= images  # noqa: E731
        return loop(replace(session, stop=stop), state, watch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "loop", shorter)
        run = modiste.train(recipe, out)
    assert run.read_manifest().status == "interrupted" and run.read_manifest().images < 320


def test_adaptive_augmentation_moves_and_is_logged(tiny: Recipe, tmp_path: Path) -> None:
    log = modiste.train(config.override(tiny, TERMS["adaptive"]), tmp_path / "run").read_log()
    shares = [record["augment_probability"] for record in log]
    assert min(shares) >= 0 and max(shares) > 0 and max(shares) <= 320 / 400


def test_weights_are_clipped_after_the_last_step(tiny: Recipe, tmp_path: Path) -> None:
    run = modiste.train(config.override(tiny, TERMS["wgan"]), tmp_path / "run")
    state = content(run)["state"]["discriminator"]
    weights = [tensor for name, tensor in state.items() if name.endswith(("weight", "bias"))]
    assert weights and max(float(weight.abs().max()) for weight in weights) <= 0.01 + 1e-9
