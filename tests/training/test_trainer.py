from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import modiste
from modiste import config, environment, runs
from modiste.config import Recipe, Train
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.networks.build import Shape
from modiste.sampling import generators
from modiste.training import checkpoint_selection, cuda_graph, diagnostics, distributed, setup, trainer
from modiste.training import step as algorithm
from modiste.training.distributed import ProcessGroup
from modiste.training.step import (
    METER,
    Batch,
    State,
    StepFunctions,
    ema_decay,
    learning_rates,
    make_step_functions,
    step,
    unchecked,
    update_ema,
)  # fmt: skip


def assemble(recipe: Recipe) -> tuple[State, StepFunctions, trainer.Callable[[int], list[Batch]]]:
    dataset = open_data(recipe.data)
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, "cpu")
    functions = make_step_functions(recipe, state, ProcessGroup(), "cpu", "float32")
    return state, functions, setup.batches(recipe, dataset, shape, ProcessGroup(), "cpu")


def sums(state: State) -> dict[str, float]:
    return {term.name: value for term, value in zip(METER, state.meter.tolist(), strict=True)}


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_one_step_is_the_textbook_step(tiny: Recipe) -> None:
    """The update against the same written out by hand: BCE with targets, Adam, the same fakes for both networks."""
    state, functions, batch_at = assemble(tiny)
    by_hand, _, _ = assemble(tiny)
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
    whole, functions, batch_at = assemble(tiny_free)
    step(whole, functions, ProcessGroup(), batch_at)
    parted, functions, batch_at = assemble(config.override(tiny_free, {"train.accumulate": 4}))
    assert len(batch_at(0)) == 4
    step(parted, functions, ProcessGroup(), batch_at)
    for one, other in ((whole.generator, parted.generator), (whole.discriminator, parted.discriminator)):
        assert torch.allclose(weights(one), weights(other), atol=1e-6)
    assert torch.allclose(whole.meter, parted.meter, rtol=1e-4)


def test_several_discriminator_steps_count_their_images(tiny: Recipe) -> None:
    state, functions, batch_at = assemble(config.override(tiny, {"train.discriminator_steps": 3}))
    step(state, functions, ProcessGroup(), batch_at)
    meter = sums(state)
    assert state.images == 48 and meter["updates_d"] == 3 and meter["updates_g"] == 1


def test_noise_and_data_are_functions_of_position(tiny: Recipe) -> None:
    _, _, batch_at = assemble(tiny)
    (late,) = batch_at(160)
    (first,) = batch_at(0)
    (again,) = batch_at(160)
    assert torch.equal(late.noise, again.noise) and torch.equal(late.real, again.real)
    assert not torch.equal(first.noise, late.noise)
    dataset = open_data(tiny.data)
    parts = []
    for rank in range(2):
        shape = setup.image_shape(tiny, dataset)
        (part,) = setup.batches(tiny, dataset, shape, ProcessGroup(rank, 2), "cpu")(160)
        parts.append(part)
    assert torch.equal(torch.cat([part.noise for part in parts]), late.noise)
    assert torch.equal(torch.cat([part.real for part in parts]), late.real)


def test_the_average_follows_its_half_life_and_its_ramp() -> None:
    steady = Train(batch_size=50, ema_halflife_images=100, ema_ramp=0)
    assert ema_decay(steady, 10_000) == pytest.approx(0.5**0.5)
    ramped = Train(batch_size=50, ema_halflife_images=1e9, ema_ramp=0.1)
    assert ema_decay(ramped, 1000) == pytest.approx(0.5**0.5)
    ema, generator = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(ema.weight, 0.0)
    nn.init.constant_(generator.weight, 1.0)
    for _ in range(4):
        update_ema(ema, generator, ema_decay(steady, 10_000))
    assert ema.weight.item() == pytest.approx(1 - 0.25)


def test_the_average_takes_running_statistics_along() -> None:
    ema, generator = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    generator.running_mean.fill_(4.0)
    generator.num_batches_tracked.fill_(9)
    update_ema(ema, generator, 0.75)
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


