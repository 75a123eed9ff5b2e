"""The command line's words in Python: what they change, what they return, and what is said of a wrong one."""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import modiste
from modiste import cli, config, runs, schema
from modiste.config import Recipe
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.experiments.studies import StudyFolder
from modiste.notebooks.words import recipe_changes
from modiste.sampling import generators

OTHER_NAMES = {"settings": "set", "label": "label", "kind": "format"}
"""Options whose parameter in the command line's code has another name than the word in Python."""
NOT_IN_PYTHON = {"as_json", "dry_run", "markdown", "calibration", "watch", "every", "latex", "trust",
                 "report"}  # fmt: skip
"""Options that print, or do something else than the command: watch is a loop, `trust` and `report` are functions."""


@pytest.mark.parametrize("name", ["train", "sample", "project", "evaluate", "study", "report", "detect"])
def test_every_option_of_the_command_is_a_word_in_python(name: str) -> None:
    root: Any = typer.main.get_command(cli.app)
    options = {OTHER_NAMES.get(one.name, one.name) for one in root.commands[name].params if one.opts[0][0] == "-"}
    words = set(inspect.signature(getattr(modiste, name)).parameters)
    assert len(options) >= 4 and options - NOT_IN_PYTHON <= words


def test_the_words_change_the_recipe_as_the_options_do(tiny: Recipe, closet: Path, tmp_path: Path) -> None:
    run = modiste.train(
        tiny, tmp_path / "run", data=closet, resize=8, seed=3, budget="48 images", set={"train.tick_images": 16}
    )
    recipe = run.read_recipe()
    assert (recipe.data.name, recipe.data.resize, recipe.seed) == (str(closet), 8, 3)
    assert recipe.train.images == 48 and len(run.read_log()) == 3
    assert isinstance(run, runs.Run) and run == runs.Run(run.path) and runs.Run(run.path) == run
    assert hash(run) == hash(runs.Run(run.path)) and run != runs.Run(tmp_path)
    assert recipe_changes(budget=90) == recipe_changes(budget="90s") == {"train.budget_seconds": 90}
    with pytest.raises(UsageError, match=r"data\.name is set twice, to 'toy' and to 'mnist'"):
        recipe_changes(data="toy", overrides={"data.name": "mnist"})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: modiste.train("swift", epochs=3), "train() takes no 'epochs'; did you mean set={'train.epochs': 3}?"),
        (lambda: modiste.train("swift", epoch=3), "train() takes no 'epoch'; did you mean set={'train.epochs': 3}?"),
        (lambda: modiste.train("swift", dataset="toy"), "train() takes no 'dataset'; did you mean data=?"),
        (lambda: modiste.evaluate("x", images=3, counts=9), "evaluate() takes no 'images'; it takes what, count, "),
        (lambda: modiste.study("diaz", seed=3), "study() takes no 'seed'; did you mean seeds=?"),
        (lambda: modiste.load("pretrained", checkpoints="best"), "load() takes no 'checkpoints'; did you mean check"),
        (lambda: modiste.sample("pretrained", counts=4), "sample() takes no 'counts'; did you mean count=?"),
    ],
)  # fmt: skip
def test_a_wrong_word_names_the_right_one(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value).startswith(sentence)


def test_an_interrupted_training_is_saved_and_raises(tiny: Recipe, tmp_path: Path) -> None:
    """And the same call goes on; a listener that the caller adds hears every tick."""
    heard: list[int] = []

    @contextmanager
    def follow(run: runs.Run) -> Any:
        def tick(record: Mapping[str, Any]) -> None:
            heard.append(record["images"])
            if record["images"] == 160:
                os.kill(os.getpid(), signal.SIGINT)

        yield tick

    out = tmp_path / "run"
    with pytest.raises(modiste.Interrupted) as stopped:
        modiste.train(tiny, out, follow=follow)
    assert isinstance(stopped.value, KeyboardInterrupt)
    state, _ = runs.load_state(runs.Run(out))
    assert state is not None and state["images"] == runs.Run(out).read_manifest().images == 176
    assert str(stopped.value) == (
        f'the training in {out} was stopped after 176 images and its state is saved: go on with modiste.train("{out}")'
    )
    run = modiste.train(out)
    assert run.read_manifest().status == "finished" and heard == [80, 160]
    assert [record["images"] for record in run.read_log()] == [80, 160, 240, 320]


def test_work_without_a_state_says_that_nothing_was_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    (run / "metrics.json").unlink()
    monkeypatch.setattr(records, "write_with_picture", stop)
    with pytest.raises(modiste.Interrupted, match=r"the evaluation of .* was stopped and nothing was written"):
        modiste.evaluate(run, count=20)
    assert not (run / "metrics.json").exists()


def test_a_stopped_study_raises_and_names_the_call_that_goes_on(
    study_file: Path, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modiste.experiments import studies

    out = tmp_path / "study"
    run_study = studies.run_study

    def stopped(study: Any, path: Path, options: Any, console: Any) -> StudyFolder:
        with monkeypatch.context() as patch:
            patch.setattr(studies.runner, "run_locally", lambda *_: iter(()))
            return run_study(study, path, options, console)

    with monkeypatch.context() as patch, pytest.raises(modiste.Interrupted) as error:
        patch.setattr(studies, "run_study", stopped)
        modiste.study(study_file, out)
    assert f"the study in {out}: 0 of 4 runs are done" in str(error.value)
    assert str(error.value).endswith(f'go on with modiste.study("{out}")')


def test_what_is_sampled_is_what_the_generator_makes(run: Path, tmp_path: Path) -> None:
    images = modiste.sample(run, seeds="3,5-6", label="Bag")
    assert isinstance(images, Images)
    plain = generators.load(run).sample_set(seeds=[3, 5, 6], label="Bag")
    assert np.array_equal(images.pixels, plain.pixels) and (images.labels == plain.labels).all()
    assert len(modiste.sample(run, interpolate=(1, 2))) == 10
    assert len(modiste.sample(run, per_class=2)) == 20
    assert modiste.sample(run, tmp_path / "grid.png", count=4) == tmp_path / "grid.png"
    written = modiste.sample(run, tmp_path / "set.npz", per_class=2)
    assert np.load(written)["images"].shape == (20, 1, 16, 16)
    with pytest.raises(UsageError, match="--per-class says which images"):
        modiste.sample(run, per_class=2, count=3)


def test_what_is_there_can_be_shown(run: Path, study_file: Path, here: list[str], tmp_path: Path) -> None:
    assert modiste.show(run) == runs.Run(run) and modiste.show(runs.Run(run)) == modiste.show(str(run))
    assert modiste.show(run / "metrics.json") == records.read(run / "metrics.json")
    study = modiste.study(study_file, tmp_path / "study", seeds=1)
    assert modiste.show(tmp_path / "study") == study and study.is_finished()
    assert modiste.show("pretrained").path == runs.SHIPPED
    with pytest.raises(UsageError, match="is not a run folder"):
        modiste.show(tmp_path)


def test_recipes_are_those_of_the_command(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "shipped", lambda kind="recipe": ["diaz-a", "swift"])
    rows = json.loads(call("recipes", "--json")[1])
    found = modiste.recipes()
    assert list(found) == rows and [row["name"] for row in found] == ["diaz-a", "swift"]
    assert found[0]["about"] == config.load("diaz-a").about
    assert found[0]["about"] in found._repr_html_() and found[0]["about"] in repr(found)
    assert list(found.frame()["length"]) == [row["length"] for row in rows]
