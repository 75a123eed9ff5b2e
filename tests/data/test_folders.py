"""Folders of pictures: classes, order, splits, and what is not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from support import frames, picture, read

from modiste.config import Data
from modiste.data.notes import (
    UnreadFiles,
    UnreadFolder,
)
from modiste.data.sets import has_test
from modiste.errors import ModisteError


def test_class_folders_take_turns_in_natural_order(tmp_path):
    for number in (1, 2, 10):
        picture(tmp_path / "hat" / f"{number}.png", number)
        picture(tmp_path / "class 10" / f"{number}.png", 100 + number)
    picture(tmp_path / "class 9" / "only.png", 200)
    (tmp_path / "hat" / ".hidden.png").write_bytes(b"junk")
    (tmp_path / "hat" / "notes.txt").write_text("no picture")
    images = read(tmp_path)
    assert images.class_names == ("class 9", "class 10", "hat")
    assert images.pixels[:, 0, 0, 0].tolist() == [200, 101, 1, 102, 2, 110, 10]
    assert images.labels.tolist() == [0, 1, 2, 1, 2, 1, 2]


def test_names_that_look_like_numbers_and_names_of_one_sound(tmp_path):
    for name in ("5\u00b2", "\u2460", "01", "1", "Cat", "cat", "10"):
        picture(tmp_path / name / "a.png", 1)
    assert read(tmp_path).class_names == ("01", "1", "5\u00b2", "10", "Cat", "cat", "\u2460")


def test_a_flat_folder_has_no_labels(tmp_path):
    picture(tmp_path / "b2.png", 2)
    picture(tmp_path / "b10.png", 10)
    images = read(tmp_path)
    assert images.labels is None and images.pixels[:, 0, 0, 0].tolist() == [2, 10]


def test_train_and_test_folders_are_splits(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(("hat", "sock")):
            picture(tmp_path / split / name / "a.png", label + (split == "test") * 100)
    assert read(tmp_path).pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert read(tmp_path, "test").pixels[:, 0, 0, 0].tolist() == [100, 101]
    picture(tmp_path / "test" / "glove" / "a.png")
    with pytest.raises(ModisteError, match="glove is no class of"):
        read(tmp_path, "test")


def test_an_empty_test_folder_is_no_test_split(tmp_path):
    picture(tmp_path / "test" / "hat" / "a.png")
    assert not has_test(Data(name=str(tmp_path)))  # test alone is a class
    for name in ("hat", "sock"):
        picture(tmp_path / "train" / name / "a.png")
    assert has_test(Data(name=str(tmp_path)))
    (tmp_path / "test" / "hat" / "a.png").unlink()
    assert not has_test(Data(name=str(tmp_path))) and read(tmp_path).class_names == ("hat", "sock")
    with pytest.raises(ModisteError, match=r"test holds no pictures; fill or remove it"):
        read(tmp_path, "test")


def test_what_was_not_read_is_counted_in_every_folder_of_the_split(tmp_path):
    for place in ("train/hat/1.png", "test/hat/1.png", "val/hat/1.png", "val/2.ppm"):
        picture(tmp_path / place, 7)
    for place in ("train/list.csv", "train/hat/a.json", "test/b.json", "c.json"):
        (tmp_path / place).write_text("{}")
    assert read(tmp_path).notes == (UnreadFiles(("list.csv", "hat/a.json")), UnreadFolder("val", 2))
    assert read(tmp_path, "test").notes[0] == UnreadFiles(("b.json",))
    assert "2 pictures in val/ are not read, only those in train/ and test/" in map(str, read(tmp_path).notes)


def test_links_to_nothing_are_an_error_with_their_number(tmp_path):
    for name in ("hat", "sock"):
        picture(tmp_path / name / "1.png", 7)
        (tmp_path / name / "2.png").symlink_to(tmp_path / name / "1.png")
    assert len(read(tmp_path)) == 4
    for k in range(3):
        (tmp_path / "sock" / f"moved{k}").symlink_to("/nowhere/1.png")
    with pytest.raises(
        ModisteError, match=r"holds 3 links to files that are not there \(sock/moved0 to /nowhere/1.png\)"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "holds no pictures"),
        (lambda folder: (folder / "hat").mkdir(), "hat holds no pictures"),
        (lambda folder: (folder / "1.png").write_bytes(b"no picture"), "1.png is not a readable picture"),
        (lambda folder: picture(folder / "1.png", 3, mode="I;16"), "more than 8 bits"),
        (lambda folder: (picture(folder / "1.png"), picture(folder / "hat" / "1.png")), "beside class folders"),
        (lambda folder: picture(folder / "1.png", size=(4, 6)), "4 x 6 pixels, not square"),
        (
            lambda folder: (picture(folder / "hat" / "1.png"), picture(folder / "hat" / "a" / "b" / "1.png")),
            "a lies within",
        ),
        (
            lambda folder: picture(folder / "hat" / "old" / "1.png"),
            "old lies within the class hat, and classes have no",
        ),
        (
            lambda folder: picture(folder / "train" / "hat" / "1.png"),
            "has no folders but train, which look like splits",
        ),
        (
            lambda folder: (picture(folder / "Train" / "1.png"), picture(folder / "val" / "1.png")),
            "but Train, val, which",
        ),
        (lambda folder: frames(folder / "1.gif", 3), "1.gif holds 3 pictures; save each as a file of its own"),
        (lambda folder: frames(folder / "1.tiff", 2), "1.tiff holds 2 pictures"),
    ],
)
def test_unusable_folders_say_why(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(ModisteError, match=message):
        read(tmp_path)


def folders(root: Path, *names: str | bytes) -> Path:
    """A folder per class whose only picture has the value of its place among these names."""
    for value, name in enumerate(names):
        place = root / os.fsdecode(name)
        place.mkdir(parents=True)
        Image.new("L", (4, 4), value).save(place / "a.png")
    return root


def test_folders_are_the_same_class_in_both_forms_of_unicode(tmp_path: Path) -> None:
    folders(tmp_path / "train", "cafe\u0301", "tea")
    folders(tmp_path / "test", "tea", "caf\xe9")
    train, test = read(tmp_path), read(tmp_path, "test")
    assert train.class_names == test.class_names == ("caf\xe9", "tea")
    assert train.pixels[:, 0, 0, 0].tolist() == [0, 1] and test.pixels[:, 0, 0, 0].tolist() == [1, 0]
    folders(tmp_path / "two", "caf\xe9", "cafe\u0301")
    with pytest.raises(ModisteError, match="two classes are called 'café', written as"):
        read(tmp_path / "two")


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    try:
        folders(tmp_path, b"caf\xe9", "tea")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(ModisteError, match="not UTF-8; rename it"):
        read(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        [str(k) for k in range(1, 13)],
        ["-2", "-1", "0", "1", "10"],
        ["0.25", "0.5", "1", "10.5"],
        ["01", "02", "10"],
        ["A", "a", "B", "b"],
    ],
)
def test_folders_that_are_numbers_are_in_the_order_of_their_values(tmp_path: Path, names: list[str]) -> None:
    folders(tmp_path, *names)
    assert read(tmp_path).class_names == tuple(names)
    assert read(tmp_path).pixels[:, 0, 0, 0].tolist() == list(range(len(names)))


def test_what_archives_leave_behind_is_no_class(tmp_path: Path) -> None:
    folders(tmp_path, "cat", "dog")
    for junk in (tmp_path / "__MACOSX" / "cat", tmp_path / "cat" / "@eaDir", tmp_path / "cat" / "__MACOSX"):
        junk.mkdir(parents=True)
        Image.new("L", (9, 9)).save(junk / "0.png")
    assert read(tmp_path).class_names == ("cat", "dog") and len(read(tmp_path)) == 2


def test_a_folder_in_a_folder_is_told(tmp_path: Path) -> None:
    inner = tmp_path / "set" / "set"
    folders(inner, "cat", "dog")
    with pytest.raises(ModisteError, match=rf"give {inner} itself$"):
        read(tmp_path / "set")
    assert read(inner).class_names == ("cat", "dog")
    raw = tmp_path / "torch" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(ModisteError, match=rf"give {raw} itself$"):
        read(tmp_path / "torch")


@pytest.mark.parametrize(("name", "words"), [("set.NPZ", "give .*set.NPZ itself"), ("set.zip", "unpack set.zip first")])
def test_a_folder_that_holds_other_files_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModisteError, match=f"{tmp_path} holds no pictures; {words}"):
        read(tmp_path)
