"""Jobs: why they fail, whom they wait for, and what a cluster keeps free for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support import wait_for

import modiste
from modiste.experiments import results, runner, studies, study_config
from modiste.experiments.runner import Job, JobResult

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
        return SimpleNamespace(remote=lambda job: job.folder)

    def wait(self, waiting: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return waiting[:1], waiting[1:]

    def get(self, _: Any) -> JobResult:
        return runner.JobResult("interrupted")

    def shutdown(self) -> None:
        pass


def test_a_cluster_keeps_a_core_free_for_every_process(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_config.revise(study_config.load(study_file), seeds=1, set={"train.device": "cpu"})
    two = {"grid": {"train.processes": (1, 4)}}
    for threads, changes, cores in ((1, {}, [1, 1]), (1, two, [1, 4]), (2, two, [2, 4]), (None, two, [1, 4])):
        cluster = FakeRay()
        monkeypatch.setitem(sys.modules, "ray", cluster)
        asked = study.model_copy(update={"threads": threads, **changes})
        out = tmp_path / f"{threads}-{len(changes)}"
        studies.study(asked, out, ray="auto", console=QUIET)
        assert cluster.asked == cores and "num_cpus" not in cluster.room
        studies.study(asked, out, ray="local", console=QUIET)
        assert cluster.room["num_cpus"] == max(cores)


@pytest.mark.parametrize(("there", "asked"), [(0, 0), (1, 1), (8, 1)])
def test_runs_on_a_cluster_with_gpus_ask_for_one(
    there: float, asked: int, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeRay(there)
    monkeypatch.setitem(sys.modules, "ray", cluster)
    studies.study(
        study_config.revise(study_config.load(study_file), seeds=1), tmp_path / "study", ray="auto", console=QUIET
    )
    assert cluster.asked_gpus == [asked, asked]


def test_the_reason_is_the_last_line_or_the_signal(tmp_path: Path) -> None:
    job = Job(tmp_path / "none", (("train", "swit"),), tmp_path / "log", tmp_path, {"OMP_NUM_THREADS": "1"})
    assert runner.run_job(job).reason.startswith("no recipe is named 'swit'; did you mean 'swift'?")
    assert (
        runner.failure_reason(tmp_path / "log", 0, -signal.SIGKILL) == "killed by SIGKILL, perhaps for want of memory"
    )
    (tmp_path / "log").write_text("before\n")
    assert runner.failure_reason(tmp_path / "log", 7, 3) == "exit code 3"


def test_a_run_folder_that_cannot_be_held_is_a_reason_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    job = Job(tmp_path / "run", (("train", "swift"),), tmp_path / "log", tmp_path)
    assert runner.run_job(job).reason.startswith(f"cannot use {tmp_path / 'run'} for this training: ")


def test_processes_that_a_killed_study_left_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run/.lock", "1"], stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        runner.wait_until_free(tmp_path / "run", runner.Stop())
        assert left.wait(timeout=10) == 0


@pytest.mark.slow
def test_ray_finishes_though_a_worker_is_killed(study_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = study_config.revise(
        study_config.load(study_file), seeds=1, budget="16000 images", set={"train.tick_images": 400}
    )
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
    assert {row.status for row in results.read(out)} == {"finished"}
    assert len({row.configuration for row in results.read(out)}) == 2


def every_process() -> list[int]:
    """Ray's workers are no children of the process that asked for them."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def evaluation(tmp_path: Path, *words: str) -> Job:
    return Job(tmp_path / "none", (), tmp_path / "log", tmp_path, evaluation=words)


def test_one_process_evaluates_all_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    stop = runner.Stop()
    evaluator = runner.Evaluator(stop, 1)
    try:
        assert evaluator.run(evaluation(tmp_path, "--version")) == JobResult("finished")
        first = evaluator.process
        assert first is not None and os.getpriority(os.PRIO_PROCESS, first.pid) == 19
        group = Path(f"/proc/{first.pid}/autogroup")  # by which Linux shares time among sessions, if it does
        text = group.read_text(encoding="ascii") if group.is_file() else ""
        assert not text or text.split()[-1] == "19"
        failed = evaluator.run(evaluation(tmp_path, "evaluate", str(tmp_path / "nothing")))
        assert failed.status == "failed" and "nothing does not exist" in failed.reason
        assert evaluator.process is first
        first.kill()
        assert evaluator.run(evaluation(tmp_path, "--version")) == JobResult(
            "failed", "killed by SIGKILL, perhaps for want of memory"
        )
        assert evaluator.run(evaluation(tmp_path, "--version")) == JobResult("finished")
        stop.request()
        assert evaluator.run(evaluation(tmp_path, "--version")) == JobResult("interrupted")
    finally:
        stop.request()
        evaluator.close()
    log = (tmp_path / "log").read_text()
    assert log.count("$ modiste --version") == 4 and log.count(f"\nmodiste {modiste.__version__}\n") == 2
