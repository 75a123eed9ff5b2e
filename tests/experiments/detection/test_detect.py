"""The command `detect`: its files, what calibrates, images of every kind, and bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste import config, runs
from modiste.config import Data, Recipe
from modiste.data import toy
from modiste.data.sets import open_data
from modiste.errors import UsageError
from modiste.experiments.detection import detect, pictures
from modiste.metrics import features
from modiste.provenance import metadata
from modiste.training import trainer

Call = Callable[..., tuple[int, str, str]]
QUICK = ("--detector", "components", "--detector", "neighbours")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, closet: Path) -> Path:
    """A run of two updates on nine tenths of the closet."""
    place = tmp_path_factory.mktemp("run") / "closet-run"
    recipe = Recipe(
        name="tiny",
        data=Data(name=str(closet), split="fit"),
        network=config.Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=config.Train(images=32, batch_size=16, precision="float32", threads=1),
        evaluate=config.Evaluate(every_images=0),
    )
    return trainer.train(recipe, place).path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures: four garments like the closet's, and four of noise."""
    random = np.random.default_rng(0)
    (tmp_path / "new").mkdir()
    for k, garment in enumerate(toy.draw(4, 16, 99).pixels):
        Image.fromarray(garment[0]).save(tmp_path / "new" / f"garment{k}.png")
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / "new" / f"noise{k}.png")
    return tmp_path / "new"


def test_noise_among_garments_is_found(trained: Path, folder: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "found"
    code, printed, errors = call("detect", trained, folder, "--out", out, "--alpha", 0.1, *QUICK)
    assert code == 0, errors
    assert "8 images of new against closet-run, alarms at p up to 0.1:" in printed
    assert "where all belong, about 0.8 alarms are to be expected" in printed  # 3 / 31 of 8
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [f"{kind}{k}.png" for kind in ("garment", "noise") for k in range(4)]
    assert {row["image"] for row in rows if float(row["components p"]) <= 0.1} >= {f"noise{k}.png" for k in range(4)}
    tree = json.loads((out / "detect.json").read_text())
    components, neighbours = tree["detectors"]
    assert components["alarms"] >= 4 and components["strangest"][0]["image"].startswith("noise")
    assert components["promised"] == pytest.approx(3 / 31) and components["measured_on"] == 200
    low, high = components["measured_interval"]
    assert low <= components["measured"] <= high and neighbours["detector"] == "neighbours"
    for name in ("components", "neighbours"):
        with Image.open(out / f"strangest-{name}.png") as picture:
            assert picture.size[0] > 500
    again = json.loads(call("detect", trained, folder, "--out", out, "--alpha", 0.1, *QUICK[:2], "--json")[1])
    assert again["detectors"] == tree["detectors"][:1]
    assert [file.name for file in out.glob("strangest-*")] == ["strangest-components.png"]  # and none of before


def test_all_usual_detectors_on_one_picture(trained: Path, folder: Path, tmp_path: Path) -> None:
    options = detect.DetectOptions(alpha=0.1, count=30, steps=1)
    found = detect.detect(trained, folder / "noise0.png", tmp_path / "out", options=options)
    assert found.names == ("noise0.png",) and len(found.findings) == 5
    assert all(0 < one.p_values[0] <= 1 for one in found.findings) and found.held_out == 30
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if file.suffix == ".png") == [
        f"strangest-{name}.png" for name in ("components", "discriminator", "judge", "neighbours", "reconstruction")
    ]
    marks = [metadata.read_metadata((tmp_path / "out" / f"strangest-{name}.png").read_bytes()) for name in
             ("reconstruction", "neighbours")]  # fmt: skip
    assert marks[0]["Synthetic"] == "in part" and "Synthetic" not in marks[1]


def test_what_calibrates_is_new_to_the_run(closet: Path) -> None:
    held_out = detect.real_parts(Data(name=str(closet), split="fit"), 1000)
    assert "heldout" in held_out.calibration.name and "test" in held_out.belonging.name
    halves = detect.real_parts(Data(name=str(closet)), 1000)
    assert len(halves.calibration) == len(halves.belonging) == 100
    assert "seen all training images, so one half of" in halves.note
    seen = {image.tobytes() for image in halves.calibration.pixels}
    assert not seen & {image.tobytes() for image in halves.belonging.pixels}
    few = detect.real_parts(Data(name=str(closet), split="fit"), 20)
    assert (len(few.calibration), len(few.belonging)) == (20, 20) and "(20 of 30 and 20 of 200 images)" in few.note


