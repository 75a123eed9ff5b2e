"""The part of a report to look at: grids through training, neighbours, classes, predictions, clouds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from modiste import cache
from modiste.data import inspection
from modiste.data.images import Images, content_digest, describe_images
from modiste.data.sets import has_test, open_data
from modiste.errors import ModisteError
from modiste.metrics import features, manifold
from modiste.plotting import charts, tiles
from modiste.provenance import metadata
from modiste.reports import pictures
from modiste.reports.blocks import Block, Cell, Chart, Fold, Gallery, Paragraph, Picture, Section, Table, Tiles
from modiste.reports.inputs import Comparison, Configuration, Member, trained_shape
from modiste.reports.pictures import ReportFeatures, RunFeatures
from modiste.runs import Run
from modiste.sampling import grids

Say = Callable[[str], None]
SHOWN = 10
MANY = 4
"""Configurations; with more of them each gets fewer pictures, so that the page stays small enough to send."""


def grid_section(comparison: Comparison) -> Section | None:
    """The same noise at start, middle and end per configuration, and the film of each."""
    shown = [(one, one.shown) for one in comparison.configurations]
    shown = [(one, member) for one, member in shown if member and member.run and member.run.list_grids()]
    if not shown:
        return None
    blocks: list[Block] = [
        Paragraph(
            "Each grid shows the same noises, so that columns can be followed from start to end; with classes there is "
            "one per row. Pixels are as the generator made them: nothing is chosen by look or rescaled."
            + (" The lowest seed of each configuration stands for it." if comparison.is_study else "")
        )
    ]
    many = len(shown) > MANY
    frames, per_class = (12, 1) if many else (20, 2)
    for configuration, member in shown:
        assert member is not None and member.run is not None
        blocks.append(Gallery(list(_stage_pictures(comparison, configuration, member, member.run, 3 if many else 5))))
        if (content := pictures.film(member.run, frames, per_class)) is not None:
            alt = f"Moving picture: how images of {configuration.name} change through training"
            name = f"{configuration.name}-film"
            caption = f"{configuration.name}: {min(frames, len(member.run.list_grids()))} moments of the whole training"
            scale = 2 if trained_shape(member.run).size <= 40 else 1
            blocks.append(Picture(name, content, alt, scale * _width(member.run, 10), caption, "gif"))
    return Section("grids", "The same noise at start, middle and end", blocks)


def _stage_pictures(
    comparison: Comparison, configuration: Configuration, member: Member, run: Run, columns: int
) -> Iterator[Picture]:
    epoch_images = run.read_manifest().data.count
    columns = columns if trained_shape(run).size <= 40 else 2
    chosen = pictures.chosen_tiles(run, columns)
    for stage, grid in pictures.stages(run).items():
        images = int(grid.stem)
        about = f"{stage}, {images:,} images shown (epoch {images / epoch_images:.1f})"
        sheet = tiles.picture_of(tiles.read_grid(grid, trained_shape(run).size)[chosen], columns)
        scale = 2 if trained_shape(run).size <= 40 else 1
        caption = f"{configuration.name}, {about}" + (f", seed {member.seed}" if comparison.is_study else "")
        alt = f"{len(chosen)} images that {configuration.name} makes at the {about}"
        content = metadata.stamp(grids.png(sheet), {"Title": caption})
        yield Picture(f"{configuration.name}-{stage}", content, alt, scale * sheet.width, caption)


def _width(run: Run, columns: int) -> int:
    return columns * (trained_shape(run).size + tiles.GAP) - tiles.GAP


@dataclass(frozen=True)
class GalleryInputs:
    """What the judge has seen: real images, and those of each configuration that has a generator."""

    eyes: ReportFeatures
    looks: dict[str, tuple[Run, RunFeatures]]


def look(comparison: Comparison, say: Say) -> GalleryInputs | str:
    """Every configuration's images as the judge sees them; or a sentence why that cannot be had."""
    dataset = comparison.dataset
    if dataset is None:
        return "No training was started yet."
    try:
        say("real images")
        eyes = pictures.open_features(dataset)
        looks = {}
        for configuration in comparison.configurations:
            if (member := configuration.shown) is not None and member.run is not None:
                say(f"images of {configuration.name}")
                looks[configuration.name] = (member.run, pictures.examine(member.run, eyes))
        return GalleryInputs(eyes, looks)
    except ModisteError as error:
        return f"Pictures of data, neighbours and features are left out: {str(error).splitlines()[0].rstrip(':')}."


