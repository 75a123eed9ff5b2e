"""The image set, the two pixel conversions and the position-addressed order."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from modiste.data.images import Images, content_digest, describe_images, resized, to_pixels, to_unit
from modiste.errors import ModisteError


def images(count=4, channels=1, labels=(0, 1, 0, 1), names=("hat", "sock")):
    pixels = np.arange(count * channels * 16, dtype=np.uint8).reshape(count, channels, 4, 4)
    return Images(pixels, None if labels is None else np.array(labels, np.int64), names, "set")


def test_conversions_invert_each_other_for_every_value():
    pixels = torch.arange(256, dtype=torch.uint8)
    unit = to_unit(pixels)
    assert unit.dtype == torch.float32 and unit[0] == -1 and unit[255] == 1
    assert torch.equal(to_pixels(unit), pixels)


def test_to_pixels_rounds_and_clamps():
    step = 2 / 255
    unit = torch.tensor([-1 + 0.6 * step, -1 + 0.4 * step, -3.0, 3.0])
    assert to_pixels(unit).tolist() == [1, 0, 0, 255]  # truncation would give 0 for the first


def test_conversions_refuse_the_other_type():
    with pytest.raises(TypeError, match="uint8"):
        to_unit(torch.zeros(2))
    with pytest.raises(TypeError, match="floats"):
        to_pixels(torch.zeros(2, dtype=torch.uint8))


def test_the_digest_knows_pixels_labels_and_shape_but_no_names():
    one = images()
    assert len(content_digest(one)) == 64
    assert content_digest(one) == content_digest(images(names=("a", "b")))
    changed = images()
    changed.pixels[2, 0, 1, 1] += 1
    others = [changed, images(labels=(0, 1, 1, 1)), images(labels=None, names=())]
    others.append(Images(one.pixels.reshape(4, 1, 2, 8), one.labels, one.class_names, "set"))
    assert len({content_digest(one), *map(content_digest, others)}) == 5


def test_describe_says_everything_in_a_line():
    assert describe_images(images()) == "set: 4 images, 4 x 4 grey, 2 classes (hat, sock)"
    assert describe_images(images(2, 3, None, ())) == "set: 2 images, 4 x 4 RGB, no labels"


@pytest.mark.parametrize(
    ("pixels", "labels", "names", "message"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), [0, 0], ("a",), "float32"),
        (np.zeros((2, 4, 4), np.uint8), [0, 0], ("a",), "N, C, H, W"),
        (np.zeros((2, 4, 4, 4), np.uint8), [0, 0], ("a",), "4 channels"),
        (np.zeros((0, 1, 4, 4), np.uint8), None, (), "no images"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, 0, 0], ("a",), "2 images but 3 labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, 1], ("a",), "label 1 is out of range for 1 class;"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0, -1], ("a",), "label -1 is"),
        (np.zeros((2, 1, 4, 4), np.uint8), None, ("a",), "no labels"),
    ],
)
def test_an_impossible_set_is_refused(pixels, labels, names, message):
    with pytest.raises(ModisteError, match=message):
        Images(pixels, None if labels is None else np.array(labels, np.int64), names, "set")


def test_select_keeps_labels_beside_their_images():
    chosen = images().select(np.array([3, 0]), "two")
    assert chosen.name == "two" and chosen.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(chosen.pixels, images().pixels[[3, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_antialiased_and_keeps_flat_images_flat(channels):
    checks = np.indices((8, 8)).sum(0) % 2 * 254  # single-pixel checks vanish into their mean
    pixels = np.stack([np.full((channels, 8, 8), 77), np.broadcast_to(checks, (channels, 8, 8))])
    small = resized(pixels.astype(np.uint8), 4, "box")
    assert small.shape == (2, channels, 4, 4) and small.dtype == np.uint8
    assert (small[0] == 77).all() and (small[1] == 127).all()


def test_importing_data_loads_neither_torch_nor_matplotlib():
    code = "import modiste.data.sets, sys; print({'torch', 'matplotlib', 'requests', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