def test_a_nonfinite_loss_stops_before_the_weights_change(tiny: Recipe, tmp_path: Path) -> None:
    state, functions, batch_at = assemble(tiny)
    before = weights(state.discriminator).clone()

    def poisoned(images: int) -> list[Batch]:
        (batch,) = batch_at(images)
        batch.real[0, 0, 0, 0] = math.nan
        return [batch]

    with pytest.raises(ModisteError, match=r"the discriminator loss is no finite number after 0 images.*--fresh"):
        step(state, functions, ProcessGroup(), poisoned)
    assert torch.equal(weights(state.discriminator), before)

    explosive = {"train.lr_generator": 1e30, "train.lr_discriminator": 1e30}
    with pytest.raises(ModisteError, match=r"no finite number.*the last good state is the start"):
        modiste.train(tiny, tmp_path / "run", overrides=explosive)

    calm = {"train.lr_warmup_images": 10**19, "train.tick_images": 16}  # a first tick, then the same
    with pytest.raises(ModisteError, match=r"the last good state is .*state/0000000\d\d-\w+\.pt"):
        modiste.train(tiny, tmp_path / "later", overrides={**explosive, **calm})
    assert runs.open_run(tmp_path / "run").read_manifest().status == "failed"


def test_where_no_step_looks_a_nonfinite_sum_is_found_before_anything_is_saved(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, for which each look would be a wait."""
    monkeypatch.setattr(algorithm, "stop_unless_finite", unchecked)
    explosive = {"train.lr_generator": 1e30, "train.lr_discriminator": 1e30}
    with pytest.raises(
        ModisteError, match=r"loss_\w was no finite number shortly before 80 images.*state is the start"
    ):
        modiste.train(tiny, tmp_path / "tick", overrides=explosive)
    asked = iter(range(100))
    monkeypatch.setattr(trainer, "interruptible", lambda: nullcontext(lambda: next(asked) == 3))
    with pytest.raises(ModisteError, match="shortly before 48 images"):
        modiste.train(tiny, tmp_path / "interrupted", overrides=explosive)
    for name in ("tick", "interrupted"):
        run = runs.Run(tmp_path / name)
        assert not runs.states(run) and not run.read_log() and run.read_manifest().status == "failed"


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
    state, functions, batch_at = assemble(config.override(tiny, changes))
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        step(state, functions, ProcessGroup(), batch_at)  # as on the processor, where a look costs nothing
    with NoWaiting():
        step(state, replace(functions, check=unchecked), ProcessGroup(), batch_at)


def on_a_gpu() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def test_memory_that_runs_out_is_one_sentence(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph, "step", lambda *_: torch.empty(2**52))
        with pytest.raises(ModisteError, match=r"needs more memory than there is; .*accumulate"):
            modiste.train(tiny, tmp_path / "run")
        manifest = runs.Run(tmp_path / "run").read_manifest()
        assert manifest.status == "failed" and "more memory" in manifest.reason
        patch.setattr(trainer, "_prepare", lambda *_: on_a_gpu())
        with pytest.raises(ModisteError, match=r"needs more memory than there is; "):
            modiste.train(tiny, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph, "step", lambda *_: torch.ones(2) @ torch.ones(3))
        with pytest.raises(RuntimeError, match="size"):  # for whoever has to mend it
            modiste.train(tiny, tmp_path / "run")
    assert modiste.train(tiny, tmp_path / "run", overrides={}).read_manifest().status == "finished"


@pytest.mark.parametrize("game", ["nonsaturating", "minimax", "least-squares", "hinge", "wasserstein", "relativistic"])
def test_every_game_trains_in_both_precisions(game: str, tiny: Recipe, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        changes = {"loss.adversarial": game, "train.images": 80, "train.precision": precision, "loss.r1_gamma": 0.1}
        run = modiste.train(tiny, tmp_path / precision, overrides=changes)
        record = run.read_log()[-1]
        assert all(math.isfinite(value) for value in record.values()) and record["penalty"] > 0
        assert 0 <= record["d_accuracy_real"] <= 1 and record["gradient_norm_g"] > 0


def test_a_budget_ends_the_training_and_keeps_its_result(tiny: Recipe, tmp_path: Path) -> None:
    changes = {"train.images": 10**9, "train.tick_images": 10**9, "train.budget_seconds": 0.3}
    run = modiste.train(tiny, tmp_path / "run", overrides=changes)
    manifest = run.read_manifest()
    assert manifest.status == "finished" and 0 < manifest.images < 10**9 and 0.3 <= manifest.seconds < 30
    assert run.read_log()[-1]["images"] == manifest.images and (run.path / "progress.gif").is_file()
    assert len(modiste.load(run).sample(3)) == 3


def test_a_budget_shorter_than_the_first_grid_buys_a_step(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "draw_grid", lambda session, state: time.sleep(0.3))
    changes = {"train.images": 10**9, "train.tick_images": 10**9, "train.budget_seconds": 0.2}
    run = modiste.train(tiny, tmp_path / "run", overrides=changes)
    assert run.read_log() and run.read_log()[-1]["images"] >= 16 and (run.path / "generator.safetensors").is_file()


def test_the_manifest_tells_how_the_run_was_made(tiny: Recipe, tmp_path: Path) -> None:
    manifest = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 16}).read_manifest()
    assert manifest.recipe_hash == config.content_hash(runs.open_run(tmp_path / "run").read_recipe())
    assert manifest.data.digest == content_digest(open_data(tiny.data)) and manifest.data.count == 64
    expected = {"modiste", "python", "torch", "numpy", "platform", "git_commit", "command", "device", "precision"}
    assert (
        expected | {"threads", "processes", "start", "end", "status", "peak_memory_bytes"} <= manifest.to_json().keys()
    )


def test_data_that_does_not_fit_is_one_sentence(tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.batch_size = 128 is larger than .* with 64 images; use --set"):
        modiste.train(tiny, tmp_path / "run", overrides={"train.batch_size": 128})
    np.savez(tmp_path / "wide.npz", images=np.zeros((64, 8, 16), np.uint8))
    wide = {"data.name": str(tmp_path / "wide.npz"), "data.resize": None, "network.conditioning": "none"}
    with pytest.raises(UsageError, match=r"16 x 8 pixels, not square; resize them .* `--resize SIDE` of train"):
        modiste.train(tiny, tmp_path / "run", overrides=wide)
    asked = {"data.name": unlabelled(tmp_path), "network.conditioning": "projection"}
    with pytest.raises(UsageError, match=r"'projection' needs labels, and this data set has none"):
        modiste.train(tiny, tmp_path / "run", overrides=asked)
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "same.npz", images=np.full((64, 16, 16), 7, np.uint8), labels=np.arange(64) % 2)
    with pytest.raises(
        UsageError, match=r"all 64 images of same train 16px-lanczos are the same; check how they were made"
    ):
        modiste.train(tiny, tmp_path / "run", overrides={"data.name": str(tmp_path / "same.npz"), "data.count": None})
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="cannot be split over 3 processes"):
        setup.check_fit(config.override(tiny, {"train.processes": 3}), open_data(tiny.data))
    with pytest.raises(UsageError, match=r"top_k_share = 0.5 chooses among the whole batch.* split into 2 parts"):
        parts = {"loss.top_k_share": 0.5, "train.accumulate": 2}
        setup.check_fit(config.override(tiny, parts), open_data(tiny.data))
    np.savez(tmp_path / "ten.npz", images=np.random.default_rng(0).integers(0, 256, (10, 16, 16), np.uint8))
    few = {"data.name": str(tmp_path / "ten.npz"), "data.split": "fit", "data.count": None, "train.batch_size": 4}
    few |= {"evaluate.every_images": 1, "network.conditioning": "none"}
    with pytest.raises(UsageError, match=r"holds one image, .* --set evaluate.every_images=0"):
        modiste.train(tiny, tmp_path / "few", overrides=few)


def test_a_recipe_with_classes_is_trained_without_them_on_images_without_labels(
    tiny: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = {"data.name": unlabelled(tmp_path), "train.images": 96}
    assert tiny.network.conditioning == "one-hot"
    run = modiste.train(tiny, tmp_path / "run", overrides=own)
    assert "has no labels; so tiny is trained without classes (network.conditioning = 'none')" in capfd.readouterr().err
    assert run.read_recipe().network.conditioning == "none" and run.read_manifest().data.classes == ()
    assert modiste.train(tiny, run.path, overrides=own).read_manifest().status == "finished"  # the same again
    longer = modiste.train(tiny, run.path, overrides={**own, "train.images": 160}, extend=True)
    assert longer.read_manifest().images == 160 and generators.load(run.path).shape.classes == 0
    grouped = {**own, "loss.group_clip": 1.0}
    with pytest.raises(UsageError, match=r"plain train .*has no labels: loss.group_clip needs classes"):
        modiste.train(tiny, tmp_path / "grouped", overrides=grouped)
    with np.load(own["data.name"]) as arrays:  # labels of which an earlier version took no notice
        np.savez(own["data.name"], images=arrays["images"], target=np.arange(64) % 2)
    assert (
        modiste.train(tiny, run.path, overrides={**own, "train.images": 192}, extend=True).read_manifest().images == 192
    )
    assert modiste.train(tiny, tmp_path / "other", overrides=own).read_manifest().data.classes == ("0", "1")


def test_a_run_from_before_there_was_a_choice_goes_on_with_the_same_pixels(tiny: Recipe, tmp_path: Path) -> None:
    """By the folder, by the same command, and by a study's; another fit that was asked for is refused."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    for k in range(64):
        (folder / str(k % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 24), np.uint8)).save(folder / str(k % 2) / f"{k}.png")
    own = {"data.name": str(folder), "data.count": None, "train.images": 96}
    run = modiste.train(tiny, tmp_path / "run", overrides={**own, "data.fit": "stretch"})
    now = modiste.train(tiny, tmp_path / "now", overrides=own)
    assert now.read_recipe().data.fit == "crop" and now.read_manifest().data.digest != run.read_manifest().data.digest
    (note,) = (note for note in now.read_manifest().data.notes if "not square" in note)
    assert "64 of 64 images are not square (24 x 16 pixels) and were cut to their middle" in note
    written = (run.path / "recipe.toml").read_text()
    (run.path / "recipe.toml").write_text(
        written.replace('fit = "stretch"\n', "").replace('background = "black"\n', "")
    )
    assert run.read_recipe().data.fit == "stretch"
    for what, more in ((str(run.path), {"train.images": 128}), (tiny, {**own, "train.images": 160})):
        assert modiste.train(what, run.path, overrides=more, extend=True).read_manifest().images == more["train.images"]
    with pytest.raises(UsageError, match=r"data.fit: stretch -> crop"):
        modiste.train(tiny, run.path, overrides={**own, "data.fit": "crop"})


