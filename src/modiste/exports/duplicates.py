"""Near-duplicates of training images among generated ones: found by distance, replaced by images of further seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modiste import runs
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError
from modiste.metrics import memorisation, suite
from modiste.metrics.nearest_neighbours import nearest_pixels
from modiste.networks.layers import ImageShape
from modiste.sampling import generators

BLOCK = 64 * generators.CHUNK
MOST_GENERATED = 4
"""Times as many images as asked for are generated at most, to replace near-duplicates."""

Log = Callable[[str], None]
Generate = Callable[..., Images]


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a generator, and the distance up to which an image is a near-duplicate of one."""

    rows: NDArray[np.uint8]
    """Their pixels [M, D] at the generator's shape."""
    shape: ImageShape
    threshold: float
    """Euclidean, over all pixels."""
    heldout: str
    """The unseen real images that the threshold comes from; empty where there are none: it is 0 then."""
    heldout_count: int
    unseen_share: float
    """The share of these that lie as near: 0.01 of many."""


@dataclass(frozen=True)
class DuplicateSearch:
    """The result of a search for near-duplicates of training images."""

    training: TrainingImages | None
    reason: str = ""
    """Why there was no search; empty where there was one."""
    generated: int = 0
    removed: tuple[int, ...] = ()
    """Seeds of the images that were replaced."""
    exact: int = 0
    """How many of these were equal to a training image."""


class GeneratedSet(NamedTuple):
    """Images without near-duplicates of training images."""

    images: Images
    seeds: list[int]
    """Of the images."""
    search: DuplicateSearch


def open_training_images(run: runs.Run, shape: ImageShape, log: Log) -> tuple[TrainingImages | None, str]:
    """The training images of a run as they were when it was trained; or None and the reason why not."""
    data = run.read_recipe().data
    try:
        train = open_data(data)
        part: Part | None = "test" if has_test(data) else "heldout" if data.split == "fit" else None
        unseen = open_data(data, part=part) if part else None
    except ModisteError as error:
        log(f"near-duplicates of training images are not searched for: {error}")
        return None, "the training images could not be opened when the set was made"
    if content_digest(train) != run.read_manifest().data.digest:
        log(f"near-duplicates of training images are not searched for: {train.name} holds other images now")
        return None, "the training images had been changed or replaced when the set was made"
    rows = suite.flat(train, shape)
    if unseen is None:
        return TrainingImages(rows, shape, 0.0, "", 0, 0.0), ""
    log(f"distances from {unseen.name} to {train.name}")
    distances = suite.unseen_to_train(train, unseen, shape)
    threshold = memorisation.near_threshold(distances)
    share = float((np.asarray(distances) <= threshold).mean())
    return TrainingImages(rows, shape, threshold, unseen.name, len(unseen), share), ""


def generate_without_duplicates(
    generate: Generate, seeds: Sequence[int], period: int, training: TrainingImages | None, source: str, log: Log
) -> GeneratedSet:
    """The images of these seeds, near-duplicates replaced.

    Without training images nothing is replaced. A replacement has the first unused seed that is equal modulo `period`,
    the number of classes where these take turns. ModisteError when more than MOST_GENERATED times as many images would
    have to be generated.
    """
    next_seeds = [len(seeds) + (k - len(seeds)) % period for k in range(period)]
    parts: list[Images] = []
    kept: list[int] = []
    removed: list[int] = []
    exact, pending = 0, list(seeds)
    while pending:
        if len(kept) + len(removed) + len(pending) > MOST_GENERATED * len(seeds) + 100:
            raise ModisteError(
                f"{source} copies: {len(removed):,} of its {len(kept) + len(removed):,} images are near-duplicates of "
                f"training images, so {len(seeds):,} others are not to be had; keep them with --keep-duplicates, or "
                "train a generator that copies less"
            )
        images, distances = _with_distances(generate, pending, training, log)
        near = distances <= (training.threshold if training else -1.0)
        if not near.all():
            parts.append(images.select(~near))
        exact += int((distances == 0).sum())
        kept += [seed for seed, is_near in zip(pending, near, strict=True) if not is_near]
        replaced = [seed for seed, is_near in zip(pending, near, strict=True) if is_near]
        removed, pending = removed + replaced, []
        for seed in replaced:
            pending.append(next_seeds[seed % period])
            next_seeds[seed % period] += period
    images = _concatenate(parts)
    search = DuplicateSearch(training, "", len(kept) + len(removed), tuple(sorted(removed)), exact)
    if not removed:
        return GeneratedSet(images, kept, search)
    order = np.argsort(kept)
    return GeneratedSet(images.select(order), [kept[k] for k in order], search)


def _with_distances(
    generate: Generate, seeds: Sequence[int], training: TrainingImages | None, log: Log
) -> tuple[Images, NDArray[np.float64]]:
    """Images of these seeds with their distances [N] to the nearest training image, infinite where none are known."""
    parts, distances = [], []
    for start in range(0, len(seeds), BLOCK):
        images = generate(seeds=seeds[start : start + BLOCK])
        parts.append(images)
        distances.append(
            nearest_pixels(suite.flat(images, training.shape), training.rows).distances[:, 0]
            if training
            else np.full(len(images), np.inf)
        )
        if len(seeds) > BLOCK:
            compared = " and compared with the training images" if training else ""
            log(f"{start + len(images):,} of {len(seeds):,} images generated{compared}")
    return _concatenate(parts), np.concatenate(distances)


def _concatenate(parts: Sequence[Images]) -> Images:
    labels = [part.labels for part in parts if part.labels is not None]
    pixels = np.concatenate([part.pixels for part in parts])
    return replace(parts[0], pixels=pixels, labels=np.concatenate(labels) if labels else None)
