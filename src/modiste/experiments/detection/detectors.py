"""Detectors of strange images: each learns from training images and gives any image a score, higher for odder ones.

Each also has a counterpart of an image, the nearest thing that it knows, which shows where the image is strange.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste import progress
from modiste.data.images import Images, Pixels
from modiste.data.subsets import drawn_subset
from modiste.errors import UsageError
from modiste.experiments import discriminator_features
from modiste.latent import projection
from modiste.metrics import features
from modiste.metrics.features import Extractor
from modiste.metrics.nearest_neighbours import nearest
from modiste.sampling.discriminators import TrainedDiscriminator
from modiste.sampling.generators import TrainedGenerator
from modiste.wording import counted

Vector = NDArray[np.float64]
Matrix = NDArray[Any]
MOST_LEARNED = 10_000
"""Training images that detectors learn from; of more, so many drawn."""
NEIGHBOURS = 5
"""The score is the distance to the fifth nearest training image, which no single odd one decides."""
COMPONENTS = 64
STEPS, STARTS = 40, 2
"""Of the search for the noise behind an image: fewer than `modiste project` takes, as many images are measured."""


@dataclass(frozen=True)
class Material:
    """What detectors learn from."""

    training: Images
    """Images that the run was trained on."""
    generator: TrainedGenerator
    discriminator: TrainedDiscriminator | None
    """None where only the generator was kept."""
    extractor: Extractor
    """The judge of the data set, or the random network where there is none."""
    steps: int = STEPS


@dataclass(frozen=True)
class Fitted:
    """A detector that has learned."""

    score: Callable[[Pixels], Vector]
    """Scores [N], higher for odder ones, of pixels uint8 [N, C, H, W]; each depends on its own image alone."""
    counterpart: Callable[[Pixels], Pixels] | None
    """Of each image the nearest thing that the detector knows: a reconstruction, or a training image."""


@dataclass(frozen=True)
class Detector:
    """A kind of detector."""

    name: str
    about: str
    """What its score is."""
    fit: Callable[[Material], Fitted]
    sees_classes: bool = False
    """Whether its features come from a judge, which has learned the labels of the complete data set."""
    default: bool = True
    counterpart: str = "nearest\ntraining image"
    """What its counterpart of an image is."""
    is_synthetic: bool = False
    """Whether that is a generated image."""


def _reconstruction(material: Material) -> Fitted:
    def project(pixels: Pixels) -> projection.Codes:
        with progress.stage(f"looking for {counted(len(pixels))} in {material.generator.source}"):
            return projection.project(material.generator, pixels, steps=material.steps, starts=STARTS)

    return Fitted(lambda pixels: project(pixels).errors, lambda pixels: project(pixels).reconstructions)


def _discriminator(material: Material) -> Fitted:
    if material.discriminator is None:
        raise UsageError(
            f"{material.generator.source} was kept without its discriminator; use the run folder that it was trained "
            "in, or other detectors (--detector)"
        )
    extractor = discriminator_features.extractor_of(material.discriminator)
    known = extractor.examine(material.training.pixels).vectors
    deviations = np.maximum(known.std(0), 1e-3 * known.std() + 1e-12)  # else the layer of the largest numbers decides
    return _neighbours(material, lambda pixels: _unit(extractor.examine(pixels).vectors / deviations),
                       _unit(known / deviations))  # fmt: skip


def _judge(material: Material) -> Fitted:
    known = features.extract(material.extractor, material.training, cached=True).vectors

    def vectors_of(pixels: Pixels) -> Matrix:
        return _unit(features.extract(material.extractor, Images(pixels, None, (), "images")).vectors)

    return _neighbours(material, vectors_of, _unit(known))


def _pixels(material: Material) -> Fitted:
    return _neighbours(material, _rows, _rows(material.training.pixels))


def _cosine(material: Material) -> Fitted:
    return _neighbours(material, lambda pixels: _unit(_rows(pixels)), _unit(_rows(material.training.pixels)))


def _neighbours(material: Material, vectors_of: Callable[[Pixels], Matrix], known: Matrix) -> Fitted:
    """By the distance to the fifth nearest training image (Ramaswamy et al. 2000)."""
    count = min(NEIGHBOURS, len(known))

    def score(pixels: Pixels) -> Vector:
        return nearest(vectors_of(pixels), known, count).distances[:, -1]

    def counterpart(pixels: Pixels) -> Pixels:
        return material.training.pixels[nearest(vectors_of(pixels), known).indices[:, 0]]

    return Fitted(score, counterpart)


def _unit(vectors: Matrix) -> NDArray[np.float32]:
    """Vectors brought to length 1 (Sun et al. 2022, section 3); those of zeros stay so."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _components(material: Material) -> Fitted:
    mean, basis = principal_components(_rows(material.training.pixels), COMPONENTS)

    def rebuilt(pixels: Pixels) -> Matrix:
        centred = _rows(pixels) - mean
        return np.asarray(centred @ basis.T @ basis + mean)

    def score(pixels: Pixels) -> Vector:
        return np.asarray(np.sqrt(((_rows(pixels) - rebuilt(pixels)) ** 2).mean(1)))

    def counterpart(pixels: Pixels) -> Pixels:
        return rebuilt(pixels).round().clip(0, 255).astype(np.uint8).reshape(pixels.shape)

    return Fitted(score, counterpart)


