"""Do the scores say what they should? Real images, made worse in known ways, through the whole suite.

Each row measures 5,000 real Fashion-MNIST images, mostly held-out ones, against the test images after one kind of
damage at one strength. The Fréchet distance must rise strictly with every kind but the last two; shuffled labels must
lower label agreement, copies of training images must raise the memorisation alarms, and both nothing else.

    python benchmarks/sanity.py --out docs        # `make sanity`: some minutes; prints Markdown, draws docs/sanity.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFilter

from modiste import config, progress
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.evaluation import records
from modiste.metrics import features, judge, suite
from modiste.metrics.metric_names import MetricName
from modiste.networks.layers import ImageShape
from modiste.plotting import figures

COUNT = 5_000
MEMORISATION = ("nearest_ratio_pixels", "authenticity", "data_copying", "near_duplicates_pixels")
SHOWN = ("frechet", "precision_k3", "recall_k3", "coverage_k5", "label_agreement", *MEMORISATION)

Random = np.random.Generator
Damage = Callable[[Images, float, Random], Images]


@dataclass(frozen=True)
class Kind:
    """One way to spoil images: its strengths in order, their unit, and what must happen."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    damage: Damage
    moves: str = "frechet"


def gaussian_noise(images: Images, sigma: float, random: Random) -> Images:
    noisy = images.pixels + random.normal(0, sigma, images.pixels.shape)
    return replace(images, pixels=np.round(noisy).clip(0, 255).astype(np.uint8))


def blur(images: Images, radius: float, random: Random) -> Images:
    rows = [np.asarray(Image.fromarray(image[0]).filter(ImageFilter.GaussianBlur(radius))) for image in images.pixels]
    return replace(images, pixels=np.stack(rows)[:, None])


def salt_and_pepper(images: Images, share: float, random: Random) -> Images:
    hit = random.random(images.pixels.shape) < share / 100
    values = random.choice(np.array([0, 255], np.uint8), images.pixels.shape)
    return replace(images, pixels=np.where(hit, values, images.pixels))


def missing_classes(images: Images, missing: float, random: Random) -> Images:
    """The images of the remaining classes, so fewer of them."""
    return images.select(images.labels >= missing)


def shuffled_labels(images: Images, share: float, random: Random) -> Images:
    labels = images.labels.copy()
    chosen = random.permutation(len(images))[: round(len(images) * share / 100)]
    labels[chosen] = random.permutation(labels[chosen])
    return replace(images, labels=labels)


def training_copies(images: Images, share: float, random: Random) -> Images:
    """Some images replaced by training images of the same class, as they are."""
    fit = open_data(config.Data(), part="fit")
    pixels = images.pixels.copy()
    chosen = random.permutation(len(images))[: round(len(images) * share / 100)]
    for label in range(len(images.class_names)):
        places = chosen[images.labels[chosen] == label]
        pixels[places] = fit.pixels[random.choice(np.flatnonzero(fit.labels == label), len(places), replace=False)]
    return replace(images, pixels=pixels)


KINDS = (
    Kind("Gaussian noise", "deviation in grey levels of 255", (4, 8, 16, 32, 64), gaussian_noise),
    Kind("blur", "radius in pixels", (0.5, 0.75, 1, 1.5, 2), blur),
    Kind("salt and pepper", "% of pixels", (0.5, 1, 2, 5, 10), salt_and_pepper),
    Kind("missing classes", "classes of 10", (1, 2, 3, 5), missing_classes),
    Kind("shuffled labels", "% of labels", (10, 25, 50, 100), shuffled_labels, "label_agreement"),
    Kind("training images", "% copied", (5, 10, 25, 50, 100), training_copies, "memorisation"),
)


def reference(count: int) -> tuple[suite.Reference, Images]:
    """The test images through judge, second judge and random network, and the real images to be spoiled."""
    dataset = config.Data()
    test, heldout, fit = (open_data(dataset, part=part) for part in ("test", "heldout", "fit"))
    extractors = [features.from_judge(judge.load(name), name) for name in judge.SHIPPED]
    extractors.append(features.random_network(ImageShape(1, 28)))
    whole = suite.make_reference(test, "test", extractors, train=fit, unseen=test, count=count)
    return whole, heldout.select(slice(count))