def neighbour_section(gaze: GalleryInputs, say: Say) -> Section | None:
    """Generated images above their nearest training image, and the same for real test images."""
    if not gaze.looks:
        return None
    judge, real = gaze.eyes.judge, gaze.eyes.real
    blocks: list[Block] = []
    samples: dict[str, np.ndarray] = {}
    unlike: list[np.ndarray] = []
    unseen: list[Block] = []
    for name, (run, seen) in gaze.looks.items():
        say(f"nearest training images of {name}")
        train = pictures.training_images(run, gaze.eyes.dataset)
        generated = seen.images.select(slice(pictures.SEARCHED))
        distances, indices = pictures.nearest_training(generated, train, judge)
        tests = real.select(pictures.first_of_each(real, pictures.SEARCHED))
        real_distances, real_indices = pictures.nearest_training(tests, train, judge)
        samples[name] = distances
        # Without test images they are the held-out ones, which are strangers only to runs that leave them out.
        strangers = has_test(gaze.eyes.dataset) or run.read_recipe().data.split == "fit"
        if strangers and not any(np.array_equal(real_distances, known) for known in unlike):
            unlike.append(real_distances)
        first = pictures.pairs(generated.select(slice(SHOWN)), train.pixels[indices[:SHOWN]], judge)
        captions = _distance_captions(generated, distances, range(SHOWN))
        real_middle = f"{np.median(real_distances):.2f}" if strangers else "none are at hand, it was trained on all"
        blocks += [
            Paragraph(
                f"{name}: its first {len(first)} images above the nearest of {len(train):,} training images. Median "
                f"distance of {len(generated)} images: {np.median(distances):.2f}; of unseen real ones: {real_middle}."
                + (" The class under a pair is the one asked for, above." if generated.labels is not None else "")
            ),
            Tiles(f"{name}-nearest", first, captions, f"{name}, generated above nearest training image",
                  metadata.COMPOSITE_TYPE),
        ]  # fmt: skip
        if strangers and not unseen:
            chosen = pictures.first_of_each(tests, SHOWN)[:SHOWN]
            pairs = pictures.pairs(tests.select(chosen), train.pixels[real_indices[chosen]], judge)
            unseen = [
                Paragraph("For comparison, real images that no training has seen, above their nearest training image:"),
                Tiles("_unseen-nearest", pairs, _distance_captions(tests, real_distances, chosen),
                      "real test image above nearest training image"),
            ]  # fmt: skip
    chart = Chart(
        "nearest-distances",
        charts.ranges(samples, unlike, "distance to the nearest training image (brightness)"),
        "Distribution of distances to the nearest training image: medians "
        + "; ".join(f"{name} {np.median(one):.2f}" for name, one in samples.items())
        + "".join(f"; unseen real images {np.median(one):.2f}" for one in unlike[:1]),
        "A line far to the left of unseen real images would speak of copies." if unlike else "",
    )
    end = Paragraph(
        "Distances are Euclidean over all pixels, black 0 and white 1. A generated image as near as a real one is no "
        "copy; whether some are copies, near_duplicates and data_copying in the table of scores test on all images."
    )
    return Section("neighbours", "Generated beside the nearest real image", [*blocks, *unseen, chart, end])


