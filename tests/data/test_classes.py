"""Classes: their names in every spelling, those that a set has no image of, and what a word or a number asks for."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import read

from modiste.data import npz
from modiste.data.classes import Unused, checked_names, class_counts, class_number, is_balanced, label_of, labelled
from modiste.errors import ModisteError, UsageError

GREY = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)


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


def test_endings_are_read_in_any_case(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=GREY)
    (tmp_path / "set.npz").rename(tmp_path / "SET.NPZ")
    assert npz.is_npz(tmp_path / "SET.NPZ")
    np.testing.assert_array_equal(read(tmp_path / "SET.NPZ").pixels[:, 0], GREY)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 47])
def test_equal_classes_take_turns(classes: int) -> None:
    positions = np.arange(10**9, 10**9 + 500)
    assert label_of(positions.tolist(), [1000] * classes).tolist() == (positions % classes).tolist()


@pytest.mark.parametrize(
    "counts",
    [[95, 5], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], [1, 999], [7, 0, 3], [500, 20, 20, 1], [3]],
)
def test_every_beginning_has_its_shares(counts: list[int]) -> None:
    total = sum(counts)
    labels = label_of(range(2 * total), counts)
    so_far = np.cumsum(np.eye(len(counts))[labels], axis=0)
    quotas = np.arange(1, 2 * total + 1)[:, None] * np.array(counts) / total
    assert np.abs(so_far - quotas).max() < 1
    assert so_far[total - 1].tolist() == counts and (labels[:total] == labels[total:]).all()
    assert label_of([total + 3, 5], counts).tolist() == label_of([3, 5], counts).tolist() == labels[[3, 5]].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_random_counts_stay_within_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = np.maximum(1, random.lognormal(3, 2, int(random.integers(2, 60)))).astype(int)
    labels = label_of(range(3000), counts.tolist())
    quotas = np.arange(1, 3001)[:, None] * counts / counts.sum()
    assert np.abs(np.cumsum(np.eye(len(counts))[labels], axis=0) - quotas).max() < 1


def test_counts() -> None:
    assert (
        class_counts(np.array([0, 2, 2]), 4) == (1, 0, 2, 0)
        and is_balanced([4, 4])
        and not is_balanced([4, 3])
        and is_balanced([])
    )


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (
            [-1, -1],
            None,
            "label -1 is no class, since labels begin at 0; leave images without a class out, or all labels",
        ),
        ([0, 2], ["a"], "label 2 is out of range for 1 class name; number the classes from 0 and name each"),
        ([0, 1], [], "label 1 is out of range for 0 class names;"),
        (np.array([0, 2**63], np.uint64), None, "label 9223372036854775808 is out of range; number the classes from 0"),
        ([0, np.nan], None, r"labels are float64 \[2\]; save whole numbers \[N\] from 0, one per image"),
        ([0], None, "2 images but 1 label; save one label per image"),
    ],
)
def test_labels_that_number_no_classes_are_refused(labels: Any, names: Any, message: str) -> None:
    with pytest.raises(ModisteError, match=message):
        labelled(GREY[:2, None], np.array(labels), names, "set")
