from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modiste import environment, files, runs
from modiste.config import Network, Recipe
from modiste.errors import ModisteError, UsageError
from modiste.networks.build import build_generator
from modiste.networks.layers import ImageShape
from modiste.sampling import generators as trained_generators


def make(path: Path) -> runs.Run:
    return runs.create_run(path, Recipe(name="here"), runs.Manifest(data=runs.DataFacts(count=4)))


def test_create_and_open(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    again = runs.open_run(tmp_path / "run")
    assert again.read_recipe() == Recipe(name="here")
    assert again.read_manifest().status == "running" and again.read_manifest().data.count == 4
    runs.update_manifest(run, status="finished")
    assert again.read_manifest().status == "finished" and again.read_manifest().data.count == 4
    with pytest.raises(UsageError, match=r"is not a run folder .* holds run"):
        runs.open_run(tmp_path / "rnu")


def test_a_folder_that_may_not_be_entered_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "run")
    (tmp_path / "closed").mkdir()
    exists = runs.exists

    def refused(path: Path) -> bool:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path / "manifest.json"))
        return exists(path)

    monkeypatch.setattr(runs, "exists", refused)
    with pytest.raises(UsageError, match=r"is not a run folder .* holds run$"):
        runs.open_run(tmp_path / "rnu")


def test_the_two_newest_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert runs.load_state(run) == (None, [])
    for images in (10, 20, 30):
        runs.save_state(run, images, {"images": images, "weights": torch.arange(4.0)})
    assert [path.name[:9] for path in runs.states(run)] == ["000000030", "000000020"]
    newest = runs.states(run)[0]
    newest.write_bytes(newest.read_bytes()[:-20])
    state, notes = runs.load_state(run)
    assert state is not None and state["images"] == 20 and torch.equal(state["weights"], torch.arange(4.0))
    assert len(notes) == 1 and str(newest) in notes[0]


