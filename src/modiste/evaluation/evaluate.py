"""The protocol: from a run, a file or a folder of images to a record of scores that says how it was made.

Three kinds of images go through one function (`measures.measure`): the generated ones, real ones that are not in the
reference (the floor of every score), and those of two generators that learned nothing (the ceiling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from modiste import cache, environment, paths, runs
from modiste.config import Data
from modiste.data import readers
from modiste.data.classes import normalised_name
from modiste.data.images import Images, content_digest, drawn_subset, first_images, to_unit
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import audit as audits
from modiste.evaluation import records, references, sources
from modiste.evaluation.records import Record
from modiste.evaluation.references import Split
from modiste.evaluation.sources import Source
from modiste.metrics import classifier_training, features, functional, standard_errors, suite
from modiste.metrics import judge as judges
from modiste.metrics.features import Extractor
from modiste.metrics.functional import Score
from modiste.metrics.suite import Reference
from modiste.networks.build import Shape, build_discriminator
from modiste.provenance import metadata
from modiste.sampling import generators
from modiste.training import losses

DISCRIMINATOR_IMAGES = 2_000
NO_OPPONENT = "only the last state of a run comes with its discriminator"
CLASSIFIER_SEEDS = 2 * 10**9
CLASSIFIER_EPOCHS = 5

Say = Callable[[str], None]


def evaluate(
    what: str | Path | runs.Run,
    *,
    count: int = 10_000,
    reference: Split | None = None,
    data_name: str | None = None,
    judge: Path | None = None,
    inception: bool | Path = False,
    checkpoint: Literal["last", "best"] = "last",
    truncation: float | None = None,
    batch_norm: generators.Statistics = "running",
    classifier: bool = False,
    audit: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    say: Say | None = None,
) -> Record:
    """The record of a run (or its folder), a checkpoint, an .npz file, a folder of images or an ONNX generator.

    It is also written: metrics.json in a run's folder, NAME.metrics.json beside a file or folder, or `out`.
    `reference` is the part of the data set that the images are compared with: test for reporting, heldout for choosing
    and where nothing is said and there are no test images. A generator is asked for its classes as often as they come
    there.
    `judge` is a file of `modiste judge train` for data sets of one's own; `inception` adds the field's scores, from
    weights in the cache (True) or in a file. `truncation` and `batch_norm` say how a run is sampled (`sample.load`).
    `classifier` adds the classifier accuracy score, which is slow (up to an hour on one core); `audit` adds the
    record's key `audit`, scores class by class and near-duplicates of training images, and writes a picture of the
    worst cases beside the record.
    The same call gives the same numbers on one machine.
    """
    say = say or (lambda _: None)
    what = what.path if isinstance(what, runs.Run) else what
    source = sources.origin(what)
    reference, notes = references.part_of(references.named(source, data_name), reference)
    place = records.checked_place(what, reference, checkpoint, truncation, batch_norm, seed, out, audit)
    dataset, strangers = references.dataset_of(source, data_name)
    real = open_data(dataset, part=reference)
    subject = sources.open_source(
        what, count=count, checkpoint=checkpoint, seed=seed, truncation=truncation, batch_norm=batch_norm, like=real
    )
    images, unfitting = _labelled_alike(subject, real)
    notes += [*unfitting, *map(str, real.notes), *sources.unlike(subject, real, named=data_name is not None)]
    if classifier:
        _check_labels(subject, images, real)
    extractors, missing = extractors_for(dataset, real, judge, inception)
    notes += [extractor.warning for extractor in extractors if extractor.warning]
    train, unseen, reason = references.training(subject, dataset, reference, strangers)
    whole = suite.make_reference(
        real, reference, extractors, train=train, unseen=unseen, no_memory=reason, count=len(images), seed=seed
    )
    if audit:
        audits.check(whole)

    found = suite.measure(images, whole, say=say)
    floor, floor_facts = _floor(dataset, reference, whole, len(images), say)
    ceilings = _ceilings(dataset, whole, len(images), say)
    rows = {name: _row(name, score, floor.get(name), ceilings.get(name)) for name, score in found.scores.items()}
    missing |= {**found.missing, **_not_measured(rows, whole, images, classifier)}
    opponent, reason = _discriminator(subject, dataset, reference, say) if checkpoint == "last" else ({}, NO_OPPONENT)
    if reason:
        missing["discriminator_accuracy"] = reason
    rows |= opponent
    if classifier:
        rows |= _classifier(subject, images, dataset, say)
    protocol = _protocol(subject, whole, images, floor_facts)
    notes += sources.unevenness(subject, protocol["classes"], real)
    record: Record = {
        "format": records.FORMAT,
        "subject": {"name": subject.name, **subject.facts, "warnings": [*subject.warnings, *notes]},
        "protocol": protocol,
        "scores": rows,
        "alarms": records.alarms(rows, real.class_names, protocol),
        "not_measured": missing,
    }
    drawn = b""
    if audit:
        held, new = references.baseline_images(dataset, reference, len(images))
        known = subject.facts["kind"] not in ("npz", "folder") or metadata.says_synthetic(readers.expanded(what))
        picture = records.picture_name(place.stem)
        record["audit"], drawn = audits.audit(images, subject.name, whole, held, new, picture, known, say)
    record = paths.without_paths(record, (what, dataset.name))
    records.write_with_picture(place, record, drawn)
    return {**record, "written": str(place)}


def _labelled_alike(subject: Source, real: Images) -> tuple[Images, list[str]]:
    """The images with labels in the reference's numbering, or without them and a sentence why."""
    if subject.images.labels is None or real.labels is None:
        return replace(subject.images, labels=None, class_names=()), []
    matched, warnings = sources.match_labels(subject.images, real.class_names)
    return matched, list(warnings)