def test_a_run_is_not_called_finished_while_its_recipe_wants_more(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = modiste.train(tiny, tmp_path / "run")
    longer = config.override(tiny, {"train.images": 400})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(config, "to_toml", killed)  # of the longer recipe, when the manifest is written already
        with pytest.raises(KeyboardInterrupt):
            modiste.train(longer, run.path, extend=True)
    assert run.read_recipe().train.images == 320 and run.read_manifest().status == "running"
    assert modiste.train(longer, run.path, extend=True).read_manifest().images == 400


def test_a_failure_without_a_sentence_is_in_the_manifest_too(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    threads = torch.get_num_threads()
    whole = trainer.loop
    monkeypatch.setattr(trainer, "loop", broken)
    with pytest.raises(RuntimeError, match="closed by peer"):
        modiste.train(tiny, tmp_path / "run", overrides={"train.threads": threads + 1})
    manifest = runs.Run(tmp_path / "run").read_manifest()
    assert manifest.status == "failed" and manifest.reason == "RuntimeError: Connection closed by peer"
    assert torch.get_num_threads() == threads  # what a training sets, it sets back
    monkeypatch.setattr(trainer, "loop", whole)
    manifest = modiste.train(tiny, tmp_path / "run", overrides={"train.threads": threads + 1}).read_manifest()
    assert manifest.status == "finished" and manifest.reason is None


def test_the_manifest_tells_where_a_run_stood_when_it_went_on(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer, seen = config.override(tiny, {"train.images": 400}), []
    run = modiste.train(tiny, tmp_path / "run")
    loop = trainer.loop

    def watched(session: trainer.Session, *rest: Any) -> str:
        seen.append(session.run.read_manifest())
        return loop(session, *rest)

    monkeypatch.setattr(trainer, "loop", watched)
    modiste.train(longer, run.path, extend=True)
    ((status, images, seconds),) = [(one.status, one.images, one.seconds) for one in seen]
    assert (status, images) == ("running", 320) and seconds >= run.read_log()[3]["seconds"]
    assert run.read_manifest().images == 400 and run.read_manifest().seconds == run.read_log()[-1]["seconds"]


def unlabelled(folder: Path) -> str:
    np.savez(folder / "plain.npz", images=np.random.default_rng(0).integers(0, 256, (64, 16, 16), np.uint8))
    return str(folder / "plain.npz")


def test_a_folder_with_other_files_is_left_alone(tiny: Recipe, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other files \(thesis.txt\)"):
        modiste.train(tiny, tmp_path)


def test_device_and_precision() -> None:
    assert environment.choose_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"train\.device = 'cuda', but this PyTorch finds no such device"):
            environment.choose_device("cuda")
    assert environment.choose_precision("float32", "cpu") == "float32"
    assert environment.choose_precision("auto", "mps") == "float32"


def test_streams_differ_by_purpose_and_position() -> None:
    seeds = {
        environment.seed_for(seed, purpose, *place)
        for seed in (0, 1)
        for purpose in "ab"
        for place in ((), (0,), (0, 1))
    }
    assert len(seeds) == 12 and all(0 <= seed < 2**63 for seed in seeds)
    assert distributed.any_of([True, False], ProcessGroup()) == [True, False]


def test_networks_of_a_seed_are_always_the_same(tiny: Recipe) -> None:
    shape = Shape(1, 16, 10)
    one, other = setup.make_state(tiny, shape, "cpu"), setup.make_state(tiny, shape, "cpu")
    assert torch.equal(weights(one.generator), weights(other.generator))
    seeded = setup.make_state(config.override(tiny, {"seed": 1}), shape, "cpu")
    assert not torch.equal(weights(one.generator), weights(seeded.generator))


def test_names_of_known_sets_and_recipes_win_over_folders(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("toy", "photos"):
        (tmp_path / name).mkdir()
    assert setup.resolve_run(tiny, None, {})[0].data.name == "toy"
    assert setup.resolve_run(tiny, None, {"data.name": "photos"})[0].data.name == str(tmp_path / "photos")
    modiste.train(tiny, "diaz-a", overrides={"train.images": 16})
    assert setup.resolve_run("diaz-a", None, {})[1] == Path("runs/diaz-a")
    assert setup.resolve_run("./diaz-a", None, {})[0].name == "tiny"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_compiled_networks_train_as_eager_ones_do(tiny: Recipe, tmp_path: Path) -> None:
    short = {"train.images": 80}
    eager = modiste.train(tiny, tmp_path / "eager", overrides=short).read_log()[-1]
    compiled = modiste.train(tiny, tmp_path / "compiled", overrides={**short, "train.compile": True}).read_log()[-1]
    for key in ("loss_g", "loss_d", "gradient_norm_g"):
        assert compiled[key] == pytest.approx(eager[key], rel=1e-2)


@pytest.mark.gpu
def test_cuda_trains_and_samples_what_the_processor_samples(tiny: Recipe, tmp_path: Path) -> None:
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.device": "cuda"})
    assert run.read_manifest().device == "cuda" and run.read_manifest().status == "finished"
    assert modiste.load(run).sample(4).shape == (4, 1, 16, 16)


def test_images_per_second_are_those_of_this_session(tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: 100.0)
    clock = trainer.Clock(seconds_before=50.0, images_before=64)  # resumed within a tick
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: 102.0)
    session = SimpleNamespace(dataset_size=64)
    record = trainer.tick_record(session, 80, dict.fromkeys([term.name for term in METER], 5.0), clock)  # type: ignore[arg-type]
    assert record["images_per_second"] == 8.0 and record["seconds"] == 52.0


def test_batch_norm_needs_two_images_at_a_time(tiny: Recipe, tiny_free: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gives batch norm one image at a time .* train.batch_size=32 or more"):
        modiste.train(tiny, tmp_path / "run", overrides={"train.accumulate": 16})
    assert not (tmp_path / "run").exists()
    modiste.train(tiny_free, tmp_path / "run", overrides={"train.batch_size": 1, "train.images": 2})


def choosing(values: list[float], every_images: int) -> trainer.Callable[..., checkpoint_selection.Selector]:
    """A stand-in for `selection.make_selector` whose scores are known beforehand."""
    return lambda *_: checkpoint_selection.Selector("frechet_any_heldout", every_images, lambda _: values.pop(0))


def test_the_best_generator_is_kept_beside_the_last(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = modiste.train(tiny, tmp_path / "early", overrides={"train.images": 160})
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([3.0, 1.0, 1.0, 2.0], every_images=80))
    run = modiste.train(tiny, tmp_path / "run")
    assert [record["frechet_any_heldout"] for record in run.read_log()] == [3.0, 1.0, 1.0, 2.0]
    assert run.read_manifest().best == runs.BestCheckpoint(160, "frechet_any_heldout", 1.0)
    kept, last = (run.path / f"{name}.safetensors" for name in ("best", "generator"))
    assert kept.read_bytes() == (early.path / "generator.safetensors").read_bytes() != last.read_bytes()
    assert not np.array_equal(*(modiste.load(run, checkpoint).sample(2) for checkpoint in ("best", "last")))


def test_the_best_is_looked_for_after_so_many_images_and_at_the_end(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [3.0, 2.0, 9.0]
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing(values, every_images=150))
    log = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 400}).read_log()
    assert [record["images"] for record in log if "frechet_any_heldout" in record] == [160, 320, 400] and not values


def test_the_last_is_judged_where_a_budget_ends_within_a_tick(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = trainer.save

    def slow(session: trainer.Session, state: State, clock: trainer.Clock) -> None:
        save(session, state, clock)
        clock._start -= 1e6 * (state.images == 160)

    monkeypatch.setattr(trainer, "save", slow)
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([3.0, 2.0], every_images=10**6))
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.budget_seconds": 1e6})
    scores = [(record["images"], record.get("frechet_any_heldout")) for record in run.read_log()]
    assert scores == [(80, None), (160, None), (176, 3.0)]  # one more step, whose tick is the last
    assert run.read_manifest().best == runs.BestCheckpoint(176, "frechet_any_heldout", 3.0)
    assert run.read_manifest().status == "finished"
    best, last = (run.path / f"{name}.safetensors" for name in ("best", "generator"))
    assert best.read_bytes() == last.read_bytes()


@pytest.mark.parametrize("function", ["save_state", "save_generator"])
def test_the_generator_kept_is_the_one_the_log_tells_of_wherever_a_training_is_killed(
    function: str, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after 160 images, before the state is saved or before the best is kept; what follows is not repeated."""
    images = 80 if function == "save_state" else 160
    expected = modiste.train(tiny, tmp_path / "expected", overrides={"train.images": images})
    function_before = getattr(runs, function)

    class Killed(BaseException):
        pass

    def dying(run: runs.Run, *rest: object) -> object:
        if run.read_log() and run.read_log()[-1]["images"] == 160 and (function == "save_state" or "best" in rest):
            raise Killed
        return function_before(run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_selection, "make_selector", choosing([3.0, 1.0], every_images=80))
        patch.setattr(runs, function, dying)
        with pytest.raises(Killed):
            modiste.train(tiny, tmp_path / "run")
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([7.0, 8.0, 9.0], every_images=80))
    run = modiste.train(tiny, tmp_path / "run")
    assert run.read_manifest().best == runs.BestCheckpoint(images, "frechet_any_heldout", 3.0 if images == 80 else 1.0)
    kept, wanted = run.path / "best.safetensors", expected.path / "generator.safetensors"
    assert kept.read_bytes() == wanted.read_bytes()


def test_the_best_of_a_tick_whose_state_was_damaged_is_not_kept(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU does not repeat the tick to the last bit, so the log may come to name another best."""
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([2.0, 3.0, 1.0], every_images=80))
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 240})
    assert run.read_manifest().best.images == 240
    runs.states(run)[0].write_bytes(b"damaged")
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([7.0], every_images=80))
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 240})
    assert [line["frechet_any_heldout"] for line in run.read_log()] == [2.0, 3.0, 7.0]
    assert run.read_manifest().best is None and not (run.path / "best.safetensors").exists()


