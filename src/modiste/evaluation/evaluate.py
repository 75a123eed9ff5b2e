"""Evaluation: from a run, a file or a folder of images to a record of scores that says how they were measured.

Generated images, real ones that are not in the reference, noise and the mean image all go through `suite.measure`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modiste import environment, paths, runs
from modiste.config import Data
from modiste.data import readers
from modiste.data.classes import normalised_name
from modiste.data.images import Images, content_digest
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import (
    alarms,
    baselines,
    class_matching,
    extra_scores,
    reconstruction,
    records,
    references,
    sources,
)  # fmt: skip
from modiste.evaluation import audit as audits
from modiste.evaluation.options import PATCHES, Checkpoint, EvaluateOptions, Split
from modiste.evaluation.records import Protocol, Record, ReferenceFacts, ScoreEntry
from modiste.evaluation.sources import Source
from modiste.metrics import features as extraction
from modiste.metrics import judge as judges
from modiste.metrics import metric_names, standard_errors, suite
from modiste.metrics.features import Extractor
from modiste.metrics.metric_names import MetricName
from modiste.metrics.suite import Reference
from modiste.networks.layers import ImageShape
from modiste.provenance import metadata
from modiste.sampling import generators

Log = Callable[[str], None]


def evaluate(
    what: str | Path | runs.Run,
    *,
    count: int = 10_000,
    reference: Split | None = None,
    data_name: str | None = None,
    judge: Path | None = None,
    inception: bool | Path = False,
    features: Sequence[str | Path] = (),
    checkpoint: Checkpoint = "last",
    truncation: float | None = None,
    batch_norm: generators.Statistics = "running",
    classifier: bool = False,
    audit: bool = False,
    reconstruct: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    log: Log | None = None,
) -> Record:
    """The record of a run (or its folder), a checkpoint, an .npz file, a folder of images or an ONNX generator.

    It is also written: metrics.json in a run's folder, NAME.metrics.json beside a file or folder, or `out`.
    `reference` is the part of the data set that the images are compared with: test for reporting, heldout for choosing
    and where nothing is given and there are no test images. A generator makes its classes as often as they come there.
    `judge` is a file of `modiste judge train` for data sets of one's own; `inception` adds the field's scores, from
    weights in the cache (True) or in a file, and `features` distances in the features of ONNX models of your own,
    or of `patches` learned from the data set.
    `truncation` and `batch_norm`: how a run is sampled (`generators.load`).
    `classifier` adds the classifier accuracy score, which is slow (up to an hour on one core); `audit` adds the
    record's key `audit`, scores class by class and near-duplicates of training images, and writes a picture of the
    worst cases beside the record; `reconstruct` finds the best code of so many reference images (see `reconstruction`).
    The same call gives the same numbers on one machine.
    """
    options = EvaluateOptions(
        count, reference, data_name, judge, inception, tuple(map(Path, features)), checkpoint, truncation, batch_norm,
        classifier, audit, reconstruct, seed, out,
    )  # fmt: skip
    return evaluate_source(what.path if isinstance(what, runs.Run) else what, options, log or (lambda _: None))


def check_together(whats: Sequence[str], options: EvaluateOptions) -> None:
    """UsageError for what cannot be evaluated, and for images of different data sets, before anything is measured."""
    origins = {what: sources.origin(what) for what in whats}
    sets = {what: references.named(one, options.data_name) for what, one in origins.items()}
    if len({data.name for data in sets.values()}) == 1:
        return
    open_part, real = references.opener(), {}
    for what, data in sets.items():
        dataset, _ = references.dataset_of(origins[what], options.data_name)
        real[what] = open_part(dataset, references.part_of(data, options.reference)[0])
    for first, other in itertools.pairwise(real):
        if content_digest(real[first]) != content_digest(real[other]):
            raise UsageError(
                f"{first} is measured against {real[first].name} and {other} against {real[other].name}, and one table "
                "holds scores against one data set; evaluate each by itself, or all against one with --data"
            )


def evaluate_source(what: str | Path, options: EvaluateOptions, log: Log) -> Record:
    """Measure one source and write its record; see `evaluate`."""
    if not 0 <= options.seed < (largest := 2**32 // max(1, options.count)):
        raise UsageError(
            f"--seed {options.seed} needs seeds of images beyond 32 bits; use one from 0 to {largest - 1:,} for "
            f"{options.count:,} images"
        )
    open_part = references.opener()
    origin = sources.origin(what)
    reference, notes = references.part_of(references.named(origin, options.data_name), options.reference)
    if options.reconstruct is not None:
        reconstruction.check(origin, reference)
    place = records.record_place(what, reference, options)
    dataset, no_memory = references.dataset_of(origin, options.data_name)
    real = open_part(dataset, reference)
    extractors, missing = extractors_for(dataset, real, options.judge, options.inception)
    extractors += _own_extractors([path for path in options.features if path != PATCHES], real)
    if PATCHES in options.features:
        extractors.append(extraction.learned_patches(open_part(dataset, "fit")))
    source = sources.open_source(what, options, like=real)
    if options.out is None:
        records.refuse_loss(place, source.facts, real, {one.name: one.facts for one in extractors}, options)
    images, unmatched = _labelled_alike(source, real)
    notes += [*unmatched, *map(str, real.notes), *sources.unlike(source, real, named=options.data_name is not None)]
    if options.classifier:
        _check_labels(source, images, real)
    notes += [extractor.warning for extractor in extractors if extractor.warning]
    train, unseen, no_memory = references.training(source.run, dataset, reference, no_memory, open_part)
    against = suite.make_reference(
        real, reference, extractors, train=train, unseen=unseen, no_memory=no_memory, count=len(images),
        seed=options.seed,
    )  # fmt: skip
    if options.audit:
        audits.check(against)

    measured = suite.measure(images, against, log=log)
    held, new_to_judge = references.baseline_images(dataset, reference, len(images), open_part)
    base = baselines.measure(held, new_to_judge, open_part(dataset, "fit"), against, log)
    scores = [
        records.score_entry(name, score, base.real.get(name), base.trivial.get(name, {}))
        for name, score in measured.scores.items()
    ]
    missing |= {**measured.missing, **_not_measured(scores, against, images, options)}
    try:
        scores += extra_scores.discriminator(source, dataset, reference, options, log)
    except ModisteError as error:
        missing |= {MetricName(kind): str(error) for kind in metric_names.DISCRIMINATOR}
    if options.classifier:
        scores.append(extra_scores.classifier(source, images, dataset, log, open_part))
    rebuilt = b""
    if options.reconstruct is not None:
        picture = records.picture_name(place.stem, records.REBUILT)
        found = reconstruction.measure(source, origin, dataset, reference, options, picture, log)
        scores, rebuilt = [*scores, found.entry], found.drawn
    protocol = _protocol(source, against, images, held, base.versions)
    notes += [*sources.scarcity(source, real), *sources.unevenness(source, protocol.classes, real)]
    record = Record(
        source.name,
        source.facts,
        protocol,
        {str(score.name): score for score in scores},
        [*source.warnings, *notes],
        list(map(str, alarms.find(scores, protocol))),
        missing,
    )
    drawn = b""
    if options.audit:
        from modiste.evaluation import audit_picture  # no other evaluation needs matplotlib

        audited = audits.audit(images, against, held, new_to_judge, records.picture_name(place.stem), log)
        record = replace(record, audit=audited.numbers)
        log("audit: picture of the worst cases")
        generated = source.facts["kind"] not in ("npz", "folder") or metadata.says_synthetic(readers.expanded(what))
        drawn = audit_picture.draw(images, source.name, against, audited, generated)
    record = Record.from_json(paths.without_paths(record.to_json(), (what, dataset.name)))
    records.write_with_picture(place, record, drawn, rebuilt)
    return replace(record, written=str(place))


def _labelled_alike(source: Source, real: Images) -> tuple[Images, list[str]]:
    """The images with labels in the reference's numbering, or without them and a sentence why."""
    if source.images.labels is None or real.labels is None:
        return replace(source.images, labels=None, class_names=()), []
    matched, warnings = class_matching.match_labels(source.images, real.class_names)
    return matched, list(warnings)