def _distance_captions(images: Images, distances: np.ndarray, which: range | np.ndarray) -> list[str]:
    found = []
    for k in list(which)[: len(images)]:
        label = f"{images.class_names[images.labels[k]]}\n" if images.labels is not None else ""
        found.append(f"{label}{distances[k]:.2f} away")
    return found


def data_section(gaze: GalleryInputs, say: Say) -> Section | None:
    """Class counts and the first ten images of each class."""
    dataset = gaze.eyes.dataset
    say("class counts")
    train = open_data(dataset, part="train")
    sets = {"train": train} | ({"test": open_data(dataset, part="test")} if has_test(dataset) else {})
    if train.labels is None:
        sheet = tiles.picture_of(train.pixels[:30], 10)
        picture = Picture("first-images", grids.png(sheet), "The first training images", 2 * sheet.width)
        return Section("data", "The data set", [Paragraph(describe_images(train)), picture])
    counts = {split: inspection.class_counts(images) for split, images in sets.items() if images.labels is not None}
    rows: list[list[Cell]] = []
    for label, name in enumerate(train.class_names):
        first = train.pixels[np.flatnonzero(train.labels == label)[:SHOWN]]
        content = grids.png(tiles.picture_of(first, len(first)))
        alt = f"The first {len(first)} training images of {name}"
        strip = Picture(f"class-{label}", content, alt, _strip_width(train))
        rows.append([name, *[f"{counts[split][name]:,}" for split in counts], strip])
    figure = charts.class_counts({split: list(of.values()) for split, of in counts.items()}, train.class_names)
    even = all(len(set(of.values())) == 1 for of in counts.values())
    alt = "Bars of images per class: " + ("all classes are equally frequent" if even else "counts as in the table")
    heads = ["class", *counts, f"first {SHOWN} training images"]
    return Section("data", "The data set", [
        Paragraph("; ".join(describe_images(images).partition(", 1")[0] for images in sets.values()) + "."),
        Table(heads, rows), Fold("The same counts as bars", [Chart("class-counts", figure, alt)]),
    ])  # fmt: skip


def _strip_width(images: Images) -> int:
    width = images.pixels.shape[3]
    return int((SHOWN * (width + tiles.GAP) - tiles.GAP) * (2 if width <= 32 else 1))


def prediction_section(comparison: Comparison, gaze: GalleryInputs) -> Section | None:
    """What the judge sees in generated images, and its confusion with the classes asked for."""
    names = gaze.eyes.real.class_names
    blocks: list[Block] = []
    matrices, shares = [], []
    for name, (_, seen) in gaze.looks.items():
        if seen.seen.logits is None or not names:
            continue
        chances = pictures.chances(seen.seen.logits)
        predicted = chances.argmax(1)
        asked = seen.images.labels
        captions = [
            (f"{seen.images.class_names[asked[k]]}\n" if asked is not None else "")
            + f"sees {names[predicted[k]]}\n{chances[k, predicted[k]]:.0%} sure"
            for k in range(2 * SHOWN)
        ]
        fitted = features.fit_pixels(seen.images.pixels[: 2 * SHOWN], gaze.eyes.judge.shape)
        blocks += [Paragraph(f"{name}: what the judge sees in its first {2 * SHOWN} images, and how sure it is."),
                   Tiles(f"{name}-predictions", fitted, captions, f"{name}, the judge's verdict",
                         metadata.SOURCE_TYPE)]  # fmt: skip
        if asked is not None and len(seen.images.class_names) == len(names):
            matrices.append(_confusion(comparison, name, np.stack([asked, predicted]), names))
        shares.append(
            [name, *[f"{share:.1%}" for share in np.bincount(predicted, minlength=len(names)) / len(predicted)]]
        )
    if not blocks:
        return None
    if matrices:
        blocks += [Paragraph("Of the images that were asked for as one class (rows), the share that the judge sees as "
                             "each class (columns), in per cent."), Gallery(matrices)]  # fmt: skip
    caption = f"Share of each class that the judge sees in {pictures.EXAMINED:,} generated images"
    blocks.append(Table(["generator", *names], shares, caption))
    return Section("predictions", "What the judge sees in generated images", blocks)


