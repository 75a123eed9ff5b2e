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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import modiste
from modiste import cli, config, files, runs
from modiste.config import Recipe
from modiste.data.sets import native_data, open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import evaluate, records
from modiste.evaluation.evaluate import extractors_for
from modiste.experiments import conclusions, estimate, monitor, results, runner, studies, study_config
from modiste.experiments.runner import Job
from modiste.metrics import features

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
TIMES = ("seconds",)


@pytest.fixture
def file(tiny: Recipe, closet: Path, tmp_path: Path) -> Path:
    """A study of two learning rates on two seeds, with a recipe file beside it; ten updates a run."""
    recipe = config.override(tiny, {"data.name": str(closet), "data.resize": None, "train.images": 160})
    (tmp_path / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    study = tmp_path / "rates.toml"
    study.write_text(
        """
        about = "Does the learning rate matter?"
        seeds = 2
        threads = 1
        evaluate.count = 50
        grid.train.lr_generator = [1e-4, 2e-3]
        [[configuration]]
        name = "tiny"
        recipe = "tiny.toml"
        """,
        encoding="utf-8",
    )
    return study


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are carried out in this process, which saves the time to start others; their names, in order."""
    names: list[str] = []

    def carry_out(errand: Job) -> str:
        names.append(errand.folder.name)
        try:
            for command in errand.commands:
                cli.app(list(command), standalone_mode=False)
        except ModisteError as error:
            return str(error)
        return ""

    def locally(errands: Sequence[Job], *_: Any) -> Iterator[tuple[int, str]]:
        for k, errand in enumerate(errands):
            yield k, carry_out(errand)

    monkeypatch.setattr(runner, "locally", locally)
    return names


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The table of a study without its times, which no two trainings share."""
    return [{key: row[key] for key in row if key not in TIMES} for row in results.read(folder)]


# what is run


def test_the_command_trains_the_planned_recipe(file: Path, tmp_path: Path) -> None:
    """The hash in the plan is that of the run folder which the command makes."""
    study = study_config.revise(
        study_config.load(file), set={"network.dropout": 0.25, "network.init": "normal"}, budget="90s"
    )
    run = study_config.expand(study, tmp_path / "out")[-1]
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


def test_a_study_from_file_to_table(file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = modiste.study(file, out, console=QUIET)
    order = [f"lr_generator-{rate}-seed{seed}" for seed in (0, 1) for rate in ("0.0001", "0.002")]
    assert here == order and folder.finished

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
        assert float(row["gflop"]) == pytest.approx(160 * folder.plan["runs"][0]["gflop_per_image"], rel=0.01)

    # The folder says everything: it is a study to go on with, its commands are those a person would type.
    assert folder.study.name == "rates" and folder.study.about == "Does the learning rate matter?"
    entry = folder.plan["runs"][0]
    assert entry["commands"][0].startswith(f"OMP_NUM_THREADS=1 modiste train {out}/recipes/tiny.toml --out {out}/runs/")
    assert entry["recipe_hash"] == runs.Run(out / entry["folder"]).read_manifest().recipe_hash
    assert (out / "recipes/tiny.toml").read_text() == (tmp_path / "tiny.toml").read_text()
    assert studies.open_study(out).run("lr_generator-0.002", 1).read_recipe().train.lr_generator == 0.002


def test_seed_k_is_the_same_for_every_configuration(file: Path, here: list[str], tmp_path: Path) -> None:
    out = modiste.study(file, tmp_path / "out", console=QUIET).path
    first = {path.parent.parent.name: path.read_bytes() for path in out.glob("runs/*/samples/000000000.png")}
    assert first["lr_generator-0.0001-seed0"] == first["lr_generator-0.002-seed0"]
    assert first["lr_generator-0.0001-seed0"] != first["lr_generator-0.0001-seed1"]
    protocols = [records.read(path).protocol for path in out.glob("runs/*/metrics.json")]
    assert len(protocols) == 4
    assert {protocol.generator["seeds"] for protocol in protocols} == {"0 to 49"}
    assert len({protocol.seed for protocol in protocols}) == 1


def test_finished_runs_are_reused_and_seeds_can_be_added(file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    modiste.study(file, out, seeds=1, console=QUIET)
    before = timeless(out)
    assert len(here) == 2
    modiste.study(out, console=QUIET)
    assert len(here) == 2 and timeless(out) == before
    modiste.study(out, seeds=2, console=QUIET)
    assert here[2:] == ["lr_generator-0.0001-seed1", "lr_generator-0.002-seed1"]
    assert timeless(out)[: len(before)] == before
    # A record that fits no more, by count or by weights, is made anew; the training is not.
    last = out / "runs/lr_generator-0.002-seed1"
    record = json.loads((last / "metrics.json").read_text())
    for part, key, value in (("protocol", "generated", 49), ("subject", "hash", "0123")):
        (last / "metrics.json").write_text(json.dumps({**record, part: {**record[part], key: value}}))
        start = (last / "manifest.json").read_text()
        modiste.study(out, console=QUIET)
        assert here[-1] == last.name and (last / "manifest.json").read_text() == start
        assert json.loads((last / "metrics.json").read_text())["scores"] == record["scores"]
    assert len(here) == 6


def test_records_that_were_measured_otherwise_are_made_anew(file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    low, high = "lr_generator-0.0001", "lr_generator-0.002"
    modiste.study(file, out, seeds=1, console=QUIET)
    place, other = (out / f"runs/{name}-seed0/metrics.json" for name in (high, low))

    def spoil(change: Callable[[dict[str, Any]], object]) -> None:
        record = json.loads(place.read_text())
        change(record["protocol"]["extractors"])
        place.write_text(json.dumps(record))

    spoil(lambda networks: next(iter(networks.values())).update(hash="of a judge that was replaced"))
    os.utime(other)  # the newest, as after a judging anew that was cut off
    modiste.study(out, console=QUIET)
    assert here[2:] == [f"{high}-seed0"]
    spoil(lambda networks: networks.update(one_more={"hash": "of a judge that was there then"}))
    modiste.study(out, console=QUIET)
    assert here[3:] == [f"{low}-seed0", f"{high}-seed0"]  # first like the newest, which then proves to be the odd one
    spoil(lambda networks: networks.update(one_more={"hash": "of a judge that was there then"}))
    modiste.study(out, seeds=2, console=QUIET)
    assert here[5:] == [f"{low}-seed1", f"{high}-seed1", f"{high}-seed0"]
    assert len({row["protocol_hash"] for row in timeless(out)}) == 1
    rows = modiste.study(out, console=QUIET).rows
    assert conclusions.of(rows).obstacle == ""
    mixed = [{**row, "protocol_hash": "another"} if row["seed"] else row for row in rows]
    assert conclusions.of(mixed).obstacle == "measured unlike"


def test_another_study_does_not_fit_into_the_folder(file: Path, here: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    modiste.study(file, out, seeds=1, console=QUIET)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"lr_generator-0\.0001: train\.images: 160 -> 64.*choose another folder"):
        modiste.study(out, budget="1 epochs", console=QUIET)
    with pytest.raises(UsageError, match=r"evaluate\.count: 50 -> 40"):
        modiste.study(study_config.revise(study_config.load(file), evaluate={"count": 40}), out, console=QUIET)
    with pytest.raises(UsageError, match=r"no lr_generator-0\.002 here"):
        modiste.study(
            study_config.revise(study_config.load(file), grid={"train.lr_generator": (1e-4,)}), out, console=QUIET
        )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(UsageError, match=r"holds other files \(letter\.txt\)"):
        modiste.study(file, tmp_path / "mine", console=QUIET)
    with pytest.raises(UsageError, match="is no study folder"):
        studies.open_study(tmp_path / "mine")


def test_a_start_that_was_cut_off_is_made_again(
    file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise ModisteError("no room")

        patch.setattr(files, "write_json", full)
        with pytest.raises(ModisteError, match="no room"):
            modiste.study(file, tmp_path / "out", seeds=1, console=QUIET)
    assert (tmp_path / "out/runs").is_dir() and not (tmp_path / "out/plan.json").exists() and here == []
    assert modiste.study(file, tmp_path / "out", seeds=1, console=QUIET).finished


def test_a_failed_run_is_kept_with_its_reason_and_stops_nothing(file: Path, here: list[str], tmp_path: Path) -> None:
    study = study_config.revise(study_config.load(file), grid={"train.lr_discriminator": (1e30, 2e-4)}, seeds=1)
    folder = modiste.study(study, tmp_path / "out", console=QUIET)
    failed, *others = folder.rows
    assert failed["configuration"] == "lr_discriminator-1e-30" and failed["status"] == "failed"
    assert "not a number" in failed["reason"] or "finite" in failed["reason"] or "diverged" in failed["reason"]
    assert failed["score"] is None and failed["value"] is None
    assert others and all(row["status"] == "finished" and not row["reason"] for row in others)
    heads, body = results.table(folder.rows)
    assert body[0][:2] == ["lr_discriminator-1e-30", "0/1, 1 failed"] and set(body[0][4:]) == {"-"}
    assert body[1][1] == "1/1" and heads[4].startswith("frechet_")
    assert results.failures(folder.rows) == [f"lr_discriminator-1e-30 seed 0 failed: {failed['reason']}"]
    modiste.study(tmp_path / "out", console=QUIET)
    assert here == ["lr_discriminator-1e-30-seed0", "lr_discriminator-0.0002-seed0", "lr_discriminator-1e-30-seed0"]


def test_threads_are_divided_and_stay_as_they_were(
    file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_config.revise(study_config.load(file), seeds=1).model_copy(update={"threads": None})
    monkeypatch.setattr(studies, "cores", lambda: 6)
    shared, _ = studies.resolve_study(study, tmp_path / "new", jobs=2)
    assert shared.threads == 3
    assert studies.resolve_study(study, tmp_path / "new", jobs=9)[0].threads == 1
    assert studies.resolve_study(study, tmp_path / "new")[0].threads is None
    modiste.study(study, tmp_path / "one", console=QUIET)
    with pytest.raises(UsageError, match="use all processor threads"):
        studies.resolve_study(study, tmp_path / "one", jobs=2)
    modiste.study(shared, tmp_path / "two", jobs=2, console=QUIET)
    assert studies.resolve_study(study, tmp_path / "two")[0].threads == 3
    assert runs.Run(tmp_path / "two/runs/lr_generator-0.002-seed0").read_manifest().threads == 3


def test_every_process_of_a_run_has_a_core(
    file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_config.revise(study_config.load(file), seeds=1, set={"train.processes": 2, "train.device": "cpu"})
    study = study.model_copy(update={"threads": None})
    asked: list[int] = []
    monkeypatch.setattr(runner, "locally", lambda errands, jobs, *_: asked.append(jobs) or iter(()))
    for cores, jobs, together, threads in ((2, 2, 1, 2), (8, 3, 3, 2), (6, 8, 3, 2), (1, 2, 1, 1), (5, 2, 2, 2)):
        monkeypatch.setattr(studies, "cores", lambda cores=cores: cores)
        assert studies.resolve_study(study, tmp_path / "out", jobs=jobs)[0].threads == threads
        modiste.study(study, tmp_path / f"{cores}-{jobs}", jobs=jobs)
        assert asked.pop() == together
        told = f"{together} at a time and not {jobs}: each has up to 2 processes, and there are {cores} cores"
        assert (told in capsys.readouterr().err) == (together < jobs)


class FakeRay(ModuleType):
    """A cluster that carries out nothing and remembers what it was asked to keep free."""

    def __init__(self, gpus: float = 0) -> None:
        super().__init__("ray")
        self.room: dict[str, Any] = {}
        self.asked: list[int] = []
        self.asked_gpus: list[float] = []
        self.gpus = gpus

    def is_initialized(self) -> bool:
        return False

    def init(self, **room: Any) -> None:
        self.room = room

    def remote(self, *_: Any) -> Any:
        return self

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, **({"GPU": self.gpus} if self.gpus else {})}

    def options(self, num_cpus: int, num_gpus: float, max_retries: int) -> Any:
        self.asked.append(num_cpus)
        self.asked_gpus.append(num_gpus)
        return SimpleNamespace(remote=lambda errand: errand.folder)

    def wait(self, waiting: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return waiting[:1], waiting[1:]

    def get(self, _: Any) -> str:
        return runner.INTERRUPTED

    def shutdown(self) -> None:
        pass


def test_a_cluster_keeps_a_core_free_for_every_process(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_config.revise(study_config.load(file), seeds=1, set={"train.device": "cpu"})
    two = {"grid": {"train.processes": (1, 4)}}
    for threads, changes, cores in ((1, {}, [1, 1]), (1, two, [1, 4]), (2, two, [2, 4]), (None, two, [1, 4])):
        cluster = FakeRay()
        monkeypatch.setitem(sys.modules, "ray", cluster)
        asked = study.model_copy(update={"threads": threads, **changes})
        out = tmp_path / f"{threads}-{len(changes)}"
        modiste.study(asked, out, ray="auto", console=QUIET)
        assert cluster.asked == cores and "num_cpus" not in cluster.room
        modiste.study(asked, out, ray="local", console=QUIET)
        assert cluster.room["num_cpus"] == max(cores)


@pytest.mark.parametrize(("there", "asked"), [(0, 0), (1, 1), (8, 1)])
def test_runs_on_a_cluster_with_gpus_ask_for_one(
    there: float, asked: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeRay(there)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    modiste.study(study_config.revise(study_config.load(file), seeds=1), tmp_path / "study", ray="auto", console=QUIET)
    assert cluster.asked_gpus == [asked, asked]


def test_a_study_from_before_a_key_was_added_is_the_same_study(file: Path, tmp_path: Path) -> None:
    study = study_config.load(file)
    now = study_config.identity(study, study_config.expand(study, tmp_path))
    before = json.loads(json.dumps(now))
    for settings in before["configurations"].values():
        del settings["network"]["class_noise"]
    before["hash"] = study_config.content_hash(before)
    assert study_config.differences(before, now) == []
    next(iter(before["configurations"].values()))["train"]["beta1"] = 0.9
    assert [": ".join(line.split(": ")[1:2]) for line in study_config.differences(before, now)] == ["train.beta1"]


def test_one_study_at_a_time_in_a_folder(file: Path, here: list[str], tmp_path: Path) -> None:
    modiste.study(file, tmp_path / "out", seeds=1, console=QUIET)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out/.lock", "60"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(ModisteError, match="is in use by another study"):
                modiste.study(file, tmp_path / "out", seeds=1, console=QUIET)
        finally:
            other.kill()


# how it is told


def row(configuration: str, seed: int, value: float | None, status: str = "finished") -> results.Row:
    empty: results.Row = dict.fromkeys(results.COLUMNS)
    score = "frechet_garment_10k_test" if status == "finished" else None
    told = {"score": score, "value": value, "better": "lower", "status": status}
    return {**empty, "configuration": configuration, "seed": seed, "images": 100, "seconds": 2.0, **told}


def test_mean_and_deviation_over_seeds() -> None:
    rows = [row("a", 0, 1.0), row("a", 1, 2.0), row("a", 2, 3.0), row("b", 0, 5.0), row("b", 1, None, "failed")]
    heads, body = results.table([*rows, row("b", 2, None, "waiting")])
    assert heads[4:] == ["frechet_garment_10k_test (lower)"]
    assert body[0][1] == "3/3" and body[0][4] == "1.817 ± 1.0"  # the third root of 6, and 0.556 of it
    assert body[1][1] == "1/3, 1 failed" and body[1][4] == "5.000"
    assert results.notes(rows) == ["means over seeds ± deviation between seeds (frechet: geometric)"]
    assert results.notes([]) == []
    assert results.values(rows, "frechet_garment_10k_test") == {"a": {0: 1, 1: 2, 2: 3}, "b": {0: 5, 1: None}}


def test_the_table_opens_in_pandas(file: Path, here: list[str], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    out = modiste.study(file, tmp_path / "out", seeds=1, console=QUIET).path
    table = pandas.read_csv(out / "records.csv")
    assert len(table) == len(results.read(out)) and table["value"].dtype == float and table["seed"].dtype == int
    assert len(pandas.read_json(out / "records.jsonl", lines=True)) == len(table)


# the command line


def test_a_dry_run_says_that_fewer_go_on_at_a_time(
    file: Path, closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setattr(studies, "cores", lambda: 5)
    words = ["--set", "train.processes=2", "--set", "train.device=cpu", "--seeds", 1, "--dry-run", "--jobs", 3]
    recipe = ["--recipe", tmp_path / "tiny.toml", "--budgets", 40]
    for verb in (["study", file, "--no-calibration"], ["augment", closet, *recipe]):
        code, _, said = call(*verb, *words, "--out", tmp_path / "out")
        assert code == 0 and "2 at a time and not 3: each has up to 2 processes, and there are 5 cores" in said
        code, _, said = call(*verb, *words, "--out", tmp_path / "out", "--ray", "cluster:6379")
        assert code == 0 and "at a time and not" not in said


def test_the_list_and_the_dry_run(file: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("study")
    assert code == 0 and "diaz-a, diaz-b, diaz-c" in out
    assert {one["name"] for one in json.loads(call("study", "--json")[1])} == set(study_config.shipped())
    words = (
        "study",
        file,
        "--out",
        tmp_path / "out",
        "--seeds",
        "3",
        "--budget",
        "2min",
        "--dry-run",
        "--no-calibration",
    )
    code, out, _ = call(*words)
    assert code == 0 and "6 runs, seeds 0, 1, 2" in out and "evaluations not counted" in out
    told = json.loads(call(*words, "--json")[1])
    assert told["seconds"] == 6 * (120 + 2 * monitor.START_SECONDS) and told["bytes"] is None
    assert len(told["commands"]) == 12 and told["configurations"][0]["images"] == 160
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table(
    file: Path, here: list[str], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = call("study", file, "--out", tmp_path / "out", "--seeds", 1)
    assert code == 0
    assert "lr_generator-0.002" in out and "with one seed no verdict is possible" in out
    assert f"wrote {tmp_path / 'out/records.csv'}" in out and "not finished" not in out
    code, out, _ = call("study", tmp_path / "out", "--seeds", 2, "--json")
    told = json.loads(out[out.index('{\n  "study"') :])
    assert code == 0 and told["finished"] and told["rows"] == results.read(tmp_path / "out")
    assert told["findings"]["pairs"][0]["verdict"]["reason"] == "two seeds"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study", "dias"], "did you mean 'diaz'"),
        (["study", "diaz", "--seeds", "0"], "--seeds 0 is no possible count of seeds; give one from 1 to 1,000"),
        (["study", "diaz", "--seeds", "99999999999"], "--seeds 99999999999 is no possible count of seeds; give one"),
        (["search", "noronha", "--seeds", "99999999999"], "--seeds 99999999999 is no possible count of seeds; give"),
        (["study", "diaz", "--budget", "soon"], "'soon' is no length"),
        (["study", "diaz", "--set", "train.epoch=1"], "did you mean 'train.epochs'"),
    ],
)
def test_wrong_use(words: list[str], said: str, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call(*words, "--out", tmp_path / "out")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_every_run_failed_is_a_failure(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setattr(runner, "locally", lambda errands, *_: ((k, "no room") for k in range(len(errands))))
    code, out, err = call("study", file, "--out", tmp_path / "out")
    assert code == 1 and "failed: no room" in out and "every run of the study failed" in err


# processes of their own


def test_two_at_a_time_are_the_same_as_one_by_one(file: Path, here: list[str], tmp_path: Path) -> None:
    """Also that `python -m modiste` in a process of its own does what the same call does here."""
    alone = modiste.study(file, tmp_path / "alone", seeds=1, console=QUIET).path
    words = ["study", str(file), "--out", str(tmp_path / "pair"), "--seeds", "1", "--jobs", "2"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert timeless(tmp_path / "pair") == timeless(alone)
    assert "2 of 2 runs, 100%" in done.stderr
    log = (tmp_path / "pair/logs/lr_generator-0.002-seed0.log").read_text()
    assert log.startswith("$ modiste train ") and "\n$ modiste evaluate " in log and "try next" in log


def test_a_stopped_study_goes_on(file: Path, here: list[str], tmp_path: Path) -> None:
    """Stopped in a run of its own process: the run saves its state, and the table in the end is the undisturbed one."""
    long = study_config.revise(study_config.load(file), seeds=1, budget="4000 images", set={"train.tick_images": 160})
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
    assert {row["status"] for row in results.read(out)} == {"waiting"}
    modiste.study(out, console=QUIET)
    assert timeless(out) == timeless(modiste.study(long, tmp_path / "undisturbed", console=QUIET).path)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"the process ended with {process.wait()} before it was ready")
        time.sleep(0.02)


def test_the_reason_is_the_last_line_or_the_signal(tmp_path: Path) -> None:
    errand = Job(tmp_path / "none", (("train", "swit"),), tmp_path / "log", tmp_path, {"OMP_NUM_THREADS": "1"})
    assert runner.run_job(errand).startswith("no recipe is named 'swit'; did you mean 'swift'?")
    assert runner.reason(tmp_path / "log", 0, -signal.SIGKILL) == "killed by SIGKILL, perhaps for want of memory"
    (tmp_path / "log").write_text("before\n")
    assert runner.reason(tmp_path / "log", 7, 3) == "exit code 3"


def test_a_run_folder_that_cannot_be_held_is_a_reason_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    errand = Job(tmp_path / "run", (("train", "swift"),), tmp_path / "log", tmp_path)
    assert runner.run_job(errand).startswith(f"cannot use {tmp_path / 'run'} for this training: ")


def test_processes_that_a_killed_study_left_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run/.lock", "1"], stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        runner.wait_until_free(tmp_path / "run", runner.Stop())
        assert left.wait(timeout=10) == 0


@pytest.mark.slow
def test_a_study_killed_five_times_ends_with_the_undisturbed_table(file: Path, tmp_path: Path) -> None:
    study = study_config.revise(study_config.load(file), budget="8000 images", set={"train.tick_images": 400})
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


def test_a_training_that_judges_itself_is_predicted_longer(file: Path, tmp_path: Path) -> None:
    run = study_config.expand(study_config.load(file), tmp_path / "out")[0]
    seconds = []
    for every in (0, 100):
        changes = {"train.images": 250, "evaluate.every_images": every, "evaluate.count": 50}
        changed = replace(run, recipe=config.override(run.recipe, changes))
        seconds.append(estimate._row(changed, 10.0, 1, 20.0, 1000)["training_seconds"])
    assert seconds == [25, 25 + 3 * 20 * 50 / 1000]  # after 100, 200 and the last 250 images


@pytest.mark.slow
def test_calibration_predicts_time_and_disk(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 1.0)
    study = study_config.revise(study_config.load(file), seeds=1)
    told = estimate.table(study, study_config.expand(study, tmp_path / "out"), 1, True, print)
    done = modiste.study(study, tmp_path / "out", console=QUIET)
    size = sum(path.stat().st_size for path in (tmp_path / "out/runs").rglob("*") if path.is_file())
    assert told["bytes"] == pytest.approx(size, rel=0.7)
    assert told["configurations"][0]["images_per_second"] > 10
    assert told["seconds"] >= sum({row["configuration"]: row["seconds"] for row in done.rows}.values())


@pytest.mark.slow
def test_ray_finishes_though_a_worker_is_killed(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = study_config.revise(study_config.load(file), seeds=1, budget="16000 images", set={"train.tick_images": 400})
    (tmp_path / "long.toml").write_text(study_config.to_toml(study), encoding="utf-8")
    out = tmp_path / "out"
    study_words = ["study", str(tmp_path / "long.toml"), "--jobs", "2", "--ray", "local", "--out", str(out)]
    process = subprocess.Popen([*COMMAND, *study_words])
    folder = out / "runs/lr_generator-0.002-seed0"
    wait_for(lambda: folder.is_dir() and any((folder / "state").glob("*.pt")), process)
    words = f"train {out}/recipes/tiny.toml --out {folder} "
    trainer = next(pid for pid in every_process() if f"__main__.py {words}" in command_line(pid))
    worker = int(Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert {row["status"] for row in results.read(out)} == {"finished"}
    assert len({row["configuration"] for row in results.read(out)}) == 2


def every_process() -> list[int]:
    """Ray's workers are no children of the process that asked for them."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_a_dry_run_takes_a_part_of_the_study(
    file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains for a part of a run at most, evaluates nothing, and knows whether the real images were measured."""
    asked: list[str] = []

    def carry_out(errand: runner.Job) -> str:
        asked.extend(errand.commands[0])
        return next(runner.locally([errand], 1, lambda: False, lambda: None))[1]

    monkeypatch.setattr(runner, "run_job", carry_out)
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: pytest.fail("an evaluation"))
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    study = study_config.revise(study_config.load(file), seeds=1, budget="0.4s", evaluate={"count": 5000})
    planned = study_config.expand(study, tmp_path / "out")
    told = estimate.table(study, planned, 1, True, lambda _: None)
    budgets = [asked[k + 1] for k, word in enumerate(asked) if word == "--budget"]
    assert budgets == ["0.100s"] * 2
    assert not (tmp_path / "cache/scores").exists(), "nothing is measured of the real images"
    each, first = told["configurations"][0]["evaluation_seconds"], told["first_evaluation_seconds"]
    assert told["seconds"] == pytest.approx(2 * (0.4 + each + 2 * monitor.START_SECONDS) + first, abs=3) and each > 0
    assert first > 0
    recipe = planned[0].recipe
    real = open_data(native_data(recipe.data), part="test")
    train = open_data(native_data(recipe.data).model_copy(update={"count": recipe.data.count}), part="train")
    for extractor in extractors_for(native_data(recipe.data), real, None, False)[0]:
        for images in (real, train):
            features.extract(extractor, images, cached=True)
    again = estimate.table(study, planned, 1, True, lambda _: None)
    assert again["first_evaluation_seconds"] == 0


def test_a_calibration_mirrors_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[runner.Job] = []
    monkeypatch.setattr(runner, "run_job", lambda errand: seen.append(errand) or "stopped")
    study = study_config.load(file)
    planned = study_config.expand(study, tmp_path / "out", "mlflow")
    assert "--track" in planned[0].commands[0]
    with pytest.raises(ModisteError, match="cannot be trained: stopped"):
        estimate.table(study, planned, 1, True, print)
    assert "--track" not in seen[0].commands[0] and "mlflow" not in seen[0].commands[0]
