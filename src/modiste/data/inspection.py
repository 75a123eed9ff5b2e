"""What is in a data set: counts, duplicates, doubtful labels, pictures of them, and what the set cannot tell."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modiste import files, progress
from modiste.config import Data
from modiste.data.advice import advise
from modiste.data.images import Images, content_digest, mean_and_deviation, parts
from modiste.data.published import FASHION_MNIST
from modiste.data.sets import has_test, list_warnings, obstacle, open_data, set_name
from modiste.data.subsets import drawn_subset, heldout_indices, is_published
from modiste.errors import ModisteError
from modiste.plotting import charts, figures
from modiste.wording import counted

SHOWN = 40
PICTURES = ("counts.png", "first-images.png", "duplicates.png", "label-issues.png")
FEWEST_PER_CLASS = 10


def inspect(settings: Data, out_dir: str | Path, label_issues: bool = False) -> dict[str, Any]:
    """What `summarise` says of a data set, what is held out, and `advice`, an `Advice`; pictures in out_dir, under
    `files`.

    counts.png, first-images.png, duplicates.png if there are any; `label_issues` adds label-issues.png. The last
    two show 40 images each. UsageError where one of these files is there and not Modiste's.
    """
    out_dir = Path(out_dir)
    _check_place(out_dir, PICTURES if label_issues else PICTURES[:-1])
    images_by_split = {"train": open_data(settings, part="train")}
    if has_test(settings):
        images_by_split["test"] = open_data(settings, part="test")
    result = summarise(images_by_split)
    train = images_by_split["train"]
    figures_by_file = {"counts.png": _counts_figure(images_by_split), "first-images.png": _first_images_figure(train)}
    if duplicates := [group for groups in result["duplicates"].values() for group in groups]:
        figures_by_file["duplicates.png"] = _duplicates_figure(images_by_split, duplicates)
    if label_issues:
        issues = find_label_issues(train)
        result["label_issues"] = _describe_issues(issues, train)
        if shown := result["label_issues"]["issues"][:SHOWN]:
            titles = [f"{issue['index']}: {issue['given']}\n{issue['suggested']}?" for issue in shown]
            pixels = train.pixels[[issue["index"] for issue in shown]]
            figures_by_file["label-issues.png"] = figures.image_grid(pixels, columns=8, titles=titles)
    advice, held = advise(train, settings), heldout_indices(train, settings.heldout)
    if not is_published(train):
        advice = replace(advice, obstacle=obstacle(train, settings, held))
        result["heldout"] = count_heldout(train, held)
    result["advice"] = asdict(advice)
    out_dir.mkdir(parents=True, exist_ok=True)
    drawn = {file: figure for file, figure in figures_by_file.items() if figure is not None}
    for file, figure in drawn.items():
        figures.save(figure, out_dir / file)
    result["files"] = [str(out_dir / file) for file in drawn]
    return result


def _check_place(out_dir: Path, names: Sequence[str]) -> None:
    """An error where files of these names cannot be written, or would replace another's; the folder is not made."""
    for name in names:
        files.refuse_foreign_file(out_dir / name)
    there = next(place for place in (out_dir, *out_dir.parents) if os.path.lexists(place))
    for name in out_dir.relative_to(there).parts[:1] or names:
        files.check_writable(there / name)


@progress.stage("comparing images with each other")
def summarise(images_by_split: Mapping[str, Images]) -> dict[str, Any]:
    """Plain values: size, digest, class counts and pixel mean and deviation (in [0, 1]) per split, and duplicates.

    `duplicates` holds groups of indices with byte-identical images, within each split and between each two;
    `warnings` are sentences on how the set was read.
    """
    groups = _by_content(images_by_split)
    duplicates = {
        split: [{split: indices} for indices in contents.values() if len(indices) > 1]
        for split, contents in groups.items()
    }
    for one, other in combinations(groups, 2):
        duplicates[f"{one} and {other}"] = [
            {one: groups[one][content], other: groups[other][content]}
            for content in groups[one]
            if content in groups[other]
        ]
    return {
        "splits": {split: _facts(images) for split, images in images_by_split.items()},
        "duplicates": duplicates,
        "warnings": list(dict.fromkeys(note for images in images_by_split.values() for note in list_warnings(images))),
    }


def _facts(images: Images) -> dict[str, Any]:
    _, channels, height, width = images.pixels.shape
    mean, deviation = mean_and_deviation(images)
    return {
        "name": images.name,
        "images": len(images),
        "height": height,
        "width": width,
        "channels": channels,
        "class_counts": counts_by_name(images),
        "pixel_mean": round(mean, 6),
        "pixel_deviation": round(deviation, 6),
        "digest": content_digest(images),
    }


def counts_by_name(images: Images) -> dict[str, int]:
    """The number of images per class name; empty if there are no labels."""
    if images.labels is None:
        return {}
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    return dict(zip(images.class_names, map(int, counts), strict=True))


def _by_content(images_by_split: Mapping[str, Images]) -> dict[str, dict[bytes, list[int]]]:
    """Per split, indices by the hash of the image's bytes, of images that are found more than once in all splits."""
    hashes = {
        split: b"".join(_hash(image) for part in parts(images.pixels) for image in part)
        for split, images in images_by_split.items()
    }
    beginnings = {split: np.frombuffer(content, "<u8")[::2] for split, content in hashes.items()}
    values, counts = np.unique(np.concatenate(list(beginnings.values())), return_counts=True)
    groups: dict[str, dict[bytes, list[int]]] = {}
    for split, content in hashes.items():
        groups[split] = defaultdict(list)
        for index in np.flatnonzero(np.isin(beginnings[split], values[counts > 1])).tolist():
            groups[split][content[16 * index : 16 * index + 16]].append(index)
    return groups