def test_states_never_execute_code(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    runs.save_state(run, 1, {"bad": Path("x")})
    with pytest.raises(Exception, match=r"Weights only load failed|Unsupported global"):
        runs.load_state(run)


def test_a_cut_off_line_is_no_record_and_rewinding_drops_the_future(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for images in (10, 20, 30):
        runs.append_log(run, {"images": images})
        files.write_bytes(run.path / "samples" / f"{images:09d}.png", b"grid")
    with (run.path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"images": 4')
    assert [record["images"] for record in run.read_log()] == [10, 20, 30]
    runs.rewind(run, 20)
    assert [json.loads(line)["images"] for line in (run.path / "log.jsonl").read_text().splitlines()] == [10, 20]
    assert [grid.stem for grid in run.list_grids()] == ["000000010", "000000020"]


def test_a_start_sweeps_out_what_killed_writers_left_and_nothing_of_living_ones(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own, killed = f"{os.getpid()}-{files.THIS_PROCESS}-7", f"{ended.pid}-0a1b-7"
    reused = f"{os.getpid()}-0a1b-7"  # a killed process's number, which this one was given
    for mark in (own, f"{os.getppid()}-0a1b-7", killed, reused, "mine"):
        (run.path / "state" / f".1.pt.{mark}.writing").touch()
        (run.path / f".set.{mark}.writing" / "a coat").mkdir(parents=True)
        (run.path / f".set.{mark}.writing" / "a coat" / "1.png").touch()
    with runs.locked(run.path):
        left = {path.name.removesuffix(".writing") for path in run.path.rglob("*.writing")}
    assert left == {f"{name}.{mark}" for name in (".1.pt", ".set") for mark in (own, f"{os.getppid()}-0a1b-7", "mine")}
    assert files.temporary_beside(tmp_path / "x").name.startswith(f".x.{own[:-1]}")


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ModisteError, match=r"cannot make the run folder .*--out"):
        make(tmp_path / "file" / "run")


def test_generator_round_trip(tmp_path: Path) -> None:
    run, network, shape = make(tmp_path / "run"), Network(z_dim=8, generator_widths=(8, 4)), ImageShape(1, 16, 0)
    generator = build_generator(network, shape).eval()
    with pytest.raises(UsageError, match=r"has no generator\.safetensors yet"):
        trained_generators.load_network(run.path)
    trained_generators.describe_network(run, network, shape, ())
    runs.save_generator(run, generator)
    loaded, loaded_shape, names = trained_generators.load_network(run.path)
    noise = torch.randn(3, 8)
    assert torch.equal(loaded(noise, None), generator(noise, None)) and (loaded_shape, names) == (shape, ())
    weights = run.path / "generator.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModisteError, match=r"cannot be loaded"):
        trained_generators.load_network(run.path)


def test_every_checkpoint_of_a_folder_can_be_loaded(tmp_path: Path) -> None:
    run, network, shape = make(tmp_path / "run"), Network(z_dim=8, generator_widths=(8, 4)), ImageShape(1, 16, 0)
    generators = [build_generator(network, shape).eval() for _ in range(4)]
    trained_generators.describe_network(run, network, shape, ())
    runs.save_generator(run, generators[0])
    with pytest.raises(UsageError, match=r"run has no best\.safetensors; leave the checkpoint out"):
        trained_generators.load(run, "best")
    runs.save_generator(run, generators[1], "best")
    raw, ema = generators[2].state_dict(), generators[3].state_dict()
    averaged = runs.save_state(run, 10, {"generator": raw, "ema": ema})
    plain = runs.save_state(run, 20, {"generator": raw, "ema": None})
    names = ("last", "best", f"state/{plain.name}", f"state/{averaged.name}")
    noise = torch.randn(3, 8)
    for name, generator in zip(names, generators, strict=True):
        assert torch.equal(trained_generators.load(run, name).network(noise, None), generator(noise, None))
    averaged.write_bytes(averaged.read_bytes()[:-9])
    with pytest.raises(ModisteError, match=r"\.pt is damaged"):
        trained_generators.load(run, names[3])


def test_fresh_path_is_the_first_free_number(tmp_path: Path) -> None:
    assert runs.fresh_path(tmp_path / "run") == tmp_path / "run"
    make(tmp_path / "run")
    make(tmp_path / "run-2")
    assert runs.fresh_path(tmp_path / "run") == tmp_path / "run-3"


def test_the_newest_is_found_beyond_a_thousand_million_images(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for images in (999_999_000, 999_999_999, 1_000_000_500, 1_000_001_000):
        runs.save_state(run, images, {"images": images})
        files.write_bytes(run.path / "samples" / f"{images:09d}.png", b"grid")
    state, _ = runs.load_state(run)
    assert state == {"images": 1_000_001_000} and len(runs.states(run)) == 2
    assert run.list_grids()[-1].stem == "1000001000"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_unreadable_descriptions_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    run = make(tmp_path / "run")
    (run.path / "generator.safetensors").write_bytes(b"")
    for name in ("manifest.json", "generator.json", "recipe.toml", "log.jsonl"):
        (run.path / name).write_bytes(content + b"\n")
    for read in (
        lambda: run.read_manifest(),
        lambda: run.read_recipe(),
        lambda: trained_generators.load_network(run.path),
    ):
        with pytest.raises(ModisteError, match=r"manifest\.json|generator\.json|recipe\.toml"):
            read()
    with pytest.raises(ModisteError, match=r"log\.jsonl"):
        assert run.read_log()
    (run.path / "generator.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModisteError, match=r"generator\.json describes no generator"):
        trained_generators.load_network(run.path)


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert runs.fresh_path(tmp_path / "file") == tmp_path / "file-2"
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ModisteError, match=r"cannot use .* for this training: .*--out"), runs.locked(place):
            pass


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_package_and_not_of_the_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    file = tmp_path / "runs.py"
    file.write_text("", encoding="utf-8")
    monkeypatch.setattr(environment, "__file__", str(file))
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "thesis")
    assert environment.describe_machine()["git_commit"] is None
    git("add", "runs.py")
    assert environment.describe_machine()["git_commit"] == git("rev-parse", "HEAD")


def test_a_manifest_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    tree = {"status": "finished", "device": "cpu", "threads": 2, "later": [1], "command": ["modiste", "train"]}
    tree |= {"recipe_hash": "0", "start": "then", "end": None, "best": {"images": 8, "frechet_a_heldout": 1.5}}
    tree |= {"data": {"name": "toy", "size": [8, 8], "licence": "MIT"}}
    files.write_json(tmp_path / "manifest.json", tree)
    run = runs.Run(tmp_path)
    manifest = run.read_manifest()
    assert manifest.best == runs.BestCheckpoint(8, "frechet_a_heldout", 1.5) and manifest.data.size == (8, 8)
    runs.update_manifest(run, status="interrupted")
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert {**tree, "status": "interrupted"}.items() <= {**written, "data": tree["data"]}.items()
    assert tree["data"].items() <= written["data"].items()


def test_a_manifest_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    files.write_json(run.path / "manifest.json", {})
    with pytest.raises(ModisteError, match=r"manifest.json lacks data, device, status, threads"):
        runs.open_run(run.path).read_manifest()


@pytest.mark.parametrize("line", ["[1, 2]", "{}", "3", "null", '{"images": 1.5}', '{"images": true}', "[" * 100_000])
def test_a_record_is_an_object_with_its_images(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f"{line}\n", encoding="utf-8")
    run = runs.Run(tmp_path)
    for read in (run.read_log, lambda: runs.read_last_record(run), runs.LogReader(run).read_new):
        with pytest.raises(
            ModisteError, match=r"log\.jsonl has a line that is no record \('.{1,40}'\); remove that line"
        ):
            read()


def test_the_last_record_is_read_alone(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    assert runs.read_last_record(run) is None
    records: list[dict[str, Any]] = [{"images": k, "note": "é" * (k % 7)} for k in range(3000)]
    runs.write_log(run, records)
    assert runs.read_last_record(run) == run.read_log()[-1] == records[-1]
    runs.append_log(run, {"images": 3000, "long": "x" * 10_000})
    assert runs.read_last_record(run) == {"images": 3000, "long": "x" * 10_000}
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"images": 4000, "cut off')
    assert runs.read_last_record(run) == run.read_log()[-1] == {"images": 3000, "long": "x" * 10_000}
    runs.write_log(run, records[:1])
    assert runs.read_last_record(run) == records[0]
    (tmp_path / "log.jsonl").write_text("")
    assert runs.read_last_record(run) is None
