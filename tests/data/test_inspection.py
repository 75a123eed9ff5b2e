"""What is in a data set."""

import json
import sys

import numpy as np
import pytest

from modiste.config import Data
from modiste.data import inspection, toy
from modiste.data.images import Images
from modiste.errors import ModisteError
from modiste.plotting import figures


def planted():
    """Train with images 3 and 7 equal, test with image 1 equal to train's image 2."""
    train, test = toy.draw(20), toy.draw(10, seed=1)
    train.pixels[7] = train.pixels[3]
    test.pixels[1] = train.pixels[2]
    return {"train": train, "test": test}


def test_planted_duplicates_are_found_and_nothing_else():
    assert inspection.summarise(planted())["duplicates"] == {
        "train": [{"train": [3, 7]}],
        "test": [],
        "train and test": [{"train": [2], "test": [1]}],
    }


def test_facts_of_a_split():
    pixels = np.zeros((4, 1, 2, 2), np.uint8)
    pixels[:2] = 255
    images = Images(pixels, np.array([0, 0, 0, 1]), ("hat", "sock"), "set")
    facts = inspection.summarise({"train": images})["splits"]["train"]
    assert facts["class_counts"] == {"hat": 3, "sock": 1}
    assert (facts["pixel_mean"], facts["pixel_deviation"]) == (0.5, 0.5)


def test_report_writes_pictures_beside_plain_values(tmp_path, monkeypatch):
    monkeypatch.setattr("modiste.data.sets.TOY_COUNTS", {"train": 30, "test": 10})
    result = inspection.inspect(Data(name="toy-12"), tmp_path / "out")
    json.dumps(result)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["counts.png", "first-images.png"]
    assert result["splits"]["test"]["images"] == 10


def test_report_shows_duplicates_and_doubtful_labels(tmp_path):
    pytest.importorskip("cleanlab")
    images = toy.draw(200, size=12)
    images.pixels[7] = images.pixels[3]
    images.labels[105] = 0
    np.savez(tmp_path / "set.npz", images=images.pixels, labels=images.labels)
    result = inspection.inspect(Data(name=str(tmp_path / "set.npz")), tmp_path / "out", label_issues=True)
    json.dumps(result)
    issues = {issue["index"]: issue for issue in result["label_issues"]["issues"]}
    assert (issues[105]["given"], issues[105]["suggested"]) == ("0", "5")
    assert (issues[7]["given"], issues[7]["suggested"]) == ("7", "3")  # the copy, which kept its label
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["counts.png", "duplicates.png", "first-images.png", "label-issues.png"]


def test_report_of_test_images_without_labels(tmp_path):
    grey = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    np.savez(tmp_path / "set.npz", images=grey, labels=[0, 1, 2, 0, 1, 2], x_test=grey + 100)
    result = inspection.inspect(Data(name=str(tmp_path / "set.npz")), tmp_path / "out")
    assert (tmp_path / "out" / "counts.png").is_file() and len(result["files"]) == 2


def test_report_of_unlabelled_images_shows_the_first(tmp_path):
    np.savez(tmp_path / "set.npz", images=toy.draw(12).pixels)
    result = inspection.inspect(Data(name=str(tmp_path / "set.npz")), tmp_path / "out")
    assert list(result["splits"]) == ["train"] and result["splits"]["train"]["class_counts"] == {}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["first-images.png"]


def test_the_images_shown_are_drawn_from_all_of_each_class(tmp_path, monkeypatch):
    """Frames of a film: brightness says where in its class an image stands."""
    count, drawn = 240, []
    pixels = np.arange(count, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    rows = figures.rows_of_classes
    monkeypatch.setattr(figures, "rows_of_classes", lambda *given: drawn.append(given) or rows(*given))
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(count) // 120)
    inspection.inspect(Data(name=str(tmp_path / "set.npz")), tmp_path / "out")
    ((shown, labels, _),) = drawn
    for label in (0, 1):
        places = shown[labels == label, 0, 0, 0].astype(int) - 120 * label
        assert len(places) == 10 and (np.diff(places) > 0).all()
        assert places.min() < 40 and places.max() >= 80 and ((places >= 40) & (places < 80)).any()


def test_label_issues_find_swapped_labels():
    pytest.importorskip("cleanlab")
    pytest.importorskip("sklearn")
    images = toy.draw(400, size=14)
    wrong = [41, 105, 248]  # a trouser, a sandal, a bag
    images.labels[wrong] = (images.labels[wrong] + 3) % 10
    issues = inspection.find_label_issues(images, trees=40)
    assert set(wrong) <= set(issues.indices.tolist()) and len(issues.indices) < 20
    for index, given, suggested in zip(issues.indices, issues.given, issues.suggested, strict=True):
        if index in wrong:
            assert (given, suggested) == (images.labels[index], index % 10)
    assert (issues.self_confidence < 0.5).all()


def test_label_issues_need_labels_enough_images_and_the_extra(monkeypatch):
    pytest.importorskip("cleanlab")
    with pytest.raises(ModisteError, match="10 per class"):
        inspection.find_label_issues(toy.draw(30, size=12))
    unlabelled = Images(toy.draw(30).pixels, None, (), "set")
    with pytest.raises(ModisteError, match="set has no labels"):
        inspection.find_label_issues(unlabelled)
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ModisteError, match=r"pip install 'modiste\[labels\]'"):
        inspection.find_label_issues(toy.draw(30, size=12))


def test_a_set_that_cannot_be_described_leaves_no_folder(tmp_path):
    for name in (tmp_path / "nowhere", "fashion-mist"):
        with pytest.raises(ModisteError):
            inspection.inspect(Data(name=str(name)), tmp_path / "runs" / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(ModisteError, match=r"cannot write .*choose a place that can be written to"):
        inspection.inspect(Data(name="toy-12"), tmp_path / "file" / "out")


def test_a_single_picture_is_described_without_advice_to_train(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    result = inspection.inspect(Data(name=str(tmp_path / "set.npz")), tmp_path / "out")
    assert result["heldout"] == {"images": 0, "of": 1} and "too few to learn from" in result["advice"]["obstacle"]
