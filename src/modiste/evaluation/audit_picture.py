"""The picture of an audit: the least convincing images of each class, and those nearest to training images."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from modiste.data.images import Images
from modiste.evaluation.audit import PAIRS, Audit, Nearness, verdicts
from modiste.metrics import features
from modiste.metrics.features import Extractor, Features
from modiste.metrics.nearest_neighbours import nearest
from modiste.metrics.suite import Memory, Reference
from modiste.plotting import figures
from modiste.provenance import metadata

SPACES = {"pixels": "pixels", "features": "judge's features"}
EACH, REAL, MOST_CLASSES = 5, 3, 12
"""Tiles of a kind in a row, real images beside them, and rows of classes."""


def draw(images: Images, name: str, reference: Reference, audited: Audit, generated: bool) -> bytes:
    """The picture of the worst cases (PNG): per class the least convincing images, and those nearest to training ones.

    Images are shown as the judge sees them. Of more than MOST_CLASSES classes, those with the least sure images. If the
    images are known to be `generated`, the picture says that it is synthetic in part.
    """
    sections = [_least_convincing(images, audited.made, reference)]
    if reference.memory is not None:
        rows = []
        for space, near in audited.spaces.items():
            threshold = audited.numbers["memory"][space]["threshold"]
            rows += _pairs(space, near, images, reference.memory, reference.judge, threshold)
        heading = (
            "Images nearest to a training image, each beside it (framed: as near as one in a hundred unseen real ones)"
        )
        sections.append(figures.TileRows(heading, (), rows))
    title = f"Audit of {name}: the worst cases"
    content = figures.encode(figures.tile_rows(title, sections), "png", marked=False)
    if generated:  # beside real ones
        content = metadata.stamp(content, {"Title": title}, metadata.COMPOSITE_TYPE)
    return content


def _least_convincing(images: Images, made: Features, reference: Reference) -> figures.TileRows:
    """Per class the images the judge is least sure of, those farthest from real ones, and real ones to compare with."""
    names, real_labels = reference.images.class_names, reference.images.labels
    real = reference.features[reference.judge.name].vectors
    assert made.logits is not None and real_labels is not None
    predicted, sure = verdicts(made), softmax(made.logits.astype(np.float64), axis=1)
    groups = predicted if images.labels is None else images.labels
    pixels = features.fit_pixels(images.pixels, reference.judge.shape)
    shown = features.fit_pixels(reference.images.pixels, reference.judge.shape)
    rows: list[tuple[float, str, list[list[figures.Tile]]]] = []
    for label, class_name in enumerate(names):
        members, theirs = np.flatnonzero(groups == label), np.flatnonzero(real_labels == label)
        chance = sure[members, label]
        unsure = np.argsort(chance, kind="stable")[:EACH]
        away = nearest(made.vectors[members], real[theirs]).distances[:, 0] if len(members) and len(theirs) else chance
        far = np.argsort(-away, kind="stable")[:EACH]

        def tile(k: int, number: str, label: int = label) -> figures.Tile:
            return figures.Tile(pixels[k], f"{names[predicted[k]]}\n{number}", marked=bool(predicted[k] != label))

        tiles = [
            [tile(members[k], f"{chance[k]:.1%}") for k in unsure],
            [tile(members[k], f"{away[k]:.1f}") for k in far],
            [figures.Tile(shown[k], "real") for k in theirs[:REAL]],
        ]
        rows.append((float(chance[unsure].mean()) if len(unsure) else 0.0, class_name, tiles))
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: row[0])[:MOST_CLASSES]
    asked = images.labels is not None
    group = "asked for (framed: the judge sees another class)" if asked else "that the judge sees"
    return figures.TileRows(
        f"Least convincing images of each class {group}",
        (
            "The judge is least sure: what it sees, and its probability of the class",
            "Farthest from real images of the class: what the judge sees, and the distance",
            "To compare with: the first real images",
        ),
        [(class_name, tiles) for _, class_name, tiles in rows],
    )


def _pairs(
    space: str, near: Nearness, images: Images, memory: Memory, judge: Extractor, threshold: float
) -> list[tuple[str, list[list[figures.Tile]]]]:
    """Two rows of pairs: generated images and their nearest training images, and the same of unseen real images."""
    distances, indices = near.generated.distances[:, 0], near.generated.indices[:, 0]
    closest = np.argsort(distances, kind="stable")[:PAIRS]
    kinds = (
        ("generated", images, closest, distances, indices[closest]),
        ("unseen real", memory.unseen, near.closest_unseen, near.unseen_distances, near.their_nearest),
    )
    rows = []
    for word, from_set, chosen, far, theirs in kinds:
        left = features.fit_pixels(from_set.pixels[chosen], judge.shape)
        right = features.fit_pixels(memory.train.pixels[theirs], judge.shape)
        pairs = [
            [
                figures.Tile(one, f"{word}\n{far[k]:.3g}", marked=bool(far[k] <= threshold)),
                figures.Tile(other, f"training\n{_class_name(memory.train, row)}"),
            ]
            for one, other, k, row in zip(left, right, chosen, theirs, strict=True)
        ]
        rows.append((f"{word},\ndistance in\n{SPACES[space]}", pairs))
    return rows


def _class_name(images: Images, row: int) -> str:
    return "" if images.labels is None else images.class_names[images.labels[row]]