def _check_labels(source: Source, images: Images, real: Images) -> None:
    """UsageError where a classifier has no labels to learn from."""
    if images.labels is None:
        without = (real.name, "add them") if real.labels is None else (source.name, "use a conditional generator")
        raise UsageError(f"--classifier needs labels, and {without[0]} has none; {without[1]}")


def extractors_for(
    dataset: Data, real: Images, judge: Path | None, inception: bool | Path
) -> tuple[list[Extractor], dict[MetricName, str]]:
    """The judge first, then every other extractor there is; and why scores in Inception's features are missing."""
    shape = ImageShape(*real.pixels.shape[1:3])
    random = extraction.random_network(shape)
    first = _own_judge(judge, real) if judge else extraction.primary_extractor(dataset)
    chosen = [first]
    second = extraction.judge_of(dataset, "plain", "second")
    if second is not None and second.fingerprint != first.fingerprint:
        chosen.append(second)
    if first.name != random.name:
        chosen.append(random)
    if inception:
        from modiste.metrics import inception as inception_features

        try:
            chosen.append(inception_features.extractor(shape.size, None if inception is True else inception))
        except ModisteError as error:
            if inception is not True:
                raise
            kinds = ("frechet", "kernel", "inception_style")
            return chosen, {MetricName(kind, "inception"): str(error) for kind in kinds}
    return chosen, {}


