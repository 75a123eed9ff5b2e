"""Baselines of an evaluation: the suite on real images that are not in the reference, on noise and on the mean image.

Those of published sets under the default protocol ship with the package (`cache.SHIPPED`, `make baselines`); others are
computed once and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modiste import cache
from modiste.data.images import Images, content_digest
from modiste.evaluation import records
from modiste.metrics import standard_errors, suite
from modiste.metrics.functional import Score
from modiste.metrics.metric_names import MetricName
from modiste.metrics.suite import Reference

TRIVIAL = ("noise", "mean_image")

Log = Callable[[str], None]


@dataclass(frozen=True)
class Baselines:
    """Scores of real images and of both kinds of trivial ones, by name."""

    real: dict[MetricName, Score]
    trivial: dict[MetricName, dict[str, Score]]
    """By name and kind."""
    versions: dict[str, str]
    """Of what computed those that ship; empty where none of them does."""


def measure(held: Images, new_to_judge: int, fit: Images, against: Reference, log: Log) -> Baselines:
    """All baselines; `held` and `new_to_judge` are those of `references.baseline_images`, `fit` has the mean image.

    Label agreement of real images is measured on those alone that the judge did not learn from, since it agrees better
    with the labels of images it knows. Their scores of memorisation are those of the unseen images: images of the
    training set would look like copies of themselves.
    """
    versions: dict[str, str] = {}

    def scores(images: Images, reference: Reference, about: str, only: str = "") -> dict[MetricName, Score]:
        key = _key(images, reference, only)
        versions.update(cache.shipped_versions(key) or {})

        def compute() -> dict[str, Any]:
            return suite.as_plain(suite.measure(images, reference, only=only, log=lambda text: log(f"{about}: {text}")))

        return suite.from_plain(cache.cached_json(key, compute, records.versions())).scores

    plain = replace(against, memory=None)  # most scores do not depend on it
    real = scores(held, plain, "real images")
    if len(held) > new_to_judge:
        real = {name: score for name, score in real.items() if name.kind != "label_agreement"}
    if 0 < new_to_judge < len(held):
        new = scores(held.select(slice(new_to_judge)), plain, "real images", "class_scores")
        real |= {name: score for name, score in new.items() if name.kind == "label_agreement"}
    if against.memory is not None:
        real |= scores(against.memory.unseen, against, "unseen real images", "memorisation_scores")
    trivial: dict[MetricName, dict[str, Score]] = {}
    for kind in TRIVIAL:
        images = suite.trivial(kind, against.count, against.images, fit, against.seed)
        found = scores(images, plain, kind)
        if against.memory is not None:
            found |= scores(images, against, kind, "memorisation_scores")
        for name, score in found.items():
            trivial.setdefault(name, {})[kind] = score
    return Baselines(real, trivial, versions)


def _key(images: Images, against: Reference, only: str) -> Mapping[str, Any]:
    memory = against.memory
    return {
        "suite": [2, suite.EDITION],
        "only": only or "all",
        "images": content_digest(images),
        "reference": content_digest(against.images),
        "part": against.part,
        "extractors": [[extractor.name, extractor.fingerprint] for extractor in against.extractors],
        "train": content_digest(memory.train) if memory else None,
        "unseen": content_digest(memory.unseen) if memory else None,
        "count": against.count,
        "seed": against.seed,
        "standard_errors": standard_errors.METHOD,
    }