def test_scores_by_another_judge_are_not_compared(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing([1.0, 2.0], every_images=80))
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 160})
    before = (run.path / "best.safetensors").read_bytes()
    later = checkpoint_selection.Selector("frechet_later_heldout", 80, lambda _: 50.0)
    monkeypatch.setattr(checkpoint_selection, "make_selector", lambda *_: later)
    run = modiste.train(tiny, run.path, extend=True)
    assert run.read_manifest().best == runs.BestCheckpoint(240, "frechet_later_heldout", 50.0)
    assert (run.path / "best.safetensors").read_bytes() != before


def test_a_training_judges_itself_by_held_out_images(tiny: Recipe, tmp_path: Path, closet: Path) -> None:
    judged = {"data.name": str(closet), "evaluate.every_images": 160, "evaluate.count": 20}
    run = modiste.train(tiny, tmp_path / "run", overrides=judged)
    (name,) = [key for key in run.read_log()[1] if key.endswith("_heldout")]
    assert name.startswith("frechet_") and name not in run.read_log()[0] and name in run.read_log()[3]
    best = run.read_manifest().best
    assert best is not None and best.score == name
    assert best.value == min(record[name] for record in run.read_log() if name in record)
    selector = checkpoint_selection.make_selector(run.read_recipe(), Shape(1, 16, 10))
    assert selector is not None and selector.name == name
    generator, _, _ = generators.load_network(run.path, "best.safetensors")
    assert selector.score(generator) == pytest.approx(best.value, rel=1e-6)
    plain = modiste.train(tiny, tmp_path / "plain", overrides={**judged, "evaluate.every_images": 0})
    assert not (plain.path / "best.safetensors").exists() and plain.read_manifest().best is None
    same = (run.path / "generator.safetensors", plain.path / "generator.safetensors")
    assert same[0].read_bytes() == same[1].read_bytes()  # being judged changes nothing


