"""Readers: IDX, .npz and folders of pictures, and what they say about broken ones."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile
from support import idx

from modiste.config import Data
from modiste.data import notes as set_notes
from modiste.data import pictures as image_files
from modiste.data.images import Images
from modiste.data.notes import (
    AllEqual,
    Fitted,
    HalfRange,
    OneColour,
    ReadFrom,
    Transparent,
    UnreadArray,
    UnreadFiles,
    UnreadFolder,
)
from modiste.data.sets import has_test, heldout_indices, native_data, open_data, remarks
from modiste.errors import ModisteError, UsageError


def write_idx(folder, count=20, split="train", labels=None, compress=True):
    pixels = np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
    labels = np.arange(count, dtype=np.uint8) % 2 if labels is None else np.array(labels, np.uint8)
    pack, ending = (gzip.compress, ".gz") if compress else (bytes, "")
    folder.mkdir(exist_ok=True)
    (folder / f"{split}-images-idx3-ubyte{ending}").write_bytes(pack(idx(pixels)))
    (folder / f"{split}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))
    return pixels, labels


def picture(path, value=0, size=(4, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def frames(path, count):
    first, *others = (Image.new("L", (4, 4), 80 * k) for k in range(count))
    first.save(path, save_all=True, append_images=others)


def read(path, part="train", **settings):
    return open_data(Data(name=str(path), **settings), part=part)


@pytest.mark.parametrize("compress", [True, False])
def test_idx_comes_back_as_written(tmp_path, compress):
    pixels, labels = write_idx(tmp_path, compress=compress)
    write_idx(tmp_path, 4, "t10k", compress=compress)
    train, test = read(tmp_path), read(tmp_path, "test")
    np.testing.assert_array_equal(train.pixels[:, 0], pixels)
    np.testing.assert_array_equal(train.labels, labels)
    assert train.class_names == ("0", "1") and len(test) == 4


def test_older_runs_hold_out_the_last_tenth_of_each_class(tmp_path):
    pixels, _ = write_idx(tmp_path, 40)
    held, fit = read(tmp_path, "heldout", heldout="last"), read(tmp_path, "fit", heldout="last")
    np.testing.assert_array_equal(held.pixels[:, 0], pixels[36:])
    np.testing.assert_array_equal(fit.pixels[:, 0], pixels[:36])
    assert held.labels.tolist() == [0, 1, 0, 1]
    assert "last-10%" in held.name and "first-90%" in fit.name


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


def test_what_is_held_out_of_a_set_that_only_has_the_size_of_mnist():
    rare = np.repeat(np.arange(10), [6633] * 9 + [303])
    images = Images(np.zeros((60_000, 1, 1, 1), np.uint8), rare, tuple("0123456789"), "rare")
    assert np.bincount(rare[heldout_indices(images, "last")]).tolist() == [664] * 9 + [31]
    even = Images(images.pixels, np.repeat(np.arange(10), 6000), images.class_names, "even")
    assert np.bincount(even.labels[heldout_indices(even)]).tolist() == [500] * 10


def test_no_test_split_is_an_error_with_a_remedy(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(ModisteError, match=r"no test images; add the file t10k-images"):
        read(tmp_path, "test")


def test_count_takes_the_first_and_refuses_more_than_there_are(tmp_path):
    pixels, _ = write_idx(tmp_path, 20)
    np.testing.assert_array_equal(read(tmp_path, count=5).pixels[:, 0], pixels[:5])
    with pytest.raises(ModisteError, match=r"data.count = 21 .* only 20 images"):
        read(tmp_path, count=21)


def test_resize_is_applied_and_recorded_in_the_name(tmp_path):
    write_idx(tmp_path, 3)
    images = read(tmp_path, resize=8, resize_filter="bilinear")
    assert images.pixels.shape == (3, 1, 8, 8) and images.name.endswith("train 8px-bilinear")


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
        ({"x": np.zeros((2, 4, 6), np.uint8)}, "6 x 4 pixels, not square; resize them to a side length"),
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


def test_only_images_that_are_not_square_are_judged_resized(tmp_path):
    for name, width in (("wide", 6), ("square", 4)):
        np.savez(tmp_path / f"{name}.npz", images=np.zeros((2, 4, width), np.uint8))
    write_idx(tmp_path / "idx")
    sizes = {
        name: native_data(Data(name=str(tmp_path / name), resize=8)).resize
        for name in ("wide.npz", "square.npz", "idx")
    }
    assert sizes == {"wide.npz": 8, "square.npz": None, "idx": None}
    assert (
        native_data(Data(name="toy", resize=8)).resize
        is None
        is native_data(Data(name=str(tmp_path / "wide.npz"))).resize
    )


def test_a_file_that_is_no_npz(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"hello")
    with pytest.raises(ModisteError, match=r"not a readable \.npz"):
        read(tmp_path / "set.npz")
    (tmp_path / "set.zip").write_bytes(b"hello")
    with pytest.raises(ModisteError, match=r"neither a folder nor a \.npz"):
        read(tmp_path / "set.zip")


def test_missing_paths_and_unknown_names(tmp_path):
    with pytest.raises(ModisteError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(ModisteError, match="named 'fashion-mist'; did you mean 'fashion-mnist'\\?; use fashion-mnist"):
        read("fashion-mist")


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


def test_grey_stays_one_channel_and_colour_makes_three(tmp_path):
    picture(tmp_path / "1.png", 9)
    picture(tmp_path / "2.png", (7, 7, 7), mode="RGB")  # grey saved as RGB
    picture(tmp_path / "3.bmp", 1, mode="1")
    assert read(tmp_path).pixels[:, :, 0, 0].tolist() == [[9], [7], [255]]
    picture(tmp_path / "4.png", (1, 2, 3), mode="RGB")
    picture(tmp_path / "5.png", (255, 255, 255, 0), mode="RGBA")  # transparent: black
    Image.new("P", (4, 4), 0).save(tmp_path / "6.gif")
    picture(tmp_path / "7.tif", 8)
    assert read(tmp_path).pixels[:5, :, 0, 0].tolist() == [[9] * 3, [7] * 3, [255] * 3, [1, 2, 3], [0, 0, 0]]
    assert read(tmp_path).pixels[6, :, 0, 0].tolist() == [8] * 3


def test_pictures_of_several_sizes_need_resize(tmp_path):
    picture(tmp_path / "1.png", 3)
    picture(tmp_path / "2.png", 3, size=(6, 5))
    with pytest.raises(
        ModisteError, match=r"2\.png is 6 x 5 pixels but \S+1\.png is 4 x 4; bring all pictures to one size"
    ):
        read(tmp_path)
    assert read(tmp_path, resize=4).pixels.shape == (2, 1, 4, 4)


def test_a_picture_is_what_pillow_reads_whatever_its_name_ends_in(tmp_path):
    """Every file counts: read by its content, or named among those that were not read."""
    endings = [
        ".png",
        ".PNG",
        "",
        ".jfif",
        ".JPG",
        ".ppm",
        ".pgm",
        ".pbm",
        ".dib",
        ".tga",
        ".ico",
        ".jp2",
        ".data",
        ".txt",
    ]
    endings += [".avif"] if features.check("avif") else []
    kinds = {"": "PNG", ".data": "BMP", ".txt": "GIF", ".pbm": "PPM"}  # others by their ending
    for number, ending in enumerate(endings):
        Image.new("L", (16, 16), 255).save(tmp_path / f"{number}{ending}", kinds.get(ending))
    others = {
        "notes.txt": b"Pictures of hats",
        "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(600),
        "empty": b"",
        "P5": b"P5 x",
    }
    for name, content in {**others, ".DS_Store": b"hidden", "._1.png": b"hidden"}.items():
        (tmp_path / name).write_bytes(content)
    Image.new("L", (16, 16), 9).save(tmp_path / "raw.nef", "TIFF")  # a camera's file: its preview is not the photo
    images = read(tmp_path)
    assert len(images) == len(endings) and images.pixels.min() >= 250
    assert images.notes == (UnreadFiles(("empty", "notes.txt", "P5", "raw.nef", "Thumbs.db")),)
    assert str(images.notes[0]) == "5 files were not read as pictures: empty, notes.txt, P5, raw.nef and 1 more"


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


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_that_are_not_square_are_fitted_as_asked_from_files_and_from_arrays(tmp_path, fit):
    """A wide image whose thirds are black, white and black, and one that is square."""
    wide = np.zeros((1, 8, 24), np.uint8)
    wide[:, :, 8:16] = 255
    np.savez(tmp_path / "set.npz", images=wide)
    (tmp_path / "folder").mkdir()
    Image.fromarray(wide[0]).save(tmp_path / "folder" / "1.png")
    picture(tmp_path / "folder" / "2.png", 128, size=(4, 4))
    rows = {"crop": [255] * 4, "pad": [128, 128, 128, 128], "stretch": [0, 170, 170, 0]}[fit]
    settings = {"resize": 4, "resize_filter": "box", "fit": fit, "background": "#808080"}
    array, pictures = read(tmp_path / "set.npz", **settings), read(tmp_path / "folder", **settings)
    assert array.pixels[0].tolist() == pictures.pixels[0].tolist() and (pictures.pixels[1] == 128).all()
    assert array.pixels[0, 0, 0].tolist() == rows and array.name.endswith(f"4px-box-{fit}")
    if fit == "pad":  # 24 x 8 becomes 4 x 1, under one line of background and over two
        assert array.pixels[0, 0, 1, 0] < 128 < 140 < array.pixels[0, 0, 1, 1]
    assert pictures.notes == (Fitted(fit, 1, 2, (24, 8), (24, 8)),)
    assert array.notes == (Fitted(fit, 1, 1, (24, 8), (24, 8)),)


def test_square_images_are_the_same_pixels_by_every_fit(tmp_path):
    random = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(random.integers(0, 256, (9 + k, 9 + k, 3), np.uint8)).save(tmp_path / f"{k}.png")
    read_by = {fit: read(tmp_path, resize=6, fit=fit) for fit in ("crop", "pad", "stretch")}
    assert (read_by["crop"].pixels == read_by["stretch"].pixels).all()
    assert (read_by["pad"].pixels == read_by["stretch"].pixels).all()
    assert {images.name.split()[-1] for images in read_by.values()} == {"6px-lanczos"} and not read_by["pad"].notes


def test_the_header_of_a_photo_that_is_not_square_is_enough_to_refuse_the_set(tmp_path, monkeypatch):
    decoded = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda self: decoded.append(self.filename) or load(self))
    for k in range(5):
        picture(tmp_path / "wide" / f"{k}.png", size=(40, 30))
        picture(tmp_path / "mixed" / f"{k}.png", size=(40 + k, 40 + k))
    with pytest.raises(
        UsageError, match=r"0\.png is 40 x 30 pixels, not square; .*`--resize SIDE`.*`--fit`.*crop, pad"
    ):
        read(tmp_path / "wide")
    assert len(set(decoded)) <= 1
    with pytest.raises(ModisteError, match=r"1\.png is 41 x 41 pixels but \S+0\.png is 40 x 40"):
        read(tmp_path / "mixed")
    assert not [file for file in decoded if file.endswith("2.png")]


def test_large_square_pictures_are_counted_before_they_fill_the_memory(tmp_path, monkeypatch):
    for k in range(5):
        picture(tmp_path / f"{k}.png", k, size=(40, 40))
    monkeypatch.setattr(image_files, "MOST_BYTES", 5 * 40 * 40 * 3)
    assert len(read(tmp_path)) == 5
    monkeypatch.setattr(image_files, "MOST_BYTES", 5 * 40 * 40 * 3 - 1)
    with pytest.raises(UsageError, match=r"5 pictures of 40 x 40 pixels, as \S+0\.png is one, .*--resize SIDE"):
        read(tmp_path)
    assert len(read(tmp_path, resize=8)) == 5


def test_photos_are_resized_one_by_one(tmp_path):
    """Forty photos of 2000 x 1500 pixels, 360 MB, in a small part of that."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8))
    for k in range(40):
        noise.resize((2000, 1500)).save(tmp_path / f"{k}.jpg")
    code = (
        "import resource; from modiste.config import Data; from modiste.data.sets import open_data;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f"start = peak(); images = open_data(Data(name={str(tmp_path)!r}, resize=32)); print(peak() - start)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) * (1 if sys.platform == "darwin" else 1024) < 100e6


