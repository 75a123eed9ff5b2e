"""`modiste project`: a folder of codes and pictures, which `sample` draws again, and nothing for bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import modiste
from modiste import runs
from modiste.config import Data, Network, Recipe, Train
from modiste.data.sets import open_data
from modiste.data.subsets import first_images
from modiste.exports import projections
from modiste.latent import encoder
from modiste.provenance import metadata
from modiste.training import trainer

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(
        name="small",
        data=Data(name=str(closet)),
        network=Network(z_dim=6, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=320, batch_size=16, tick_images=320, precision="float32", threads=1),
    )
    folder = tmp_path_factory.mktemp("runs") / "small"
    trainer.train(recipe, folder)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "SAMPLES", 64)


def test_a_set_is_projected_and_drawn_again(run: Path, closet: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "found"
    code, printed, errors = call("project", run, closet, "--count", 6, "--steps", 4, "--out", out)
    assert not code, errors
    assert sorted(file.name for file in out.iterdir()) == ["codes.npz", "side-by-side.png"]
    assert "closet test: 6 pictures, class given" in printed and "nearest training image" in printed
    assert (run / encoder.FILE).is_file()
    with Image.open(out / "side-by-side.png") as picture:
        assert picture.size[0] > 500
    assert metadata.read_texts((out / "side-by-side.png").read_bytes())["Synthetic"] == "in part"

    again = tmp_path / "again.npz"
    assert not call("sample", run, "--codes", out / "codes.npz", "--out", again)[0]
    real = first_images(open_data(Data(name=str(closet)), part="test"), 6)
    with np.load(out / "codes.npz") as codes, np.load(again) as drawn:
        assert codes["noise"].shape == (6, 6) and np.array_equal(codes["labels"], real.labels)
        apart = (drawn["images"].astype(float) - real.pixels) ** 2
        assert np.array_equal(np.sqrt(apart.mean((1, 2, 3))), codes["errors"])

    code, printed, _ = call("project", run, closet, "--count", 6, "--steps", 4, "--out", out, "--json")
    facts = json.loads(printed)
    assert not code and facts["classes"] == "given" and len(facts["errors"]) == 6
    assert np.mean(facts["nearest_training_errors"]) < np.mean(facts["mean_image_errors"])


def test_a_picture_is_filled_in(run: Path, closet: Path, tmp_path: Path, call: Call) -> None:
    with np.load(closet) as real:
        image = real["x_test"].reshape(-1, 16, 16)[0]
    Image.fromarray(image).save(tmp_path / "shirt.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :5] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "filled"
    words = ("project", run, tmp_path / "shirt.png", "--mask", tmp_path / "mask.png", "--steps", 4, "--out", out)
    code, printed, errors = call(*words)
    assert not code, errors
    assert "shirt: 1 picture, class found" in printed
    assert "made up: 80 of 256 pixels of each picture" in printed
    filled = np.asarray(Image.open(out / "filled" / "000000.png"))
    assert np.array_equal(filled[:, 5:], image[:, 5:])
    with np.load(out / "codes.npz") as codes:
        assert codes["labels"].shape == (1,)
    marked = np.asarray(Image.open(out / "made-up" / "000000.png"))
    assert marked.shape == (64, 64, 3)
    assert (marked[:, :20, 0] != marked[:, :20, 2]).all() and (marked[:, 20:, 0] == marked[:, 20:, 2]).all()
    assert metadata.read_metadata((out / "filled" / "000000.png").read_bytes())["Synthetic"] == "in part"


def test_a_class_may_be_asked_for_and_training_images_may_be_gone(
    run: Path, closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = runs.Run(run).read_manifest()
    monkeypatch.setattr(projections.comparison, "content_digest", lambda _: "other")
    done = modiste.project(run, closet, tmp_path / "found", label=1, count=3, steps=1)
    assert manifest.data.digest != "other"
    assert done.classes == "given" and done.codes.labels is not None and done.codes.labels.tolist() == [1, 1, 1]
    assert done.training is None and "does not hold the images that small learned from" in done.reason
    assert done._repr_png_() == (tmp_path / "found" / "side-by-side.png").read_bytes()


def test_bad_input_writes_nothing(run: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "found"
    Image.new("L", (30, 30)).save(tmp_path / "large.png")
    Image.new("L", (16, 16), 255).save(tmp_path / "all.png")
    for words, sentence in [
        ([tmp_path / "large.png"], "makes 16 x 16; bring them to that with --resize 16"),
        ([tmp_path / "all.png", "--mask", tmp_path / "all.png"], "covers everything"),
        ([tmp_path / "all.png", "--class", "spaceship"], "'spaceship' is no class of small"),
        ([tmp_path / "gone.png"], "gone.png"),
    ]:
        code, _, errors = call("project", run, *words, "--out", out)
        assert code and sentence in errors and errors.count("\n") == 1
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    code, _, errors = call("project", run, tmp_path / "all.png", "--out", out)
    assert code == 2 and "mine.txt" in errors
    kept = (tmp_path / "all.png").read_bytes()
    for place in (tmp_path / "all.png", tmp_path / "all.png" / "found"):
        code, _, errors = call("project", run, tmp_path / "all.png", "--out", place)
        assert code == 2 and f"{tmp_path / 'all.png'} is a file and not a folder; choose another with --out" in errors
    assert (tmp_path / "all.png").read_bytes() == kept and not list(tmp_path.glob(".all*"))


def test_codes_and_seeds_contradict_each_other(run: Path, tmp_path: Path, call: Call) -> None:
    code, _, errors = call("sample", run, "--codes", "codes.npz", "--seeds", "0-3", "--out", tmp_path / "a.png")
    assert code == 2 and "--codes says which images" in errors
