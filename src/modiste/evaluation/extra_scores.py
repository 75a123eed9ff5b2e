"""Scores beyond the suite: the run's own discriminator, and a classifier that learns from generated images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from modiste import cache, runs
from modiste.config import Data
from modiste.data.images import Images, content_digest, tensor_of, to_unit
from modiste.data.sets import Part, has_test, open_data
from modiste.data.subsets import drawn_subset, first_images
from modiste.errors import ModisteError
from modiste.evaluation import class_matching, records
from modiste.evaluation.options import EvaluateOptions, Split
from modiste.evaluation.records import ScoreEntry
from modiste.evaluation.references import OpenPart
from modiste.evaluation.sources import Source
from modiste.metrics import classifier_training, features, functional, metric_names
from modiste.metrics.functional import Score
from modiste.metrics.metric_names import MetricName
from modiste.networks.build import build_discriminator
from modiste.networks.layers import ImageShape
from modiste.sampling import generators
from modiste.training import losses

DISCRIMINATOR_IMAGES = 2_000
CLASSIFIER_SEEDS = 2 * 10**9
CLASSIFIER_EPOCHS = 5

Log = Callable[[str], None]


def discriminator(
    source: Source, dataset: Data, reference: Split, options: EvaluateOptions, log: Log
) -> list[ScoreEntry]:
    """How often the run's discriminator, in eval mode, is right about reference and generated images.

    ModisteError where there is none, or none that knows such images.
    """
    run, generated, saved = source.run, source.images, None
    if run is not None and source.facts["kind"] == "run" and options.checkpoint == "last":
        try:
            saved = runs.load_state(run)[0]
        except OSError as error:  # gone in this moment: the training goes on
            raise ModisteError(str(error)) from error
    if run is None or saved is None:
        raise ModisteError("only the last state of a run comes with its discriminator")
    log("the run's discriminator")
    recipe, conditional = run.read_recipe(), generated.labels is not None
    real = open_data(recipe.data.model_copy(update={"name": dataset.name}), part=reference)
    real = first_images(real, DISCRIMINATOR_IMAGES)
    if conditional:
        real, _ = class_matching.match_labels(real, generated.class_names)
    if (conditional and real.labels is None) or real.pixels.shape[1:] != generated.pixels.shape[1:]:
        raise ModisteError(f"the run's discriminator knows images of other classes, colours or sizes than {real.name}")
    _, channels, size, _ = generated.pixels.shape
    network = build_discriminator(recipe.network, ImageShape(channels, size, len(generated.class_names)))
    network.load_state_dict(saved["discriminator"])
    network.eval()

    @torch.inference_mode()
    def logits(of: Images) -> torch.Tensor:
        found = []
        for start in range(0, len(of), generators.CHUNK):
            some = of.select(slice(start, start + generators.CHUNK))
            labels = torch.from_numpy(some.labels) if conditional and some.labels is not None else None
            found.append(network(to_unit(tensor_of(some.pixels)), labels))
        return torch.cat(found)

    on_real, on_fake = logits(real), logits(generated.select(slice(DISCRIMINATOR_IMAGES)))
    on_real, on_fake = losses.adversarial_logit(on_real), losses.adversarial_logit(on_fake)
    # No pairs here: where the loss puts its boundary between two logits, it lies between the two means instead.
    boundary = float(losses.adversarial(recipe.loss).boundary(on_real.mean()[None], on_fake.mean()[None]))
    both = functional.discriminator_accuracy(on_real.numpy(), on_fake.numpy(), boundary)
    # By definition: a discriminator that has been fooled is right half of the time, one that has not, always.
    return [
        records.score_entry(MetricName(kind), score, Score(0.5), {"never_fooled": Score(1.0)})
        for kind, score in zip(metric_names.DISCRIMINATOR, both, strict=True)
    ]


def classifier(source: Source, images: Images, dataset: Data, log: Log, open_part: OpenPart) -> ScoreEntry:
    """Accuracy on real images of a classifier that learned from generated ones (Ravuri & Vinyals 2019).

    As many generated images as the training part has, or all if there are fewer; a few epochs. The real baseline is the
    same with as many real images.
    """
    part: Part = "test" if has_test(dataset) else "heldout"
    real, test = open_part(dataset, "fit"), open_part(dataset, part)
    generated = images
    if source.more is not None:
        log(f"sampling {len(real):,} images to learn from")
        more = source.more(range(CLASSIFIER_SEEDS, CLASSIFIER_SEEDS + len(real)))
        generated, _ = class_matching.match_labels(more, real.class_names)
    fitted = features.fit_pixels(generated.pixels, ImageShape(*real.pixels.shape[1:3]))
    real = first_images(real, len(generated))
    chosen = drawn_subset(len(generated), generated.labels, len(real), seed=0)
    generated = replace(generated, pixels=fitted).select(chosen)

    def accuracy(images: Images, about: str) -> float:
        def log_epoch(epoch: int, loss: float, *_: Any) -> None:
            log(f"learning from {about} images: epoch {epoch} of {CLASSIFIER_EPOCHS}, loss {loss:.3f}")

        learned = classifier_training.train_classifier(images, epochs=CLASSIFIER_EPOCHS, after_epoch=log_epoch)
        return classifier_training.accuracy(learned, test)

    key = {
        "classifier": CLASSIFIER_EPOCHS,
        "images": content_digest(real),
        "test": content_digest(test),
        "v": records.versions(),
    }
    baseline = Score(cache.cached_json(key, lambda: accuracy(real, "real")))
    value = accuracy(generated, "generated")
    error = float(np.sqrt(value * (1 - value) / len(test)))
    details = {"images": len(generated), "epochs": CLASSIFIER_EPOCHS, "reference": part}
    chance = {"chance": Score(1 / len(test.class_names))}
    return records.score_entry(MetricName("classifier_accuracy"), Score(value, error, details), baseline, chance)