def _check_labels(subject: Source, images: Images, real: Images) -> None:
    """UsageError where a classifier has no labels to learn from."""
    if images.labels is None:
        without = (real.name, "add them") if real.labels is None else (subject.name, "use a conditional generator")
        raise UsageError(f"--classifier needs labels, and {without[0]} has none; {without[1]}")


def extractors_for(
    dataset: Data, real: Images, judge: Path | None, inception: bool | Path
) -> tuple[list[Extractor], dict[str, str]]:
    """The judge first, then every other opinion that can be had; and why one that was asked for cannot."""
    shape = Shape(*real.pixels.shape[1:3])
    random = features.random_network(shape)
    first = _given(judge, real) if judge else features.primary_extractor(dataset)
    chosen = [first]
    second = judges.for_data(dataset, "plain")
    if second is not None and second.fingerprint != first.fingerprint:
        chosen.append(features.from_judge(second, "second"))
    if first.name != random.name:
        chosen.append(random)
    if inception:
        from modiste.metrics import inception as inception_features

        try:
            chosen.append(inception_features.extractor(shape.size, None if inception is True else inception))
        except ModisteError as error:
            if inception is not True:
                raise
            return chosen, {"frechet_inception, kernel_inception, inception_style_inception": str(error)}
    return chosen, {}


def _given(path: Path, real: Images) -> Extractor:
    """The judge in that file, if it knows the classes of these images."""
    judge = judges.load(path)
    names = judge.card.class_names
    if real.labels is not None and tuple(map(normalised_name, names)) != real.class_names:
        raise UsageError(
            f"the judge {path} knows the classes {', '.join(names)}, and those of {real.name} are "
            f"{', '.join(real.class_names)}; train one for them with `modiste judge train --data ...`"
        )
    return features.from_judge(judge, features.slug(path.stem))


def _floor(
    dataset: Data, reference: Split, whole: Reference, count: int, say: Say
) -> tuple[dict[str, Score], dict[str, Any]]:
    """The suite on real images that are not in the reference, as many as were generated if there are so many."""
    real, new = references.baseline_images(dataset, reference, count)
    blank = replace(whole, memory=None)
    found = _cached_suite(real, blank, "real images (floor)", say)
    if len(real) > new:  # the judge knows the others: it agrees with their labels better than with new ones
        found = {name: score for name, score in found.items() if suite.metric_kind(name) != "label_agreement"}
    if 0 < new < len(real):
        unseen = _cached_suite(real.select(slice(new)), blank, "real images (floor)", say, suite.class_scores)
        found |= {name: score for name, score in unseen.items() if suite.metric_kind(name) == "label_agreement"}
    if whole.memory is not None:  # images that the generator learned from would look like copies of themselves
        found |= _cached_suite(whole.memory.unseen, whole, "unseen real images (floor)", say, suite.memorisation_scores)
    return found, {"floor": real.name, "floor_count": len(real), "floor_digest": content_digest(real)}


def _ceilings(dataset: Data, whole: Reference, count: int, say: Say) -> dict[str, dict[str, Score]]:
    """Per score the values of both trivial generators."""
    fit = open_data(dataset, part="fit")
    found: dict[str, dict[str, Score]] = {}
    for kind in ("noise", "mean_image"):
        images = suite.trivial(kind, count, whole.images, fit, whole.seed)
        for name, score in _cached_suite(images, whole, f"{kind} (ceiling)", say).items():
            found.setdefault(name, {})[kind] = score
    return found


