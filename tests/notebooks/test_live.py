"""The live display: there from the start, changed in place, short in the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import modiste
from modiste import progress
from modiste.config import Recipe
from modiste.errors import ModisteError
from modiste.notebooks import live


def text(output: dict[str, Any]) -> str:
    return str(output["text/plain"])


def test_a_training_is_one_bar_and_one_grid(
    notebook: Any, tiny: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_start: list[str] = []
    run = modiste.train(tiny, tmp_path / "run", console=None, follow=lambda run: _noting(notebook, at_start))
    assert run.read_manifest().status == "finished"
    bar, grid = notebook.outputs
    assert at_start and at_start[0].startswith("training tiny")
    assert text(bar).splitlines()[-1].startswith(f"{tmp_path / 'run'}: 320 images in ")
    assert len(text(bar).splitlines()) <= live.LINES and "<progress" not in bar["text/html"]
    assert grid["image/png"].startswith(b"\x89PNG") and text(grid) == "images of run"
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def _noting(notebook: Any, texts: list[str]) -> Any:
    from contextlib import nullcontext

    texts.append(text(notebook.outputs[0]))
    return nullcontext(lambda _: None)


def test_an_evaluation_and_a_report_are_one_line_each(notebook: Any, run: Path) -> None:
    record = modiste.evaluate(run, count=50)
    modiste.report(run)
    assert [text(one).splitlines()[-1] for one in notebook.outputs] == [
        f"small: {len(record.scores)} scores, written to {run}/metrics.json",
        f"wrote {run}/report.html",
    ]


def test_a_study_is_one_bar_and_the_newest_grid(
    notebook: Any, study_file: Path, here: list[str], tmp_path: Path
) -> None:
    modiste.study(study_file, tmp_path / "study")
    bar, grid = notebook.outputs
    assert text(bar).splitlines()[-1] == f"the study in {tmp_path / 'study'}: 4 of 4 runs are done"
    assert grid["image/png"].startswith(b"\x89PNG")


def test_messages_stay_and_passing_ones_do_not(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.01)
    console, quiet = progress.console(), progress.console(quiet=True)
    with live.shown("work") as remain:
        with progress.reporter(console, "work: begun") as reporter:
            assert reporter.is_live
            reporter.log("tick 1", passing=True)
            reporter.log("tick 2", passing=True)
            progress.log(console, "warning: <b>&")
            progress.log(quiet, "of another process")
            progress.log_plain("note: plain")
            reporter.update(0.25, "short", lambda: "a quarter")
            time.sleep(0.2)
            (bar,) = notebook.outputs
            assert 'value="0.250"' in bar["text/html"] and "&lt;b&gt;&amp;" in bar["text/html"]
            assert text(bar).splitlines()[0].startswith("a quarter  (")
            assert text(bar).splitlines()[1:] == ["warning: <b>&", "note: plain", "tick 2"]
            with progress.stage("reading the images"):
                time.sleep(0.2)
                assert text(notebook.outputs[0]).startswith("work: reading the images  (")
        remain("done")
    assert text(notebook.outputs[0]).splitlines() == ["warning: <b>&", "note: plain", "done"]


def test_a_failure_leaves_its_name_and_the_console_comes_back(
    notebook: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModisteError), live.shown("work"):
        raise ModisteError("no")
    with pytest.raises(KeyboardInterrupt), live.shown("work"):
        raise KeyboardInterrupt
    assert [text(one) for one in notebook.outputs] == ["work: failed", "work: stopped"]
    progress.log(progress.console(), "on the terminal again")
    assert capsys.readouterr().err == "on the terminal again\n"


def test_a_display_that_fails_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch, notebook: Any, run: Path) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.01)

    def broken(*_: Any) -> Any:
        raise OSError("the page is gone")

    with live.shown("work", broken) as remain:
        monkeypatch.setattr(live.NotebookDisplay, "_html", broken)
        time.sleep(0.1)
        remain("done")
    assert text(notebook.outputs[0]) == "done"


def test_outside_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert not live.in_notebook()
    modiste.evaluate(run, count=50)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_no_console_is_a_terminal_beside_a_display(monkeypatch: pytest.MonkeyPatch, notebook: Any) -> None:
    """A kernel sets FORCE_COLOR; a bar of the console would be drawn beside the display."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert progress.console().is_terminal
    with live.shown("work"):
        assert not progress.console().is_terminal
    assert progress.console().is_terminal
