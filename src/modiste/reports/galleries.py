"""The parts of a report with pictures in the judge's features: missing ones, neighbours, data, predictions, clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modiste.data import inspection
from modiste.data.images import Images
from modiste.data.sets import has_test, open_data
from modiste.errors import ModisteError
from modiste.metrics import features, metric_names
from modiste.plotting import charts, tiles
from modiste.provenance import metadata
from modiste.reports import judge_features, phrases
from modiste.reports.blocks import Block, Cell, Chart, Fold, Gallery, Paragraph, Picture, Section, Table, Tiles
from modiste.reports.inputs import Comparison
from modiste.reports.judge_features import Log, ReportFeatures
from modiste.sampling import grids
from modiste.wording import counted

PER_ROW = 10
MOST_CLASSES = 3
"""Classes that a sentence on missing images names."""

CLOUDS = (
    "t-SNE shows two dimensions of many: it keeps neighbours but not distances or densities, and clouds seem to "
    "overlap long before they do. So each comes with how often the nearest neighbour in the features says rightly "
    "whether an image is real or generated: 50 % means that it cannot tell."
)


def missing_section(comparison: Comparison, report_features: ReportFeatures) -> Section | None:
    """Real images that no generated image comes near, each above the nearest generated one, beside recall."""
    judge, real = report_features.judge, report_features.real
    rows: list[list[Cell]] = []
    blocks: list[Block] = []
    for name, generated in report_features.runs.items():
        missed = judge_features.missed(report_features, generated)
        recall = _recorded(comparison, name, "recall_k3")
        share = f"{len(missed.real) / missed.of:.0%} of {missed.of:,}"
        shown = missed.real[:PER_ROW]
        if not len(shown):
            rows.append([name, recall, share, "", "-"])
            continue
        made = features.fit_pixels(generated.images.pixels[missed.nearest[:PER_ROW]], judge.shape)
        pairs = judge_features.stack_pairs(real.select(shown), made, judge)
        often = _most_missed(real, missed.real)
        alt = f"Real images that {name} does not come near, above its nearest image"
        if comparison.is_study:
            rows.append([name, recall, share, often, _strip(f"{name}-missing", pairs, alt, metadata.COMPOSITE_TYPE)])
            continue
        labels = [real.class_names[real.labels[k]] for k in shown] if real.labels is not None else [""] * len(shown)
        text = f"{share} real images have no generated image near them"
        text += f"; its recall on all images is {recall}." if recall != "-" else "."
        text += f" Most often missed: {often}." if often else ""
        blocks = [Paragraph(text), Tiles(f"{name}-missing", pairs, labels, alt, metadata.COMPOSITE_TYPE)]
    if comparison.is_study and rows:
        heads = [
            "configuration",
            "recall, mean over seeds",
            "missed",
            "most often",
            "furthest from any generated image",
        ]
        blocks = [Table(heads, rows)]
    if not blocks:
        return None
    end = Paragraph(
        "Real images above, the nearest generated one below. An image is missed if it lies outside the ball of every "
        "generated image, which reaches to that image's third neighbour in the features of "
        f"{metric_names.whose(judge.name)}, as in recall."
    )
    return Section("missing", "Missing", "Real images that are never made", [*blocks, end])


def _most_missed(real: Images, rows: NDArray[np.int64]) -> str:
    """The classes that are missed most often, with the share of each; empty without classes."""
    if real.labels is None:
        return ""
    classes = len(real.class_names)
    of, lost = (np.bincount(labels, minlength=classes) for labels in (real.labels, real.labels[rows]))
    shares = lost / np.maximum(1, of)
    worst = [k for k in np.argsort(-shares, kind="stable")[:MOST_CLASSES] if shares[k] > 0]
    return phrases.listed([f"{real.class_names[k]} ({shares[k]:.0%})" for k in worst])


def _strip(name: str, pairs: NDArray[np.uint8], alt: str, source_type: str = "") -> Picture:
    """Pictures in one line, for a table's cell."""
    picture = tiles.picture_of(pairs, len(pairs), transparent=True)
    content = grids.png(picture)
    return Picture(
        name, metadata.stamp(content, {"Title": alt}, source_type) if source_type else content, alt, picture.width
    )