def principal_components(rows: Matrix, count: int) -> tuple[Vector, Matrix]:
    """The mean [D] of rows [N, D] and the at most `count` orthonormal directions [K, D] of their greatest variance."""
    mean = rows.mean(0, dtype=np.float64)
    centred = rows - mean
    narrow = centred.shape[1] <= len(centred)
    variances, vectors = np.linalg.eigh(centred.T @ centred if narrow else centred @ centred.T)
    kept = np.flatnonzero(variances > 1e-10 * max(variances[-1], 1e-300))[::-1][:count]
    chosen = vectors[:, kept].T
    return mean, chosen if narrow else chosen @ centred / np.sqrt(variances[kept])[:, None]


def _forest(material: Material) -> Fitted:
    try:
        from sklearn.ensemble import IsolationForest
    except ImportError:
        raise UsageError(
            "the isolation forest needs scikit-learn; run pip install 'modiste[report]', or leave `forest` out"
        ) from None
    forest = IsolationForest(random_state=0).fit(_rows(material.training.pixels))
    return Fitted(lambda pixels: -forest.score_samples(_rows(pixels)), None)


def _rows(pixels: Pixels) -> NDArray[np.uint8]:
    return pixels.reshape(len(pixels), -1)


DETECTORS = {
    detector.name: detector
    for detector in (
        Detector(
            "reconstruction",
            "pixels that the generator cannot make",
            _reconstruction,
            counterpart="generated\nas alike",
            is_synthetic=True,
        ),
        Detector("discriminator", "distance to training images in the discriminator's features", _discriminator),
        Detector("judge", "distance to training images in the judge's features", _judge, sees_classes=True),
        Detector("neighbours", "distance to training images in pixels", _pixels),
        Detector(
            "components",
            f"pixels that {COMPONENTS} principal components cannot make",
            _components,
            counterpart="made of\ncomponents",
        ),
        Detector("cosine", "angle to training images in pixels", _cosine, default=False),
        Detector("forest", "an isolation forest on pixels (scikit-learn)", _forest, default=False),
    )
}


def chosen(names: Sequence[str], has_discriminator: bool) -> list[Detector]:
    """The detectors of these names, or all usual ones that the run allows; UsageError for another name."""
    for name in names:
        if name not in DETECTORS:
            raise UsageError(f"--detector {name!r} is not known; choose among {', '.join(DETECTORS)}")
    if names:
        return [DETECTORS[name] for name in dict.fromkeys(names)]
    return [one for one in DETECTORS.values() if one.default and (has_discriminator or one.name != "discriminator")]


def learned_images(images: Images) -> Images:
    """The images that detectors learn from: all, or of very many so many drawn."""
    return images.select(drawn_subset(len(images), images.labels, MOST_LEARNED, seed=0))