@pytest.mark.parametrize(
    ("background", "seen", "vanished"), [("black", 0, 3), ("white", 255, 0), ("#ff8000", [255, 128, 0], 0)]
)
def test_transparency_is_laid_over_the_background_and_told(tmp_path, background, seen, vanished):
    """Black ink on transparency, as icons are drawn: on black nothing of it is left."""
    for k in range(3):
        icon = np.zeros((8, 8, 4), np.uint8)
        icon[2 : 5 + k, 2:5, 3] = 255
        Image.fromarray(icon).save(tmp_path / f"{k}.png")
    Image.new("RGBA", (8, 8), (90, 90, 90, 255)).save(tmp_path / "opaque.png")
    images = read(tmp_path, background=background)
    assert images.pixels[0, :, 0, 0].tolist() == (seen if isinstance(seen, list) else [seen])
    assert (images.pixels[0, :, 3, 3] == 0).all()
    assert images.notes == (Transparent(3, 4, background, vanished),)
    assert ("use --background white" in str(images.notes[0])) == bool(vanished)


def test_what_pixels_say_of_brightness_that_was_lost():
    """Each fault as programs make it, and sets that have none."""
    random = np.random.default_rng(0)
    photos = random.integers(1, 255, (120, 1, 6, 6)).astype(np.uint8)
    masks = (random.random((120, 1, 6, 6)) > 0.5).astype(np.uint8)
    bright = photos.copy()
    bright[np.arange(120), 0, np.arange(120) % 6, 0] = 255
    stretched = bright.copy()
    stretched[:, 0, 0, 1] = 0
    colours = np.broadcast_to(random.integers(0, 255, (5, 3, 1, 1)), (5, 3, 6, 6)).astype(np.uint8)
    found = {
        "photos": photos,
        "masks": masks,
        "drawings": masks * 255,
        "icons": np.where(random.random(photos.shape) < 0.3, masks * 255, photos),
        "as float": (bright / 255).astype(np.uint8),
        "halved": photos // 2,
        "upper half": photos // 2 + 128,
        "stretched": stretched,
        "equal": photos[:1].repeat(9, 0),
        "black": photos * 0,
        "one": photos[:1],
        "plain": colours,
    }
    seen = {
        name: set_notes.brightness(Images(pixels.astype(np.uint8), None, (), "set")) for name, pixels in found.items()
    }
    kinds = {name: [type(note).__name__ for note in notes] for name, notes in seen.items()}
    assert kinds == {
        "photos": [],
        "masks": ["HalfRange"],
        "drawings": [],
        "icons": [],
        "as float": ["HalfRange"],
        "halved": ["HalfRange"],
        "upper half": ["HalfRange"],
        "stretched": ["Rescaled"],
        "equal": ["AllEqual"],
        "black": ["AllEqual"],
        "one": [],
        "plain": ["OneColour"],
    }
    assert seen["masks"] == (HalfRange("set", 1),) and seen["upper half"] == (HalfRange("set", 128, is_upper=True),)
    assert seen["plain"] == (OneColour("set", 5, 5),) and seen["equal"] == (AllEqual("set", 9),)
    assert seen["black"] == (AllEqual("set", 120, is_black=True),)
    assert remarks(read("toy-16", count=300)) == []


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


