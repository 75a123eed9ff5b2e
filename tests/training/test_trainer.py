from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import set_up, weights

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.networks.layers import ImageShape
from modiste.sampling import generators
from modiste.training import checkpoint_selection, cuda_graph, diagnostics, trainer
from modiste.training import step as algorithm
from modiste.training.distributed import ProcessGroup
from modiste.training.step import (
    METER,
    Batch,
    State,
    step,
    unchecked,
)  # fmt: skip


def test_a_nonfinite_loss_stops_before_the_weights_change(tiny: Recipe, tmp_path: Path) -> None:
    state, functions, batch_at = set_up(tiny)
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
        with pytest.raises(RuntimeError, match="size"):  # with its traceback
            modiste.train(tiny, tmp_path / "run")
    assert modiste.train(tiny, tmp_path / "run", overrides={}).read_manifest().status == "finished"


@pytest.mark.parametrize("name", ["nonsaturating", "minimax", "least-squares", "hinge", "wasserstein", "relativistic"])
def test_every_loss_trains_in_both_precisions(name: str, tiny: Recipe, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        changes = {"loss.adversarial": name, "train.images": 80, "train.precision": precision, "loss.r1_gamma": 0.1}
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
    runs.update_manifest(run, status="running")  # as if it had been killed after its last tick
    again = modiste.train(tiny, tmp_path / "run", overrides=changes)
    assert again.read_manifest().status == "finished" and again.read_manifest().images == manifest.images


def test_a_budget_shorter_than_the_first_grid_buys_a_step(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "draw_grid", lambda session, state: time.sleep(0.3))
    changes = {"train.images": 10**9, "train.tick_images": 10**9, "train.budget_seconds": 0.2}
    run = modiste.train(tiny, tmp_path / "run", overrides=changes)
    assert run.read_log() and run.read_log()[-1]["images"] >= 16 and (run.path / "generator.safetensors").is_file()


def test_the_manifest_records_how_the_run_was_made(tiny: Recipe, tmp_path: Path) -> None:
    manifest = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 16}).read_manifest()
    assert manifest.recipe_hash == config.content_hash(runs.open_run(tmp_path / "run").read_recipe())
    assert manifest.data.digest == content_digest(open_data(tiny.data)) and manifest.data.count == 64
    expected = {"modiste", "python", "torch", "numpy", "platform", "git_commit", "command", "device", "precision"}
    assert (
        expected | {"threads", "processes", "start", "end", "status", "peak_memory_bytes"} <= manifest.to_json().keys()
    )


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


def test_a_folder_with_other_files_is_left_alone(tiny: Recipe, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other files \(thesis.txt\)"):
        modiste.train(tiny, tmp_path)


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


def choosing(values: list[float], every_images: int) -> trainer.Callable[..., checkpoint_selection.Selector]:
    """A stand-in for `selection.make_selector` whose scores are known beforehand."""
    name = "frechet_any_heldout"
    return lambda *_: checkpoint_selection.Selector(name, every_images, lambda _: {name: values.pop(0)})


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


def test_patience_ends_a_training_that_gains_no_more(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [3.0, 1.0, 1.0, 2.0, 0.5]
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing(values, every_images=80))
    patient = {"evaluate.every_images": 80, "evaluate.patience": 2, "train.images": 400}
    run = modiste.train(tiny, tmp_path / "run", overrides=patient)
    manifest = run.read_manifest()
    assert (manifest.status, manifest.images) == ("finished", 320) and values == [0.5]
    assert manifest.best is not None and manifest.best.images == 160
    assert "no gain for 2 evaluations (evaluate.patience = 2); the best generator is that after 160 images" in (
        capsys.readouterr().err
    )
    assert modiste.train(tiny, run.path, overrides=patient).read_manifest().images == 320  # it is finished
    longer = modiste.train(tiny, run.path, extend=True, overrides={**patient, "evaluate.patience": 3})
    assert longer.read_manifest().images == 400 and longer.read_manifest().best.images == 400
    with pytest.raises(UsageError, match="every_images = 0 makes none"):
        config.override(tiny, {"evaluate.patience": 2})


def test_the_score_is_taken_after_so_many_images_and_at_the_end(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [3.0, 2.0, 9.0]
    monkeypatch.setattr(checkpoint_selection, "make_selector", choosing(values, every_images=150))
    log = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 400}).read_log()
    assert [record["images"] for record in log if "frechet_any_heldout" in record] == [160, 320, 400] and not values


def test_the_last_tick_of_a_budget_carries_the_score(
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
def test_the_generator_kept_belongs_to_the_best_record_wherever_a_training_is_killed(
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
    later = checkpoint_selection.Selector("frechet_later_heldout", 80, lambda _: {"frechet_later_heldout": 50.0})
    monkeypatch.setattr(checkpoint_selection, "make_selector", lambda *_: later)
    run = modiste.train(tiny, run.path, extend=True)
    assert run.read_manifest().best == runs.BestCheckpoint(240, "frechet_later_heldout", 50.0)
    assert (run.path / "best.safetensors").read_bytes() != before


def test_a_training_is_scored_on_held_out_images(tiny: Recipe, tmp_path: Path, closet: Path) -> None:
    judged = {"data.name": str(closet), "evaluate.every_images": 160, "evaluate.count": 20}
    run = modiste.train(tiny, tmp_path / "run", overrides=judged)
    (name,) = [key for key in run.read_log()[1] if key.endswith("_heldout")]
    assert name.startswith("frechet_") and name not in run.read_log()[0] and name in run.read_log()[3]
    best = run.read_manifest().best
    assert best is not None and best.score == name
    assert best.value == min(record[name] for record in run.read_log() if name in record)
    selector = checkpoint_selection.make_selector(run.read_recipe(), ImageShape(1, 16, 10))
    assert selector is not None and selector.name == name
    generator, _, _ = generators.load_network(run.path, "best.safetensors")
    assert selector.score(generator)[name] == pytest.approx(best.value, rel=1e-6)
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


def test_the_summary_of_a_long_log_does_not_grow() -> None:
    log = trainer.LogSummary()
    record = {"d_accuracy_real": 1.0, "d_accuracy_fake": 1.0, "gradient_norm_g": 1.0}
    signs = [log.add({**record, "images": images, "frechet_a_heldout": 5.0 + images}) for images in range(50_000)]
    assert [sign.kind for new in signs[:20] for sign in new] == ["rising", "saturated", "stalled"]
    assert not any(signs[20:])
    assert len(log.history.recent) == diagnostics.PATIENCE_TICKS and log.history.recent[-1]["images"] == 49_999
    assert log.best is not None and log.best.images == 0
