"""Classes left out: what is trained and measured, what is reused, tables and sentences, and bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modiste import config, runs
from modiste.config import Recipe
from modiste.data import toy
from modiste.experiments.detection import detectors, leave_out
from modiste.experiments.detection.leave_out import LeaveOut, LeaveOutOptions, LeftOut
from modiste.runs import Run
from modiste.training import trainer

Call = Callable[..., tuple[int, str, str]]
NAMES = ("reconstruction", "judge", "neighbours")


@pytest.fixture
def recipe_file(tiny: Recipe, tmp_path: Path) -> Path:
    """Two updates on a data set of three classes."""
    arrays = {}
    for part, seed in (("train", 0), ("test", 1)):
        images = toy.draw(300, 16, seed)
        assert images.labels is not None
        some = images.select(images.labels < 3)
        arrays |= {f"x_{part}": some.pixels, f"y_{part}": some.labels}
    np.savez(tmp_path / "three.npz", class_names=np.array(["shirt", "trouser", "pull over"]), **arrays)
    changes = {"data.name": str(tmp_path / "three.npz"), "data.count": None, "data.resize": None, "train.images": 32}
    (tmp_path / "tiny.toml").write_text(config.to_toml(config.override(tiny, changes)))
    return tmp_path / "tiny.toml"


def test_each_class_is_left_out_in_turn(
    recipe_file: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found"
    words = ("detect", recipe_file, "--leave-out", "all", "--out", out, "--count", 20, "--detector", "neighbours")
    code, printed, errors = call(*words, "--detector", "components")
    assert code == 0, errors
    places = sorted(place.name for place in (out / "runs").iterdir())
    assert places == ["without-0-shirt", "without-1-trouser", "without-2-pull-over"]
    run = Run(out / "runs" / "without-1-trouser")
    assert run.read_manifest().data.classes == ("shirt", "pull over") and run.read_manifest().status == "finished"
    tree = json.loads((out / "leave-out.json").read_text())
    assert [one["class"] for one in tree["classes"]] == ["shirt", "trouser", "pull over"] and not tree["waiting"]
    trouser = tree["classes"][1]
    assert trouser["areas"]["neighbours"]["value"] > 0.9 and trouser["left_out"] == trouser["others"] == 20
    assert "left out" in printed and "mean" in printed and "area under the curve" in printed
    rows = list(csv.DictReader((out / "leave-out.csv").read_text().splitlines()))
    assert len(rows) == 6 and {row["detector"] for row in rows} == {"neighbours", "components"}
    assert (out / "leave-out.md").read_text().count("| trouser |") == 1 and (out / "leave-out.png").is_file()

    def refuse(*_: object, **__: object) -> Run:
        raise AssertionError("a finished run is trained again")

    monkeypatch.setattr(trainer, "train", refuse)
    (out / "scores" / "0-shirt.json").write_text("{}")  # damaged: measured again
    more = json.loads(call(*words, "--detector", "discriminator", "--json")[1])
    assert {one["detector"] for one in more["detectors"]} == {"neighbours", "discriminator"}
    assert more["classes"][1]["areas"]["neighbours"] == trouser["areas"]["neighbours"]
    code, _, errors = call(*words[:-4], "--count", 21)
    assert code == 2 and "was begun with another count, and classes measured otherwise cannot be compared" in errors
    settings = out / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"judge": "one that was trained meanwhile"}))
    code, _, errors = call(*words)
    assert code == 2 and "was begun with another judge" in errors
    settings.unlink()
    assert call(*words)[0] == 0
    with np.load(tmp_path / "three.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "three.npz", **{**arrays, "x_test": 255 - arrays["x_test"]})
    code, _, errors = call(*words)
    assert code == 2 and "was begun with another set of test images" in errors
    np.savez(tmp_path / "three.npz", **arrays)
    settings.write_text("{")
    code, _, errors = call(*words)
    assert code == 1 and "settings.json is damaged, so nothing says how" in errors


def test_a_training_that_is_stopped_leaves_the_others_waiting(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = trainer.train

    def stopped(*words: object, **more: object) -> Run:
        run = train(*words, **more)  # type: ignore[arg-type]
        if "without-1-trouser" in str(run.path):
            runs.update_manifest(run, status="interrupted")
        return run

    monkeypatch.setattr(trainer, "train", stopped)
    options = LeaveOutOptions(detectors=("components",), count=20)
    found = leave_out.leave_out(recipe_file, tmp_path / "found", options=options)
    assert [one.class_name for one in found.classes] == ["shirt"] and found.waiting == ("trouser", "pull over")
    assert leave_out.sentences(found)[-1] == "not measured yet: trouser and pull over"


def test_classes_whose_names_differ_in_case_alone_have_runs_of_their_own(recipe_file: Path, tmp_path: Path) -> None:
    recipe = config.load(recipe_file)
    with np.load(recipe.data.name) as archive:
        arrays = {**archive, "class_names": np.array(["A", "a", "b"])}
    np.savez(recipe.data.name, **arrays)
    options = LeaveOutOptions(detectors=("components",), count=20, overrides={"data.count": 50})
    leave_out.leave_out(recipe_file, tmp_path / "found", options=options)
    runs_of = [Run(place) for place in sorted((tmp_path / "found" / "runs").iterdir())]
    assert [run.read_manifest().data.classes for run in runs_of] == [("a", "b"), ("A", "b"), ("A", "a")]
    assert {run.read_recipe().data.count for run in runs_of} == {50}


def test_the_mean_of_areas_has_an_interval_within_0_and_1() -> None:
    normal, chosen = {"neighbours": np.arange(100.0)}, (detectors.DETECTORS["neighbours"],)
    classes = tuple(LeftOut("c", {"neighbours": np.full(5, place - 0.5)}, normal) for place in (99, 97, 100, 95))
    total = LeaveOut("made-up", Path("detect/made-up"), chosen, classes).mean("neighbours")
    assert total.mean == pytest.approx(0.9775) and total.low == pytest.approx(0.942, abs=1e-3) and total.high == 1


def made_up(shifts: dict[str, float], classes: int = 6) -> LeaveOut:
    """Scores of as many classes: normal ones, shifted where images do not belong."""
    random = np.random.default_rng(0)
    found = []
    for k in range(classes):
        strange = {name: random.normal(shift, size=300) for name, shift in shifts.items()}
        found.append(LeftOut(f"class{k}", strange, {name: random.normal(size=300) for name in shifts}))
    chosen = tuple(detectors.DETECTORS[name] for name in shifts)
    return LeaveOut("made-up", Path("detect/made-up"), chosen, tuple(found))


def test_the_winner_is_named_also_where_it_is_simple() -> None:
    result = made_up({"reconstruction": 0.5, "judge": 4.0, "neighbours": 2.0, "components": 0.5})
    said = leave_out.sentences(result)
    assert said[0].startswith("neighbours finds left-out classes best, 0.9")
    assert said[0].endswith(": shown to be better than reconstruction and components")
    assert said[1] == "it is a simple detector: no generator is needed for this"
    assert said[2].startswith("judge reaches 0.99") and "so it is no rival here" in said[2]
    heads, body = leave_out.table(result)
    assert heads == ["left out", "reconstruction", "(judge)", "neighbours", "components"]
    assert [row[3].endswith("*") for row in body] == [True] * 6 + [False] and body[-1][0] == "mean"
    assert not any(row[k].endswith("*") for row in body for k in (1, 2, 4))
    assert result.mean("neighbours").mean == pytest.approx(0.921, abs=0.02)  # Phi(2 / sqrt(2))


def test_detectors_that_cannot_be_told_apart() -> None:
    result = made_up({"reconstruction": 1.0, "neighbours": 1.0})
    (said,) = [text for text in leave_out.sentences(result) if "on average" in text]
    assert "shown to be better than no other; " in said and said.endswith("cannot be told apart from it")
    close = leave_out.sentences(made_up({"discriminator": 1.05, "neighbours": 1.04}))
    assert close[0].startswith("discriminator finds") and close[0].endswith("neighbours cannot be told apart from it")
    assert close[1] == "neighbours needs no generator, so none is shown to be needed for this"
    one = made_up({"reconstruction": 2.0, "neighbours": 1.0}, classes=1)
    assert leave_out.sentences(one)[0].startswith("reconstruction finds class0 best, ")
    assert leave_out.table(one)[1][0][0] == "class0" and len(leave_out.table(one)[1]) == 1
    assert leave_out.sentences(LeaveOut("x", Path("x"), (), ())) == ["no class is measured yet"]


def test_bad_input(recipe_file: Path, tmp_path: Path, call: Call) -> None:
    np.savez(tmp_path / "bare.npz", images=toy.draw(40, 16, 0).pixels)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    bare = f"data.name={tmp_path / 'bare.npz'}"
    for words, sentence in (
        (("--leave-out", "bag"), "bag"),
        (("--leave-out", ","), "names no class; name one"),
        (("--leave-out", "all", "--set", "finetune.ancestor=pretrained"), "may have seen the class left out"),
        (("--leave-out", "all", "--set", bare), "has no test images, and the recipe trains on all others"),
        (("--leave-out", "all", "--set", bare, "--set", "data.split=fit"), "has no labels of three classes or more"),
        (("--leave-out", "all", "--out", tmp_path / "mine"), "holds other files (thesis.txt)"),
        (("--leave-out", "all", "--set", 'data.classes=["shirt","trouser"]'), "was trained on some classes"),
        (("--leave-out", "all", "--budget", "soon"), "soon"),
        (("--leave-out", "all", "--alpha", "0.1"), "at every rate of false alarms; leave --alpha out"),
    ):
        code, printed, errors = call("detect", recipe_file, *words)
        assert code == 2 and sentence in errors and not printed, (words, errors)
    assert not (tmp_path / "detect").exists()
