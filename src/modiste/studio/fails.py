"""Where a generator fails: worst classes, real images that it comes nowhere near, and what the judge takes for what.

Every number stands beside that of other real images, as many of them, which go through the same functions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modiste.data.images import Images
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import audit, class_matching, references
from modiste.evaluation.sources import Origin
from modiste.metrics import features, functional, manifold, metric_names
from modiste.metrics.features import Extractor, Features
from modiste.metrics.nearest_neighbours import Labels, nearest
from modiste.sampling.generators import TrainedGenerator, seed_noise
from modiste.studio import jobs, library, wall
from modiste.studio.jobs import Tell, Working
from modiste.studio.neighbours import check_at_hand
from modiste.studio.queries import entry_of, numbers
from modiste.wording import quoted

COUNT = 1_000
"""Generated images, and real ones beside them: enough to see what fails, in seconds."""
AT_ONCE = 256
"""Images for which the thread of the networks is not let go."""
LEAST_SURE = 8
FARTHEST = 24
"""Real images that are shown, of all and of each class."""


@dataclass(frozen=True)
class Seen:
    """Images as the judge sees them."""

    images: Images
    features: Features

    @property
    def labels(self) -> Labels | None:
        """The class of each in the reference's numbering: asked for, or of a real image."""
        return self.images.labels

    @property
    def predicted(self) -> Labels | None:
        """The class that the judge sees; None where no judge knows the classes."""
        return None if self.features.logits is None else audit.verdicts(self.features)


@dataclass(frozen=True)
class Found:
    """What was made and measured, kept for its pictures."""

    judge: Extractor
    reference: Seen
    generated: Seen
    """Of the seeds 0, 1, ..."""
    other: Seen
    """Real images that are not in the reference."""
    new_to_judge: int
    """So many of the first of these; the judge learned from the rest, if there is one."""


@dataclass(frozen=True)
class ClassFacts:
    """What was measured of a class; None where it has too few images."""

    agreement: float | None
    """The share of its images in which the judge sees it."""
    frechet: float | None
    recall: float | None
    """The share of its real images that the others come near."""


def examine(entry: library.Entry, generator: TrainedGenerator, tell: Tell) -> Found:
    """Generated and real images as the judge sees them; a sentence as a ModisteError where these are not at hand."""
    tell("reading the data set")
    check_at_hand(entry)
    run, open_part = entry.run, references.opener()
    dataset, _ = references.dataset_of(Origin("run", run.path, run.name, run), None)
    part, _ = references.part_of(dataset, None)
    real = open_part(dataset, part)
    judge = features.primary_extractor(dataset)
    tell(f"features of {len(real):,} real images, kept for the next time")
    reference = Seen(real, features.extract(judge, real, cached=True))
    held, new = references.baseline_images(dataset, part, COUNT, open_part)
    other = Seen(held, features.extract(judge, held, cached=True))
    tell(f"making {COUNT:,} images")
    made = make_images(generator, real)
    tell(f"features of {COUNT:,} generated images")
    return Found(judge, reference, Seen(made, features.extract(judge, made)), other, new)


def make_images(generator: TrainedGenerator, real: Images) -> Images:
    """The images of the first seeds, each class as often as among the real ones, with labels in their numbering."""
    seeds = range(COUNT)
    labels = generator.labels(None, seeds, class_matching.counts_of(generator.class_names, real))
    noise = seed_noise(seeds, generator.z_dim)
    parts = [slice(start, start + AT_ONCE) for start in range(0, COUNT, AT_ONCE)]
    pixels = [wall.draw(generator, noise[part], None if labels is None else labels[part]) for part in parts]
    made = Images(np.concatenate(pixels), labels, generator.class_names if labels is not None else (), generator.source)
    return class_matching.match_labels(made, real.class_names)[0]


def by_class(reference: Seen, seen: Seen, outside: NDArray[np.bool_]) -> list[ClassFacts]:
    """The facts of each class; images without labels count as the class that the judge sees."""
    real, labels, predicted = reference.features.vectors, reference.labels, seen.predicted
    assert labels is not None and predicted is not None
    classes = len(reference.images.class_names)
    groups = predicted if seen.labels is None else seen.labels
    agreement = audit.verdict_scores(predicted, seen.labels, classes).get(audit.AGREEMENT, [None] * classes)
    try:
        distances = functional.class_frechet(real, labels, seen.features.vectors, groups, classes=classes).details
    except ModisteError:  # no class has two images
        distances = {"per_class": [None] * classes}
    recall = [1 - float(outside[labels == k].mean()) if (labels == k).any() else None for k in range(classes)]
    return [
        ClassFacts(None if score is None else score.value, distance, share)
        for score, distance, share in zip(agreement, distances["per_class"], recall, strict=True)
    ]


def confusion(seen: Seen, classes: int) -> list[list[int]] | None:
    """How many images of each class (rows) the judge takes for each class (columns); None without labels or judge."""
    if seen.labels is None or seen.predicted is None:
        return None
    pairs = np.bincount(seen.labels * classes + seen.predicted, minlength=classes**2)
    table: list[list[int]] = pairs.reshape(classes, classes).tolist()
    return table


