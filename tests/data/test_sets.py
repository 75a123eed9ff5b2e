"""Data sets by name and path: parts, counts, sizes, and the settings to compare with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support import read, write_idx

from modiste.config import Data
from modiste.data.sets import check_varied, native_data, obstacle, open_data, resolved_name
from modiste.data.subsets import heldout_indices
from modiste.errors import ModisteError, UsageError


def test_no_test_split_is_an_error_with_a_remedy(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(ModisteError, match=r"no test images; add the file t10k-images"):
        read(tmp_path, "test")


def test_count_takes_the_first_and_refuses_more_than_there_are(tmp_path):
    pixels, _ = write_idx(tmp_path, 20)
    np.testing.assert_array_equal(read(tmp_path, count=5).pixels[:, 0], pixels[:5])
    with pytest.raises(ModisteError, match=r"data.count = 21 .* only 20 images"):
        read(tmp_path, count=21)


def test_some_classes_alone_in_every_part(closet):
    """They are numbered anew in the set's order; held-out images are those of the complete set."""
    parts = {part: read(closet, part) for part in ("fit", "heldout", "test")}
    for part, images in parts.items():
        some = read(closet, part, classes=("Bag", 5))
        kept = np.isin(images.labels, [5, 8])
        np.testing.assert_array_equal(some.pixels, images.pixels[kept])
        np.testing.assert_array_equal(some.labels, images.labels[kept] == 8)
        assert some.class_names == ("Sandal", "Bag") and some.name == f"{images.name} of Sandal, Bag"
    others = tuple(k for k in range(10) if k != 8)
    assert read(closet, "fit", classes=others, count=9).name == f"{parts['fit'].name} without Bag first-9"


def test_classes_that_are_not_there(closet, tmp_path):
    with pytest.raises(ModisteError, match="'Hat' is no class of closet"):
        read(closet, classes=("Hat",))
    with pytest.raises(ModisteError, match=r"data.classes = \['Bag', 8\] names a class of closet.* twice"):
        read(closet, classes=("Bag", 8))
    np.savez(tmp_path / "plain.npz", images=np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ModisteError, match="have no labels to choose by"):
        read(tmp_path / "plain.npz", classes=(0,))


def test_resize_is_applied_and_recorded_in_the_name(tmp_path):
    write_idx(tmp_path, 3)
    images = read(tmp_path, resize=8, resize_filter="bilinear")
    assert images.pixels.shape == (3, 1, 8, 8) and images.name.endswith("train 8px-bilinear")


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


def test_missing_paths_and_unknown_names(tmp_path):
    with pytest.raises(ModisteError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(ModisteError, match="named 'fashion-mist'; did you mean 'fashion-mnist'\\?; use fashion-mnist"):
        read("fashion-mist")


def test_names_that_begin_with_a_tilde_or_like_the_toys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~nobody-of-that-name.npz", "toy-faces.npz"):
        np.savez(name, images=np.full((3, 4, 4), 7, np.uint8))
        assert read(name).pixels.shape == (3, 1, 4, 4)
    with pytest.raises(ModisteError, match="~nobody-of-that-name/x does not exist"):
        read("~nobody-of-that-name/x")
    with pytest.raises(ModisteError, match="no data set is named 'toy-²'; did you mean 'toy'"):
        read("toy-²")


def test_a_folder_with_the_name_of_a_known_set_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert native_data(Data(name="toy", resize=16)).resize is None
    assert native_data(Data(name=str(tmp_path / "toy"), resize=16)).resize == 16


@pytest.mark.parametrize("part", ["train", "fit"])
def test_the_toy_set_is_no_larger_than_it_is(part):
    with pytest.raises(ModisteError, match=r"has only [0-9,]+ images; lower it"):
        read("toy", count=10_500, part=part)


def pictures(place, kinds):
    """A picture per name; those of one kind are equal."""
    random = np.random.default_rng(0)
    pixels = {kind: random.integers(0, 256, (8, 8), np.uint8) for kind in sorted(set(kinds.values()))}
    for name, kind in kinds.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[kind]).save(place / name)
    return place


TINY = [
    (["1"], None, "1 image, of which none can be held out .*; give more images, at least 3 different ones"),
    (["1", "2"], None, "has 1 image, too few to learn from; give 3 different ones or more, of which one is held out"),
    (["1", "1", "1"], None, "all 3 images of .* are the same; check how they were made, and give different ones"),
    (
        ["a/1", "b/2", "c/3"],
        None,
        "3 images, of which none .*; give more images, .* two different ones of each class",
    ),
    (
        ["a/1", "a/1", "b/2"],
        None,
        "3 images, of which none .*; give more images, .* two different ones of each class",
    ),
    (["a/g_1", "a/g_2", "b/h_3", "b/h_4"], "_", "4 images in 2 groups .*; give more groups of each class .*or leave"),
    (["g_1", "g_2", "h_1", "h_2"], "_", "4 images in 2 groups .*; give more groups that have no image in common, or"),
]
CURED = [
    (["1", "2", "3"], None),
    (["1", "2", "3", "3"], None),
    (["a/1", "a/4", "b/2", "b/5", "c/3", "c/6"], None),
    (["a/g_1", "a/g_2", "b/h_3", "b/h_4"], None),
    (["a/g_1", "a/g_2", "a/i_7", "b/h_3", "b/h_4", "b/j_8"], "_"),
    (["g_1", "g_2", "h_3", "h_4", "h_5"], "_"),
]


def described(tmp_path, names, group_by):
    """A set of pictures whose content is the last sign of their names."""
    files = {f"{name}{'' if group_by else '_'}-{k}.png": name[-1] for k, name in enumerate(names)}
    return Data(name=str(pictures(tmp_path / "set", files)), group_by=group_by)


@pytest.mark.parametrize(("names", "group_by", "message"), TINY)
def test_too_few_images_to_part_say_what_would_be_enough(tmp_path, names, group_by, message):
    data = described(tmp_path, names, group_by)
    with pytest.raises(UsageError, match=message):
        open_data(data, part="heldout")
        check_varied(open_data(data, part="fit"))
    train = open_data(data, part="train")
    assert obstacle(train, data, heldout_indices(train))


@pytest.mark.parametrize(("names", "group_by"), CURED)
def test_what_the_remedy_says_is_enough_to_part_and_learn_from(tmp_path, names, group_by):
    data = described(tmp_path, names, group_by)
    train, fit, heldout = (open_data(data, part=part) for part in ("train", "fit", "heldout"))
    check_varied(fit)
    assert obstacle(train, data, heldout_indices(train)) == "" and len(fit) + len(heldout) == len(names)


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(pictures(tmp_path, {"1.png": 1, "2.png": 2}))
    with pytest.raises(UsageError, match="no data set is named ''; use fashion-mnist"):
        read("")
    assert resolved_name("") == "" and resolved_name(".") == str(tmp_path)
