"""Images in .npy files: alone, in a folder under the names of an .npz file, and larger than memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import picture, read

from modiste.config import Data
from modiste.data import stored
from modiste.data.notes import LabelsBeside, UnreadArray
from modiste.data.sets import has_test, native_data
from modiste.errors import ModisteError, UsageError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (40, 8, 8, 3), np.uint8)
LABELS = np.arange(40) % 4


def write(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("least", [1, 10**9])
def test_a_folder_is_read_as_an_npz_file_of_these_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(stored, "MAPPED_BYTES", least)
    arrays = {
        "x_train": COLOUR,
        "y_train": LABELS,
        "x_test": COLOUR[:9],
        "y_test": LABELS[:9],
        "film": np.arange(40) // 4,
    }
    folder = write(tmp_path / "set", **arrays, class_names=np.array(list("abcd")))
    np.savez(tmp_path / "set.npz", **arrays, class_names=np.array(list("abcd")))
    assert has_test(Data(name=str(folder)))
    for part in ("train", "fit", "heldout", "test"):
        for changes in ({}, {"resize": 4}, {"group_by": "film"}):
            one, other = (read(path, part, **changes) for path in (folder, tmp_path / "set.npz"))
            np.testing.assert_array_equal(one.pixels, other.pixels)
            np.testing.assert_array_equal(one.labels, other.labels)
            assert (one.name, one.class_names, one.notes) == (other.name, other.class_names, other.notes)
    assert (read(folder).source is not None) == (least == 1)
    assert native_data(Data(name=str(folder), resize=4)).resize is None


@pytest.mark.parametrize("layout", [COLOUR, COLOUR.transpose(0, 3, 1, 2), COLOUR[..., 0]])
def test_one_file_is_images_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: np.ndarray) -> None:
    np.save(tmp_path / "faces.npy", layout)
    whole = read(tmp_path / "faces.npy")
    monkeypatch.setattr(stored, "MAPPED_BYTES", 1)
    mapped = read(tmp_path / "faces.npy")
    assert whole.pixels.flags.writeable and not mapped.pixels.flags.writeable
    assert whole.labels is None and whole.notes == () and whole.name == "faces train"
    expected = layout[:, None] if layout.ndim == 3 else COLOUR.transpose(0, 3, 1, 2)
    for images in (whole, mapped):
        np.testing.assert_array_equal(images.pixels, expected)


def test_labels_beside_one_file_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", images=COLOUR, labels=LABELS, weights=RANDOM.random(40))
    (note,) = read(folder / "images.npy").notes
    assert note == LabelsBeside("labels.npy", str(folder))
    assert str(note) == f"the labels in labels.npy beside it are not read; give the folder {folder}"
    assert read(folder).notes == () and read(folder).class_names == tuple("0123")
    assert read(write(tmp_path / "odd", images=COLOUR, kind=LABELS)).notes == (UnreadArray("kind", "labels", "labels"),)


def test_a_folder_with_pictures_or_classes_is_one_of_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "hat" / "1.png", 3)
    write(tmp_path, images=COLOUR)
    assert read(tmp_path).class_names == ("hat",)
    Image.fromarray(COLOUR[0]).save(write(tmp_path / "flat", images=COLOUR) / "1.png")
    assert len(read(tmp_path / "flat")) == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (COLOUR / 255, "set.npy holds float64, whose range is unknown"),
        (COLOUR[..., :2], r"set.npy has the shape \[40, 8, 8, 2\]"),
        (COLOUR[:0], "set.npy cannot be read|holds no images"),
        (np.array([{}, {}]), "set.npy cannot be read"),
    ],
)
def test_what_is_no_set_of_images_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "set.npy", array)
    with pytest.raises(ModisteError, match=message):
        read(tmp_path / "set.npy")


def test_broken_files_and_missing_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set.npy").write_bytes(b"\x93NUMPY, but no more")
    with pytest.raises(ModisteError, match=r"set\.npy cannot be read"):
        read(tmp_path / "set.npy")
    with pytest.raises(ModisteError, match="has no test images"):
        read(write(tmp_path / "set", images=COLOUR), "test")
    with pytest.raises(UsageError, match="has no such array; its arrays are images"):
        read(tmp_path / "set", group_by="film")
