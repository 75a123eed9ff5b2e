"""Two processes against one, with gloo on the CPU."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError
from modiste.training import distributed


def torchrun(recipe: Recipe, out: Path) -> runs.Run:
    file = out.with_suffix(".toml")
    file.write_text(config.to_toml(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "modiste", "train", str(file), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained") == 1  # one process speaks
    return runs.open_run(out)


def test_two_halves_equal_one_whole_without_batch_norm(tiny_free: Recipe, tmp_path: Path) -> None:
    alone = modiste.train(tiny_free, tmp_path / "alone")
    together = modiste.train(tiny_free, tmp_path / "together", overrides={"train.processes": 2})
    assert together.read_manifest().processes == 2 and together.read_manifest().images == 320
    one, other = (load_file(run.path / "generator.safetensors") for run in (alone, together))
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-4), name
    start = load_file(
        modiste.train(tiny_free, tmp_path / "start", overrides={"train.images": 16}).path / "generator.safetensors"
    )
    assert max((one[name] - start[name]).abs().max().item() for name in one) > 1e-3  # it did move
    for left, right in zip(alone.read_log(), together.read_log(), strict=True):
        for key in ("images", "loss_g", "loss_d", "d_accuracy_real", "penalty"):
            assert math.isclose(left[key], right[key], rel_tol=1e-2, abs_tol=1e-3), key


def test_half_an_environment_of_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"WORLD_SIZE is '2' and RANK None here.*torchrun, or unset"):
        distributed.plan_group("cpu", 1)
    monkeypatch.setenv("WORLD_SIZE", "")
    assert distributed.plan_group("cpu", 3) == distributed.ProcessGroup(0, 3)


def test_each_process_takes_the_device_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", called.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed.dist, "init_process_group", called.append)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    group = distributed.plan_group("cuda", 4)
    assert group == distributed.ProcessGroup(1, 2)
    with distributed.join_group(group, "cuda", lambda folder: []):
        assert called == [1, "cpu:gloo,cuda:nccl"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="process 1 has no GPU of its own: LOCAL_RANK is 1, and this machine has 1; "):
        distributed.join_group(group, "cuda", lambda folder: []).__enter__()


def test_a_launcher_of_one_process_leaves_the_others_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun --nproc-per-node 1 does, and clusters that set nothing but WORLD_SIZE."""
    called: list[object] = []

    @contextmanager
    def workers(group: distributed.ProcessGroup, _: object) -> Iterator[str]:
        called.append(group)
        yield "store"

    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(distributed, "_workers", workers)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **how: called.append(how))
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    assert distributed.plan_group("cuda", 2) == distributed.ProcessGroup(0, 1)
    monkeypatch.setattr(distributed.shared_memory, "connected", lambda rank, size, store: nullcontext((rank, size)))
    group = distributed.plan_group("cpu", 2)
    with distributed.join_group(group, "cpu", lambda folder: []) as connected:
        assert connected == group and connected.shared_sum == (0, 2)
        assert called == [distributed.ProcessGroup(0, 2), {"store": "store", "rank": 0, "world_size": 2}]


def test_the_first_process_starts_the_others(tiny: Recipe, tmp_path: Path) -> None:
    """The same numbers as torchrun's two, down to the last bit, and this process has its threads back."""
    threads = torch.get_num_threads()
    recipe = config.override(tiny, {"train.images": 160})
    started = modiste.train(config.override(recipe, {"train.processes": 2, "train.threads": 2}), tmp_path / "started")
    assert started.read_manifest().processes == 2 and started.read_manifest().threads == 1
    launched = torchrun(config.override(recipe, {"train.threads": 2}), tmp_path / "launched")
    one, other = (load_file(run.path / "generator.safetensors") for run in (started, launched))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.get_num_threads() == threads
    assert distributed.plan_group("cuda", 2).size == 1  # on GPUs torchrun is asked


@pytest.mark.slow  # test_resume.py kills and resumes one within a tick
def test_shared_trainings_resume_bit_for_bit(tiny: Recipe, tmp_path: Path) -> None:
    """Also with batch norm, whose statistics are each process's own."""
    recipe = config.override(tiny, {"train.processes": 2})
    whole = modiste.train(recipe, tmp_path / "whole")
    modiste.train(config.override(recipe, {"train.images": 160}), tmp_path / "parts")
    parts = modiste.train(recipe, tmp_path / "parts", extend=True)
    one, other = (load_file(run.path / "generator.safetensors") for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [record["images"] for record in parts.read_log()] == [80, 160, 240, 320]
    assert all(math.isfinite(value) for record in parts.read_log() for value in record.values())


def test_sigterm_while_they_meet_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, threading\n"
        "from modiste.training import distributed\n"
        "def started(command, **_):\n"
        "    other = start([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print(other.pid, flush=True)\n"
        "    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "    return other\n"
        "start, distributed.subprocess.Popen = distributed.subprocess.Popen, started\n"
        "with distributed.join_group(distributed.ProcessGroup(0, 2), 'cpu', lambda folder: []):\n"
        "    print('met')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM and "met" not in done.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_early_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words come back, and nothing waits for it for ever."""
    with (
        pytest.raises(ModisteError, match=r"process 1 of the 2 .* ended \(no recipe is named 'nobody'"),
        distributed.join_group(distributed.ProcessGroup(0, 2), "cpu", lambda folder: ["train", "nobody"]),
    ):
        pass


def test_one_process_agrees_with_itself() -> None:
    assert distributed.any_of([True, False], distributed.ProcessGroup()) == [True, False]