def describe(found: Found) -> dict[str, Any]:
    """All that the page shows, as JSON."""
    reference, made, other = found.reference, found.generated, found.other
    vectors = reference.features.vectors
    outside = manifold.uncovered(vectors, made.features.vectors)
    outside_others = manifold.uncovered(vectors, other.features.vectors)
    names = reference.images.class_names
    facts: dict[str, Any] = {
        "features_of": metric_names.whose(found.judge.name),
        "count": len(made.images),
        "other_count": len(other.images),
        "other_known": 0 if other.predicted is None else len(other.images) - found.new_to_judge,
        "reference": {"name": reference.images.name, "count": len(reference.images)},
        "recall": 1 - float(outside.mean()),
        "other_recall": 1 - float(outside_others.mean()),
        "uncovered": farthest(found, np.flatnonzero(outside)),
        "names": names,
        "classes": None,
    }
    if reference.labels is None or reference.features.logits is None:
        reason = "has no labels" if reference.labels is None else "has no judge; `modiste judge train` makes one"
        return {**facts, "no_classes": f"{reference.images.name} {reason}"}
    rows = zip(by_class(reference, made, outside), by_class(reference, other, outside_others), strict=True)
    sides = {"generated": made, "other": other}
    return {
        **facts,
        "classes": [
            {**asdict(one), "other": asdict(real), "least_sure": least_sure(made, k)}
            for k, (one, real) in enumerate(rows)
        ],
        "confusion": {side: confusion(seen, len(names)) for side, seen in sides.items()},
        "labels": {side: None if seen.labels is None else seen.labels.tolist() for side, seen in sides.items()},
        "predicted": {
            side: None if seen.predicted is None else seen.predicted.tolist() for side, seen in sides.items()
        },
    }


def farthest(found: Found, rows: Labels) -> list[dict[str, Any]]:
    """Of these rows of the reference the farthest from every generated image, of all and of each class, with those."""
    if not len(rows):
        return []
    labels = found.reference.labels
    near = nearest(found.reference.features.vectors[rows], found.generated.features.vectors)
    order = np.argsort(-near.distances[:, 0], kind="stable")
    groups = np.zeros(len(rows), np.int64) if labels is None else labels[rows]
    chosen = {int(k) for group in np.unique(groups) for k in order[groups[order] == group][:FARTHEST]}
    return [
        {
            "row": int(rows[k]),
            "label": None if labels is None else int(labels[rows[k]]),
            "distance": float(near.distances[k, 0]),
            "nearest": int(near.indices[k, 0]),
        }
        for k in order
        if k in chosen
    ]


def least_sure(seen: Seen, label: int) -> list[dict[str, Any]]:
    """The images of a class in which the judge sees it least, with what it sees instead."""
    predicted, logits = seen.predicted, seen.features.logits
    assert predicted is not None and logits is not None
    members = np.flatnonzero((predicted if seen.labels is None else seen.labels) == label)
    chance = softmax(logits[members].astype(np.float64), axis=1)[:, label]
    order = np.argsort(chance, kind="stable")[:LEAST_SURE]
    return [{"row": int(members[k]), "seen": int(predicted[members[k]]), "chance": float(chance[k])} for k in order]


def found_of(request: Request) -> tuple[Found, dict[str, Any]] | Working:
    """What was found of the run, once it is there."""
    entry, checkpoint = entry_of(request), request.query_params.get("checkpoint", "last")
    generator = library.load(entry, checkpoint)

    def work(tell: Tell) -> tuple[Found, dict[str, Any]]:
        found = examine(entry, generator, tell)
        tell("measuring")
        return found, describe(found)

    return jobs.ask(("fails", entry.run.path, checkpoint, library.changed_at(entry, checkpoint)), work)


def fails(request: Request) -> Response:
    """Where the run fails, or what is being done to find out."""
    answer = found_of(request)
    return JSONResponse({"working": answer.step} if isinstance(answer, Working) else answer[1])


def picture(request: Request) -> Response:
    """Images side by side: of the reference, other real ones, or generated ones by their seeds."""
    answer = found_of(request)
    if isinstance(answer, Working):
        raise UsageError("these images are still being examined; ask again")
    found = answer[0]
    sets = {"reference": found.reference, "other": found.other, "generated": found.generated}
    side = request.query_params.get("of", "")
    if side not in sets:
        raise UsageError(f"{quoted(side)} is no set of images here; take {', '.join(sets)}")
    images = sets[side].images
    rows = numbers(request, "rows", 0, len(images) - 1)
    if len(rows) > wall.MOST_IMAGES:
        raise UsageError(f"{len(rows)} images are too many; ask for at most {wall.MOST_IMAGES}")
    pixels = images.pixels[rows]
    encode = wall.png_of if side == "generated" else wall.encoded
    return Response(encode(pixels, len(rows)), media_type="image/png")


ROUTES = [
    Route("/api/runs/{id}/fails", fails),
    Route("/api/runs/{id}/fails.png", picture),
]
