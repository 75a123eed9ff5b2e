"""Detectors: against scikit-learn, what a useless and a perfect one say, and what each knows that is nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from modiste.config import Network
from modiste.data import toy
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.experiments.detection import areas, detectors
from modiste.experiments.detection.detectors import DETECTORS, Material
from modiste.metrics import features
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.sampling.discriminators import TrainedDiscriminator
from modiste.sampling.generators import TrainedGenerator

SHAPE = ImageShape(1, 16, 0)


@pytest.fixture(scope="module")
def material() -> Material:
    """200 drawn garments, and networks with weights by chance."""
    network = Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        generator = TrainedGenerator(build_generator(network, SHAPE).eval(), SHAPE, (), "a run")
        judge_of_real = TrainedDiscriminator(build_discriminator(network, SHAPE).eval(), network, SHAPE, (), "a run")
    return Material(toy.draw(200, 16, 0), generator, judge_of_real, features.random_network(SHAPE), steps=2)


@pytest.fixture(scope="module")
def test_images() -> Images:
    return toy.draw(60, 16, 1)


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 16, 16), np.uint8)


@pytest.mark.parametrize("name", ["neighbours", "cosine"])
def test_neighbours_are_scikit_learns(name: str, material: Material, test_images: Images) -> None:
    rows, known = (images.pixels.reshape(len(images), -1).astype(float) for images in (test_images, material.training))
    if name == "cosine":
        rows, known = normalize(rows), normalize(known)
    distances, nearest = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(known).kneighbors(rows)
    fitted = DETECTORS[name].fit(material)
    np.testing.assert_allclose(fitted.score(test_images.pixels), distances[:, -1], rtol=1e-4)
    assert fitted.counterpart is not None
    np.testing.assert_array_equal(fitted.counterpart(test_images.pixels), material.training.pixels[nearest[:, 0]])


@pytest.mark.parametrize("count", [200, 40])  # 40 images have fewer directions than 64
def test_components_are_scikit_learns(material: Material, test_images: Images, count: int) -> None:
    training = material.training.select(slice(count))
    rows, known = (images.pixels.reshape(len(images), -1).astype(float) for images in (test_images, training))
    pca = PCA(min(detectors.COMPONENTS, count - 1), svd_solver="full").fit(known)
    rebuilt = pca.inverse_transform(pca.transform(rows))
    fitted = DETECTORS["components"].fit(Material(training, material.generator, None, material.extractor))
    expected = np.sqrt(((rows - rebuilt) ** 2).mean(1))
    np.testing.assert_allclose(fitted.score(test_images.pixels), expected, rtol=1e-6)
    assert fitted.counterpart is not None
    shown = fitted.counterpart(test_images.pixels).reshape(len(rows), -1)
    np.testing.assert_array_equal(shown, rebuilt.round().clip(0, 255))


def test_the_forest_is_scikit_learns(material: Material, test_images: Images) -> None:
    rows, known = (images.pixels.reshape(len(images), -1) for images in (test_images, material.training))
    forest = IsolationForest(random_state=0).fit(known)
    fitted = DETECTORS["forest"].fit(material)
    np.testing.assert_array_equal(fitted.score(test_images.pixels), -forest.score_samples(rows))
    assert fitted.counterpart is None


@pytest.mark.parametrize("name", list(DETECTORS))
def test_noise_is_strange_and_garments_are_not(name: str, material: Material, test_images: Images) -> None:
    fitted = DETECTORS[name].fit(material)
    strange, normal = fitted.score(noise(20)), fitted.score(test_images.pixels)
    if name == "reconstruction":  # whose generator has learned nothing: all that counts is that it runs
        assert strange.shape == (20,) and np.isfinite(strange).all()
    else:
        assert areas.area(areas.placements(strange, normal)).value > 0.95
    if fitted.counterpart is not None:
        shown = fitted.counterpart(noise(3))
        assert shown.shape == (3, 1, 16, 16) and shown.dtype == np.uint8


def test_what_the_generator_makes_is_less_strange_to_it_than_noise(material: Material) -> None:
    fitted = DETECTORS["reconstruction"].fit(material)
    own = material.generator.sample(8, seeds=range(100, 108))
    assert fitted.score(own).max() < fitted.score(noise(8)).min()


def test_a_score_depends_on_its_image_alone(material: Material, test_images: Images) -> None:
    for detector in DETECTORS.values():
        fitted = detector.fit(material)
        np.testing.assert_allclose(
            fitted.score(test_images.pixels[-3:]), fitted.score(test_images.pixels)[-3:], rtol=1e-4
        )


def test_the_usual_detectors_and_others_by_name(tmp_path: Path) -> None:
    usual = [one.name for one in detectors.chosen((), has_discriminator=True)]
    assert usual == ["reconstruction", "discriminator", "judge", "neighbours", "components"]
    assert "discriminator" not in [one.name for one in detectors.chosen((), has_discriminator=False)]
    assert [one.name for one in detectors.chosen(("forest", "forest"), False)] == ["forest"]
    with pytest.raises(UsageError, match="--detector 'svm' is not known; choose among reconstruction, discriminator,"):
        detectors.chosen(("svm",), True)


def test_a_black_image_has_a_score(material: Material) -> None:
    black = np.zeros((1, 1, 16, 16), np.uint8)
    for name in ("neighbours", "cosine", "components", "judge", "discriminator"):
        assert np.isfinite(DETECTORS[name].fit(material).score(black)).all()


def test_a_run_kept_without_its_discriminator(material: Material) -> None:
    alone = Material(material.training, material.generator, None, material.extractor)
    with pytest.raises(UsageError, match="a run was kept without its discriminator; use the run folder"):
        DETECTORS["discriminator"].fit(alone)
