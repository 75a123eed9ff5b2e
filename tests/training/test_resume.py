"""Nothing is lost: a training that was stopped, killed or starved of disk ends as one that never was."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import assert_same, content

import modiste
from modiste import config, environment, runs
from modiste.config import Recipe
from modiste.data import toy
from modiste.errors import ModisteError, UsageError
from modiste.metrics import classifier_training
from modiste.training import trainer

LAB = Path(__file__).with_name("crash_lab.py")
PATIENCE_SECONDS = 600  # for a machine that does other things
Crash = Callable[..., list[str]]


@pytest.fixture
def unbroken(tiny: config.Recipe, tmp_path: Path) -> dict[str, Any]:
    run = modiste.train(tiny, tmp_path / "unbroken")
    assert [record["images"] for record in run.read_log()] == [80, 160, 240, 320]
    assert [grid.stem for grid in run.list_grids()] == [f"{images:09d}" for images in (0, 80, 160, 240, 320)]
    return content(run)


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """How the children of the crash laboratory ended, by mode, recipe, run folder and number of kills."""
    with subprocess.Popen([sys.executable, str(LAB)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lab:

        def endings(mode: str, recipe: config.Recipe, out: Path, kills: int = 0) -> list[str]:
            file = out.with_suffix(".toml")
            file.write_text(config.to_toml(recipe), encoding="utf-8")
            assert lab.stdin is not None and lab.stdout is not None
            lab.stdin.write(json.dumps([mode, str(file), str(out), kills]) + "\n")
            lab.stdin.flush()
            if not select.select([lab.stdout], [], [], PATIENCE_SECONDS)[0]:
                lab.kill()
            ended: list[str] = json.loads(lab.stdout.readline() or '["the laboratory ended"]')
            return ended

        yield endings


@pytest.mark.parametrize("kills", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_sigkill_at_random_instants(
    kills: int, tiny: config.Recipe, tmp_path: Path, unbroken: dict[str, Any], crash: Crash
) -> None:
    endings = crash("random", tiny, tmp_path / "killed", kills)
    assert endings.count("SIGKILL") >= kills and endings[-1] == "exit 0"
    finished = [path for path in tmp_path.glob("killed*") if path.is_dir()]
    assert finished
    for path in finished:
        assert_same(content(runs.open_run(path)), unbroken)


def test_sigkill_inside_writes(tiny: config.Recipe, tmp_path: Path, closet: Path, crash: Crash) -> None:
    """Also of best.safetensors: this training judges itself after every tick."""
    judged = {"data.name": str(closet), "evaluate.every_images": 80, "evaluate.count": 20}
    recipe = config.override(tiny, judged)
    unbroken = modiste.train(recipe, tmp_path / "unbroken")
    endings = crash("in-write", recipe, tmp_path / "killed")
    assert endings[:-1] == ["SIGKILL"] * 10 and endings[-1] == "exit 0"
    killed = runs.open_run(tmp_path / "killed")
    assert_same(content(killed), content(unbroken))
    assert killed.read_manifest().best == unbroken.read_manifest().best and (killed.path / "best.safetensors").is_file()
    assert not list(killed.path.rglob("*.writing"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_save_and_exit_cleanly(name: str, tiny: config.Recipe, tmp_path: Path, crash: Crash) -> None:
    recipe = config.override(tiny, {"train.images": 160})
    endings = crash(name, recipe, tmp_path / "stopped")
    assert len(endings) >= 2 and set(endings) == {"exit 0"}
    assert_same(content(runs.open_run(tmp_path / "stopped")), content(modiste.train(recipe, tmp_path / "unbroken")))


def test_a_closed_terminal_loses_nothing(tiny: config.Recipe, tmp_path: Path) -> None:
    """A training in a terminal of its own, with its live bar, goes on to be saved when the terminal is gone."""
    out, file = tmp_path / "run", tmp_path / "recipe.toml"
    file.write_text(config.to_toml(config.override(tiny, {"train.images": 10**7})), encoding="utf-8")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests may have it ignored
        os.execv(sys.executable, [sys.executable, "-m", "modiste", "train", str(file), "--out", str(out)])
    deadline = time.monotonic() + 60
    while not (out / "log.jsonl").exists() and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    run = runs.open_run(out)
    assert run.read_manifest().status == "interrupted"
    state, _ = runs.load_state(run)
    assert state is not None and state["images"] == run.read_manifest().images > 0


def test_an_ignored_hangup_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        with environment.interruptible() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_state_within_a_tick(
    processes: int, tiny: config.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved by time, before it is killed and after: it changes nothing, and the training goes on from such a state."""
    recipe = config.override(tiny, {"train.tick_images": 160, "train.processes": processes})
    plain = content(modiste.train(recipe, tmp_path / "plain"))
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)

    class Killed(BaseException):
        pass

    saved, save_state = [], runs.save_state

    def save_and_die(run: runs.Run, images: int, state: dict[str, Any]) -> Path:
        saved.append(images)
        path = save_state(run, images, state)
        if len(saved) == 13:
            raise Killed
        return path

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(runs, "save_state", save_and_die)
        modiste.train(recipe, tmp_path / "killed")
    assert saved[-1] % 160  # between two ticks
    run = runs.open_run(tmp_path / "killed")
    assert run.read_log()[-1]["images"] < saved[-1] and runs.states(run)[0].name.startswith(f"{saved[-1]:09d}")
    assert_same(content(modiste.train(recipe, run.path)), plain)


