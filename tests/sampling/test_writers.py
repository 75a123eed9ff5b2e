"""Files of sets: what other programs find in them, and that a failure leaves nothing behind."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.provenance import metadata
from modiste.sampling import writers

NAMES = ("T-shirt/top", "Trouser", "Sneaker")


def images(count: int = 7, channels: int = 1, labelled: bool = True) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)
    return Images(pixels, np.arange(count) % 3 if labelled else None, NAMES if labelled else (), "noise")


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def test_parquet_holds_what_hugging_face_takes_for_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(writers, "ROW_GROUP", 3)
    made = images(channels=3)
    writers.write(made, range(10, 17), tmp_path / "set.parquet", "parquet", metadata.stamp, {"Run": "tiny"})
    table = parquet.read_table(tmp_path / "set.parquet")
    assert str(table.schema.field("image").type) == "struct<bytes: binary, path: string>"
    assert str(table.schema.field("label").type) == "int64"
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == [0, 1, 2, 0, 1, 2, 0]
    assert [row["image"]["path"] for row in rows] == [f"{seed:06d}.png" for seed in range(10, 17)]
    for row, pixels, seed in zip(rows, made.pixels, range(10, 17), strict=True):
        assert np.array_equal(decoded(row["image"]["bytes"]), pixels.transpose(1, 2, 0))
        said = metadata.read_metadata(row["image"]["bytes"])
        assert said["Synthetic"] == "true" and said["Seed"] == str(seed) and said["Run"] == "tiny"


@pytest.mark.parametrize("kind", writers.SINGLE)
def test_one_file_has_the_ending_by_which_readers_know_it(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{kind} is one file, .*; name it .*set\.{kind}"):
        writers.check(tmp_path / "set", kind, 1)
    writers.check(tmp_path / f"set.{kind}", kind, 1)


def test_idx_files_hold_256_classes_and_no_more(tmp_path: Path) -> None:
    made = images(3)
    many = replace(made, labels=np.array([0, 1, 255]), class_names=tuple(map(str, range(256))))
    writers.write(many, None, tmp_path / "idx", "idx")
    read = open_data(Data(name=str(tmp_path / "idx")))
    assert read.labels is not None and [read.class_names[label] for label in read.labels] == ["0", "1", "255"]
    more = replace(made, labels=np.array([0, 1, 256]), class_names=tuple(map(str, range(257))))
    with pytest.raises(UsageError, match=r"one byte, and there are 257 classes; write \.npz"):
        writers.write(more, None, tmp_path / "more", "idx")
    assert not (tmp_path / "more").exists()


def test_folders_are_read_back_as_the_classes_that_they_hold(tmp_path: Path) -> None:
    for names, said in (
        (("a/b", "c", "a-b"), "'a/b' and 'a-b' would lie in one folder, a-b"),
        ((".x", "x", "y"), "'.x' and 'x' would lie in one folder, x"),
        (("", "0", "1"), "'' and '0' would lie in one folder, 0"),
        (("test", "other", "train"), "the classes train and test would be read as two parts"),
        (("Train", "val", "test"), "the classes Train, val, test would be read as splits"),
    ):
        with pytest.raises(UsageError, match=f"{re.escape(said)}.*; write \\.npz or \\.parquet"):
            writers.write(replace(images(), class_names=names), None, tmp_path / "no", "folder")
        assert not (tmp_path / "no").exists()
        writers.write(replace(images(), class_names=names), None, tmp_path / "set.npz", "npz", metadata.stamp)
        if all(names):  # a class without a name is refused on reading
            assert open_data(Data(name=str(tmp_path / "set.npz"))).class_names == names
    for names in (("A", "b", "b c"), ("test", "trail", "training"), ("other", "train", "training")):
        out = tmp_path / "-".join(names)
        writers.write(replace(images(), class_names=names), None, out, "folder")
        read = open_data(Data(name=str(out)))
        assert sorted(read.class_names) == sorted(names) and len(read) == 7


def test_classes_of_which_there_are_no_images_get_no_folder(tmp_path: Path) -> None:
    for names in (("test", "other", "third"), ("a/b", "c", "a-b")):
        for labels in ([2] * 7, [0, 1] * 3 + [0]):
            made, out = (
                replace(images(), labels=np.array(labels), class_names=names),
                tmp_path / f"{names[1]}{labels[0]}",
            )
            writers.write(made, None, out, "folder")
            assert len(list(out.iterdir())) == len(set(labels)) and len(open_data(Data(name=str(out)))) == 7


def test_pictures_of_no_seed_name_none(tmp_path: Path) -> None:
    writers.write(images(3), None, tmp_path / "walk", "folder", metadata.stamp)
    files = sorted((tmp_path / "walk").rglob("*.png"), key=lambda file: file.name)
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    told = [metadata.read_metadata(file.read_bytes()) for file in files]
    assert all(one["Synthetic"] == "true" and "Seed" not in one for one in told)


def test_a_set_without_labels_has_no_column_for_them(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    writers.write(images(labelled=False), None, tmp_path / "hub", "huggingface")
    table = parquet.read_table(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    assert table.column_names == ["image"] and table.num_rows == 7
    assert "label" not in json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        "hub/data/train-00000-of-00001.parquet"
    ]


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModisteError, match=r"pip install 'modiste\[parquet\]'"):
        writers.write(images(), None, tmp_path / "set.parquet", "parquet")
    assert not list(tmp_path.iterdir())


PLACES = {"npz": "set.npz", "folder": "pictures", "idx": "idx", "parquet": "set.parquet", "huggingface": "hub"}


@pytest.mark.parametrize("kind", writers.SET_FORMATS)
def test_a_full_disk_leaves_nothing_behind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in ("parquet", "huggingface"):
        pytest.importorskip("pyarrow")
    out = tmp_path / "new" / "deep" / PLACES[kind]
    for at in (0, 1):  # while the files are written, and when they are settled

        def full(descriptor: int, left: list[int] = [at]) -> None:  # noqa: B006
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        if at and kind == "folder":  # whose files are brought to the disk at once
            monkeypatch.setattr(os, "sync", lambda: full(0))
        with pytest.raises(ModisteError, match=r"cannot write .*No space left.*make room") as failure:
            writers.write(images(), None, out, kind)
        assert str(failure.value).count("\n") == 0
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", writers.SET_FORMATS)
def test_a_file_that_grows_beyond_what_is_allowed_too(kind: str, tmp_path: Path) -> None:
    if kind in ("parquet", "huggingface"):
        pytest.importorskip("pyarrow")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, most))
    try:
        with pytest.raises(ModisteError, match=r"cannot write .*File too large.*make room"):
            writers.write(images(), None, tmp_path / PLACES[kind], kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_a_failure_leaves_an_earlier_set_as_it_was(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / PLACES[kind]
    writers.write(images(4), None, out, kind, metadata.stamp)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModisteError, match=r"is not empty" if kind == "folder" else r"No space left"):
        writers.write(images(5), None, out, kind)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", writers.SINGLE)
def test_one_file_replaces_earlier_sets_and_nothing_else(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / PLACES[kind]
    writers.write(images(4), None, out, kind, metadata.stamp)
    writers.write(images(5), None, out, kind, metadata.stamp)
    assert len(open_data(Data(name=str(out)))) == 5
    out.unlink()
    writers.write(images(), None, out, kind)  # real images
    for content in (out.read_bytes(), b"", b"words"):
        out.write_bytes(content)
        with pytest.raises(UsageError, match=r"does not say that Modiste wrote it.*choose another"):
            writers.check(out, kind, 1)
        with pytest.raises(UsageError, match=r"does not say"):
            writers.write(images(), None, out, kind, metadata.stamp)
        assert out.read_bytes() == content


def test_a_place_that_cannot_be_had_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(ModisteError, match=r"cannot write .*file/set\.npz: Not a directory.*choose a place"):
        writers.write(images(), None, tmp_path / "file" / "set.npz", "npz")
    with pytest.raises(UsageError, match=r"is a folder and npz is one file"):
        writers.write(images(), None, tmp_path, "npz")
    with pytest.raises(UsageError, match=r"--format 'tar' is none"):
        writers.write(images(), None, tmp_path / "set.tar", "tar")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ModisteError, match=r"cannot write .*set: Permission denied.*choose a place") as failure:
        writers.write(images(), None, tmp_path / "set", "folder")
    assert failure.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["folder", "huggingface"])
def test_an_empty_folder_may_be_filled(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "huggingface":
        pytest.importorskip("pyarrow")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    writers.write(images(), None, Path(), kind)
    assert any((tmp_path / "here").iterdir()) and [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grid.png", "png"), ("walk.gif", "gif"), ("set.npz", "npz"), ("folder", "folder"), ("idx-folder", "idx")],
)
def test_the_path_chooses_the_format(name: str, kind: str) -> None:
    assert writers.format_of(Path(name)) == kind


def test_written_sets_read_back_as_they_were(tmp_path: Path) -> None:
    seeds, images = list(range(12)), toy.draw(12, 16)
    assert images.labels is not None
    for name in ("set.npz", "folder", "idx"):
        writers.write(images, seeds, tmp_path / name, writers.format_of(tmp_path / name))
        back = open_data(Data(name=str(tmp_path / name)), part="train")
        assert back.labels is not None and len(back) == 12
        order = np.lexsort((seeds, images.labels)) if name == "folder" else np.arange(12)
        if name == "folder":  # folders come in the order of their names
            assert sorted(back.class_names) == sorted(n.replace("/", "-") for n in images.class_names)
            written = {
                images.pixels[k].tobytes(): images.class_names[images.labels[k]].replace("/", "-") for k in order
            }
            assert {
                p.tobytes(): back.class_names[label] for p, label in zip(back.pixels, back.labels, strict=True)
            } == written
        else:
            assert np.array_equal(back.pixels, images.pixels) and np.array_equal(back.labels, images.labels)
    assert not list(tmp_path.glob(".*"))
    raw = gzip.decompress((tmp_path / "idx" / "train-images-idx3-ubyte.gz").read_bytes())
    assert raw[:4] == b"\x00\x00\x08\x03" and raw[16:] == images.pixels.tobytes()


def test_a_picture_that_is_not_modistes_is_left_alone(tmp_path: Path) -> None:
    images = toy.draw(4, 16)
    said = PngInfo()  # another program's picture may be synthetic too
    said.add_text("DigitalSourceType", metadata.SOURCE_TYPE)
    for name, kind, told in (("a.png", "png", {"pnginfo": said}), ("b.gif", "gif", {"comment": "a walk"})):
        Image.new("L", (4, 4)).save(tmp_path / name, **told)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match="does not say that Modiste wrote it as it is"):
            writers.write(images, None, tmp_path / name, kind, mark=metadata.stamp)
        assert (tmp_path / name).read_bytes() == before
        for _ in range(2):  # one of ours is replaced
            writers.write(images, None, tmp_path / f"new {name}", kind, mark=metadata.stamp)
    (tmp_path / "notes.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(UsageError, match=r"notes\.png is there and does not say that Modiste wrote it"):
        writers.check(tmp_path / "notes.png", "png", 1)
    with pytest.raises(UsageError, match=r"is a folder and a picture is one file; name the file"):
        writers.check(tmp_path, "png", 1)


def test_nothing_is_overwritten_or_half_written(tmp_path: Path) -> None:
    images = toy.draw(4, 16)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is not empty"):
        writers.write(images, range(4), tmp_path / "folder", "folder")
    colour = Images(np.zeros((2, 3, 8, 8), np.uint8), None, (), "colour")
    with pytest.raises(UsageError, match=r"IDX files hold grey images"):
        writers.write(colour, range(2), tmp_path / "idx", "idx")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(UsageError, match=r"ends in \.jpg"):
        writers.format_of(tmp_path / "grid.jpg")
