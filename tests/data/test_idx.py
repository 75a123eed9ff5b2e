"""Folders of IDX files: read as written, under the names of other sets, and errors for broken ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from support import read, write_idx

from modiste.errors import ModisteError

GREY = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)


@pytest.mark.parametrize("compress", [True, False])
def test_idx_comes_back_as_written(tmp_path, compress):
    pixels, labels = write_idx(tmp_path, compress=compress)
    write_idx(tmp_path, 4, "t10k", compress=compress)
    train, test = read(tmp_path), read(tmp_path, "test")
    np.testing.assert_array_equal(train.pixels[:, 0], pixels)
    np.testing.assert_array_equal(train.labels, labels)
    assert train.class_names == ("0", "1") and len(test) == 4


def test_without_names_both_splits_have_the_training_labels_classes(tmp_path):
    grey = np.zeros((6, 4, 4), np.uint8)
    labels, fewer, more = [0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 0, 1]
    for name, test in (("fewer", fewer), ("more", more)):
        np.savez(tmp_path / f"{name}.npz", images=grey, labels=labels, x_test=grey, y_test=test)
    assert (
        read(tmp_path / "fewer.npz", "test").class_names == read(tmp_path / "fewer.npz").class_names == ("0", "1", "2")
    )
    with pytest.raises(ModisteError, match=r"more: no training image has label 3"):
        read(tmp_path / "more.npz", "test")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda content: content[:-20], "not a whole gzip file"),
        (lambda content: gzip.compress(b"\0\0\x08\x01" + gzip.decompress(content)[4:]), "IDX magic 00000803"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-7]), r"promises 20 x 4 x 4 bytes .* 313"),
        (lambda content: b"", "starts with nothing"),
    ],
)
def test_broken_idx_files_are_named(tmp_path, break_it, message):
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(break_it(path.read_bytes()))
    with pytest.raises(ModisteError, match=f"train-images-idx3-ubyte.gz .*{message}"):
        read(tmp_path)


def test_images_and_labels_of_different_counts_are_refused(tmp_path):
    write_idx(tmp_path, 6, labels=[0, 1])
    with pytest.raises(ModisteError, match="6 images but 2 labels"):
        read(tmp_path)


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