def _cached_suite(
    images: Images, whole: Reference, about: str, say: Say, only: suite.Group | None = None
) -> dict[str, Score]:
    """The suite (or one group of its scores) on real or trivial images, which never change."""
    memory = whole.memory
    key = {
        "suite": [records.FORMAT, suite.EDITION],
        "only": only.__name__ if only else "all",
        "images": content_digest(images),
        "reference": content_digest(whole.images),
        "part": whole.part,
        "extractors": [[extractor.name, extractor.fingerprint] for extractor in whole.extractors],
        "train": content_digest(memory.train) if memory else None,
        "unseen": content_digest(memory.unseen) if memory else None,
        "count": whole.count,
        "seed": whole.seed,
        "standard_errors": standard_errors.METHOD,
        "versions": _versions(),
    }

    def compute() -> dict[str, Any]:
        def tell(text: str) -> None:
            say(f"{about}: {text}")

        return suite.as_plain(suite.measure(images, whole, only=(only,) if only else (), say=tell))

    return suite.from_plain(cache.cached_json(key, compute)).scores


def _row(name: str, score: Score, floor: Score | None, ceilings: Mapping[str, Score] | None) -> dict[str, Any]:
    """One score for the record. The ceiling is the worse of the two trivial generators; `ceilings` has both."""
    better = suite.MEANINGS[suite.metric_kind(name)].better
    values = {kind: ceiling.value for kind, ceiling in (ceilings or {}).items()}
    target = floor.value if floor else 0.0
    ranked = {"lower": lambda x: x, "higher": lambda x: -x, "near": lambda x: abs(x - target)}[better]
    return {
        "value": score.value,
        "uncertainty": score.uncertainty,
        "floor": floor.value if floor else None,
        "floor_uncertainty": floor.uncertainty if floor else None,
        "ceiling": max(values.values(), key=ranked, default=None),
        "ceilings": values,
        "better": better,
        "details": dict(score.details),
    }


