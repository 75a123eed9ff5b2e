"""Searches: which trials are made by whom, what is pruned, queued again and kept."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_space import HEAD, RATES, WIDTHS, written

from modiste import cli, config, runs
from modiste.errors import ModisteError, UsageError
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.runner import JobResult
from modiste.experiments.search import finalists, search, spaces, trials
from modiste.experiments.search.search import SearchResult
from modiste.experiments.search.spaces import Space

optuna = pytest.importorskip("optuna")

QUIET = Console(quiet=True)


def go(what: Any, out: Path, storage: str | None = None, **changes: Any) -> SearchResult:
    """The search with some keys of its space changed."""
    space = what if isinstance(what, Space) else spaces.load(what)
    return search.run_search(spaces.revise(space, **changes), out, storage, QUIET)


def trials_only(what: Any, out: Path, **changes: Any) -> SearchResult:
    return go(what, out, finalists={"count": 0}, **changes)


def opened(file: Path, out: Path, **changes: Any) -> trials.Search:
    """The search before its first trial."""
    return search._open(spaces.revise(spaces.load(file), **changes), ExperimentFolder(out, "search"), None, QUIET)


def test_a_search_that_was_begun_reads_and_holds_out_images_as_it_did(tmp_path: Path, pretended: list[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 12), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(60) % 2)
    text = f'{HEAD}trials = 1\nset."data.name" = "{tmp_path / "own.npz"}"\nset."data.resize" = 8\n[space]\n{RATES}\n'
    text = text.replace("tiny.toml", "swift").replace("evaluate.count", 'set."train.batch_size" = 8\nevaluate.count')
    out, space = tmp_path / "out", spaces.load(written(tmp_path, text))
    now = trials_only(space, out)
    study = optuna.load_study(study_name="little", storage=f"sqlite:///{out / 'optuna.db'}")
    identity = study.user_attrs["identity"]
    for key in ("fit", "background", "heldout", "group_by"):  # as before there was a choice
        identity["recipe"]["data"].pop(key, None)
    study.set_user_attr("identity", identity)
    assert spaces.differences(identity, spaces.identity(space))
    again = trials_only(out, out, trials=2)
    assert len(again.trials) == 2 and again.trials[0] == now.trials[0]
    data = spaces.base_recipe(again.space).data
    assert (data.heldout, data.fit) == ("last", "stretch")
    assert spaces.base_recipe(trials_only(out, out, trials=3).space).data == data


def test_going_on_makes_only_the_missing_trials(file: Path, pretended: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    two = trials_only(file, out, trials=2)
    assert pretended == ["trial-0000", "trial-0001"] and two.finished
    trials_only(out, out, trials=2)
    assert len(pretended) == 2
    four = trials_only(out, out, trials=4)
    assert pretended[2:] == ["trial-0002", "trial-0003"] and four.trials[:2] == two.trials
    points = [json.dumps(row.settings) for row in four.trials]
    assert len(set(points)) == 4, "resuming must not draw the first points again"
    at_once = trials_only(file, tmp_path / "other", trials=4)
    assert [row.settings for row in at_once.trials] == [row.settings for row in four.trials]
    other_seed = trials_only(file, tmp_path / "seed", trials=1, seed=5)
    assert other_seed.trials[0].settings != four.trials[0].settings
    with (out / "trials.csv").open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    assert [float(row["value"]) for row in table] == [row.settings["train.lr_generator"] for row in four.trials]
    assert len(optuna.load_study(study_name="little", storage=f"sqlite:///{out / 'optuna.db'}").trials) == 4


def test_a_trial_that_was_queued_again_is_not_one_too_many() -> None:
    """Another worker may ask for it before the one that was killed is marked failed."""
    attributes: list[dict[str, Any]] = [{}, {}, {}, {"place": 1}]
    every = [SimpleNamespace(number=k, user_attrs=of, state=optuna.trial.TrialState.RUNNING)
             for k, of in enumerate(attributes)]  # fmt: skip
    assert [trials.place(one, every) for one in every] == [0, 1, 2, 1]
    assert [trials.places_before(one, every) for one in every] == [0, 1, 2, 2]
    every[1].state, every[1].user_attrs = optuna.trial.TrialState.FAIL, {"again": "its worker was killed"}
    assert trials.places_before(every[3], every) == 2


def test_another_search_does_not_fit(file: Path, pretended: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    trials_only(file, out, trials=1)
    with pytest.raises(UsageError, match=r"objective: frechet -> kernel"):
        trials_only(file, out, objective="kernel")
    with pytest.raises(UsageError, match=r"recipe\.train\.beta1: 0\.5 -> 0\.25"):
        trials_only(file, out, set={"train.beta1": 0.25})
    copies = {place: place.read_bytes() for place in out.rglob("*.toml")}
    own = Path(spaces.load(file).recipe)
    own.write_text(own.read_text().replace("beta1 = 0.5", "beta1 = 0.75"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"recipe\.train\.beta1: 0\.5 -> 0\.75"):
        trials_only(file, out)
    assert {place: place.read_bytes() for place in out.rglob("*.toml")} == copies and len(copies) == 2
    with pytest.raises(UsageError, match="leave --storage out"):
        trials_only(file, out, storage="sqlite:///x.db")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(UsageError, match=r"holds other files \(letter\.txt\)"):
        trials_only(file, tmp_path / "mine")
    with pytest.raises(UsageError, match="cannot be opened") as error:
        trials_only(file, tmp_path / "third", storage="nonsense://me:secret@host/base")
    assert "secret" not in str(error.value)
    assert pretended == ["trial-0000"]


def test_a_folder_s_name_is_no_part_of_a_url(file: Path, pretended: list[str], tmp_path: Path) -> None:
    """Every search has its memory in its own folder, whatever sign its name has, and goes on with it."""
    inside = tmp_path / "searches"
    names = ["lr?1", "lr?2", "a#b", "a%20b", "k=v&w {x} 日本 [x];"]
    for k, name in enumerate(names):
        trials_only(file, inside / name, trials=1, seed=k)
    assert sorted(path.name for path in inside.iterdir()) == sorted(names)
    for name in names:
        assert (inside / name / "optuna.db").is_file(), name
    rates = [trials_only(inside / name, inside / name).trials[0].settings["train.lr_generator"] for name in names]
    assert len(set(rates)) == len(names) == len(pretended)
    with pytest.raises(UsageError, match=r"'1/x\.db' is none"):
        trials_only(file, tmp_path / "other", storage=f"sqlite:///{tmp_path}/lr?1/x.db")
    assert not (tmp_path / "lr").exists()


@pytest.mark.parametrize("storage", ["sqlite:///{}/shared.db", "{}/shared.journal"])
def test_workers_share_a_storage(storage: str, file: Path, pretended: list[str], tmp_path: Path) -> None:
    """Two in one folder and one in its own: seven trials together, none twice."""
    url = storage.format(tmp_path)
    failed: list[BaseException] = []

    def work(out: str) -> None:
        try:
            trials_only(file, tmp_path / out, trials=7, storage=url)
        except BaseException as error:
            failed.append(error)

    work_first = trials_only(file, tmp_path / "a", trials=1, storage=url)
    assert len(work_first.trials) == 1
    threads = [threading.Thread(target=work, args=(out,)) for out in ("a", "a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    done = [row for row in trials_only(tmp_path / "b", tmp_path / "b", trials=7, storage=url).trials]
    kept = [row for row in done if row.state == "finished"]
    assert len(kept) == 7 and len({row.value for row in kept}) == 7
    assert len(pretended) == len(set(pretended)) == 7
    assert {row.state for row in done} <= {"finished", "queued again"}
    with pytest.raises(UsageError, match="name it again with --storage"):
        trials_only(tmp_path / "b", tmp_path / "b")


def test_failures_are_kept_and_the_search_goes_on(file: Path, pretended: list[str], tmp_path: Path) -> None:
    text = HEAD + "[space]\nnetwork.z_dim = { choices = [8, 13] }\n" + RATES
    found = trials_only(written(tmp_path, text), tmp_path / "out", trials=8)
    states = {row.settings["network.z_dim"]: row.state for row in found.trials}
    assert states == {8: "finished", 13: "failed"} and len(found.trials) == 8
    assert {row.reason for row in found.trials if row.state == "failed"} == {"it exploded"}
    with pytest.raises(ModisteError, match="no trial of the search little finished: it exploded"):
        trials_only(written(tmp_path, text.replace("8, 13", "13, 13")), tmp_path / "bad", trials=1)


def test_a_point_is_trained_once(file: Path, pretended: list[str], tmp_path: Path) -> None:
    text = HEAD + "[space]\n" + WIDTHS
    found = trials_only(written(tmp_path, text), tmp_path / "out", trials=6)
    assert len(pretended) == 2 and [row.state for row in found.trials] == ["finished"] * 6
    assert sum("the same point as" in row.reason for row in found.trials) == 4
    assert "only 2 points" in spaces.load(written(tmp_path, text)).warnings[0]
    assert len(finalists.finalists(found.space.model_copy(update={"finalists": spaces.Finalists()}), found.trials)) == 2


def test_a_worker_without_signs_of_life(
    file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on another machine: its trial is taken over when it was seen to be silent, under its old folder."""
    url = f"sqlite:///{tmp_path}/shared.db"
    trials_only(file, tmp_path / "a", trials=1, storage=url)
    study = optuna.load_study(study_name="little", storage=url)
    gone = study.ask()
    gone.suggest_float("train.lr_generator", 1e-4, 1e-2, log=True)
    gone.suggest_categorical("network.generator_widths.1", [4, 6])
    gone.set_user_attr("worker", "elsewhere")
    gone.set_user_attr("beat", 5)
    monkeypatch.setattr(trials, "GRACE_SECONDS", 0.3)
    found = trials_only(file, tmp_path / "a", trials=2, storage=url)
    assert [row.state for row in found.trials] == ["finished", "queued again", "finished"]
    assert found.trials[2].folder == "runs/trial-0001" == f"runs/{pretended[-1]}"
    assert found.trials[2].settings["train.lr_generator"] == gone.params["train.lr_generator"]
    assert "no sign of life" in found.trials[1].reason