def test_two_trainings_in_two_threads(tiny: config.Recipe, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    """One is refused before it leaves anything; the other one is as if it had been alone, and so is the caller."""
    refused: list[ModisteError] = []

    def second(_: Any) -> None:
        def attempt(work: Callable[[], object]) -> None:
            with pytest.raises(ModisteError, match="another training is under way in this process") as refusal:
                work()
            refused.append(refusal.value)

        drawn = toy.draw(16, 16, 0)
        for work in (
            lambda: modiste.train(tiny, tmp_path / "second"),
            lambda: classifier_training.train_classifier(drawn, epochs=1),
        ):
            thread = threading.Thread(target=attempt, args=[work])
            thread.start()
            thread.join()

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = modiste.train(tiny, tmp_path / "first", follow=lambda _: nullcontext(second))
    assert torch.equal(torch.rand(3), expected)
    assert len(refused) == 2 * len(first.read_log()) and not (tmp_path / "second").exists()
    assert_same(content(first), unbroken)


def test_full_disk_in_a_save(tiny: config.Recipe, tmp_path: Path, unbroken: dict[str, Any], crash: Crash) -> None:
    out = tmp_path / "full"
    assert crash("quota", tiny, out) == ["exit 0", "exit 3", "exit 0"]
    message = Path(f"{out}.error").read_text(encoding="utf-8")
    assert message.startswith("cannot write") and "make room" in message
    assert_same(content(runs.open_run(out)), unbroken)


def test_damaged_newest_state_falls_back_to_the_older(
    tiny: config.Recipe, tmp_path: Path, unbroken: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = modiste.train(tiny, tmp_path / "damaged")
    newest = runs.states(run)[0]
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(bytes(damaged))
    modiste.train(tiny, tmp_path / "damaged")
    said = capsys.readouterr().err.replace("\n", " ")
    assert "is damaged" in said and "resuming" in said and "240 images" in said
    assert not newest.exists() and not runs.load_state(run)[1]
    assert_same(content(run), unbroken)

    for state in runs.states(run):
        state.write_bytes(b"nothing")
    with pytest.raises(ModisteError, match="every saved state"):
        modiste.train(tiny, tmp_path / "damaged")


def test_extending_equals_training_long(tiny: config.Recipe, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    out = tmp_path / "extended"
    modiste.train(tiny, out, overrides={"train.images": 160})
    with pytest.raises(ModisteError, match=r"train.images: 160 -> 320.*--extend"):
        modiste.train(tiny, out)
    run = modiste.train(tiny, out, extend=True)
    assert_same(content(run), unbroken)


def test_a_different_recipe_is_refused_with_its_differences(tiny: config.Recipe, tmp_path: Path) -> None:
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 80})
    before = content(run)
    with pytest.raises(ModisteError, match=r"network.z_dim: 8 -> 9; train.images: 80 -> 320") as refusal:
        modiste.train(tiny, tmp_path / "run", overrides={"network.z_dim": 9})
    assert refusal.value.exit_code == 2 and "--extend" not in str(refusal.value)
    assert_same(content(run), before)


def test_a_run_that_held_out_the_last_images_goes_on_so(tiny: config.Recipe, closet: Path, tmp_path: Path) -> None:
    """An older recipe.toml says nothing of how images are held out, and the run has learned from the first 90 %."""
    own = {"data.name": str(closet), "data.count": None, "data.split": "fit", "train.images": 160}
    own |= {"evaluate.every_images": 80, "evaluate.count": 40}
    run = modiste.train(tiny, tmp_path / "run", overrides={**own, "data.heldout": "last"})
    place = run.path / "recipe.toml"
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace('heldout = "last"\n', ""), encoding="utf-8")
    longer = modiste.train(tiny, run.path, overrides={**own, "train.images": 320}, extend=True)
    assert longer.read_manifest().images == 320 and longer.read_recipe().data.heldout == "last"
    assert longer.read_manifest().data.name.startswith("closet fit first-90%")
    whole = modiste.train(tiny, tmp_path / "whole", overrides={**own, "data.heldout": "last", "train.images": 320})
    assert_same(content(longer), content(whole))
    measured = modiste.evaluate(longer, count=40, reference="heldout")
    assert measured.protocol.reference.data == "closet heldout last-10%"
    anew = modiste.train(tiny, tmp_path / "run", overrides=own, fresh=True)
    assert anew.read_recipe().data.heldout == "drawn" and anew.read_manifest().data.name.startswith(
        "closet fit drawn-90%"
    )


