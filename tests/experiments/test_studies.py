"""Studies: what is run, reused, kept as failed and continued; always one and the same table."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import wait_for

from modiste import cli, config, files, runs
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.experiments import conclusions, plan, results, runner, studies, study_config
from modiste.experiments.plan import Plan
from modiste.experiments.studies import StudyOptions

COMMAND = [sys.executable, "-m", "modiste"]
QUIET = Console(quiet=True)
PATIENCE_SECONDS = 400  # for a machine that does other things
HOLD = """
import filelock, sys, time
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print(flush=True)
time.sleep(float(sys.argv[2]))
"""


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The table of a study without its times, which no two trainings share.

    To twelve digits: the last bit of a score depends on the threads of NumPy's products, of which this process may have
    more than the one that a study starts.
    """
    trees = [{**row.to_json(), "seconds": None} for row in results.read(folder)]
    return [
        {key: float(f"{one:.12g}") if isinstance(one, float) else one for key, one in tree.items()} for tree in trees
    ]


def test_the_command_trains_the_planned_recipe(study_file: Path, tmp_path: Path) -> None:
    """The hash in the plan is that of the run folder which the command makes."""
    study = study_config.revise(
        study_config.load(study_file), set={"network.dropout": 0.25, "network.init": "normal"}, budget="90s"
    )
    run = plan.expand(study, tmp_path / "out")[-1]
    assert run.commands[0][-2:] == ("--budget", "90s")
    cli.app(list(run.commands[0]), standalone_mode=False)
    assert runs.Run(run.folder).read_manifest().recipe_hash == config.content_hash(run.recipe)
    assert run.recipe.train.budget_seconds == 90
    assert results.is_trained(run)

    # A version with fewer keys wrote less, and another hash: the training is the same. Another value is another one.
    recipe = run.folder / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(re.sub(r"^class_(noise|gains) = false\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    runs.update_manifest(runs.Run(run.folder), recipe_hash="0" * 64)
    assert "class_gains" in text and "class_gains" not in recipe.read_text(encoding="utf-8")
    assert results.is_trained(run)
    recipe.write_text(text.replace("dropout = 0.25", "dropout = 0.2"), encoding="utf-8")
    assert not results.is_trained(run)


def test_a_study_from_file_to_table(study_file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = studies.study(study_file, out, console=QUIET)
    order = [f"lr_generator-{rate}-seed{seed}" for seed in (0, 1) for rate in ("0.0001", "0.002")]
    assert here == order and folder.is_finished()

    with (out / "records.csv").open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    assert tuple(table[0]) == results.COLUMNS
    assert [json.loads(line)["value"] for line in (out / "records.jsonl").read_text().splitlines()] == [
        float(row["value"]) for row in table
    ]
    assert list(dict.fromkeys(f"{row['configuration']}-seed{row['seed']}" for row in table)) == order
    assert {row["status"] for row in table} == {"finished"}
    assert len({row["protocol_hash"] for row in table}) == 1 and table[0]["protocol_hash"]
    record = records.read(out / "runs" / order[-1] / "metrics.json")
    last = {row["score"]: row for row in table if (row["configuration"], row["seed"]) == ("lr_generator-0.002", "1")}
    assert last.keys() == record.scores.keys()
    for name, score in record.scores.items():
        assert float(last[name]["value"]) == score.value and last[name]["better"] == score.better
    for row in table:
        assert int(row["images"]) == 160 and float(row["seconds"]) > 0
        assert float(row["gflop"]) == pytest.approx(160 * folder.read_plan().runs[0].gflop_per_image, rel=0.01)

    # The folder says everything: it is a study to go on with, its commands are those a person would type.
    assert folder.read_study().name == "rates" and folder.read_study().about == "Does the learning rate matter?"
    entry = folder.read_plan().runs[0]
    assert entry.commands[0].startswith(f"OMP_NUM_THREADS=1 modiste train {out}/recipes/tiny.toml --out {out}/runs/")
    assert entry.recipe_hash == runs.Run(out / entry.folder).read_manifest().recipe_hash
    assert (out / "recipes/tiny.toml").read_text() == (tmp_path / "tiny.toml").read_text()
    assert studies.open_study(out).run("lr_generator-0.002", 1).read_recipe().train.lr_generator == 0.002


def test_seed_k_is_the_same_for_every_configuration(study_file: Path, here: list[str], tmp_path: Path) -> None:
    out = studies.study(study_file, tmp_path / "out", console=QUIET).path
    first = {path.parent.parent.name: path.read_bytes() for path in out.glob("runs/*/samples/000000000.png")}
    assert first["lr_generator-0.0001-seed0"] == first["lr_generator-0.002-seed0"]
    assert first["lr_generator-0.0001-seed0"] != first["lr_generator-0.0001-seed1"]
    protocols = [records.read(path).protocol for path in out.glob("runs/*/metrics.json")]
    assert len(protocols) == 4
    assert {protocol.generator["seeds"] for protocol in protocols} == {"0 to 49"}
    assert len({protocol.seed for protocol in protocols}) == 1


def test_finished_runs_are_reused_and_seeds_can_be_added(study_file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    studies.study(study_file, out, seeds=1, console=QUIET)
    before = timeless(out)
    assert len(here) == 2
    studies.study(out, console=QUIET)
    assert len(here) == 2 and timeless(out) == before
    studies.study(out, seeds=2, console=QUIET)
    assert here[2:] == ["lr_generator-0.0001-seed1", "lr_generator-0.002-seed1"]
    assert timeless(out)[: len(before)] == before
    # A record that fits no more, by count or by weights, is made anew; the training is not.
    last = out / "runs/lr_generator-0.002-seed1"
    record = json.loads((last / "metrics.json").read_text())
    for part, key, value in (("protocol", "generated", 49), ("subject", "hash", "0123")):
        (last / "metrics.json").write_text(json.dumps({**record, part: {**record[part], key: value}}))
        start = (last / "manifest.json").read_text()
        studies.study(out, console=QUIET)
        assert here[-1] == last.name and (last / "manifest.json").read_text() == start
        assert json.loads((last / "metrics.json").read_text())["scores"] == record["scores"]
    assert len(here) == 6


def test_records_that_were_measured_otherwise_are_made_anew(study_file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    low, high = "lr_generator-0.0001", "lr_generator-0.002"
    studies.study(study_file, out, seeds=1, console=QUIET)
    place, other = (out / f"runs/{name}-seed0/metrics.json" for name in (high, low))

    def spoil(change: Callable[[dict[str, Any]], object]) -> None:
        record = json.loads(place.read_text())
        change(record["protocol"]["extractors"])
        place.write_text(json.dumps(record))

    spoil(lambda networks: next(iter(networks.values())).update(hash="of a judge that was replaced"))
    os.utime(other)  # the newest, as after a judging anew that was cut off
    studies.study(out, console=QUIET)
    assert here[2:] == [f"{high}-seed0"]
    spoil(lambda networks: networks.update(one_more={"hash": "of a judge that was there then"}))
    studies.study(out, console=QUIET)
    assert here[3:] == [f"{low}-seed0", f"{high}-seed0"]  # first like the newest, which then proves to be the odd one
    spoil(lambda networks: networks.update(one_more={"hash": "of a judge that was there then"}))
    studies.study(out, seeds=2, console=QUIET)
    assert here[5:] == [f"{low}-seed1", f"{high}-seed1", f"{high}-seed0"]
    assert len({row["protocol_hash"] for row in timeless(out)}) == 1
    rows = studies.study(out, console=QUIET).read_rows()
    assert conclusions.conclude(rows).obstacle == ""
    mixed = [replace(row, protocol_hash="another") if row.seed else row for row in rows]
    assert conclusions.conclude(mixed).obstacle == "measured unlike"


def test_another_study_does_not_fit_into_the_folder(study_file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    studies.study(study_file, out, seeds=1, console=QUIET)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"lr_generator-0\.0001: train\.images: 160 -> 64.*choose another folder"):
        studies.study(out, budget="1 epochs", console=QUIET)
    with pytest.raises(UsageError, match=r"evaluate\.count: 50 -> 40"):
        studies.study(study_config.revise(study_config.load(study_file), evaluate={"count": 40}), out, console=QUIET)
    with pytest.raises(UsageError, match=r"no lr_generator-0\.002 here"):
        studies.study(
            study_config.revise(study_config.load(study_file), grid={"train.lr_generator": (1e-4,)}), out, console=QUIET
        )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(UsageError, match=r"holds other files \(letter\.txt\)"):
        studies.study(study_file, tmp_path / "mine", console=QUIET)
    with pytest.raises(UsageError, match="is no study folder"):
        studies.open_study(tmp_path / "mine")


def test_a_start_that_was_cut_off_is_made_again(
    study_file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise ModisteError("no room")

        patch.setattr(files, "write_json", full)
        with pytest.raises(ModisteError, match="no room"):
            studies.study(study_file, tmp_path / "out", seeds=1, console=QUIET)
    assert (tmp_path / "out/runs").is_dir() and not (tmp_path / "out/plan.json").exists() and here == []
    assert studies.study(study_file, tmp_path / "out", seeds=1, console=QUIET).is_finished()


def test_a_failed_run_is_kept_with_its_reason_and_stops_nothing(
    study_file: Path, here: list[str], tmp_path: Path
) -> None:
    study = study_config.revise(study_config.load(study_file), grid={"train.lr_discriminator": (1e30, 2e-4)}, seeds=1)
    folder = studies.study(study, tmp_path / "out", console=QUIET)
    failed, *others = folder.read_rows()
    assert failed.configuration == "lr_discriminator-1e-30" and failed.status == "failed"
    assert "loss is no finite number" in failed.reason
    assert failed.score is None and failed.value is None
    assert others and all(row.status == "finished" and not row.reason for row in others)
    heads, body = results.table(folder.read_rows())
    assert body[0][:2] == ["lr_discriminator-1e-30", "0/1, 1 failed"] and set(body[0][4:]) == {"-"}
    assert body[1][1] == "1/1" and heads[4].startswith("frechet_")
    assert results.failures(folder.read_rows()) == [f"lr_discriminator-1e-30 seed 0 failed: {failed.reason}"]
    studies.study(tmp_path / "out", console=QUIET)
    assert here == ["lr_discriminator-1e-30-seed0", "lr_discriminator-0.0002-seed0", "lr_discriminator-1e-30-seed0"]


def test_threads_are_divided_and_stay_as_they_were(
    study_file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_config.revise(study_config.load(study_file), seeds=1).model_copy(update={"threads": None})
    monkeypatch.setattr(studies, "cores", lambda: 6)
    shared, _ = studies.resolve_study(study, tmp_path / "new", StudyOptions(jobs=2))
    assert shared.threads == 3
    assert studies.resolve_study(study, tmp_path / "new", StudyOptions(jobs=9))[0].threads == 1
    assert studies.resolve_study(study, tmp_path / "new")[0].threads is None
    studies.study(study, tmp_path / "one", console=QUIET)
    with pytest.raises(UsageError, match="use all processor threads"):
        studies.resolve_study(study, tmp_path / "one", StudyOptions(jobs=2))
    studies.study(shared, tmp_path / "two", jobs=2, console=QUIET)
    assert studies.resolve_study(study, tmp_path / "two")[0].threads == 3
    assert runs.Run(tmp_path / "two/runs/lr_generator-0.002-seed0").read_manifest().threads == 3


def test_every_process_of_a_run_has_a_core(
    study_file: Path,
    here: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = study_config.revise(
        study_config.load(study_file), seeds=1, set={"train.processes": 2, "train.device": "cpu"}
    )
    study = study.model_copy(update={"threads": None})
    asked: list[int] = []
    monkeypatch.setattr(runner, "run_locally", lambda waiting, jobs, *_: asked.append(jobs) or iter(()))
    for cores, jobs, together, threads in ((2, 2, 1, 2), (8, 3, 3, 2), (6, 8, 3, 2), (1, 2, 1, 1), (5, 2, 2, 2)):
        monkeypatch.setattr(studies, "cores", lambda cores=cores: cores)
        assert studies.resolve_study(study, tmp_path / "out", StudyOptions(jobs=jobs))[0].threads == threads
        studies.study(study, tmp_path / f"{cores}-{jobs}", jobs=jobs)
        assert asked.pop() == together
        told = f"{together} at a time and not {jobs}: each has up to 2 processes, and there are {cores} cores"
        assert (told in capsys.readouterr().err) == (together < jobs)


def test_a_study_from_before_a_key_was_added_is_the_same_study(study_file: Path, tmp_path: Path) -> None:
    study = study_config.load(study_file)
    now = plan.make_plan(study, plan.expand(study, tmp_path))
    tree = json.loads(json.dumps(now.to_json()))
    for settings in tree["configurations"].values():
        del settings["network"]["class_noise"]
    assert now.differences(Plan.from_json(tree)) == []
    next(iter(tree["configurations"].values()))["train"]["beta1"] = 0.9
    (line,) = now.differences(Plan.from_json(tree))
    assert "train.beta1: 0.9 -> " in line


def test_one_study_at_a_time_in_a_folder(study_file: Path, here: list[str], tmp_path: Path) -> None:
    studies.study(study_file, tmp_path / "out", seeds=1, console=QUIET)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out/.lock", "60"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(ModisteError, match="is in use by another study"):
                studies.study(study_file, tmp_path / "out", seeds=1, console=QUIET)
        finally:
            other.kill()


def test_two_at_a_time_are_the_same_as_one_by_one(study_file: Path, here: list[str], tmp_path: Path) -> None:
    """Also that `python -m modiste` in a process of its own does what the same call does here."""
    alone = studies.study(study_file, tmp_path / "alone", seeds=1, console=QUIET).path
    words = ["study", str(study_file), "--out", str(tmp_path / "pair"), "--seeds", "1", "--jobs", "2", "--no-report"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert timeless(tmp_path / "pair") == timeless(alone)
    assert "2 of 2 runs, 100%" in done.stderr
    log = (tmp_path / "pair/logs/lr_generator-0.002-seed0.log").read_text()
    assert log.startswith("$ modiste train ") and "\n$ modiste evaluate " in log and "try next" in log


def test_a_stopped_study_goes_on(study_file: Path, here: list[str], tmp_path: Path) -> None:
    """Stopped in a run of its own process: the run saves its state, and the table in the end is the undisturbed one."""
    long = study_config.revise(
        study_config.load(study_file), seeds=1, budget="1600 images", set={"train.tick_images": 160}
    )
    out = tmp_path / "stopped"
    (tmp_path / "long.toml").write_text(study_config.to_toml(long), encoding="utf-8")
    study = subprocess.Popen(
        [*COMMAND, "study", str(tmp_path / "long.toml"), "--out", str(out)], stdout=subprocess.PIPE
    )
    run = runs.Run(out / "runs/lr_generator-0.0001-seed0")
    wait_for(lambda: run.path.is_dir() and any((run.path / "state").glob("*.pt")), study)
    study.send_signal(signal.SIGTERM)
    printed = study.communicate(timeout=PATIENCE_SECONDS)[0].decode()
    assert study.returncode == 0 and f"go on with:  modiste study {out}" in printed
    assert run.read_manifest().status == "interrupted"
    assert {row.status for row in results.read(out)} == {"waiting"}
    studies.study(out, console=QUIET)
    assert timeless(out) == timeless(studies.study(long, tmp_path / "undisturbed", console=QUIET).path)


@pytest.mark.slow
def test_a_study_killed_five_times_ends_with_the_undisturbed_table(study_file: Path, tmp_path: Path) -> None:
    study = study_config.revise(study_config.load(study_file), budget="8000 images", set={"train.tick_images": 400})
    (tmp_path / "long.toml").write_text(study_config.to_toml(study), encoding="utf-8")
    words = [*COMMAND, "study", str(tmp_path / "long.toml"), "--jobs", "2", "--out"]
    start = time.monotonic()
    subprocess.run([*words, str(tmp_path / "whole")], check=True, timeout=600)
    duration = time.monotonic() - start
    randomness, kills = random.Random(4), 0
    while kills < 5:
        process = subprocess.Popen([*words, str(tmp_path / "killed")])
        try:
            process.wait(randomness.uniform(0.05, 0.4) * duration)
            shutil.move(tmp_path / "killed", tmp_path / f"done-{kills}")  # finished too soon: begin again
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    subprocess.run([*words, str(tmp_path / "killed")], check=True, timeout=600)
    whole, killed = timeless(tmp_path / "whole"), timeless(tmp_path / "killed")
    assert {row["status"] for row in whole} == {"finished"} and killed == whole