def test_a_run_that_has_seen_everything(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", images=toy.draw(30, 16, 0).pixels)
    with pytest.raises(UsageError, match=r"has seen every image of .*, so none is left to calibrate with; train it"):
        detect.real_parts(Data(name=str(tmp_path / "all.npz")), 100)
    halves = detect.real_parts(Data(name=str(tmp_path / "all.npz"), split="fit"), 100)
    assert "has no test images, so one half of" in halves.note


def test_bad_input(trained: Path, folder: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "large.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    for words, sentence in (
        ((trained, tmp_path / "empty"), "holds no pictures"),
        (
            (trained, tmp_path / "large.png"),
            "has images of 20 x 20 pixels, grey, and closet-run was trained on 16 x 16",
        ),
        ((trained, tmp_path / "red.png"), "has images of 16 x 16 pixels, in colour, and closet-run was trained on"),
        ((trained, folder, "--alpha", 0.01), "--alpha 0.01 needs 99 held-out images, "),
        ((trained, folder, "--alpha", 1.5), "--alpha 1.5 is no rate of false alarms"),
        ((trained, folder, "--out", tmp_path / "mine"), "holds other files (thesis.txt)"),
        ((trained, folder, "--budget", "1min"), "are for the trainings of --leave-out"),
        ((trained,), "name the images to look at, or a class with --leave-out"),
        ((folder, folder), "is not a run folder"),
        ((trained, folder, "--leave-out", "Bag"), "--leave-out measures on test images"),
    ):
        code, printed, errors = call("detect", *words, "--detector", "components")
        assert code in (1, 2) and sentence in errors and not printed, words


def test_data_that_changed_since_the_training(trained: Path, closet: Path) -> None:
    run = runs.Run(trained)
    images = detect.training_images(run, run.read_recipe().data)
    assert len(images) == 270
    with pytest.raises(UsageError, match=r"is not what .* was trained on any more"):
        detect.training_images(run, Data(name=str(closet), split="train"))


def test_training_images_are_counted(closet: Path) -> None:
    training, others = open_data(Data(name=str(closet))), open_data(Data(name=str(closet)), part="test")
    assert detect.known_images(others, training) == 0
    assert detect.known_images(training.select(slice(5)), training) == 5


def test_grey_pictures_that_are_stored_in_colour(trained: Path, folder: Path, tmp_path: Path) -> None:
    with Image.open(folder / "garment0.png") as picture:
        picture.convert("RGB").save(tmp_path / "coloured.png")
    images, _ = detect.read_images(tmp_path / "coloured.png", Data())
    plain, _ = detect.read_images(folder / "garment0.png", Data())
    np.testing.assert_array_equal(images.pixels, plain.pixels)


def test_pictures_are_brought_to_size_as_the_run_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 20), 200).save(tmp_path / "wide.png")
    images, names = detect.read_images(tmp_path / "wide.png", Data(resize=16))
    assert images.pixels.shape == (1, 1, 16, 16) and names == ("wide.png",)
    (tmp_path / "toy").mkdir()  # with the name of a set that is the same everywhere
    monkeypatch.chdir(tmp_path)
    of_set, numbers = detect.read_images("toy", Data(resize=16))
    assert of_set.pixels.shape == (2000, 1, 16, 16) and numbers[-1] == "1999"


def test_the_difference_map_is_white_red_and_blue() -> None:
    image, other = np.full((1, 1, 1, 3), 127, np.uint8), np.array([[[[127, 0, 255]]]], np.uint8)
    assert pictures.difference_map(image, other)[0, :, 0].T.tolist() == [[255, 255, 255], [255, 1, 1], [0, 0, 255]]


def test_an_unfinished_run_is_named(trained: Path) -> None:
    run = runs.Run(trained)
    dataset = run.read_recipe().data
    training = open_data(dataset)
    manifest = replace(run.read_manifest(), status="interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "read_manifest", lambda _: manifest)
        opened = detect.open_material(run, training, dataset, 1)
        material = replace(opened, extractor=features.random_network(opened.generator.shape))  # as without a judge
        notes = detect.noticed(run, material, ["judge", "neighbours"], detect.DetectOptions())
        of_one = detect.noticed(run, material, ["neighbours"], detect.DetectOptions())
    assert any("is not finished (interrupted)" in note for note in notes)
    assert [note for note in notes if "random network" in note] and len(of_one) == len(notes) - 1
