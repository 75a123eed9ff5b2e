"""A captured step does what the step does; which trainings have one; numbers given as tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import set_up
from torch import Tensor

import modiste
from modiste import config, runs, schema
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError
from modiste.training import cuda_graph, trainer
from modiste.training.distributed import ProcessGroup
from modiste.training.step import Batch, State, make_step_functions, step

TOY: dict[str, Any] = {"data.name": "toy", "data.count": 64, "train.batch_size": 8, "train.images": 4000}


def weights(state: State) -> dict[str, Tensor]:
    networks = {"g": state.generator, "d": state.discriminator, "ema": state.ema}
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


def test_numbers_may_be_tensors() -> None:
    recipe = config.override(config.load("swift"), {**TOY, "augment.policy": ()})
    (plain, functions, batch_at), (other, _, _) = set_up(recipe), set_up(recipe)
    their_rules = make_step_functions(recipe, other, ProcessGroup(), "cpu", "float32")
    by_tensors = replace(
        their_rules,
        learning_rates=lambda images: torch.tensor(functions.learning_rates(images), dtype=torch.float64).unbind(),
        ema_decay=lambda images: torch.tensor(functions.ema_decay(images), dtype=torch.float64),
    )
    for _ in range(3):
        step(plain, functions, ProcessGroup(), batch_at)
        step(other, by_tensors, ProcessGroup(), batch_at)
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(other)[key], value, rtol=1e-5, atol=1e-7, msg=key)


@pytest.mark.parametrize(
    ("recipe", "changes", "there"),
    [
        ("swift", {}, True),
        ("diaz-a", {}, True),
        ("wgan-gp", {}, True),
        ("swift", {"train.cuda_graph": False}, False),
        ("swift", {"loss.r1_gamma": 0.1, "loss.penalty_every": 4}, False),
        ("swift", {"loss.group_clip": 1.0}, False),
        ("swift", {"loss.top_k_share": 0.5, "loss.top_k_images": 100}, False),
        ("wgan", {}, False),  # RMSprop
    ],
)
def test_steps_are_captured_where_all_are_alike(recipe: str, changes: dict[str, Any], there: bool) -> None:
    wanted = config.override(config.load(recipe), changes)
    assert cuda_graph.can_capture(wanted, ProcessGroup(), "cuda") is there
    assert not cuda_graph.can_capture(wanted, ProcessGroup(), "cpu")
    assert not cuda_graph.can_capture(wanted, ProcessGroup(0, 2), "cuda")


def test_batches_are_copied_into_those_that_are_held() -> None:
    def batch(value: float) -> Batch:
        return Batch(torch.full((2, 1, 4, 4), value), torch.full((2,), int(value)), torch.full((2, 3), value))

    held = [[batch(1.0), batch(2.0)], [batch(3.0), batch(4.0)]]
    places = [part.real.data_ptr() for parts in held for part in parts]
    cuda_graph.copy_into(held, [[batch(5.0), batch(6.0)], [batch(7.0), batch(8.0)]])
    assert [part.real.mean().item() for parts in held for part in parts] == [5, 6, 7, 8]
    assert [int(part.labels[0]) for parts in held for part in parts if part.labels is not None] == [5, 6, 7, 8]
    assert [part.noise.mean().item() for parts in held for part in parts] == [5, 6, 7, 8]
    assert [part.real.data_ptr() for parts in held for part in parts] == places


ADAPTIVE = {"augment.probability": 0.5, "augment.adapt_images": 100}
SEVERAL = {"train.discriminator_steps": 3}  # nothing but the batches is drawn in swift's step


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("recipe", "changes"), [*((name, {}) for name in schema.shipped()), ("grand", ADAPTIVE), ("swift", SEVERAL)]
)
def test_a_captured_step_does_what_the_step_does(
    recipe: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    wanted = config.override(config.load(recipe), TOY | {"train.discriminator_steps": 1} | changes)
    if not cuda_graph.can_capture(wanted, ProcessGroup(), "cuda"):
        pytest.skip(f"{recipe} is not captured")
    (plain, functions, batch_at), (other, their_rules, _) = set_up(wanted, "cuda"), set_up(wanted, "cuda")
    advance = cuda_graph.captured(other, their_rules, ProcessGroup(), batch_at)
    before = weights(plain)["g." + next(iter(plain.generator.state_dict()))].clone()
    for _ in range(cuda_graph.EAGER_STEPS + 3):
        step(plain, functions, ProcessGroup(), batch_at)
        advance()
    assert other.images == plain.images
    after = weights(plain)["g." + next(iter(plain.generator.state_dict()))]
    change = (after - before).abs().max().item()
    assert change > 0
    for key, value in weights(plain).items():
        if value.is_floating_point():
            difference = (weights(other)[key] - value).abs().mean() / value.abs().mean().clamp(min=1e-3)
            assert difference < 2e-2, f"{key}: {difference}"
        else:
            assert torch.equal(weights(other)[key], value), key
    torch.testing.assert_close(other.meter, plain.meter, rtol=0.05, atol=0.05)
    torch.testing.assert_close(other.augment_probability, plain.augment_probability)
    assert isinstance(other.optimizer_g.param_groups[0]["lr"], float)
    assert other.optimizer_d.param_groups[0]["lr"] == plain.optimizer_d.param_groups[0]["lr"]


def test_a_run_goes_on_with_and_without_a_graph(tiny: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "run"
    modiste.train(tiny, path, overrides={"train.lr_schedule": "constant"})
    finished = runs.Run(path).read_manifest()
    without = {"train.lr_schedule": "constant", "train.cuda_graph": False}
    assert modiste.train(tiny, path, overrides=without).read_manifest() == finished
    longer = without | {"train.images": (tiny.train.images or 0) + 16}
    run = modiste.train(tiny, path, overrides=longer, extend=True)
    assert run.read_manifest().images == longer["train.images"] and not run.read_recipe().train.cuda_graph
    with pytest.raises(UsageError, match=r"other settings \(train.batch_size: 16 -> 8\)"):
        modiste.train(tiny, path, overrides={**longer, "train.cuda_graph": True, "train.batch_size": 8})


def test_a_capture_that_fails_says_what_to_do() -> None:
    said = r"cannot be captured .*\(no such kernel\); go on with .*cuda_graph=false"
    with pytest.raises(ModisteError, match=said), cuda_graph.named_failure():
        raise RuntimeError("no such kernel\nat some place")
    with pytest.raises(RuntimeError, match="out of memory"), cuda_graph.named_failure():
        raise RuntimeError("CUDA out of memory")


@pytest.mark.gpu
def test_several_updates_of_the_discriminator_are_captured_too() -> None:
    recipe = config.override(config.load("swift"), TOY | {"train.discriminator_steps": 3, "train.accumulate": 2})
    state, functions, batch_at = set_up(recipe, "cuda")
    advance = cuda_graph.captured(state, functions, ProcessGroup(), batch_at)
    for _ in range(6):
        advance()
    assert state.images == 6 * 3 * 8 and state.meter[0].item() == 18 and state.meter[6].item() == 6


@pytest.mark.gpu
def test_a_captured_run_goes_on_after_an_interruption_and_on_the_processor(tmp_path: Path) -> None:
    def changes(images: int, device: str) -> dict[str, Any]:
        more = {"train.device": device, "train.tick_images": 40, "evaluate.every_images": 0}
        return TOY | {"train.lr_schedule": "constant", "train.images": images} | more

    modiste.train("swift", tmp_path / "run", overrides=changes(160, "cuda"))
    run = modiste.train("swift", tmp_path / "run", overrides=changes(320, "cuda"), extend=True)
    assert run.read_manifest().status == "finished" and run.read_manifest().images == 320
    state, functions, batch_at = set_up(config.override(config.load("swift"), changes(400, "cpu")), "cpu")
    saved, _ = runs.load_state(run)
    assert saved is not None
    trainer.restore(state, saved, ProcessGroup())
    step(state, functions, ProcessGroup(), batch_at)
    assert state.images == 328