def rows(count: int, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """One row of scores per kind and strength; the first is undamaged."""
    whole, real = reference(count)
    todo = [(kind, strength) for kind in KINDS for strength in kind.strengths]
    for done, (kind, strength) in enumerate([(None, 0.0), *todo]):
        name = kind.name if kind else "as they are"
        say(f"{done + 1} of {len(todo) + 1}: {name} {strength:g}")
        random = np.random.Generator(np.random.PCG64(0))
        spoiled = kind.damage(real, strength, random) if kind else real
        found = suite.measure(spoiled, whole).scores
        values = {str(name): score.value for name, score in found.items()}
        yield {"kind": name, "strength": strength, "unit": kind.unit if kind else "", "scores": values}


def of(row: dict[str, Any], kind: str, extractor: str = "garment") -> float:
    """The row's score of that kind, by the judge unless another extractor is named."""
    for name, value in row["scores"].items():
        parsed = MetricName.parse(name)
        if parsed.kind == kind and parsed.extractor in (extractor, ""):
            return float(value)
    raise KeyError(kind)


def verdicts(table: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What must hold, and whether it does."""
    clean, held = table[0], {}
    for kind in KINDS:
        ladder = [clean, *[row for row in table if row["kind"] == kind.name]]
        if kind.moves == "frechet":
            for extractor in ("garment", "second", "random"):
                values = [of(row, "frechet", extractor) for row in ladder]
                held[f"{kind.name}: Fréchet ({extractor}) rises strictly"] = bool(np.all(np.diff(values) > 0))
            continue
        still = [abs(of(row, "frechet") - of(clean, "frechet")) for row in ladder]
        held[f"{kind.name}: Fréchet moves by less than its real baseline"] = max(still) < of(clean, "frechet")
        if kind.moves == "label_agreement":
            values = [of(row, "label_agreement") for row in ladder]
            held[f"{kind.name}: label agreement falls strictly"] = bool(np.all(np.diff(values) < 0))
            for stem in MEMORISATION:
                same = all(of(row, stem) == of(clean, stem) for row in ladder)
                held[f"{kind.name}: {stem} does not move"] = same
        else:
            for stem in MEMORISATION:
                sign = 1 if stem == "near_duplicates_pixels" else -1
                values = [sign * of(row, stem) for row in ladder]
                held[f"{kind.name}: {stem} moves towards copying at every step"] = bool(np.all(np.diff(values) > 0))
            agreement = [abs(of(row, "label_agreement") - of(clean, "label_agreement")) for row in ladder]
            held[f"{kind.name}: label agreement moves by less than 0.06"] = max(agreement) < 0.06
    return held


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table for docs/validation.md."""
    heads = ["real images with", "strength", "Fréchet", "Fréchet, second judge", "Fréchet, random network"]
    heads += [stem.replace("_", " ") for stem in SHOWN[1:]]
    body = []
    for row in table:
        strength = f"{row['strength']:g} {row['unit']}" if row["unit"] else ""
        distances = [
            records.format_number(of(row, "frechet", extractor)) for extractor in ("garment", "second", "random")
        ]
        body.append(
            [row["kind"], strength, *distances, *[records.format_number(of(row, stem), 3) for stem in SHOWN[1:]]]
        )
    return records.markdown(heads, body)


def draw(
    kinds: Mapping[str, tuple[str, Sequence[float]]], values: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """Scores over rising strengths, one panel per kind: `kinds` has unit and strengths, `values` a line per extractor.

    Values are multiples of the undamaged images' score, on a logarithmic axis from 0.5 on.
    """
    columns, small = 3, figures.SMALL
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(7.5, 2.3 * rows), dpi=figures.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, (kind, (unit, strengths)) in zip(panels, kinds.items(), strict=False):
        for index, (name, lines) in enumerate(values.items()):
            axes.plot([0, *strengths], [1, *lines[kind]], "o-", ms=3, lw=1, color=figures.COLOURS[index], label=name)
        axes.axhline(1, color="#999999", lw=0.7, ls=":")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        axes.set_title(kind, fontsize=small + 1)
        axes.set_xlabel(unit, fontsize=small)
        axes.tick_params(labelsize=small - 1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("Fréchet distance / that of undamaged images", fontsize=small)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(values), frameon=False, fontsize=small)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and the verdicts, draw the picture."""
    parser = argparse.ArgumentParser(description="Known damage to real images, measured by the whole suite.")
    parser.add_argument("--count", type=int, default=COUNT, help="real images per row")
    parser.add_argument("--out", type=Path, help="folder for sanity.png")
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")
    options = parser.parse_args(arguments)
    with progress.live_log("sanity") as say:
        table = list(rows(options.count, say))
    held = verdicts(table)
    if options.out:
        ladders = {
            kind.name: (kind.unit, [row["strength"] for row in table if row["kind"] == kind.name]) for kind in KINDS
        }
        by_extractor = {
            extractor: {
                name: [of(row, "frechet", extractor) / of(table[0], "frechet", extractor) for row in table
                       if row["kind"] == name]
                for name in ladders
            }
            for extractor in ("garment", "second", "random")
        }  # fmt: skip
        options.out.mkdir(parents=True, exist_ok=True)
        figures.save(draw(ladders, by_extractor), options.out / "sanity.png")
    if options.json:
        print(json.dumps({"rows": table, "verdicts": held}, indent=2))
        return
    print(markdown(table), end="\n\n")
    for sentence, holds in held.items():
        print(f"- {'yes' if holds else '**NO**'}: {sentence}")


if __name__ == "__main__":
    main()
