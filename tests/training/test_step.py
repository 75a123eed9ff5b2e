"""The step and its functions, alone and in a training that is interrupted and resumed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import assert_same, content, set_up, sums, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import modiste
from modiste import config
from modiste.config import Recipe, Train
from modiste.networks.layers import ImageShape
from modiste.training import setup, trainer
from modiste.training.distributed import ProcessGroup
from modiste.training.step import (
    backward_by_class,
    backward_of_mean,
    clip_weights,
    ema_decay,
    learning_rates,
    step,
    unchecked,
    update_ema,
)  # fmt: skip

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
    state = setup.make_state(recipe, ImageShape(1, 16), "cpu")
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
    """Train until a step after so many images, as if Ctrl-C were pressed there."""

    loop = trainer.loop

    def shorter(session: Any, state: Any, watch: Any) -> str:
        stop = lambda: state.images >= images  # noqa: E731
        return loop(replace(session, stop=stop), state, watch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "loop", shorter)
        run = trainer.train(recipe, out)
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


def test_one_step_is_the_textbook_step(tiny: Recipe) -> None:
    """The update against the same written out by hand: BCE with targets, Adam, the same fakes for both networks."""
    state, functions, batch_at = set_up(tiny)
    by_hand, _, _ = set_up(tiny)
    (batch,) = batch_at(0)
    step(state, functions, ProcessGroup(), batch_at)

    adam_g = torch.optim.Adam(by_hand.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(by_hand.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    bce, ones, zeros = nn.functional.binary_cross_entropy_with_logits, torch.ones(16), torch.zeros(16)
    fake = by_hand.generator(batch.noise, batch.labels)
    loss_d = bce(by_hand.discriminator(batch.real, batch.labels), ones)
    loss_d = loss_d + bce(by_hand.discriminator(fake.detach(), batch.labels), zeros)
    loss_d.backward()
    adam_d.step()
    loss_g = bce(by_hand.discriminator(fake, batch.labels), ones)
    adam_g.zero_grad()
    loss_g.backward()
    adam_g.step()

    assert torch.allclose(weights(state.discriminator), weights(by_hand.discriminator), atol=1e-6)
    assert torch.allclose(weights(state.generator), weights(by_hand.generator), atol=1e-6)
    meter = sums(state)
    assert meter["loss_d"] == pytest.approx(loss_d.item(), rel=1e-5)
    assert meter["loss_g"] == pytest.approx(loss_g.item(), rel=1e-5)
    assert state.images == 16 and meter["updates_d"] == meter["updates_g"] == 1


def test_accumulated_parts_make_the_same_update(tiny_free: Recipe) -> None:
    whole, functions, batch_at = set_up(tiny_free)
    step(whole, functions, ProcessGroup(), batch_at)
    parted, functions, batch_at = set_up(config.override(tiny_free, {"train.accumulate": 4}))
    assert len(batch_at(0)) == 4
    step(parted, functions, ProcessGroup(), batch_at)
    for one, other in ((whole.generator, parted.generator), (whole.discriminator, parted.discriminator)):
        assert torch.allclose(weights(one), weights(other), atol=1e-6)
    assert torch.allclose(whole.meter, parted.meter, rtol=1e-4)


def test_several_discriminator_steps_count_their_images(tiny: Recipe) -> None:
    state, functions, batch_at = set_up(config.override(tiny, {"train.discriminator_steps": 3}))
    step(state, functions, ProcessGroup(), batch_at)
    meter = sums(state)
    assert state.images == 48 and meter["updates_d"] == 3 and meter["updates_g"] == 1


def test_the_average_follows_its_half_life_and_its_ramp() -> None:
    steady = Train(batch_size=50, ema_halflife_images=100, ema_ramp=0)
    assert ema_decay(steady, 10_000) == pytest.approx(0.5**0.5)
    ramped = Train(batch_size=50, ema_halflife_images=1e9, ema_ramp=0.1)
    assert ema_decay(ramped, 1000) == pytest.approx(0.5**0.5)
    ema, generator = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(ema.weight, 0.0)
    nn.init.constant_(generator.weight, 1.0)
    for _ in range(4):
        update_ema(list(zip(ema.parameters(), generator.parameters(), strict=True)), ema_decay(steady, 10_000))
    assert ema.weight.item() == pytest.approx(1 - 0.25)


def test_the_average_takes_running_statistics_along() -> None:
    ema, generator = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    generator.running_mean.fill_(4.0)
    generator.num_batches_tracked.fill_(9)
    update_ema(list(zip(ema.buffers(), generator.buffers(), strict=True)), 0.75)
    assert ema.running_mean.tolist() == [1.0, 1.0] and ema.num_batches_tracked.item() == 9


def test_learning_rates_follow_their_schedule() -> None:
    train = Train(images=1000, batch_size=10, lr_generator=1.0, lr_discriminator=2.0, lr_schedule="linear")
    assert learning_rates(train, 0) == (1.0, 2.0)
    assert learning_rates(train, 250) == (0.75, 1.5)
    cosine = train.model_copy(update={"lr_schedule": "cosine"})
    assert learning_rates(cosine, 500) == pytest.approx((0.5, 1.0))
    warm = train.model_copy(update={"lr_schedule": "constant", "lr_warmup_images": 100})
    assert learning_rates(warm, 40) == pytest.approx((0.5, 1.0))
    assert learning_rates(warm, 500) == (1.0, 2.0)


WAITS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::masked_select", "aten::_unique2")


class NoWaiting(TorchDispatchMode):
    """Refuses what makes a processor wait for a GPU: numbers, and shapes that depend on numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert func.name() not in WAITS, func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [
        {"network.conditioning": "projection", "network.discriminator_norm": "spectral", "loss.adversarial": "hinge"},
        {"network.conditioning": "auxiliary", "loss.gradient_penalty_weight": 10.0, "loss.dragan_weight": 1.0},
        {"loss.r1_gamma": 1.0, "loss.r2_gamma": 1.0, "loss.top_k_share": 0.5, "loss.weight_clip": 0.1},
        {"augment.policy": ["color", "flip", "translation", "cutout"], "augment.adapt_target": 0.6},
        {"augment.policy": ["translation"], "loss.balanced_consistency_weight": 10.0, "train.discriminator_steps": 2},
        {"train.optimizer": "rmsprop", "loss.consistency_weight": 2.0, "network.dropout": 0.1, "train.accumulate": 2},
    ],
)
def test_no_step_makes_the_processor_wait_for_a_gpu(changes: dict[str, object], tiny: Recipe) -> None:
    state, functions, batch_at = set_up(config.override(tiny, changes))
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        step(state, functions, ProcessGroup(), batch_at)  # as on the processor, where a look costs nothing
    with NoWaiting():
        step(state, replace(functions, check=unchecked), ProcessGroup(), batch_at)
