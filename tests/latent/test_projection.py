"""A generator's own images are found again; codes depend on the image alone; missing pixels do not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modiste.errors import UsageError
from modiste.latent import projection
from modiste.metrics import features
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator, generate


def test_a_sample_is_found_again_with_its_class(painter: TrainedGenerator) -> None:
    images = painter.sample_set(9)
    found = projection.project(painter, images.pixels)
    other = projection.pixel_error(images.pixels, np.roll(images.pixels, 1, 0))
    assert found.labels is not None and images.labels is not None
    assert found.labels.tolist() == images.labels.tolist()
    assert found.errors.max() < 3 and other.min() > 30
    assert found.lengths.min() > 0.3 and found.lengths.max() < 2
    redrawn = generate(painter.network, torch.from_numpy(found.noise), found.labels)
    assert np.array_equal(redrawn, found.reconstructions)


def test_a_given_class_is_kept(painter: TrainedGenerator) -> None:
    images = painter.sample_set(6)
    wrong = np.full(6, 2)
    found = projection.project(painter, images.pixels, wrong, steps=30)
    assert found.labels is not None and found.labels.tolist() == [2] * 6
    right = images.labels == 2
    assert found.errors[right].max() < found.errors[~right].min()


def test_a_generator_without_classes(classless: TrainedGenerator) -> None:
    found = projection.project(classless, classless.sample(3))
    assert found.labels is None and found.errors.max() < 3


def test_the_code_of_an_image_does_not_depend_on_its_company(painter: TrainedGenerator) -> None:
    images = painter.sample(70)
    extractor = features.random_network(ImageShape(1, 16))
    together = projection.project(painter, images, steps=10, extractor=extractor)
    alone = projection.project(painter, images[66:67], steps=10, extractor=extractor)
    assert np.array_equal(together.noise[66:67], alone.noise)


def test_features_change_the_code(painter: TrainedGenerator) -> None:
    image = 255 - painter.sample(1)
    plain = projection.project(painter, image, steps=20)
    with_features = projection.project(painter, image, steps=20, extractor=features.random_network(ImageShape(1, 16)))
    assert not np.array_equal(plain.noise, with_features.noise)
    assert plain.errors[0] <= with_features.errors[0] + 0.5


def test_missing_pixels_are_filled_in(painter: TrainedGenerator) -> None:
    image = painter.sample(1, label="b")
    missing = np.zeros((16, 16), bool)
    missing[:, 8:] = True
    damaged = image.copy()
    damaged[:, :, missing] = 255
    found = projection.project(painter, damaged, missing=missing, steps=200)
    assert found.labels is not None and found.labels.tolist() == [1]
    assert projection.pixel_error(image, found.reconstructions)[0] < 5
    assert found.errors[0] < 5  # of the known pixels
    assert projection.pixel_error(damaged, found.reconstructions)[0] > 50


def test_progress_is_told(painter: TrainedGenerator) -> None:
    told: list[tuple[int, int]] = []
    projection.project(painter, painter.sample(65), steps=1, report=lambda *both: told.append(both))
    assert told == [(64, 65), (65, 65)]


def test_no_step_takes_the_best_start(painter: TrainedGenerator) -> None:
    bank = painter.sample(seeds=[projection.BANK_SEEDS + 5], label=1)
    assert projection.project(painter, bank, steps=0).errors.tolist() == [0]


def test_unfit_images_are_refused(painter: TrainedGenerator, classless: TrainedGenerator) -> None:
    images = painter.sample(2)
    with pytest.raises(UsageError, match="8 x 16 with 1 channels, and painter makes 16 x 16"):
        projection.project(painter, images[:, :, :, :8])
    with pytest.raises(UsageError, match="from 0 to 2 for each of the 2"):
        projection.project(painter, images, np.array([0, 3]))
    with pytest.raises(UsageError, match="without labels"):
        projection.project(classless, images, np.array([0, 0]))
    for mask in (np.ones((16, 16), bool), np.zeros((8, 8), bool)):
        with pytest.raises(UsageError, match="mask"):
            projection.project(painter, images, missing=mask)


def test_the_code_of_what_cannot_be_made_stays_plausible(painter: TrainedGenerator) -> None:
    impossible = np.random.default_rng(0).integers(0, 2, (4, 1, 16, 16)).astype(np.uint8) * 255
    found = projection.project(painter, impossible, steps=60)
    assert found.errors.min() > 80
    assert found.lengths.min() > 0.5 and found.lengths.max() < 1.8  # 0.6 to 1.4 for 19 of 20 random ones