def _hash(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def count_heldout(train: Images, held: NDArray[np.int64]) -> dict[str, int]:
    """How many images (and groups) of a training set are held out, of how many."""
    facts = {"images": len(held), "of": len(train)}
    if (groups := train.groups) is not None:
        facts |= {"groups": len({groups[k] for k in held}), "of_groups": len(set(groups))}
    return facts


class LabelIssues(NamedTuple):
    """Images whose label is doubtful, most doubtful first; all arrays are [K]."""

    indices: NDArray[np.int64]
    given: NDArray[np.int64]
    suggested: NDArray[np.int64]
    self_confidence: NDArray[np.float64]
    """The probability of the given label by a classifier that has not seen the image."""


@progress.stage("looking for doubtful labels")
def find_label_issues(images: Images, trees: int = 100) -> LabelIssues:
    """Doubtful labels by confident learning (Northcutt, Jiang and Chuang, JAIR 2021), a list to look through.

    The probabilities are the out-of-bag votes of extremely randomised trees on the pixels (each image is judged by
    the trees that have not seen it): a small model, whose doubts are reasons to look, not proofs. On the 60,000
    images of Fashion-MNIST it takes a minute and ranks six mislabels known by hand among the first 500.
    """
    try:
        from cleanlab import filter as cleanlab_filter
        from sklearn.ensemble import ExtraTreesClassifier
    except ImportError as error:
        raise ModisteError(
            f"looking for label issues needs {error.name}; install it with pip install 'modiste[labels]'"
        ) from None
    if images.labels is None or len(images.class_names) < 2:
        raise ModisteError(f"{images.name} has no labels of two or more classes; add labels to look for wrong ones")
    fewest = int(np.bincount(images.labels, minlength=len(images.class_names)).min())
    if fewest < FEWEST_PER_CLASS:
        raise ModisteError(
            f"{images.name} has a class of {counted(fewest)}; "
            f"label issues can be judged from {FEWEST_PER_CLASS} per class, so add images"
        )
    forest = ExtraTreesClassifier(trees, bootstrap=True, oob_score=True, n_jobs=-1, random_state=0)
    forest.fit(images.pixels.reshape(len(images), -1), images.labels)
    probabilities = forest.oob_decision_function_
    indices = cleanlab_filter.find_label_issues(
        images.labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    given = images.labels[indices]
    return LabelIssues(
        indices=np.asarray(indices, np.int64),
        given=given,
        suggested=probabilities[indices].argmax(axis=1).astype(np.int64),
        self_confidence=probabilities[indices, given].astype(np.float64),
    )


def _describe_issues(issues: LabelIssues, train: Images) -> dict[str, Any]:
    rows = [
        {"index": index, "given": train.class_names[given], "suggested": train.class_names[suggested],
         "self_confidence": round(confidence, 4)}
        for index, given, suggested, confidence in zip(*(column.tolist() for column in issues), strict=True)
    ]  # fmt: skip
    return {"split": "train", "found": len(rows), "issues": rows}


def _counts_figure(images_by_split: Mapping[str, Images]) -> Figure | None:
    counts = {
        split: list(counts_by_name(images).values())
        for split, images in images_by_split.items()
        if images.labels is not None
    }
    train = images_by_split["train"]
    return None if train.labels is None else charts.class_chart(counts, train.class_names)


def _first_images_figure(train: Images) -> Figure:
    """Ten images of every class, drawn from all of it since its first ones may be alike; or 100 without labels."""
    if train.labels is None:
        return figures.image_grid(train.pixels[drawn_subset(len(train), None, 100, seed=0)], columns=10)
    members = [np.flatnonzero(train.labels == label) for label in range(len(train.class_names))]
    shown = np.concatenate([own[drawn_subset(len(own), None, 10, seed=0)] for own in members])
    return figures.rows_of_classes(train.pixels[shown], train.labels[shown], train.class_names)


def _duplicates_figure(images_by_split: Mapping[str, Images], groups: list[dict[str, list[int]]]) -> Figure:
    """The first identical images, each with its split, index and label: labels may differ where bytes do not."""
    pixels, titles = [], []
    members = [(split, index) for group in groups for split, indices in group.items() for index in indices]
    for split, index in members[:SHOWN]:
        images = images_by_split[split]
        pixels.append(images.pixels[index])
        titles.append(
            f"{split} {index}" + ("" if images.labels is None else f"\n{images.class_names[images.labels[index]]}")
        )
    return figures.image_grid(np.stack(pixels), columns=8, titles=titles)


FASHION_LIMITS = (
    "The images are thumbnails of 28 x 28 grey pixels: neither fabric nor print nor colour is in them, and a score "
    "on them says nothing about photographs.",
    "They are product photographs of one German online shop of about 2017, centred, without a person and without a "
    "background: what other regions, times, bodies and incomes wear is missing or rare, and a generator repeats that.",
    "Labels are the shop's own categories. Shirt, T-shirt/top, Pullover and Coat overlap, and some images are "
    "mislabelled (`modiste data --label-issues` lists candidates), so no label agreement can reach 100 %.",
)


def limits_of_data(images_name: str, labelled: bool) -> list[str]:
    """What the data set cannot tell, in sentences; `images_name` is that of the set or of a part of it."""
    if set_name(images_name) == FASHION_MNIST.name:
        return list(FASHION_LIMITS)
    sentences = [
        f"What {images_name} leaves out, no score on it can see; say where it comes from, who is in it and who is not, "
        "before a conclusion is drawn from it."
    ]
    if labelled:
        sentences.append("Its labels are taken as given; `modiste data --label-issues` lists the doubtful ones.")
    return sentences