def neighbour_section(comparison: Comparison, report_features: ReportFeatures, log: Log) -> Section | None:
    """Generated images above their nearest training image, and the same for unseen real images."""
    if not report_features.runs:
        return None
    judge, real, dataset = report_features.judge, report_features.real, report_features.dataset
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    distances_by_name: dict[str, NDArray[np.float64]] = {}
    unseen_distances: list[NDArray[np.float64]] = []
    unseen_blocks: list[Block] = []
    for name, generated in report_features.runs.items():
        log(f"nearest training images of {name}")
        train = judge_features.training_images(generated.run, dataset)
        images = generated.images.select(slice(judge_features.SEARCHED))
        distances, indices = judge_features.nearest_training(images, train, judge)
        unseen = real.select(judge_features.first_of_each(real, judge_features.SEARCHED))
        real_distances, real_indices = judge_features.nearest_training(unseen, train, judge)
        distances_by_name[name] = distances
        # Without test images they are the held-out ones, which only runs that leave them out have not seen.
        is_unseen = has_test(dataset) or generated.run.read_recipe().data.split == "fit"
        if is_unseen and not any(np.array_equal(real_distances, known) for known in unseen_distances):
            unseen_distances.append(real_distances)
        pairs = judge_features.stack_pairs(images.select(slice(PER_ROW)), train.pixels[indices[:PER_ROW]], judge)
        alt = f"{name}, generated above nearest training image"
        real_median = f"{np.median(real_distances):.2f}" if is_unseen else "none are at hand, it was trained on all"
        medians = [f"{np.median(distances):.2f}", real_median]
        if comparison.is_study:
            rows.append([name, *medians, _strip(f"{name}-nearest", pairs, alt, metadata.COMPOSITE_TYPE)])
        else:
            captions = _distance_captions(images, distances, np.arange(len(pairs)))
            text = (
                f"Its first {len(pairs)} images above the nearest of {len(train):,} training images. Median distance "
                f"of {len(images)} images: {medians[0]}; of unseen real ones: {medians[1]}."
                + (" The class under a pair is the one asked for, above." if images.labels is not None else "")
            )
            blocks += [Paragraph(text), Tiles(f"{name}-nearest", pairs, captions, alt, metadata.COMPOSITE_TYPE)]
        if is_unseen and not unseen_blocks:
            chosen = judge_features.first_of_each(unseen, PER_ROW)[:PER_ROW]
            pairs = judge_features.stack_pairs(unseen.select(chosen), train.pixels[real_indices[chosen]], judge)
            unseen_blocks = [
                Paragraph("For comparison, real images that no training has seen, above their nearest training image:"),
                Tiles("_unseen-nearest", pairs, _distance_captions(unseen, real_distances, chosen),
                      "real test image above nearest training image"),
            ]  # fmt: skip
    if rows:
        heads = ["configuration", "median distance", "of unseen real images", "images above nearest training images"]
        blocks = [Table(heads, rows)]
    chart = Chart(
        "nearest-distances",
        charts.ranges(distances_by_name, unseen_distances, "distance to the nearest training image (brightness)",
                      palette=comparison.palette),
        "Distribution of distances to the nearest training image: medians "
        + "; ".join(f"{name} {np.median(distances):.2f}" for name, distances in distances_by_name.items())
        + "".join(f"; unseen real images {np.median(distances):.2f}" for distances in unseen_distances[:1]),
        "A line far to the left of unseen real images would speak of copies." if unseen_distances else "",
    )  # fmt: skip
    end = Paragraph(
        "Distances are Euclidean over all pixels, black 0 and white 1. A generated image as near as a real one is no "
        "copy; whether some are copies, near_duplicates and data_copying in the table of scores test on all images."
    )
    return Section(
        "neighbours",
        "Copies",
        "Generated beside the nearest real image",
        [*blocks, *unseen_blocks, Gallery([chart]), end],
    )


