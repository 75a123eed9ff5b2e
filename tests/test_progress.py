"""Names as the user has them, in every encoding; and no command that is silent for long."""

from __future__ import annotations

import ast
import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import modiste
from modiste import cli, config, progress
from modiste.config import Recipe
from modiste.data import toy

SOURCE = Path(modiste.__file__).parent
NAMES = ("[/]", "[red]", "[/bold] :cat:", "日本 ± é", "plain")
"""Classes that a terminal would take for markup or an emoji, and one that few encodings have."""


class Screen:
    """The command line in this process, on a terminal or into a pipe of that encoding."""

    def __init__(self, patch: pytest.MonkeyPatch, encoding: str, is_terminal: bool) -> None:
        self.patch, self.encoding = patch, encoding
        patch.setenv("COLUMNS", "200")
        if is_terminal:
            patch.setenv("FORCE_COLOR", "1")
            patch.setenv("TERM", "xterm")

    def __call__(self, *words: object) -> str:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=self.encoding, write_through=True) for _ in range(2)]
        with self.patch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            patch.setattr(sys, "argv", ["modiste", *map(str, words)])
            with pytest.raises(SystemExit) as end:
                cli.main()
        said = "".join(stream.buffer.getvalue().decode(self.encoding) for stream in streams)  # type: ignore[attr-defined]
        assert not end.value.code, said
        return said

    def spelt(self, name: str) -> str:
        """The name as this encoding can hold it."""
        for sign, otherwise in progress.SPELT.items():
            name = (
                name
                if sign in name.encode(self.encoding, "ignore").decode(self.encoding)
                else name.replace(sign, otherwise)
            )
        return name.encode(self.encoding, "backslashreplace").decode(self.encoding)


@pytest.mark.parametrize(("encoding", "is_terminal"), [("ascii", False), ("utf-8", True)])
def test_every_command_prints_names_whole(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, is_terminal: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    call = Screen(monkeypatch, encoding, is_terminal)
    train, test = (toy.draw(100, 16, seed) for seed in (1, 2))
    labels = np.arange(100) % len(NAMES)
    arrays = {"images": train.pixels, "labels": labels, "x_test": test.pixels, "y_test": labels}
    np.savez(tmp_path / "set [b] ±.npz", class_names=np.array(NAMES), **arrays)
    (tmp_path / "tiny.toml").write_text(config.to_toml(tiny), encoding="utf-8")
    run, length = "run [b] [/b] 日", ["--set", "train.images=80", "--set", "data.count=none"]

    def names_in(said: str) -> None:
        assert [name for name in map(call.spelt, NAMES) if name not in said] == []

    names_in(call("data", "set [b] ±.npz"))
    said = call("train", "tiny.toml", "--data", "set [b] ±.npz", "--out", run, *length)
    names_in(said)
    assert call.spelt(f"{run}/generator.safetensors") in said and "80/80" in said
    judge = "judge [x] 日.safetensors"
    said = call("judge", "train", "--data", "set [b] ±.npz", "--out", judge, "--epochs", 1)
    names_in(said)
    assert call.spelt(judge) in said
    names_in(call("evaluate", run, "--count", 20, "--judge", judge, "--audit"))
    assert call.spelt("images [/] 日") in call("sample", run, "--per-class", 2, "--out", "images [/] 日", "--format",
                                               "folder")  # fmt: skip
    assert call.spelt("images [/] 日") in call("verify", "images [/] 日")
    if not is_terminal:  # takes seconds, and prints the same
        assert call.spelt(run) in call("report", run)
    study = 'name = "s"\nrecipes = ["tiny.toml"]\nseeds = 2\n[set]\n"data.name" = "set [b] ±.npz"\n'
    (tmp_path / "study [s] 日.toml").write_text(study, encoding="utf-8")
    said = call("study", "study [s] 日.toml", "--dry-run", "--no-calibration", "--out", "study [/] 日")
    assert call.spelt("study [/] 日") in said


def test_what_is_told_of_a_run_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    progress.log(progress.console(), "[red]: :cat: [/]")
    assert capsys.readouterr().err == "[red]: :cat: [/]\n"


def test_only_one_module_makes_consoles() -> None:
    makers = {"Console", "Progress", "TextColumn", "Status", "Prompt"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or path.stem == "progress":
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
            by_console = name == "print" and isinstance(node.func, ast.Attribute)
            assert not by_console or path.stem == "tables", f"{path.name}:{node.lineno}"
            assert name not in makers or (name == "TextColumn" and literal), f"{path.name}:{node.lineno}"


def test_bytes_of_a_path_stay_bytes_and_signs_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    progress.accept_any_text()
    print("run \udcff 0.1 ± 0.2 é", flush=True)
    assert stream.buffer.getvalue() == b"run \xff 0.1 +- 0.2 \\xe9\n"  # type: ignore[attr-defined]


def test_a_command_names_the_stages_of_its_work(
    closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether they take long enough to be said or not."""
    named: list[str] = []
    stage = progress._Stage
    monkeypatch.setattr(progress, "_Stage", lambda text, *rest: named.append(text) or stage(text, *rest))
    for words, stages in (
        (["data", closet, "--out", tmp_path / "data"], [f"reading {closet}", "drawing"]),
        (["study", "diaz", "--set", f"data.name={closet}", "--dry-run", "--no-calibration"], ["checking every"]),
        (
            ["judge", "train", "--data", closet, "--out", tmp_path / "j", "--epochs", 1],
            ["learning from the 270 images"],
        ),
        (["sample", "pretrained", "--count", 64, "--out", tmp_path / "x.png"], ["making 64 images with pretrained"]),
    ):
        named.clear()
        monkeypatch.setattr(sys, "argv", ["modiste", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, capsys.readouterr().err
        assert all(any(text.startswith(start) for text in named) for start in stages), named


def test_a_stage_that_lasts_is_said_once_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.05)
    with progress.heartbeat("modiste dance"):
        with progress.stage("reading"):
            pass
        for _ in range(2):
            with progress.stage("thinking"):
                time.sleep(0.2)
        time.sleep(0.2)  # in the stage of the start, which has lost its turn: something was said
    assert capsys.readouterr().err == "thinking\n"
    with progress.heartbeat("modiste dance"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "modiste dance: preparing\n"
    with progress.stage("without a heartbeat"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