def _protocol(subject: Source, whole: Reference, images: Images, floor_facts: Mapping[str, Any]) -> dict[str, Any]:
    made = ("kind", "seeds", "weights", "batch_norm", "truncation", "size", "data")
    return {
        "reference": {
            "data": whole.images.name,
            "part": whole.part,
            "count": len(whole.images),
            "digest": content_digest(whole.images),
            "class_names": list(whole.images.class_names),
        },
        "generated": len(images),
        "classes": sources.shares(images.labels, images.class_names, whole.images),
        **floor_facts,
        "ceiling": "the worse of uniform noise and the mean image",
        "extractors": {extractor.name: dict(extractor.facts) for extractor in whole.extractors},
        "pixels": "uint8, never rescaled",
        "seed": whole.seed,
        "settings": {
            "standard_errors": standard_errors.METHOD,
            "kernel": "(x.y/d + 1)^3, 100 subsets of 1000, unbiased",
            "inception_style_splits": 10,
            "k_precision": 3,
            "k_density": 5,
            "class_frechet_dimensions": 32,
        },
        "generator": {key: subject.facts[key] for key in made if key in subject.facts},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    described = environment.describe_machine()
    return {key: described[key] for key in ("modiste", "torch", "numpy")}


def _discriminator(subject: Source, dataset: Data, reference: Split, say: Say) -> tuple[dict[str, Any], str]:
    """How often the run's discriminator, in eval mode, is right about reference and generated images; or why not."""
    run, made, saved = subject.run, subject.images, None
    if run is not None and subject.facts["kind"] == "run":
        try:
            saved = runs.load_state(run)[0]
        except (ModisteError, OSError) as error:  # damaged, or gone in this moment: the run goes on
            return {}, str(error)
    if run is None or saved is None:
        return {}, NO_OPPONENT
    say("the run's discriminator")
    recipe, conditional = run.read_recipe(), made.labels is not None
    try:
        real = open_data(recipe.data.model_copy(update={"name": dataset.name}), part=reference)
    except ModisteError as error:
        return {}, str(error)
    real = first_images(real, DISCRIMINATOR_IMAGES)
    if conditional:
        real, _ = sources.match_labels(real, made.class_names)
    if (conditional and real.labels is None) or real.pixels.shape[1:] != made.pixels.shape[1:]:
        return {}, f"the run's discriminator knows images of other classes, colours or sizes than {real.name}"
    _, channels, size, _ = made.pixels.shape
    discriminator = build_discriminator(recipe.network, Shape(channels, size, len(made.class_names)))
    discriminator.load_state_dict(saved["discriminator"])
    discriminator.eval()

    @torch.inference_mode()
    def logits(of: Images) -> torch.Tensor:
        found = []
        for start in range(0, len(of), generators.CHUNK):
            some = of.select(slice(start, start + generators.CHUNK))
            labels = torch.from_numpy(some.labels) if conditional and some.labels is not None else None
            found.append(discriminator(to_unit(torch.from_numpy(some.pixels)), labels))
        return torch.cat(found)

    on_real, on_fake = logits(real), logits(made.select(slice(DISCRIMINATOR_IMAGES)))
    on_real, on_fake = losses.adversarial_logit(on_real), losses.adversarial_logit(on_fake)
    # No pairs here: where the game's boundary lies between two logits, it now lies between the two means.
    boundary = float(losses.adversarial(recipe.loss).boundary(on_real.mean()[None], on_fake.mean()[None]))
    both = functional.discriminator_accuracy(on_real.numpy(), on_fake.numpy(), boundary)
    names = ("discriminator_accuracy_real", "discriminator_accuracy_fake")
    # By definition: a discriminator that has been fooled is right half of the time, one that has not, always.
    return {
        name: {**_row(name, score, Score(0.5), {"never_fooled": Score(1.0)})}
        for name, score in zip(names, both, strict=True)
    }, ""


def _classifier(subject: Source, images: Images, dataset: Data, say: Say) -> dict[str, Any]:
    """Accuracy on real images of a classifier that learned from generated ones (Ravuri & Vinyals 2019).

    As many generated images as the training part has, or all if there are fewer; a few epochs. The floor is the same
    with as many real images.
    """
    part: Part = "test" if has_test(dataset) else "heldout"
    real, test = open_data(dataset, part="fit"), open_data(dataset, part=part)
    made = images
    if subject.more is not None:
        say(f"sampling {len(real):,} images to learn from")
        made, _ = sources.match_labels(
            subject.more(range(CLASSIFIER_SEEDS, CLASSIFIER_SEEDS + len(real))), real.class_names
        )
    made = replace(made, pixels=features.fit_pixels(made.pixels, Shape(*real.pixels.shape[1:3])))
    real = first_images(real, len(made))
    made = made.select(drawn_subset(len(made), made.labels, len(real), seed=0))

    def learned(images: Images, about: str) -> float:
        def tell(epoch: int, loss: float, *_: Any) -> None:
            say(f"learning from {about} images: epoch {epoch} of {CLASSIFIER_EPOCHS}, loss {loss:.3f}")

        network = classifier_training.train_classifier(images, epochs=CLASSIFIER_EPOCHS, after_epoch=tell)
        return classifier_training.accuracy(network, test)

    key = {
        "classifier": CLASSIFIER_EPOCHS,
        "images": content_digest(real),
        "test": content_digest(test),
        "v": _versions(),
    }
    floor = Score(cache.cached_json(key, lambda: learned(real, "real")))
    value = learned(made, "generated")
    error = float(np.sqrt(value * (1 - value) / len(test)))
    chance = {"chance": Score(1 / len(test.class_names))}
    name = "classifier_accuracy"
    details = {"images": len(made), "epochs": CLASSIFIER_EPOCHS, "reference": part}
    return {name: _row(name, Score(value, error, details), floor, chance)}


def _not_measured(
    rows: Mapping[str, Mapping[str, Any]], whole: Reference, images: Images, classifier: bool
) -> dict[str, str]:
    """Scores of the suite that these images do not allow, with the reason."""
    missing = {}
    if whole.classes == 0:
        missing["inception_style, class_frechet, label_agreement, class_balance_tv"] = (
            f"no judge was trained on {whole.images.name}; `modiste judge train --data ...` trains one"
        )
    elif images.labels is None and whole.images.labels is not None:
        missing["label_agreement"] = "the images come without labels"
    elif any(suite.metric_kind(name) == "label_agreement" and row["floor"] is None for name, row in rows.items()):
        missing["floor of label_agreement"] = audits.ALL_KNOWN
    if whole.memory is None:
        missing["memorisation"] = whole.no_memory
    if not classifier:
        missing["classifier_accuracy"] = "slow, up to an hour on one core; --classifier adds it"
    return missing
