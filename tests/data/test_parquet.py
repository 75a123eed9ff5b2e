"""Parquet files of pictures: what `formats` writes comes back, and what cannot be read is told in one sentence."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modiste.config import Data
from modiste.data import parquet, readers
from modiste.data.images import Images
from modiste.data.notes import ReadFrom, UnreadArray, UnreadFiles
from modiste.data.sets import has_test, native_data, open_data
from modiste.errors import ModisteError
from modiste.provenance import metadata
from modiste.sampling import writers

arrow = pytest.importorskip("pyarrow")
import pyarrow.parquet as files  # noqa: E402

NAMES = ("T-shirt/top", "Trouser", "Sneaker")


def images(count: int = 7, channels: int = 1, labelled: bool = True, side: int = 8) -> Images:
    pixels = np.random.default_rng(count).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    return Images(pixels, np.arange(count) % 3 if labelled else None, NAMES if labelled else (), "noise")


def png(value: Any = 9, size: tuple[int, int] = (4, 4), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, format="PNG")
    return buffer.getvalue()


def table(*contents: bytes | None, **columns: Any) -> Any:
    return arrow.table({"image": [{"bytes": content, "path": "1.png"} for content in contents], **columns})


def read(path: Path, part: Any = "train", **settings: Any) -> Images:
    return open_data(Data(name=str(path), **settings), part=part)


def same(one: Images, other: Images) -> bool:
    assert one.labels is not None and other.labels is not None
    return (
        np.array_equal(one.pixels, other.pixels)
        and np.array_equal(one.labels, other.labels)
        and one.class_names == other.class_names
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_what_formats_writes_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    monkeypatch.setattr(writers, "ROW_GROUP", 3)
    monkeypatch.setattr(parquet, "BATCH", 2)
    made = images(channels=channels)
    writers.write(made, range(10, 17), tmp_path / "set.parquet", "parquet", metadata.stamp, {"Run": "tiny"})
    writers.write(made, None, tmp_path / "hub", "huggingface")
    for path in (tmp_path / "set.parquet", tmp_path / "hub"):
        assert same(read(path), made)
        assert not readers.has_test_split(path)
    assert read(tmp_path / "set.parquet").name == "set train" and read(tmp_path / "hub").name == "hub train"
    assert not has_test(Data(name=str(tmp_path / "set.parquet")))
    assert native_data(Data(name=str(tmp_path / "set.parquet"), resize=4)).resize == 4


def test_a_set_without_labels_has_none(tmp_path: Path) -> None:
    writers.write(images(labelled=False), None, tmp_path / "set.parquet", "parquet")
    found = read(tmp_path / "set.parquet")
    assert found.labels is None and np.array_equal(found.pixels, images(labelled=False).pixels)


def test_a_folder_has_splits_by_the_names_of_its_files(tmp_path: Path) -> None:
    first, second, test = images(7), images(5), images(4)
    for name, made in (
        ("train-00000-of-00002", first),
        ("train-00001-of-00002", second),
        ("test-00000-of-00001", test),
    ):
        writers.write(made, None, tmp_path / "hub" / "data" / f"{name}.parquet", "parquet")
    (tmp_path / "hub" / "data" / ".train-x.parquet").write_bytes(b"hidden")
    for folder in (tmp_path / "hub", tmp_path / "hub" / "data"):
        train = read(folder)
        assert np.array_equal(train.pixels, np.concatenate([first.pixels, second.pixels]))
        assert train.labels is not None and train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1]
        assert readers.has_test_split(folder) and same(read(folder, "test"), test)
    writers.write(images(labelled=False), None, tmp_path / "hub" / "data" / "train-9.parquet", "parquet")
    with pytest.raises(ModisteError, match=r"train-9\.parquet has other labels or class names than test-00000"):
        read(tmp_path / "hub")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    writers.write(images(), None, tmp_path / "set.parquet", "parquet")
    writers.write(images(), None, tmp_path / "hub" / "data" / "validation.parquet", "parquet")
    with pytest.raises(ModisteError, match=r"set\.parquet has no test images; in a folder, name .* data/test-\*"):
        read(tmp_path / "set.parquet", "test")
    with pytest.raises(ModisteError, match=r"hub has no train images"):
        read(tmp_path / "hub")


def test_other_programs_files_have_numbers_for_classes(tmp_path: Path) -> None:
    files.write_table(table(png(1), png(2), label=[2, 0]), tmp_path / "set.parquet")
    found = read(tmp_path / "set.parquet")
    assert found.class_names == ("0", "2") and found.labels is not None and found.labels.tolist() == [1, 0]
    named = {"huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}})}
    files.write_table(table(png(), png(), label=[1, 0]).replace_schema_metadata(named), tmp_path / "set.parquet")
    assert read(tmp_path / "set.parquet").class_names == ("a", "b")
    named = {"huggingface": named["huggingface"].replace('"b"', '"unused", "b"')}
    files.write_table(table(png(), png(), label=[2, 0]).replace_schema_metadata(named), tmp_path / "set.parquet")
    left = read(tmp_path / "set.parquet")
    assert left.class_names == ("a", "b") and left.labels is not None and left.labels.tolist() == [1, 0]
    assert [str(note) for note in left.notes] == [
        "set: no image is of the class 'unused', so there are 2 classes and not 3"
    ]
    pictures = list(parquet.pictures([tmp_path / "set.parquet"]))
    assert [(one.name, str(one)) for one in pictures] == [
        ("b/1.png", f"{tmp_path / 'set.parquet'}[0]"),
        ("a/1.png", f"{tmp_path / 'set.parquet'}[1]"),
    ]


def test_columns_of_other_names_are_read_where_only_one_can_be_meant_and_others_are_named(tmp_path: Path) -> None:
    """CIFAR-10 as on the Hub, CIFAR-100 with two kinds of labels, names as words, and columns that count."""

    def written(**columns: Any) -> Images:
        pictures = [{"bytes": png(k), "path": None} for k in range(8)]
        files.write_table(arrow.table({"img": pictures, **columns}), tmp_path / "set.parquet")
        return read(tmp_path / "set.parquet")

    twos = [k % 2 for k in range(8)]
    for name in ("label", "labels", "target", "targets"):
        found = written(**{name: twos}, id=list(range(8)), size=[3.5] * 8)
        assert found.labels is not None and found.labels.tolist() == twos and found.class_names == ("0", "1")
        more = () if name == "label" else (ReadFrom(name, "labels"),)
        assert found.notes == (ReadFrom("img", "images"), *more)
    for columns in ({"fine_label": twos, "coarse_label": twos}, {"target": twos, "targets": twos}):
        found = written(**columns)
        unread = tuple(UnreadArray(name, "labels", "label") for name in columns)
        assert found.labels is None and found.notes == (ReadFrom("img", "images"), *unread)
    found = written(kind=["cat", "dog"] * 4, group=twos, name=[f"{k}.png" for k in range(8)])
    assert [str(note) for note in found.notes[1:]] == [
        "`kind` looks like labels and is not read; call it label",
        "`group` looks like labels and is not read; call it label",
    ]


def test_files_of_other_splits_are_named(tmp_path: Path) -> None:
    for name in ("train", "test", "validation"):
        writers.write(images(), None, tmp_path / "hub" / "data" / f"{name}-0.parquet", "parquet")
    assert read(tmp_path / "hub").notes == (UnreadFiles(("validation-0.parquet",)),)
    alone = tmp_path / "hub" / "data" / "validation-0.parquet"
    assert read(alone).notes == (), "it was asked for by itself"


def test_colour_and_size_follow_the_rules_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    files.write_table(table(png(9), png((7, 7, 7), mode="RGB")), path)
    assert read(path).pixels[:, :, 0, 0].tolist() == [[9], [7]]
    files.write_table(table(png(9), png((1, 2, 3, 0), mode="RGBA")), path)
    assert read(path).pixels[:, 0, 0, 0].tolist() == [9, 0]
    files.write_table(table(png(9), png((1, 2, 3), mode="RGB")), path)
    assert read(path).pixels[:, :, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3]]
    files.write_table(table(png(3), png(3, (6, 5))), path)
    said = r"set\.parquet\[1\] is 6 x 5 pixels but \S+set\.parquet\[0\] is 4 x 4; bring all pictures to one size"
    with pytest.raises(ModisteError, match=said):
        read(path)
    assert read(path, resize=4).pixels.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: arrow.table({"img": [1], "label": [0]}), "has no column image: its columns are img, label; name"),
        (lambda: arrow.table({"image": ["1.png"]}), "the column image holds string; write pictures as a struct"),
        (lambda: arrow.table({"image": [{"path": "1.png"}]}), "the column image holds struct<path: string>; write"),
        (lambda: table(png(), None), r"set\.parquet\[1\] has no bytes, only the path '1\.png'; write the pictures"),
        (
            lambda: arrow.table({"image": arrow.array([None], table(png())["image"].type)}),
            r"\[0\] has no bytes; write the pictures",
        ),
        (lambda: table(png(), b"no picture"), r"set\.parquet\[1\] is not a readable picture \(unknown format\)"),
        (lambda: table(png(3, mode="I;16")), "has more than 8 bits per channel"),
        (lambda: table(png()).slice(0, 0), "set.parquet holds no pictures"),
        (lambda: table(png(), label=["hat"]), r"labels are (object|str).*; save whole numbers"),
        (lambda: table(png(), label=[-1]), "label -1 is"),
        (lambda: table(png(), png(), label=[1, None]), r"set\.parquet\[1\] has no value in the column label; fill"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, made: Any, message: str) -> None:
    files.write_table(made(), tmp_path / "set.parquet")
    with pytest.raises(ModisteError, match=message) as failure:
        read(tmp_path / "set.parquet")
    assert "\n" not in str(failure.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    writers.write(images(), None, path, "parquet")
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:200], whole[:-40] + b"?" * 40, whole[:4] + b"\xff" * 40 + whole[44:]):
        path.write_bytes(content)
        with pytest.raises(ModisteError, match=r"set\.parquet.* is not a readable ") as failure:
            read(path)
        assert "\n" not in str(failure.value)
    with pytest.raises(ModisteError, match="does not exist"):
        read(tmp_path / "other.parquet")


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers.write(images(), None, tmp_path / "set.parquet", "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModisteError, match=r"pip install 'modiste\[parquet\]'"):
        read(tmp_path / "set.parquet")


def test_the_verb_data_shows_a_parquet_file(tmp_path: Path, call: Any) -> None:
    writers.write(images(), None, tmp_path / "set.parquet", "parquet")
    code, printed, errors = call("data", tmp_path / "set.parquet", "--out", tmp_path / "seen")
    assert code == 0, errors
    assert "set train: 7 images, 8 x 8 grey" in printed and "T-shirt/top" in printed
    (tmp_path / "set.parquet").write_bytes(b"hello")
    code, _, errors = call("data", tmp_path / "set.parquet", "--out", tmp_path / "seen")
    assert code == 1 and "is not a readable Parquet file" in errors and "Traceback" not in errors
