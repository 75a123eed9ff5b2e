"""Classes: their names in every spelling, those that a set has no image of, and what a word or a number asks for."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modiste.config import Data
from modiste.data import readers
from modiste.data.classes import Unused, checked_names, class_number
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError

GREY = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)


def read(path: Path, part: Any = "train", **settings: Any) -> Images:
    return open_data(Data(name=str(path), **settings), part=part)


def folders(root: Path, *names: str | bytes) -> Path:
    """A folder per class whose only picture has the value of its place among these names."""
    for value, name in enumerate(names):
        place = root / os.fsdecode(name)
        place.mkdir(parents=True)
        Image.new("L", (4, 4), value).save(place / "a.png")
    return root


def test_labels_that_begin_at_one_keep_their_names(tmp_path: Path) -> None:
    """As EMNIST's letters: nothing is called 0, and what has the label 1 is called 1."""
    labels = np.array([1, 2, 3, 4, 4, 3, 2, 1])
    np.savez(tmp_path / "set.npz", images=GREY, labels=labels, x_test=GREY[:4], y_test=labels[:4])
    train, test = read(tmp_path / "set.npz"), read(tmp_path / "set.npz", "test")
    assert train.class_names == test.class_names == ("1", "2", "3", "4")
    for images in (train, test):
        assert images.labels is not None
        assert [images.class_names[k] for k in images.labels] == [str(k) for k in labels[: len(images)]]
    assert train.notes == (Unused("set", ("0",), 4),)
    assert str(train.notes[0]) == "set: no image is of the class '0', so there are 4 classes and not 5"


@pytest.mark.parametrize("names", [None, ["a", "b", "c", "d"]])
def test_classes_without_images_are_left_out_wherever_they_stand(tmp_path: Path, names: list[str] | None) -> None:
    named = {} if names is None else {"class_names": names}
    np.savez(tmp_path / "set.npz", images=GREY[:4], labels=[3, 0, 3, 0], **named)  # type: ignore[arg-type]
    images = read(tmp_path / "set.npz")
    assert images.class_names == (("0", "3") if names is None else ("a", "d"))
    assert images.labels is not None and images.labels.tolist() == [1, 0, 1, 0]
    assert images.notes == (Unused("set", ("1", "2") if names is None else ("b", "c"), 2),)


def test_a_class_that_only_test_images_have_is_refused(tmp_path: Path) -> None:
    arrays = {"images": GREY[:4], "labels": [0, 1, 0, 1], "x_test": GREY[:3], "y_test": [0, 1, 2]}
    np.savez(tmp_path / "named.npz", class_names=["a", "b", "c"], **arrays)  # type: ignore[arg-type]
    np.savez(tmp_path / "unnamed.npz", **arrays)  # type: ignore[arg-type]
    for name, words in (("named", "is of the class 'c'"), ("unnamed", "has label 2")):
        for part in ("train", "test"):
            with pytest.raises(ModisteError, match=f"{name}: no training image {words}, and a test image does"):
                read(tmp_path / f"{name}.npz", part)


def test_names_are_text_in_one_spelling() -> None:
    nfd = unicodedata.normalize("NFD", "café")
    raw = [b"cat", "b\u00e9".encode(), nfd, " dog ", np.str_("a"), np.bytes_(b"A"), 7]
    assert checked_names(raw, "set") == ("cat", "bé", "café", "dog", "a", "A", "7")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([b"caf\xe9"], r"the class b'caf\\xe9' has a name that is not UTF-8"),
        (["caf\udce9"], r"the class 'caf\\udce9' has a name that is not UTF-8"),
        (["a\nb"], "a line break or another control character"),
        (["a\u2028b"], "a line break or another"),
        (["a", "  "], "a class is called '  ', which is no name"),
        ([""], "a class is called '', which"),
        (["cat", "cat "], "two classes are called 'cat', written as 'cat' and 'cat '"),
        (["caf\xe9", "cafe\u0301"], r"two classes are called 'café', written as 'caf\\xe9' and 'cafe\\u0301'"),
    ],
)
def test_names_that_are_refused(raw: list[object], message: str) -> None:
    with pytest.raises(ModisteError, match=f"^set: .*{message}"):
        checked_names(raw, "set")


def test_bytes_in_an_npz_file_are_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=GREY[:2], labels=[0, 1], class_names=np.array([b"cat", b"dog"]))
    assert read(tmp_path / "set.npz").class_names == ("cat", "dog")


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


NUMBERS = tuple(str(k) for k in range(1, 13))