def test_a_transparent_grey_value_becomes_black_too(tmp_path):
    Image.new("L", (4, 4), 255).save(tmp_path / "1.png", transparency=255)
    assert read(tmp_path).pixels.max() == 0 and read(tmp_path).pixels.shape == (1, 1, 4, 4)


def test_pictures_damaged_anywhere_are_one_sentence(tmp_path):
    """Pillow's parsers raise KeyError and TypeError too."""
    frames(tmp_path / "whole.tiff", 2)
    whole, random = (tmp_path / "whole.tiff").read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "whole.tiff").write_bytes(content)
        try:
            read(tmp_path)
        except ModisteError as error:
            assert str(error).count("\n") == 0
    (tmp_path / "whole.tiff").write_bytes(whole[:40])
    with pytest.raises(ModisteError, match=r"whole\.tiff is not a readable picture"):
        read(tmp_path)


def test_names_that_begin_with_a_tilde_or_like_the_toys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~nobody-of-that-name.npz", "toy-faces.npz"):
        np.savez(name, images=np.full((3, 4, 4), 7, np.uint8))
        assert read(name).pixels.shape == (3, 1, 4, 4)
    with pytest.raises(ModisteError, match="~nobody-of-that-name/x does not exist"):
        read("~nobody-of-that-name/x")
    with pytest.raises(ModisteError, match="no data set is named 'toy-²'; did you mean 'toy'"):
        read("toy-²")


def test_a_truncated_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModisteError, match=r"1\.png is not a readable picture"):
        read(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a broken archive open
def test_a_damaged_npz_file_is_named(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, images=np.zeros((8, 16, 16), np.uint8))
    whole = file.read_bytes()
    for content in (whole[:500], whole[:1000] + b"!" + whole[1001:]):
        file.write_bytes(content)
        with pytest.raises(ModisteError, match=r"set\.npz"):
            open_data(Data(name=str(file)))