def _distance_captions(images: Images, distances: NDArray[np.float64], rows: NDArray[np.int64]) -> list[str]:
    captions = []
    for k in rows:
        label = f"{images.class_names[images.labels[k]]}\n" if images.labels is not None else ""
        captions.append(f"{label}{distances[k]:.2f} away")
    return captions


def data_section(report_features: ReportFeatures, log: Log) -> Section:
    """Size of the data set, its class counts and the first images of each class."""
    dataset = report_features.dataset
    log("class counts")
    train = open_data(dataset, part="train")
    sets = {"train": train} | ({"test": open_data(dataset, part="test")} if has_test(dataset) else {})
    size = Paragraph("; ".join(_describe_size(images) for images in sets.values()) + ".")
    if train.labels is None:
        picture = tiles.picture_of(train.pixels[:30], PER_ROW)
        block = Picture("first-images", grids.png(picture), "The first training images", 2 * picture.width)
        return Section("data", "Data", "The data set", [size, block])
    counts = {split: inspection.counts_by_name(images) for split, images in sets.items() if images.labels is not None}
    rows: list[list[Cell]] = []
    for label, name in enumerate(train.class_names):
        first = train.pixels[np.flatnonzero(train.labels == label)[:PER_ROW]]
        strip = _strip(f"class-{label}", first, f"The first {len(first)} training images of {name}")
        rows.append([name, *[f"{counts[split][name]:,}" for split in counts], strip])
    figure = charts.class_chart({split: list(of.values()) for split, of in counts.items()}, train.class_names)
    even = all(len(set(of.values())) == 1 for of in counts.values())
    alt = "Bars of images per class: " + ("all classes are equally frequent" if even else "counts as in the table")
    table = Table(["class", *counts, f"first {PER_ROW} training images"], rows)
    fold = Fold("The same counts as bars", [Chart("class-counts", figure, alt)])
    return Section("data", "Data", "The data set", [size, table, fold])


def _describe_size(images: Images) -> str:
    """Name, count, size and colours; the table has the classes."""
    _, channels, height, width = images.pixels.shape
    colour = "grey" if channels == 1 else "RGB"
    labels = "no labels" if images.labels is None else counted(len(images.class_names), "class")
    return f"{images.name}: {counted(len(images))}, {height} x {width} {colour}, {labels}"


def judge_section(comparison: Comparison, report_features: ReportFeatures, log: Log) -> Section | None:
    """What the judge sees in generated images, its confusion, and real and generated images in its features."""
    if not report_features.runs:
        return None
    blocks, confusions = prediction_blocks(comparison, report_features)
    judged = bool(blocks)
    clouds, table, reason = cloud_charts(comparison, report_features, log)
    if confusions or clouds:
        blocks.append(Gallery([*confusions, *clouds]))
    if confusions:
        text = "Of the images asked for as one class (rows), the share that the judge sees as each class (columns), in "
        blocks.append(Paragraph(f"{text}per cent."))
    if clouds:
        blocks.append(Paragraph(CLOUDS))
    if reason:
        blocks.append(Paragraph(f"t-SNE is left out: {reason}."))
    title = "What the judge sees in generated images" if judged else "Real and generated images among each other"
    return Section("judge", "Judge" if judged else "Features", title, [*blocks, table])


