"""How nearly a generator can make real images it has not seen: the error of the best code that is found for each.

Pixels alone decide, so that no judge's taste is in the score. A low error of an image shows that the generator can make
it; a high one may also be a search that failed, so the error is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data.sets import open_data
from modiste.data.subsets import first_images
from modiste.errors import UsageError
from modiste.evaluation import class_matching, records
from modiste.evaluation.options import EvaluateOptions, Split
from modiste.evaluation.records import ScoreEntry
from modiste.evaluation.sources import Origin, Source
from modiste.latent import comparison, encoder, pictures, projection
from modiste.metrics import standard_errors
from modiste.metrics.functional import Score
from modiste.metrics.metric_names import MetricName
from modiste.sampling import generators

KIND = "reconstruction_error"
WORST = 12
"""Images in the picture."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Log = Callable[[str], None]


@dataclass(frozen=True)
class Reconstruction:
    """The score, and a picture (PNG) of the real images with the largest errors."""

    entry: ScoreEntry
    drawn: bytes


def check(origin: Origin, reference: Split) -> None:
    """UsageError for what has no noise to search, and for images that the generator has learned from."""
    if origin.kind not in ("run", "checkpoint"):
        raise UsageError(f"--reconstruct needs a generator's weights, and {origin.path} is no run; leave it out")
    if reference == "train":
        raise UsageError("--reconstruct measures on images that the run has not seen; leave out --reference train")


def measure(
    source: Source, origin: Origin, dataset: Data, reference: Split, options: EvaluateOptions, picture: str, log: Log
) -> Reconstruction:
    """The mean error of so many reference images, beside that of the nearest training images and of their mean.

    The class is given where the images and the generator have the same ones. `picture` is the name of the picture's
    file, which the score's details keep. ModisteError where the images are of another shape than the generator's.
    """
    run = source.run
    assert run is not None and options.reconstruct
    checkpoint: str = options.checkpoint
    if origin.kind == "checkpoint":
        checkpoint = str(origin.path.absolute().relative_to(run.path))
    generator = generators.load(run, checkpoint, options.batch_norm)
    data = run.read_recipe().data.model_copy(update={"name": dataset.name, "count": None})
    real = first_images(open_data(data, part=reference), options.reconstruct)
    real = pictures.fitted(real, generator.shape, run.name)
    matched, _ = class_matching.match_labels(real, generator.class_names)
    labels = matched.labels if generator.shape.classes else None
    learned = encoder.open_encoder(
        generator,
        encoder.folder_of(run, checkpoint),
        report=_tenths(log, "learning an encoder, kept for the next time"),
    )
    found = projection.project(
        generator, real.pixels, labels, encoder=learned, steps=projection.STEPS, starts=projection.STARTS,
        report=_tenths(log, f"making {len(real):,} real images"),
    )  # fmt: skip
    log("the nearest training images of these")
    training, reason = comparison.compare(run, real.pixels)
    worst = np.argsort(-found.errors, kind="stable")[:WORST].tolist()
    title = f"Real images that {source.name} cannot make: the largest errors of {len(real):,}"
    details: dict[str, Any] = {
        "images": len(real),
        "unit": "root mean square difference of pixels from 0 to 255",
        "quantiles": quantiles(found.errors),
        "class": "none" if not generator.shape.classes else "found" if labels is None else "given",
        "search": {"steps": projection.STEPS, "starts": projection.STARTS, "loss": "pixels"},
        "worst": worst,
        "picture": picture,
    }
    if training is None:
        details["not_compared"] = reason
    else:
        details["nearest_training_quantiles"] = quantiles(training.nearest_errors)
        details["nearer_than_training"] = float((found.errors < training.nearest_errors).mean())
    entry = records.score_entry(
        MetricName(KIND, "", len(real), reference),
        _mean(found.errors, details),
        None if training is None else _mean(training.nearest_errors),
        {} if training is None else {"mean_image": _mean(training.mean_errors)},
    )
    from modiste.latent import sheet  # no other part of an evaluation needs matplotlib

    return Reconstruction(entry, sheet.draw(title, real, found, generator.class_names, training, worst))


def quantiles(errors: NDArray[np.float64]) -> dict[str, float]:
    """The errors' quantiles by name, as `50%`."""
    return {f"{share:.0%}": float(np.quantile(errors, share)) for share in QUANTILES}


def _mean(errors: NDArray[np.float64], details: dict[str, Any] | None = None) -> Score:
    error = standard_errors.of_mean(errors) if len(errors) > 1 else None
    return Score(float(errors.mean()), error, details or {})


def _tenths(log: Log, text: str) -> projection.Report:
    """A report that logs a line for each tenth that is done."""

    logged = 0

    def report(done: int, total: int) -> None:
        nonlocal logged
        if 10 * done // total > logged:
            logged = 10 * done // total
            log(f"{text}: {done:,} of {total:,}")

    return report
