"""Which images do not belong to what a run was trained on: scores, p-values, and pictures of the strangest."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modiste import config, files, parts, paths, progress, runs
from modiste.config import Data
from modiste.data import folders, idx, image_files, parquet, readers
from modiste.data.images import Images, content_digest
from modiste.data.npz import is_arrays
from modiste.data.sets import has_test, is_known_set, open_data
from modiste.data.subsets import drawn_subset
from modiste.errors import UsageError
from modiste.experiments.detection import conformal, detectors, pictures
from modiste.experiments.detection.conformal import FalseAlarms, Vector
from modiste.experiments.detection.detectors import STEPS, Detector, Fitted, Material
from modiste.latent.pictures import open_pictures, test_or_train
from modiste.metrics import features
from modiste.runs import Run
from modiste.sampling import discriminators, generators
from modiste.wording import counted

OURS = ("detect.json", "scores.csv", "strangest-*.png")
"""The files of a folder that `detect` writes, as patterns."""
SHOWN = 8
Log = Callable[[str], None]


@dataclass(frozen=True)
class DetectOptions:
    """The options of `modiste detect`."""

    alpha: float = 0.05
    """The rate of false alarms that is promised."""
    detectors: tuple[str, ...] = ()
    """Their names; none: all usual ones."""
    count: int = 1000
    """Held-out images that calibrate, and images that the false-alarm rate is measured on, at most."""
    steps: int = STEPS
    """Gradient steps of the search for the noise behind an image."""


@dataclass(frozen=True)
class RealParts:
    """Real images that no detector has learned from."""

    calibration: Images
    """The held-out ones that p-values count in."""
    belonging: Images
    """Others, on which the rate of false alarms is measured."""
    note: str


@dataclass(frozen=True)
class Finding:
    """What one detector says of all images."""

    detector: Detector
    scores: Vector
    p_values: Vector
    false_alarms: FalseAlarms

    def alarms(self, alpha: float) -> int:
        """Images with a p-value of at most alpha."""
        return int(conformal.alarms(self.p_values, alpha).sum())

    def order(self) -> list[int]:
        """The images from the strangest on."""
        found: list[int] = np.argsort(-self.scores, kind="stable").tolist()
        return found


@dataclass(frozen=True)
class Detection:
    """The result of `modiste detect`."""

    run: str
    images: str
    names: tuple[str, ...]
    """Of each image its file, or its number in the set."""
    known: int
    """How many are training images, whose p-values say nothing."""
    alpha: float
    calibrated_on: str
    held_out: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    folder: Path

    @property
    def expected_alarms(self) -> float:
        """Alarms of one detector that are to be expected where all images belong; training images give none."""
        return self.findings[0].false_alarms.promised * (len(self.names) - self.known)

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "run": self.run,
            "images": self.images,
            "count": len(self.names),
            "training_images": self.known,
            "expected_alarms": round(self.expected_alarms, 4),
            "alpha": self.alpha,
            "calibrated_on": self.calibrated_on,
            "held_out": self.held_out,
            "notes": list(self.notes),
            "folder": str(self.folder),
            "detectors": [
                {
                    "detector": one.detector.name,
                    "alarms": one.alarms(self.alpha),
                    "promised": one.false_alarms.promised,
                    "promised_likely": list(one.false_alarms.likely),
                    "measured": one.false_alarms.measured,
                    "measured_interval": list(one.false_alarms.interval),
                    "measured_on": one.false_alarms.images,
                    "strangest": [
                        {"image": self.names[k], "score": float(one.scores[k]), "p_value": float(one.p_values[k])}
                        for k in one.order()[:SHOWN]
                    ],
                }
                for one in self.findings
            ],
        }


def detect(
    run: str | Path | Run,
    images: str | Path,
    out: str | Path | None = None,
    *,
    options: DetectOptions = DetectOptions(),
    log: Log | None = None,
) -> Detection:
    """Score images by how strange they are to a run, and write scores.csv, detect.json and strangest-DETECTOR.png.

    `images` is a picture, a folder of pictures, an .npz, .npy or .parquet file, or a data set's name. The files lie in
    `out`, by default detect/RUN. A detector learns from the run's training images; its p-values count held-out images
    that are at least as strange.
    """
    run = run if isinstance(run, Run) else runs.open_run(run)
    folder = Path("detect") / run.name if out is None else Path(out)
    files.refuse_foreign_folder(folder, "folder of detections", OURS)
    conformal.check_alpha(options.alpha, options.count)
    names = detectors.chosen(options.detectors, discriminators.exists(run))
    dataset = run.read_recipe().data
    training = training_images(run, dataset)
    material = open_material(run, training, dataset, options.steps)
    notes = noticed(run, material, [one.name for one in names], options)
    found, image_names = read_images(images, dataset)
    check_shape(found, material)
    known = known_images(found, training)
    if known:
        notes.append(
            f"{known:,} of the {counted(len(found))} are training images of {run.name}, whose p-values say nothing"
        )
    real = real_parts(dataset, options.count)
    conformal.check_alpha(options.alpha, len(real.calibration))
    findings, fitted = [], []
    for detector in names:
        with progress.stage(f"{detector.name}: scores of {counted(len(found))}"):
            one = detector.fit(material)
            held_out = one.score(real.calibration.pixels)
            scores = one.score(found.pixels)
            belonging = conformal.p_values(held_out, one.score(real.belonging.pixels))
        rate = conformal.false_alarms(options.alpha, len(held_out), belonging)
        findings.append(Finding(detector, scores, conformal.p_values(held_out, scores), rate))
        fitted.append(one)
        if log:
            log(f"{detector.name}: {findings[-1].alarms(options.alpha):,} alarms among {counted(len(found))}")
    result = Detection(
        run=run.name, images=found.name, names=image_names, known=known, alpha=options.alpha,
        calibrated_on=real.calibration.name, held_out=len(real.calibration), findings=tuple(findings),
        notes=(*notes, real.note), folder=folder,
    )  # fmt: skip
    _write(result, found, fitted)
    return result


def training_images(run: Run, dataset: Data) -> Images:
    """The images that the run was trained on; UsageError where they are others by now."""
    images = open_data(dataset)
    if content_digest(images) != run.read_manifest().data.digest:
        raise UsageError(
            f"{dataset.name} is not what {run.path} was trained on any more, so detectors would learn from other "
            "images; put its images back"
        )
    return images


def open_material(run: Run, training: Images, dataset: Data, steps: int) -> Material:
    """What detectors learn from."""
    parts.require_trusted(config.own_parts(run.read_recipe()), run.path)
    discriminator = discriminators.load(run) if discriminators.exists(run) else None
    extractor = features.primary_extractor(dataset)
    return Material(detectors.learned_images(training), generators.load(run), discriminator, extractor, steps)


def noticed(run: Run, material: Material, names: Sequence[str], options: DetectOptions) -> list[str]:
    """What the user should know of the detectors of these names."""
    notes = []
    if (status := run.read_manifest().status) != "finished":
        notes.append(f"the training of {run.path} is not finished ({status}); this is what it has learned so far")
    if material.discriminator is None and not options.detectors:
        notes.append(f"{run.name} was kept without its discriminator, so that detector is left out")
    if material.extractor.name == "random" and "judge" in names:
        notes.append("there is no judge of these images, so the features of `judge` are those of a random network")
    if material.extractor.warning and "judge" in names:
        notes.append(material.extractor.warning)
    return notes


def real_parts(dataset: Data, count: int) -> RealParts:
    """At most `count` images to calibrate with and as many to measure on; UsageError where the run has seen them all.

    The run's own held-out images calibrate and test images measure; where there is only one of these, its halves.
    """
    available = [open_data(dataset, part="heldout")] if dataset.split == "fit" else []
    available += [open_data(dataset, part="test")] if has_test(dataset) else []
    if not available:
        raise UsageError(
            f"the run has seen every image of {dataset.name}, so none is left to calibrate with; train it with "
            "--set data.split=fit, which holds a tenth out, or add test images"
        )
    if len(available) == 1:
        whole = available[0]
        if len(whole) < 2:
            raise UsageError(f"{whole.name} has one image, which cannot be parted; give more images")
        half = drawn_subset(len(whole), whole.labels, len(whole) // 2, seed=0)
        available = [whole.select(half), whole.select(np.setdiff1d(np.arange(len(whole)), half))]
        why = "seen all training images" if dataset.split == "train" else "no test images"
        note = f"the run has {why}, so one half of {whole.name} calibrates and the other measures"
    else:
        note = f"{available[0].name} calibrates and {available[1].name} measures"
    drawn = [one.select(drawn_subset(len(one), one.labels, count, seed=0)) for one in available]
    calibration, belonging = drawn
    used = " and ".join(f"{len(one):,} of {len(whole):,}" for one, whole in zip(drawn, available, strict=True))
    return RealParts(calibration, belonging, f"{note} ({used} images)")


def read_images(what: str | Path, like: Data) -> tuple[Images, tuple[str, ...]]:
    """The pictures that `open_pictures` opens, and the name of each: its file in a folder, else its number."""
    images, path = open_pictures(what, like), readers.expanded(what)
    if is_known_set(str(what)):  # also where a local folder has its name
        return images, tuple(map(str, range(len(images))))
    if path.is_file() and image_files.is_picture(path):
        return images, (path.name,)
    if path.is_dir() and not (is_arrays(path) or idx.is_idx_folder(path) or parquet.files(path)):
        split = test_or_train(Data(name=str(path)))
        return images, tuple(file.relative_to(path).as_posix() for file in folders.list_folder(path, split).files)
    return images, tuple(map(str, range(len(images))))


def check_shape(images: Images, material: Material) -> None:
    """UsageError for images of another size, or in other colours, than the generator's."""
    shape = material.generator.shape
    channels, height, width = images.pixels.shape[1:]
    if (channels, height, width) != (shape.channels, shape.size, shape.size):
        kinds = {1: "grey", 3: "in colour"}
        raise UsageError(
            f"{images.name} has images of {width} x {height} pixels, {kinds[channels]}, and "
            f"{material.generator.source} was trained on {shape.size} x {shape.size}, {kinds[shape.channels]}; bring "
            "them to that"
        )