@pytest.mark.parametrize(
    ("word", "names", "number"),
    [
        ("shirt", ("T-shirt/top", "Shirt"), 1),  # a name before a part of another
        (" top ", ("T-shirt/top", "Shirt"), 0),
        ("1", ("T-shirt/top", "Shirt"), 1),  # a label, where no class has a number for a name
        ("4", ("a", "Size 4", "Size 40"), 1),  # from end to end
        (1, NUMBERS, 1),  # an integer is a label
        ("1", NUMBERS, 0),  # a word is a name
        ("12", NUMBERS, 11),
        (np.int64(3), ("0", "10", "20", "30"), 3),
        ("10", ("0", "10", "20", "30"), 1),
        ("A", ("a", "A"), 1),  # the same case of letters
        ("a", ("a", "A"), 0),
        ("SNEAKER", ("Bag", "Sneaker"), 1),
        ("cafe\u0301", ("tea", "caf\xe9"), 1),
        ("cat ", ("cat", "cat "), 1),
        ("STRASSE", ("Straße",), 0),
    ],
)
def test_which_class_a_word_or_a_label_asks_for(word: Any, names: tuple[str, ...], number: int) -> None:
    assert class_number(word, names, "this set") == number


@pytest.mark.parametrize(
    ("word", "names", "problem"),
    [
        ("1", ("0", "10", "20", "30"), "is no class"),  # neither the label of 10 nor a part of its name
        ("2", ("0", "10", "20", "30"), "is no class"),
        ("1", ("a", "b1", "10"), "is no class"),
        (12, NUMBERS, "is no class"),
        (-1, NUMBERS, "is no class"),
        (True, NUMBERS, "is no class"),
        ("", NUMBERS, "is no class"),
        ("hat", ("Shirt", "T-shirt"), "is no class"),
        ("s", ("T-shirt", "Shirt"), "fits several classes"),
        ("SHIRT", ("Shirt", "shirt"), "fits several classes"),
    ],
)
def test_what_asks_for_no_class_is_refused_with_all_of_them(word: Any, names: tuple[str, ...], problem: str) -> None:
    known = f"'{names[0]}' .label 0., '{names[1]}'" if "10" in names else f"0 {names[0]}, 1 {names[1]}"
    with pytest.raises(UsageError, match=rf"^'?{word}'? {problem} of this set; its classes are {known}"):
        class_number(word, names, "this set")


@pytest.mark.parametrize("start", ["", "emnist-letters-", "my_set."])
def test_idx_files_may_begin_with_the_name_of_their_set(tmp_path: Path, start: str) -> None:
    for split, count in (("train", 8), ("test", 4)):
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (count, 4, 4))
        (tmp_path / f"{start}{split}-images-idx3-ubyte").write_bytes(head + GREY[:count].tobytes())
        labels = bytes([0, 0, 8, 1, 0, 0, 0, count, *(1 + k % 2 for k in range(count))])
        (tmp_path / f"{start}{split}-labels-idx1-ubyte").write_bytes(labels)
    assert read(tmp_path).class_names == ("1", "2") and len(read(tmp_path, "test")) == 4
    np.testing.assert_array_equal(read(tmp_path).pixels[:, 0], GREY)


def test_idx_files_that_are_not_recognised_are_listed_with_the_names_that_would_be(tmp_path: Path) -> None:
    (tmp_path / "letters-images.idx3").write_bytes(b"")
    with pytest.raises(ModisteError, match=r"IDX files letters-images\.idx3 .*: name them train-images-idx3-ubyte and"):
        read(tmp_path)
    for name in ("digits", "letters"):
        (tmp_path / f"emnist-{name}-train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(ModisteError, match=r"several sets \(emnist-digits, emnist-letters\); put those of one"):
        read(tmp_path)
    with pytest.raises(ModisteError, match=f"give its folder, {tmp_path}"):
        read(tmp_path / "letters-images.idx3")


@pytest.mark.parametrize(("name", "words"), [("set.NPZ", "give .*set.NPZ itself"), ("set.zip", "unpack set.zip first")])
def test_a_folder_that_holds_other_files_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModisteError, match=f"{tmp_path} holds no pictures; {words}"):
        read(tmp_path)


def test_endings_are_read_in_any_case(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=GREY)
    (tmp_path / "set.npz").rename(tmp_path / "SET.NPZ")
    assert readers.is_npz(tmp_path / "SET.NPZ")
    np.testing.assert_array_equal(read(tmp_path / "SET.NPZ").pixels[:, 0], GREY)


@pytest.mark.parametrize(("count", "words"), [(1, "1 image"), (3, "3 images")])
def test_what_is_too_few_to_hold_out_says_how_many_there_are(tmp_path: Path, count: int, words: str) -> None:
    np.savez(tmp_path / "set.npz", images=GREY[:count], labels=np.arange(count))
    parts = {}
    for part in ("fit", "heldout"):
        try:
            parts[part] = len(read(tmp_path / "set.npz", part))
        except UsageError as error:
            assert f"set has {words}, " in str(error) and "[" not in str(error)
    assert len(parts) == 1 and sum(parts.values()) == count  # of a class of one image only one side has it
