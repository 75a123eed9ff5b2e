"""Processes that another one started end soon after it, however it went, and nothing of them is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modiste import config, runs, subprocesses
from modiste.config import Recipe

SECONDS = 60.0
STARTER = (
    "import subprocess, sys, time\n"
    "from modiste import subprocesses\n"
    "process = subprocesses.start(sys.argv[1:], subprocess.DEVNULL, own_session=True)\n"
    "print(process.pid, flush=True)\n"
    "time.sleep(600)\n"
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    """Whether it runs; a zombie whose parent does not ask for it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def mentioning(text: str) -> list[int]:
    """The processes whose command line has that text."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (place / "cmdline").read_bytes() and alive(int(place.name)):
                found.append(int(place.name))
        except OSError:
            pass
    return found


@pytest.fixture
def endless(tiny: Recipe, tmp_path: Path) -> Path:
    """A recipe that would train for hours."""
    place = tmp_path / "endless.toml"
    place.write_text(config.to_toml(config.override(tiny, {"train.images": 10**8})), encoding="utf-8")
    return place


@needs_proc
def test_the_training_of_a_killed_process_saves_and_ends(endless: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-c", STARTER, "train", str(endless), "--out", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        assert within(SECONDS, lambda: any((out / "state").glob("*.pt")))
        starter.kill()
    assert within(SECONDS, lambda: not alive(child))
    run = runs.Run(out)
    state, damaged = runs.load_state(run)
    assert run.read_manifest().status == "interrupted" and state is not None and not damaged
    assert state["images"] == run.read_manifest().images > 0
    with runs.locked(out):
        assert not list(out.rglob("*.writing"))


@needs_proc
@pytest.mark.slow
def test_the_partners_of_a_killed_training_end(endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = [sys.executable, "-m", "modiste", "train", str(endless), "--set", "train.processes=2", "--out", str(out)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        assert within(SECONDS, lambda: any((out / "state").glob("*.pt")))
        both = mentioning(str(out))
        assert len(both) == 2 and first.pid in both
        first.kill()
    assert within(SECONDS, lambda: not any(map(alive, both)))
    assert len(list(temporary.iterdir())) == 1  # where the ranks had met; the next training removes it
    subprocess.run([*words, "--fresh", "--budget", "32 images"], timeout=SECONDS, check=True, capture_output=True)
    assert not list(temporary.iterdir()) and not mentioning(str(out))


def test_a_child_has_no_lifeline_for_its_own_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(subprocesses.HELD, "1")
    monkeypatch.setattr(subprocesses, "_end_with_parent", lambda: None)
    subprocesses.hold()
    assert subprocesses.HELD not in os.environ


def test_what_is_started_is_what_was_asked(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as said:
        process = subprocesses.start(["--version"], said, folder=tmp_path)
        assert process.wait(SECONDS) == 0
        subprocesses.let_go(process)
    lines = (tmp_path / "log").read_text().splitlines()  # a slow machine says first that it is preparing
    assert lines[-1].startswith("modiste ")


def test_a_notebook_asks_for_no_colours_in_the_logs_of_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel sets these variables, and the last line of a log is the reason of a failure."""
    for name in subprocesses.COLOURED:
        monkeypatch.setenv(name, "1")
    with (tmp_path / "log").open("wb") as log:
        process = subprocesses.start(["train", "swift", "--help"], log.fileno())
        process.wait()
        subprocesses.let_go(process)
    assert b"\x1b" not in (tmp_path / "log").read_bytes() and "Train a recipe" in (tmp_path / "log").read_text()