def known_images(images: Images, training: Images) -> int:
    """How many of the images are among the training images, pixel for pixel."""
    known = {hash(image.tobytes()) for image in training.pixels}
    return sum(hash(image.tobytes()) in known for image in images.pixels)


def _write(result: Detection, images: Images, fitted: Sequence[Fitted]) -> None:
    """Write the table of scores, the result, and a picture per detector that has a counterpart of images."""
    result.folder.mkdir(parents=True, exist_ok=True)
    for earlier in result.folder.glob("strangest-*.png"):
        earlier.unlink()
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    heads = [f"{one.detector.name} {what}" for one in result.findings for what in ("score", "p")]
    lines.writerow(["image", *heads])
    for k, name in enumerate(result.names):
        numbers = [f"{value[k]:.6g}" for one in result.findings for value in (one.scores, one.p_values)]
        lines.writerow([name, *numbers])
    files.write_text(result.folder / "scores.csv", text.getvalue())
    for finding, one in zip(result.findings, fitted, strict=True):
        if one.counterpart is not None:
            order = finding.order()[:SHOWN]
            chosen = images.pixels[order]
            captions = [f"{_short(result.names[k])}\np = {finding.p_values[k]:.2g}" for k in order]
            title = f"{result.images}: the strangest to {result.run} by {finding.detector.name}"
            picture = pictures.strangest(title, chosen, one.counterpart(chosen), captions, finding.detector)
            files.write_bytes(result.folder / f"strangest-{finding.detector.name}.png", picture)
    files.write_json(result.folder / "detect.json", paths.without_paths(result.to_json()))


def _short(name: str) -> str:
    last = Path(name).stem
    return last if len(last) <= 10 else f"{last[:9]}…"
