"""The drawn toy set."""

import numpy as np
import pytest

from modiste.config import Data
from modiste.data import toy
from modiste.data.images import content_digest
from modiste.data.sets import CLASS_NAMES, open_data
from modiste.errors import UsageError


def test_an_image_depends_on_its_seed_and_index_alone():
    few, more = toy.draw(15), toy.draw(30)
    assert content_digest(few) == content_digest(more.select(slice(15)))
    assert content_digest(few) != content_digest(toy.draw(15, seed=1))
    assert more.labels.tolist() == [i % 10 for i in range(30)] and more.class_names == CLASS_NAMES


def test_no_two_images_are_alike():
    images = toy.draw(200)
    assert len({image.tobytes() for image in images.pixels}) == 200


def test_garments_lie_on_black_and_use_the_range_of_greys():
    images = toy.draw(100)
    assert images.pixels[:, 0, 0].max() == 0  # the top row
    assert images.pixels[:, 0, -1, [0, -1]].max() == 0  # the lower corners
    coverage = (images.pixels > 40).mean(axis=(1, 2, 3))
    assert coverage.min() > 0.05 and coverage.max() < 0.75
    assert images.pixels.max() > 230


def test_classes_can_be_told_apart_by_their_mean_shape():
    train, test = toy.draw(500), toy.draw(200, seed=1)
    means = np.stack([(train.pixels[train.labels == k] > 40).mean(axis=0) for k in range(10)])
    distance = (((test.pixels > 40)[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == test.labels).mean() > 0.75


def test_parts_of_the_toy_set():
    train = open_data(Data(name="toy", count=40))
    assert train.name == "toy train first-40" and train.pixels.shape == (40, 1, 28, 28)
    test = open_data(Data(name="toy-16", count=40), part="test")
    assert test.pixels.shape == (2000, 1, 16, 16)  # data.count is about training
    assert not {i.tobytes() for i in train.pixels} & {i.tobytes() for i in toy.draw(40, 28, seed=1).pixels}


@pytest.mark.parametrize(("name", "said"), [("toy-x", "no data set is named .toy-x"), ("toy-4", "is no toy set")])
def test_a_toy_of_no_size_is_refused(name, said):
    with pytest.raises(UsageError, match=said):
        open_data(Data(name=name))