def points(of: SearchResult) -> list[tuple[object, ...]]:
    """What came of the trials asked for, in whatever order they were made."""
    rows = [row for row in of.trials if row.state != "queued again"]
    return sorted((row.state, row.value, *row.settings.values()) for row in rows)


@pytest.mark.parametrize(("sampler", "done"), [("random", 0), ("random", 2), ("tpe", 11)])
def test_a_search_killed_anywhere_tries_the_undisturbed_points(
    sampler: str, done: int, file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "GRACE_SECONDS", 0.1)
    asked: dict[str, Any] = {"trials": done + 3, "sampler": sampler}
    whole, out = trials_only(file, tmp_path / "whole", **asked), tmp_path / "killed"
    if done:
        trials_only(file, out, **{**asked, "trials": done})
    started = opened(file, out, finalists={"count": 0}, **asked)
    started.study.ask()  # killed before it says who makes it
    trials_only(file, out, **{**asked, "trials": done + 1})
    half = started.study.ask()  # killed with half of its point chosen
    half.set_user_attr("worker", "gone")
    half.set_user_attr("beat", 0)
    half.study.sampler = optuna.samplers.RandomSampler(seed=5)
    half.suggest_float("train.lr_generator", 1e-4, 1e-2, log=True)
    (out / "workers/gone").touch()
    (out / "workers/idle").touch()  # of a worker that was killed between two trials
    found = trials_only(file, out, **asked)
    assert points(found) == points(whole) and not list((out / "workers").iterdir())
    assert sum(row.state == "queued again" for row in found.trials) == 2