def test_finished_run_says_so_and_fresh_numbers_a_new_folder(
    tiny: config.Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"train.images": 80}
    run = modiste.train(tiny, tmp_path / "run", overrides=short)
    start = run.read_manifest().start
    capsys.readouterr()
    assert modiste.train(tiny, tmp_path / "run", overrides=short).read_manifest().start == start
    assert "is finished" in capsys.readouterr().err.replace("\n", " ")
    assert modiste.train(tiny, tmp_path / "run", overrides=short, fresh=True).path == tmp_path / "run-2"
    assert modiste.train(tiny, tmp_path / "run", overrides=short, fresh=True).path == tmp_path / "run-3"
    assert modiste.train(run.path).path == run.path  # a run folder is a recipe too


def test_a_second_process_is_kept_out(tiny: config.Recipe, tmp_path: Path) -> None:
    with runs.locked(tmp_path / "run"):
        holder = "from modiste import runs; import sys, pathlib\nwith runs.locked(pathlib.Path(sys.argv[1])): pass"
        command = [sys.executable, "-c", holder, str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "is in use by another training" in done.stderr
    modiste.train(tiny, tmp_path / "run", overrides={"train.images": 16})


def test_a_budget_may_be_raised_where_the_learning_rate_falls(
    tiny: config.Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = config.override(tiny, {"train.lr_schedule": "linear"})
    whole = content(modiste.train(falling, tmp_path / "whole"))
    short = {"train.budget_seconds": 1e-9}
    run = modiste.train(falling, tmp_path / "run", overrides={**short})
    assert run.read_manifest().status == "finished" and run.read_manifest().images == 16  # one step
    longer = content(modiste.train(falling, run.path, extend=True))
    for part in ("state", "generators"):
        assert_same(longer[part], whole[part])
    modiste.train(falling, run.path, overrides={"train.budget_seconds": 60.0}, extend=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "all 320 images of this training were shown already, so there is nothing left of it; its rates end" in said
    for images in (640, 160):  # the one would bend the path, the other is no extension
        with pytest.raises(ModisteError, match=rf"cannot be extended so \(train.images: 320 -> {images}"):
            modiste.train(falling, run.path, overrides={"train.images": images}, extend=True)
    with pytest.raises(ModisteError, match=r"train.images: 320 -> 160"):
        modiste.train(tiny, modiste.train(tiny, tmp_path / "level").path, overrides={"train.images": 160}, extend=True)


def test_an_extension_to_less_than_was_trained_is_refused(tiny: config.Recipe, tmp_path: Path) -> None:
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 80})
    before = content(run)
    with pytest.raises(ModisteError, match=r"was trained for .* already, so that train.budget_seconds = 1e-09 leaves"):
        modiste.train(tiny, run.path, overrides={"train.budget_seconds": 1e-9}, extend=True)
    assert_same(content(run), before)
    assert run.read_recipe().train.budget_seconds is None and run.read_manifest().images == 80


def test_a_run_whose_states_are_gone_is_not_begun_anew(tiny: config.Recipe, tmp_path: Path) -> None:
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 80})
    weights = (run.path / "generator.safetensors").read_bytes()
    for state in runs.states(run):
        state.unlink()
    with pytest.raises(ModisteError, match=r"saved states of .* are gone"):
        modiste.train(tiny, run.path, extend=True)
    assert len(run.read_log()) == 1 and (run.path / "generator.safetensors").read_bytes() == weights


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
