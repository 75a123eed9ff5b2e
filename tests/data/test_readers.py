"""Training and test images of different kinds: refused or noted when either is read, before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import read

from modiste.config import Data
from modiste.data import readers
from modiste.data.classes import NoReference
from modiste.data.readers import OtherBrightness, Unlabelled
from modiste.data.sets import native_data
from modiste.errors import ModisteError

GREY = np.random.default_rng(0).integers(0, 120, (12, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 4
COLOUR = np.stack([GREY, GREY // 2, GREY], 3)


def written(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "set.npz", x_train=GREY, y_train=LABELS, **arrays)
    return tmp_path / "set.npz"


def test_splits_that_are_alike_have_nothing_to_note(tmp_path: Path) -> None:
    path = written(tmp_path, x_test=GREY[:8], y_test=LABELS[:8])
    assert read(path).notes == read(path, "test").notes == ()


@pytest.mark.parametrize("part", ["train", "fit", "heldout", "test"])
def test_grey_against_colour_is_refused_from_either_side(tmp_path: Path, part: str) -> None:
    with pytest.raises(ModisteError, match="set: the training images are grey and the test images in colour"):
        read(written(tmp_path, x_test=COLOUR, y_test=LABELS), part)


def test_grey_against_colour_in_pictures(tmp_path: Path) -> None:
    for split, pixels in (("train", COLOUR), ("test", GREY)):
        (tmp_path / split).mkdir()
        Image.fromarray(pixels[0]).save(tmp_path / split / "0.png")
    for part in ("train", "test"):
        with pytest.raises(ModisteError, match="the training images are in colour and the test images grey"):
            read(tmp_path, part)


def test_another_size_is_refused_unless_both_are_resized(tmp_path: Path) -> None:
    path = written(tmp_path, x_test=GREY.repeat(2, 1).repeat(2, 2), y_test=LABELS)
    for part in ("train", "test"):
        with pytest.raises(ModisteError, match="training images are 8 x 8 and the test images 16 x 16 pixels"):
            read(path, part)
        assert read(path, part, resize=8).pixels.shape[2:] == (8, 8)
    kept = native_data(Data(name=str(path), resize=8))
    assert kept.resize == 8  # else they could not be judged


def test_classes_without_test_images_labels_and_brightness_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path, x_test=GREY, y_test=LABELS % 2)
    for part in ("train", "test"):
        assert read(path, part).notes == (NoReference("set", "test", ("2", "3")),)
    assert "classes '2', '3', so scores on test images say nothing about them" in str(read(path).notes[0])
    assert read(written(tmp_path, x_test=GREY)).notes == (Unlabelled("set", "test"),)
    (note,) = read(written(tmp_path, x_test=255 - GREY, y_test=LABELS)).notes
    assert isinstance(note, OtherBrightness)
    assert note.train == pytest.approx(GREY.mean() / 255, abs=1e-4) and note.test == pytest.approx(1 - note.train)


def test_test_images_whose_classes_are_not_told_have_no_labels(tmp_path: Path) -> None:
    secret = written(tmp_path, x_test=GREY, y_test=np.full(12, -1))
    for split, names in (("train", ("a/0.png", "b/0.png")), ("test", ("0.png", "1.png"))):
        for k, name in enumerate(names):
            place = tmp_path / "folder" / split / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(GREY[k]).save(place)
    for path, classes in ((secret, ("0", "1", "2", "3")), (tmp_path / "folder", ("a", "b"))):
        train, test = read(path), read(path, "test")
        assert train.class_names == classes and test.labels is None and test.class_names == ()
        assert train.notes == test.notes == (Unlabelled(path.stem, "test"),)
    with pytest.raises(ModisteError, match="label -1 is"):
        read(written(tmp_path, x_test=GREY, y_test=LABELS - 1))


def test_a_file_that_changed_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, x_test=GREY, y_test=LABELS)
    assert read(path).notes == ()
    read_path, asked = readers.read_path, []
    monkeypatch.setattr(readers, "read_path", lambda *words: asked.append(words[1]) or read_path(*words))
    read(path, "heldout")
    assert asked == ["train"]  # what the test images are like is known
    assert len(read(written(tmp_path, x_test=GREY, y_test=LABELS % 2)).notes) == 1
