"""The directions of a run: in its folder, on the command line, and in the images that take a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import modiste
from modiste import config, runs
from modiste.config import Recipe
from modiste.data import toy
from modiste.errors import UsageError
from modiste.latent import steering
from modiste.sampling import generators
from modiste.training import trainer

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny: Recipe, closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setattr(steering, "MEASURED", 20)
    monkeypatch.setattr(steering, "FEWEST_PER_CLASS", 20)
    changes = {"data.name": str(closet), "data.resize": None, "train.images": 160}
    return trainer.train(config.override(tiny, changes), tmp_path / "run")


def test_the_shipped_generator_is_steered_at_once(tmp_path: Path) -> None:
    """More brightness is brighter, in every class; zero steps change nothing, to the last bit."""
    plain, bright = (modiste.sample("pretrained", count=20, direction=steps) for steps in (None, {"brightness": 1.5}))
    assert (bright.pixels.mean((1, 2, 3)) > plain.pixels.mean((1, 2, 3))).mean() > 0.8
    still = modiste.sample("pretrained", count=20, direction={"brightness": 0.0})
    np.testing.assert_array_equal(still.pixels, plain.pixels)
    with pytest.raises(UsageError, match="has no direction 'brightnes'; did you mean 'brightness'"):
        modiste.sample("pretrained", count=1, direction={"brightnes": 1})
    for step in (9.0, -9.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=r"brightness=.* is too wide a step; take -5 to 5"):
            modiste.sample("pretrained", count=1, direction={"brightness": step})


def test_from_the_command_to_a_steered_set(run: runs.Run, call: Call, tmp_path: Path) -> None:
    code, _, errors = call("sample", run.path, "--direction", "width=1", "--out", tmp_path / "a.png")
    assert code == 2 and f"find them with: modiste directions {run.path}" in errors
    elsewhere = tmp_path / "new" / "folder"
    code, printed, errors = call("directions", run.path, "--images", 200, "--out", elsewhere, "--json")
    assert code == 0 and {file.suffix for file in elsewhere.iterdir()} == {".json", ".png", ".safetensors"}, errors
    for file in elsewhere.iterdir():
        file.rename(run.path / file.name)
    tree = json.loads(printed)
    names = [one["name"] for one in tree["directions"]]
    assert {"brightness", "width", "closed-form-1", "features-1", "random"} <= set(names)
    assert tree["protocol"]["measured_on"] == steering.MEASURED and tree["picture"] == str(elsewhere / "directions.png")
    assert json.loads((run.path / "directions.json").read_text())["directions"] == tree["directions"]
    code, printed, errors = call(
        "sample", run.path, "--direction", "width=2", "--per-class", 1, "--out", tmp_path / "set.npz"
    )
    assert code == 0, errors
    card = next(tmp_path.glob("set*.md")).read_text()
    assert "--direction width=2" in card
    moved = np.load(tmp_path / "set.npz")["images"]
    generator = generators.load(run)
    steered = steering.steered(run, generator, {"width": 2.0})
    np.testing.assert_array_equal(moved, steered.sample(seeds=range(generator.shape.classes)))
    assert (moved != generator.sample(seeds=range(generator.shape.classes))).any()


def test_directions_belong_to_one_state_of_a_generator(run: runs.Run) -> None:
    generator = generators.load(run)
    steering.write_vectors(run.path / "directions.safetensors", generator, [])
    other = generators.load("pretrained")
    assert steering.read_vectors(run.path / "directions.safetensors", other) is None
    with pytest.raises(UsageError, match=r"no directions yet"):
        steering.read(run, generator)
    with pytest.raises(UsageError, match="made for another state of its generator; find them with"):
        steering.read(run, other)


def test_what_is_refused(run: runs.Run, call: Call, tmp_path: Path) -> None:
    assert steering.parse_steps(["a=1.5", "b = -2"]) == {"a": 1.5, "b": -2.0}
    for text, problem in (("width", "has no number"), ("width=x", "has no number")):
        with pytest.raises(UsageError, match=problem):
            steering.parse_steps([text])
    with pytest.raises(UsageError, match="the direction a is given twice"):
        steering.parse_steps(["a=1", "a=2"])
    for name in ("width", "warmth", "class", "features-2", "random"):
        example = steering.Example(name, toy.draw(2, 16, 0), toy.draw(2, 16, 1))
        with pytest.raises(UsageError, match=f"'{name}' is what another direction is called; give .* another --name"):
            steering.find(run, example=example)
    with pytest.raises(UsageError, match=r"24 x 24 pixels, and .* makes 16 x 16; bring them to that$"):
        steering.find(run, example=steering.Example("logo", toy.draw(2, 24, 0), toy.draw(2, 16, 1)))
    assert call("directions", run.path, "--with", tmp_path)[0] == 2
    assert "two folders and a name" in call("directions", run.path, "--with", tmp_path)[2]
    code, _, errors = call("directions", run.path, "--with", tmp_path, "--without", tmp_path, "--name", "Ärmel")
    assert code == 2 and "is no name of a direction" in errors
