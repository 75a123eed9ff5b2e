"""Processes that Modiste starts, in working folders that hold modules named like Python's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modiste
from modiste import config, progress, runs, subprocesses
from modiste.config import Recipe
from modiste.experiments import study_config

HIDERS = ("csv", "json", "numpy", "random", "statistics", "subprocess", "torch", "pydantic")


@pytest.fixture
def homework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of somebody else's modules, none of which may be imported."""
    folder = tmp_path / "homework"
    folder.mkdir()
    for name in HIDERS:
        (folder / f"{name}.py").write_text("raise RuntimeError('this is homework')\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_a_study_and_workers_take_python_s_modules(homework: Path, tiny_free: Recipe, tmp_path: Path) -> None:
    """A run of a study in a process of its own, which starts a partner, and is measured by a third."""
    shared = config.override(tiny_free, {"train.processes": 2, "train.images": 80})
    (tmp_path / "shared.toml").write_text(config.to_toml(shared), encoding="utf-8")
    one = study_config.Configuration(name="shared", recipe=str(tmp_path / "shared.toml"))
    study = study_config.Study(configuration=(one,), seeds=1, evaluate=study_config.Judging(count=16))
    folder = modiste.study(study, tmp_path / "out", console=progress.console(quiet=True))
    assert {row.status for row in folder.read_rows()} == {"finished"}, folder.read_rows()
    manifest = runs.Run(tmp_path / "out/runs/shared-seed0").read_manifest()
    assert manifest.processes == 2 and manifest.command[0] == "modiste"


@pytest.mark.parametrize("start", [subprocesses.command([]), [sys.executable, "-m", "modiste"]], ids=["path", "module"])
def test_a_command_takes_python_s_modules_and_those_of_pythonpath(
    homework: Path, tmp_path: Path, start: list[str]
) -> None:
    mine, source = tmp_path / "mine", str(subprocesses.MAIN.parents[1])
    mine.mkdir()
    say = "import atexit, sys; atexit.register(lambda: print(*sys.path, sep='\\n', file=sys.stderr))\n"
    (mine / "sitecustomize.py").write_text(say, encoding="utf-8")
    path = os.pathsep.join([str(mine), source])
    done: Any = subprocess.run(
        [*start, "recipes", "keys"], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0 and "train.batch_size" in done.stdout, done.stderr
    found = done.stderr.splitlines()
    assert str(mine) in found and source in found
    assert not {str(homework), "", str(subprocesses.MAIN.parent)} & set(found)


def test_a_process_runs_the_package_that_started_it(tmp_path: Path) -> None:
    """Also where PYTHONPATH has another one."""
    (tmp_path / "modiste").mkdir()
    (tmp_path / "modiste/__init__.py").write_text("raise RuntimeError('another one')\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        subprocesses.command(["--version"]), capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout == f"modiste {modiste.__version__}\n", done.stderr