def prediction_blocks(comparison: Comparison, report_features: ReportFeatures) -> tuple[list[Block], list[Chart]]:
    """The judge's predictions for generated images, and their confusion with the classes asked for."""
    names = report_features.real.class_names
    blocks: list[Block] = []
    matrices: list[Chart] = []
    shares = []
    for name, generated in report_features.runs.items():
        if generated.features.logits is None or not names:
            continue
        probabilities = judge_features.probabilities(generated.features.logits)
        predicted = probabilities.argmax(1)
        asked, asked_names = generated.images.labels, generated.images.class_names
        captions = [
            (f"{asked_names[asked[k]]}\n" if asked is not None else "")
            + f"sees {names[predicted[k]]}\n{probabilities[k, predicted[k]]:.0%} sure"
            for k in range(2 * PER_ROW)
        ]
        fitted = features.fit_pixels(generated.images.pixels[: 2 * PER_ROW], report_features.judge.shape)
        text = f"{name}: what the judge sees in its first {2 * PER_ROW} images, and how sure it is"
        shown = Tiles(f"{name}-predictions", fitted, captions, f"{name}, the judge's verdict", metadata.SOURCE_TYPE)
        blocks += [Fold(text, [shown])] if comparison.is_study else [Paragraph(f"{text}."), shown]
        if asked is not None and len(asked_names) == len(names):
            matrices.append(_confusion(comparison, name, np.stack([asked, predicted]), names))
        counts = np.bincount(predicted, minlength=len(names))
        shares.append([name, *[f"{share:.1%}" for share in counts / len(predicted)]])
    if shares:
        caption = f"Share of each class that the judge sees in {judge_features.EXAMINED:,} generated images"
        blocks.append(Table(["generator", *names], shares, caption))
    return blocks, matrices


def _confusion(comparison: Comparison, name: str, pairs: NDArray[np.int64], names: tuple[str, ...]) -> Chart:
    """The confusion matrix in the record of the seed that is shown, over all measured images; else that of `pairs`."""
    member = comparison.configuration(name).find_representative()
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, tuple(pairs), 1)
    source = f"{pairs.shape[1]:,} images"
    if member and member.record:
        score = member.record.first("label_agreement")
        if score and (recorded := score.details.get("confusion")):
            matrix, source = np.array(recorded), f"{member.record.protocol.generated:,} images"
    agreement = matrix.trace() / max(1, matrix.sum())
    alt = f"Confusion matrix of {name}: {agreement:.1%} of the images are seen as the class that was asked for"
    figure = charts.confusion(matrix, names, "class that the judge sees", "class that was asked for")
    return Chart(f"{name}-confusion", figure, alt, f"{name}: {agreement:.1%} of {source} agree.")


def cloud_charts(comparison: Comparison, report_features: ReportFeatures, log: Log) -> tuple[list[Chart], Table, str]:
    """t-SNE of real and generated features, how well a neighbour tells them apart, and why a picture is missing."""
    items: list[Chart] = []
    reason = ""
    rows = []
    real, names = report_features.real, report_features.real.class_names
    for name, generated in report_features.runs.items():
        log(f"features of {name}")
        accuracy = judge_features.neighbour_accuracy(report_features, generated)
        rows.append([name, f"{accuracy:.1%}", _recorded(comparison, name, "two_sample_1nn")])
        try:
            cloud = judge_features.embedding(report_features, generated)
        except ModisteError as error:
            reason = str(error)
            continue
        of_real, labels, of_generated = cloud.real, cloud.real_labels, cloud.generated
        medians = {label: tuple(np.median(of_real[labels == k], axis=0)) for k, label in enumerate(names)
                   if labels is not None and (labels == k).any()}  # fmt: skip
        alt = (
            f"t-SNE of {len(of_real):,} real and {len(of_generated):,} generated images of {name} in the features of "
            f"{metric_names.whose(report_features.judge.name)}"
        )
        caption = f"{name}: a neighbour tells real from generated in {accuracy:.1%} of cases (50 % = it cannot)."
        items.append(Chart(f"{name}-features", charts.clouds(of_real, of_generated, medians), alt, caption))
    equal = min(len(real), judge_features.EXAMINED)
    heads = ["generator", f"neighbour is right, {equal:,} + {equal:,} images", "the same in the scores"]
    return items, Table(heads, rows), reason


def _recorded(comparison: Comparison, name: str, kind: str) -> str:
    """A share's mean over seeds in the records, in per cent."""
    score = comparison.of_kind(kind)
    mean = comparison.summary(comparison.configuration(name), score).mean if score else None
    return "-" if mean is None else f"{mean:.1%}"
