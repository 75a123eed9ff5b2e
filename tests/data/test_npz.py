"""Archives of arrays: layouts, the keys of other programs, and errors for unusable ones."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from support import read

from modiste.config import Data
from modiste.data.notes import (
    ReadFrom,
    UnreadArray,
)
from modiste.data.sets import has_test, open_data
from modiste.errors import ModisteError


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [1, 3])
def test_npz_layouts_give_the_same_images(tmp_path, layout, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 6, 6), np.uint8)
    stored = {"NHW": pixels[:, 0], "NHWC": pixels.transpose(0, 2, 3, 1), "NCHW": pixels}[layout]
    np.savez(tmp_path / "set.npz", images=stored)
    expected = pixels[:, :1] if layout == "NHW" else pixels
    np.testing.assert_array_equal(read(tmp_path / "set.npz").pixels, expected)


def test_npz_splits_labels_and_names(tmp_path):
    pixels = np.zeros((4, 5, 5), np.uint8)
    path = tmp_path / "set.npz"
    np.savez(path, x_train=pixels, y_train=[0, 1, 1, 0], x_test=pixels[:1], y_test=[1], class_names=["hat", "sock"])
    train, test = read(path), read(path, "test")
    assert train.labels.tolist() == [0, 1, 1, 0] and test.labels.tolist() == [1]
    assert train.class_names == ("hat", "sock") and train.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 4, 4))}, r"set.npz\[images\] holds float64.*save uint8"),
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "its keys are pictures; name the array images"),
        ({"x": np.zeros((2, 4, 4, 7), np.uint8)}, r"the shape \[2, 4, 4, 7\]"),
        (
            {"x": np.zeros((2, 4, 6), np.uint8)},
            "6 x 4 pixels, not square; resize them to squares, before or with `--resize",
        ),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0, 7], "class_names": ["a", "b"]}, "label 7 is out of range"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0, 70_000]}, "label 70000 is out of range"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0.5, 1.0]}, "labels are float64"),
        ({"x": np.array([None, {}], object)}, "cannot be read .*plain arrays"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "class_names": "hat"}, r"class_names has the shape \[\]; save a list"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0, 1], "class_names": ["a", "a"]}, "two classes are called 'a'"),
    ],
)
def test_unusable_npz_files_say_why(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ModisteError, match=message):
        read(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("images", "labels"), ()),
        (("images", "label"), ("labels",)),
        (("x", "targets"), ("labels",)),
        (("X", "Y"), ("images", "labels")),
        (("data", "target"), ("images", "labels")),
        (("X_train", "train_labels"), ("images",)),
        (("trainImages", "trainLabels"), ("images", "labels")),
        (("arr_0", "arr_1"), ("images", "labels")),
    ],
)
def test_npz_keys_of_other_programs_are_read_and_told(tmp_path, pair, told):
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (12, 5, 5), np.uint8), np.arange(12) % 3
    np.savez(tmp_path / "set.npz", **dict(zip(pair, (pixels, labels[:, None]), strict=True)), index=np.arange(12))
    images = read(tmp_path / "set.npz")
    assert (images.pixels[:, 0] == pixels).all() and images.labels.tolist() == labels.tolist()
    assert images.notes == tuple(ReadFrom(pair[kind == "labels"], kind) for kind in told)


def test_npz_arrays_that_look_like_labels_or_images_and_are_not_read_are_named(tmp_path):
    pixels, twos = np.random.default_rng(0).integers(0, 256, (12, 5, 5), np.uint8), np.arange(12) % 2
    path = tmp_path / "set.npz"

    def notes(**arrays):
        np.savez(path, images=pixels, **arrays)
        return read(path).notes

    assert notes(
        sort=twos, words=np.array(["cat", "dog"])[twos], seeds=np.arange(12), one=twos * 0, weights=twos / 2
    ) == (
        UnreadArray("sort", "labels", "labels"),
        UnreadArray("words", "labels", "labels"),
    )
    both = notes(target=twos, label=twos)  # there is no telling which
    assert both == (UnreadArray("target", "labels", "labels"), UnreadArray("label", "labels", "labels"))
    assert str(both[0]) == "`target` looks like labels and is not read; call it labels"
    assert notes(labels=twos, sort=twos, coarse_labels=twos) == (UnreadArray("coarse_labels", "labels", ""),)
    assert notes(labels=twos, val_images=pixels[:4], val_labels=twos[:4], x_test=pixels[:2], y_test=twos[:2]) == (
        UnreadArray("val_images", "images", ""),
        UnreadArray("val_labels", "labels", ""),
    )
    np.savez(path, data=pixels, X=pixels)
    with pytest.raises(ModisteError, match="may have its train images under data or X; call one of them images"):
        read(path)
    np.savez(path, X=pixels, X_test=pixels[:4], Y_test=twos[:4], Y=twos)
    assert has_test(Data(name=str(path))) and read(path, "test").labels.tolist() == [0, 1, 0, 1]


ODD = {
    "scalar": np.uint8(3),
    "no number": np.array("hat"),
    "empty": np.zeros(0, np.uint8),
    "no images": np.zeros((0, 4, 4), np.uint8),
    "objects": np.array([None, {}], object),
    "texts": np.array(["a", "b"]),
    "structures": np.zeros(2, [("a", "u1"), ("b", "f4")]),
    "complex": np.zeros((2, 4, 4), complex),
    "nan": np.full((2, 4, 4), np.nan),
    "dates": np.zeros(2, "datetime64[s]"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("role", ["images", "labels", "y_test", "class_names", "groups", "one.npy"])
def test_an_array_of_any_type_is_read_or_refused_in_one_sentence(tmp_path, role, kind):
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    arrays = {"images": pixels, "labels": [0, 1], "x_test": pixels, "y_test": [0, 1], "class_names": ["a", "b"]}
    np.save(tmp_path / "one.npy", ODD[kind])
    np.savez(tmp_path / "set.npz", **{**arrays, role.removesuffix(".npy"): ODD[kind]})
    file = tmp_path / ("one.npy" if role == "one.npy" else "set.npz")
    if role == "class_names" and kind == "texts":
        assert read(file, "test").class_names == ("a", "b")
        return
    with pytest.raises(ModisteError) as refused:
        open_data(Data(name=str(file), group_by="groups" if role == "groups" else None), part="test")
        open_data(Data(name=str(file), group_by="groups" if role == "groups" else None), part="train")
    said = str(refused.value)
    assert "\n" not in said and "; " in said and "allow_pickle" not in said
    assert file.stem in said.replace("one per", "")


def test_truth_values_are_labels_and_no_pixels(tmp_path):
    masks = np.arange(32).reshape(2, 4, 4) > 9
    np.savez(tmp_path / "set.npz", images=masks)
    with pytest.raises(ModisteError, match=r"\[images\] holds bool, .*; save uint8 .*, as np.uint8\(255\) \* array"):
        read(tmp_path / "set.npz")
    np.savez(tmp_path / "set.npz", images=np.uint8(255) * masks, labels=[True, False])
    assert read(tmp_path / "set.npz").labels.tolist() == [1, 0]


def archive_of_text(file):
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("images.npy", b"no array")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a broken archive open
@pytest.mark.parametrize("name", ["set.npz", "set.npy"])
def test_a_file_that_holds_no_arrays_is_called_damaged(tmp_path, name):
    """And numpy's advice, to run the code in it, is left out."""
    file, array = tmp_path / name, np.zeros((8, 16, 16), np.uint8)
    (np.savez if name == "set.npz" else np.save)(file, array)
    whole = file.read_bytes()
    for content in (b"", b"hello", whole[:90], whole[:-30], pickle.dumps([1, 2]), b"\x89PNG\r\n\x1a\n" + b"0" * 99):
        file.write_bytes(content)
        with pytest.raises(ModisteError, match=rf"{name} .*\(it is damaged, or .*; write it again with numpy"):
            read(file)
    archive_of_text(file)
    with pytest.raises(ModisteError, match=r"\(it is damaged, or holds something else than plain arrays\)"):
        read(file)


def test_a_file_that_is_no_npz(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"hello")
    with pytest.raises(ModisteError, match=r"neither a folder nor a \.npz"):
        read(tmp_path / "set.zip")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a broken archive open
def test_a_damaged_npz_file_is_named(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, images=np.zeros((8, 16, 16), np.uint8))
    whole = file.read_bytes()
    for content in (whole[:500], whole[:1000] + b"!" + whole[1001:]):
        file.write_bytes(content)
        with pytest.raises(ModisteError, match=r"set\.npz"):
            open_data(Data(name=str(file)))