def _own_extractors(paths: Sequence[Path], real: Images) -> list[Extractor]:
    """The extractors in these ONNX files."""
    if not paths:
        return []
    from modiste.metrics import onnx_features

    found = [onnx_features.extractor(path, real.pixels.shape[-1]) for path in paths]
    names = [one.name.removeprefix(metric_names.OF_ONNX) for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--features has two files named {twice}, as their scores would be; rename one of them")
    return found


def _own_judge(path: Path, real: Images) -> Extractor:
    """The judge in that file, if it knows the classes of these images."""
    judge = judges.load(path)
    names = judge.card.class_names
    if real.labels is not None and tuple(map(normalised_name, names)) != real.class_names:
        raise UsageError(
            f"the judge {path} knows the classes {', '.join(names)}, and those of {real.name} are "
            f"{', '.join(real.class_names)}; train one for them with `modiste judge train --data ...`"
        )
    return extraction.from_judge(judge, extraction.slug(path.stem))


def _protocol(source: Source, against: Reference, images: Images, held: Images, shipped: Mapping[str, str]) -> Protocol:
    made = ("kind", "seeds", "weights", "batch_norm", "batch_norm_statistics", "truncation", "size", "data", "ancestor")
    real = against.images
    return Protocol(
        reference=ReferenceFacts(real.name, against.part, len(real), content_digest(real), list(real.class_names)),
        generated=len(images),
        classes=class_matching.shares(images.labels, images.class_names, real),
        real=held.name,
        real_count=len(held),
        real_digest=content_digest(held),
        extractors={extractor.name: dict(extractor.facts) for extractor in against.extractors},
        seed=against.seed,
        settings={
            "standard_errors": standard_errors.METHOD,
            "kernel": "(x.y/d + 1)^3, 100 subsets of 1000, unbiased",
            "inception_style_splits": 10,
            "k_precision": 3,
            "k_density": 5,
            "class_frechet_dimensions": 32,
        },
        generator={key: source.facts[key] for key in made if key in source.facts},
        versions=records.versions() | ({"baselines": _listed(shipped)} if shipped else {}) | _gpu(against),
    )


def _gpu(against: Reference) -> dict[str, str]:
    """Where features were computed, if not on the processor."""
    names = [extractor.name for extractor in against.extractors if extraction.gpu_of(extractor)]
    if not names:
        return {}
    where = f"{environment.gpu_name('cuda')}, float32 without TensorFloat, as on the processor to 1e-4"
    return {"features": f"{', '.join(names)}: {where}"}


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{library} {version}" for library, version in versions.items())


def _not_measured(
    scores: list[ScoreEntry], against: Reference, images: Images, options: EvaluateOptions
) -> dict[MetricName, str]:
    """Scores of the suite that these images do not allow, with the reason."""
    missing: dict[MetricName, str] = {}
    if against.classes == 0:
        reason = f"no judge was trained on {against.images.name}"
        if against.images.labels is None:
            reason += ", which has no labels to train one with"
        else:
            reason += "; `modiste judge train --data ...` trains one"
        missing |= {MetricName(kind): reason for kind in metric_names.JUDGED_CLASSES}
    elif images.labels is None and against.images.labels is not None:
        missing[MetricName("label_agreement")] = "the images come without labels"
    elif any(score.kind == "label_agreement" and score.real is None for score in scores):
        missing[MetricName("label_agreement")] = f"no real baseline: {audits.ALL_KNOWN}"
    if against.memory is None:
        missing |= {MetricName(kind): against.no_memory for kind in metric_names.MEMORISATION}
    if not options.classifier:
        missing[MetricName("classifier_accuracy")] = "slow, up to an hour on one core; --classifier adds it"
    return missing