def test_a_tick_reads_no_log(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a log is, a tick costs what the first one did."""
    reads: list[str] = []
    monkeypatch.setattr(runs, "_read", lambda path, read=runs._read: reads.append(path.name) or read(path))

    def logs_read(images: int) -> int:
        reads.clear()
        recipe = config.override(tiny, {"train.images": images, "train.tick_images": 16})
        assert len(modiste.train(recipe, tmp_path / str(images)).read_log()) == images // 16
        return reads.count("log.jsonl")

    assert logs_read(320) == logs_read(32)


def test_what_is_told_of_a_long_log_does_not_grow() -> None:
    log = trainer.LogSummary()
    record = {"d_accuracy_real": 1.0, "d_accuracy_fake": 1.0, "gradient_norm_g": 1.0}
    signs = [log.add({**record, "images": images, "frechet_a_heldout": 5.0 + images}) for images in range(50_000)]
    assert [len(new) for new in signs[: diagnostics.PATIENCE_TICKS]] == [0] * (diagnostics.PATIENCE_TICKS - 1) + [1]
    assert not any(signs[diagnostics.PATIENCE_TICKS :])
    assert len(log.history.recent) == diagnostics.PATIENCE_TICKS and log.history.recent[-1]["images"] == 49_999
    assert log.best is not None and log.best[1]["images"] == 0