def test_a_point_is_queued_again_once_wherever_its_worker_is_killed(
    file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here between queueing it and marking the trial that it comes from."""
    monkeypatch.setattr(trials, "GRACE_SECONDS", 0.1)
    whole = trials_only(file, tmp_path / "whole", trials=3)
    started = opened(file, tmp_path / "out", trials=3, finalists={"count": 0})
    started.study.ask()
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_end", lambda *_, **__: None)
        trials._queue_again(started, started.read_trials()[0], "its worker was killed")
    found = trials_only(file, tmp_path / "out", trials=3)
    assert points(found) == points(whole) and len(found.trials) == 4


def test_a_full_disk_is_no_fault_of_the_point(
    file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials_only(file, tmp_path / "whole", trials=3)
    trials_only(file, tmp_path / "out", trials=1)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_train", lambda *call: (JobResult("failed", "no"), trials.TrialMonitor(*call[:3])))
        patch.setattr(trials.files, "has_room", lambda _: False)
        with pytest.raises(ModisteError, match=r"no room on the disk of .*out \(no\); make room"):
            trials_only(file, tmp_path / "out", trials=3)
    found = trials_only(file, tmp_path / "out", trials=3)
    assert points(found) == points(whole) and "failed" not in {row.state for row in found.trials}


def test_what_a_database_cannot_do_is_a_sentence(
    file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        database = importlib.import_module("sqlalchemy.exc")
        origin = sqlite3.OperationalError("database or disk is full")
        raise optuna.exceptions.StorageInternalError from database.OperationalError("UPDATE", None, origin)

    monkeypatch.setattr(trials, "run_trials", full)
    with pytest.raises(ModisteError, match=r"in .*out cannot be used \(database or disk is full\).*room.*it goes on"):
        trials_only(file, tmp_path / "out")


def test_an_interrupted_trial_is_left_for_the_next_worker(
    file: Path, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(worker: Any, trial: Any, planned: Any, stopped: Any) -> tuple[JobResult, trials.TrialMonitor]:
        os.kill(os.getpid(), signal.SIGINT)
        until(stopped)
        return JobResult("interrupted"), trials.TrialMonitor(worker, trial, planned)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "_train", interrupted)
        first = go(file, tmp_path / "out")
    assert not first.finished and [row.state for row in first.trials] == ["queued again", "waiting"]
    found = trials_only(file, tmp_path / "out", trials=1)
    assert [row.state for row in found.trials] == ["queued again", "finished"] and pretended == ["trial-0000"]
    assert found.trials[1].settings == first.trials[0].settings


def test_the_command_line(
    file: Path,
    pretended: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.app(["search"], standalone_mode=False)
    assert "noronha" in capsys.readouterr().out
    cli.app(["search", str(file), "--dry-run", "--budget", "5min", "--trials", "12"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "at most about 1.0 h" in printed and "modiste train" in printed and "--budget 5min" in printed
    out = tmp_path / "out"
    assert not out.exists()
    cli.app(["search", str(file), "--out", str(out), "--finalists", "0", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["finished"] and found["best"] is None and len(found["trials"]) == 3
    cli.app(["search", str(out), "--finalists", "0"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "trial-0002" in printed and "there are no finalists" in printed and len(pretended) == 3

    def gone(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(search, "import_module", gone)
    with pytest.raises(UsageError, match=r"pip install 'modiste\[search\]'"):
        go(file, out)


def test_points_that_kill_are_given_up(file: Path, pretended: list[str], tmp_path: Path) -> None:
    started = opened(file, tmp_path / "out")
    for _ in range(trials.MOST_RETRIES + 1):
        started.study.ask()
        trials._queue_again(started, started.read_trials()[-1], "its worker was killed")
    assert [trials.counts(trial) for trial in started.read_trials()] == [False] * trials.MOST_RETRIES + [True]
    assert started.read_trials()[-1].user_attrs["reason"] == "its worker was killed 4 times"
    assert trials._end(started, 0, reason="again") is False, "an ended trial stays as it is"


def test_tree_parzen_goes_where_it_is_good(file: Path, pretended: list[str], tmp_path: Path) -> None:
    text = HEAD.replace("random", "tpe") + f"[space]\n{RATES}"
    found = trials_only(written(tmp_path, text), tmp_path / "out", trials=24)
    rates = [row.value for row in found.trials]
    assert sum(rates[14:]) / 10 < sum(rates[:10]) / 10 / 2, "the score is the rate, and low is better"


# training, pruning, being killed


def test_a_search_from_file_to_the_best_recipe(
    file: Path,
    here: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["modiste", "search", str(file), "--out", str(out), "--trials", "2", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    found = json.loads(capsys.readouterr().out)
    assert here[:2] == ["trial-0000", "trial-0001"]
    best = min(found["trials"], key=lambda row: row["value"])
    assert here[2:] == [f"{best['name']}-seed1", f"{best['name']}-seed2"], "finalists have seeds of their own"
    assert found["best"]["trial"] == best["name"] and "nothing to compare it with" in found["best"]["sentence"]
    for row in found["trials"]:
        run = runs.Run(out / row["folder"])
        record = json.loads((run.path / "metrics-heldout.json").read_text())
        assert record["protocol"]["reference"]["part"] == "heldout" and not (run.path / "metrics.json").exists()
        assert row["value"] == record["scores"][row["score"]]["value"] and row["score"].startswith("frechet_")
        assert row["score"].endswith("_40_heldout")
        assert run.read_recipe().train.lr_generator == row["settings"]["train.lr_generator"]
        assert run.read_recipe().network.generator_widths == (8, row["settings"]["network.generator_widths.1"])
        assert run.read_recipe().data.split == "fit" and run.read_recipe().seed == 0
    recipe = config.load(out / "best.toml")
    assert recipe.train.lr_generator == best["settings"]["train.lr_generator"]
    assert (recipe.name, recipe.train.images) == ("little-best", 160) and "The search little" in recipe.source
    cli.app(
        ["train", str(out / "best.toml"), "--out", str(tmp_path / "run"), "--set", "train.images=32"],
        standalone_mode=False,
    )
    assert runs.Run(tmp_path / "run").read_manifest().status == "finished"
    # The same again, from the folder, changes nothing but the finalists' number of seeds.
    capsys.readouterr()
    cli.app(["search", str(out), "--seeds", "1"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert len(here) == 4 and "best.toml" in printed and best["name"] in printed


def test_a_killed_worker(file: Path, here: list[str], tmp_path: Path) -> None:
    """SIGKILL in mid-trial: its training ends by itself, and its trial is finished by the next worker."""
    out = tmp_path / "out"
    words = ["search", str(file), "--out", str(out), "--trials", "2", "--finalists", "0"]
    words += ["--budget", "1600 images"]
    process = subprocess.Popen(
        [sys.executable, "-m", "modiste", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: (out / "runs/trial-0000/manifest.json").is_file() or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    found = trials_only(out, out)
    assert [row.state for row in found.trials] == ["queued again", "finished", "finished"]
    assert found.trials[0].reason == "its worker was killed"
    assert found.trials[1].settings == found.trials[0].settings
    assert [row.folder for row in found.trials] == ["runs/trial-0000", "runs/trial-0000", "runs/trial-0002"]
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["trial-0000", "trial-0002"]


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_bad_trial_is_pruned_at_a_tick(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its training is asked to save and end; a good trial is left alone."""
    out = tmp_path / "out"
    text = file.read_text(encoding="utf-8").replace("about", 'pruner = "median"\nset.evaluate.every_images = 80\nabout')
    monkeypatch.setattr(trials, "UNPRUNED_TRIALS", 1)
    started = opened(written(tmp_path, text), out, budget="200000 images")
    point = {"train.lr_generator": 1e-3, "network.generator_widths.1": 4}
    axes = {
        "train.lr_generator": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "network.generator_widths.1": optuna.distributions.CategoricalDistribution([4, 6]),
    }
    steps = dict.fromkeys(range(1, 50), 1e-9)  # better than any training can be
    started.study.add_trial(
        optuna.trial.create_trial(params=point, distributions=axes, value=1.0, intermediate_values=steps)
    )
    trial = started.study.ask()
    trials.run_trial(started, trial, lambda: False)
    row = started.read_rows()[1]
    assert row.state == "pruned" and "worse than the median after 80 images" in row.reason
    manifest = runs.Run(out / "runs/trial-0001").read_manifest()
    assert manifest.status == "interrupted" and 80 <= manifest.images < 200_000