def _confusion(comparison: Comparison, name: str, pairs: np.ndarray, names: tuple[str, ...]) -> Chart:
    """The record's confusion matrix of the shown seed, over all measured images; else of the images seen here."""
    member = next(one for one in comparison.configurations if one.name == name).shown
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, tuple(pairs), 1)
    source = f"{pairs.shape[1]:,} images"
    if member and member.record:
        score = member.record.first("label_agreement")
        if score and (kept := score.details.get("confusion")):
            matrix, source = np.array(kept), f"{member.record.protocol.generated:,} images"
    right = matrix.trace() / max(1, matrix.sum())
    alt = f"Confusion matrix of {name}: {right:.1%} of the images are seen as the class that was asked for"
    figure = charts.confusion(matrix, names, "class that the judge sees", "class that was asked for")
    return Chart(f"{name}-confusion", figure, alt, f"{name}: {right:.1%} of {source} agree.")


def cloud_section(comparison: Comparison, gaze: GalleryInputs, say: Say) -> Section | None:
    """t-SNE of real and generated features, and beside each picture how well a neighbour tells them apart."""
    if not gaze.looks:
        return None
    items: list[Picture | Chart] = []
    reason = ""
    rows = []
    real, names = gaze.eyes.real, gaze.eyes.real.class_names
    for name, (_, seen) in gaze.looks.items():
        say(f"features of {name}")
        overlap = functools.partial(_neighbour_right, gaze.eyes, seen)
        digests = {"real": content_digest(real), "made": content_digest(seen.images)}
        right = float(cache.cached_json({"overlap": gaze.eyes.judge.fingerprint, **digests}, overlap))
        rows.append([name, f"{right:.1%}", _recorded(comparison, name)])
        try:
            places = pictures.embedding(gaze.eyes, seen)
        except ModisteError as error:
            reason = str(error)
            continue
        here, there = places[: len(real)], places[len(real) :]
        medians = {label: tuple(np.median(here[real.labels == k], axis=0)) for k, label in enumerate(names)
                   if real.labels is not None and (real.labels == k).any()}  # fmt: skip
        alt = f"t-SNE of {len(here):,} real and {len(there):,} generated images of {name} in the judge's features"
        caption = f"{name}: a neighbour tells real from generated in {right:.1%} of cases (50 % = it cannot)."
        items.append(Chart(f"{name}-features", charts.clouds(here, there, medians), alt, caption))
    text = (
        "Two dimensions of many: t-SNE keeps neighbours but not distances or densities, and clouds seem to overlap "
        "long before they do. So the picture comes with a figure: how often the nearest neighbour in the judge's "
        "features says rightly whether an image is real or generated. 50 % means that it cannot tell."
    )
    blocks: list[Block] = [Paragraph(text)]
    blocks += [Gallery(items)] if items else []
    blocks += [Paragraph(f"t-SNE is left out: {reason}.")] if reason else []
    equal = min(len(real), pictures.EXAMINED)
    heads = ["generator", f"neighbour is right, {equal:,} + {equal:,} images", "the same in the scores"]
    blocks.append(Table(heads, rows))
    return Section("features", "Real and generated images in the judge's features", blocks)


def _neighbour_right(eyes: ReportFeatures, seen: RunFeatures) -> float:
    return manifold.two_sample_1nn(eyes.seen.vectors, seen.seen.vectors).value


def _recorded(comparison: Comparison, name: str) -> str:
    score = comparison.of_kind("two_sample_1nn")
    configuration = next(one for one in comparison.configurations if one.name == name)
    mean = comparison.summary(configuration, score).mean if score else None
    return "-" if mean is None else f"{mean:.1%}"
