"""The parts of a report on what the generators make: images beside real ones, through training, and as a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modiste.data.images import Images
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.reports.blocks import Block, Cell, Fold, Gallery, Paragraph, Picture, Section, Table
from modiste.reports.inputs import Comparison, Configuration, trained_shape
from modiste.reports.judge_features import ReportFeatures
from modiste.runs import Run
from modiste.sampling import grids
from modiste.wording import counted

COLUMNS = 10
"""Images in a line: one of each of ten classes, five of each of two."""
RUN_ROWS, STUDY_ROWS = 5, 2
"""Lines of images in a picture of a run, and in one of the many of a study."""
FRAMES = 16
SMALL_SIDE = 40
"""Pixels: images up to this side are drawn twice as large, and in more lines."""
STAGES = ("start", "middle", "end")


def image_section(comparison: Comparison, features: ReportFeatures | None) -> Section | None:
    """What the page begins with: of a run its images beside real ones, of a study all configurations through training.

    None where there is no image yet.
    """
    if comparison.is_study:
        return study_section(comparison, features)
    (configuration,) = comparison.configurations
    (member,) = configuration.members
    real = real_picture(features, RUN_ROWS) if features else None
    if member.run is not None and (every := member.run.list_grids()):
        made = _stage_picture(configuration, member.run, "made", every[-1], RUN_ROWS)
    elif features and (generated := features.runs.get(configuration.name)):  # a run without grids, as the shipped one
        picture = _arranged(*first_of_classes(generated.images, RUN_ROWS))
        made = _picture(f"{configuration.name}-made", picture, "Generated images", "Generated", True)
    else:
        return None
    blocks: list[Block] = [Gallery([made, *([real] if real else [])]), Paragraph(f"{_columns(member.run)}.")]
    return Section("images", "Images", "What it makes", blocks)


def study_section(comparison: Comparison, features: ReportFeatures | None) -> Section | None:
    """A table of grids: the configurations in rank order by start, middle and end, and real images below."""
    drawn = _drawn(comparison)
    if not drawn:
        return None
    rows: list[list[Cell]] = []
    for configuration, run in drawn:
        found = {
            stage: _stage_picture(configuration, run, stage, grid, STUDY_ROWS) for stage, grid in stages(run).items()
        }
        rows.append([configuration.name, *[found.get(stage, "") for stage in STAGES]])
    if features:
        rows.append(["real images", "", "", real_picture(features, STUDY_ROWS)])
    films = [film_picture(configuration, run, STUDY_ROWS) for configuration, run in drawn]
    text = (
        "Each row shows the same noises as training goes on. Nothing is chosen by look or rescaled; the "
        f"lowest seed of each configuration stands for it. {_columns(drawn[0][1])}."
    )
    blocks: list[Block] = [Table(["configuration", *STAGES], rows), Paragraph(text)]
    return Section("images", "Images", "What they make", [*blocks, Fold("The same as films", [Gallery(films)])])


def grid_section(comparison: Comparison) -> Section | None:
    """Of a run the same noise at start, middle and end, and as a film; None without grids and of a study."""
    drawn = [] if comparison.is_study else _drawn(comparison)
    if not drawn:
        return None
    ((configuration, run),) = drawn
    pictures = [_stage_picture(configuration, run, stage, grid, RUN_ROWS) for stage, grid in stages(run).items()]
    film = [film_picture(configuration, run, RUN_ROWS)] if len(run.list_grids()) > 1 else []
    text = "The same noises all along, nothing chosen by look. The film's first frame is the end of training."
    return Section(
        "grids", "Training", "The same noise through training", [Gallery([*pictures, *film]), Paragraph(text)]
    )


def _drawn(comparison: Comparison) -> list[tuple[Configuration, Run]]:
    """The configurations with the training that stands for each, of those that have grids."""
    found = [(one, one.find_representative()) for one in comparison.configurations]
    return [(one, member.run) for one, member in found if member and member.run and member.run.list_grids()]


def _columns(run: Run | None) -> str:
    classes = run.read_manifest().data.classes if run and trained_shape(run).classes else []
    return f"Columns: {', '.join(classes)}" if 0 < len(classes) <= COLUMNS else "The images are in no order"


def _stage_picture(configuration: Configuration, run: Run, stage: str, grid: Path, rows: int) -> Picture:
    """The chosen images of one of a run's grids, with how many images it had been shown."""
    images, side = int(grid.stem), trained_shape(run).size
    chosen, columns = line_by_line(run, rows)
    shown = f"{images:,} images shown (epoch {images / run.read_manifest().data.count:.1f})"
    caption = f"{stage}: {shown}" if stage in STAGES else f"Generated after {shown}"
    alt = f"{counted(len(chosen))} of {configuration.name} after {shown}"
    picture = _arranged(tiles.read_grid(grid, side)[chosen], columns)
    return _picture(f"{configuration.name}-{stage}", picture, alt, caption, True)


def real_picture(features: ReportFeatures, rows: int) -> Picture:
    """The first real images, a column per class as in the pictures of generated ones."""
    pixels, columns, places = first_of_classes(features.real, rows)
    name = features.real.name
    caption = f"Real images, the first of {name}"
    return _picture("_real", _arranged(pixels, columns, places), f"{counted(len(pixels))} of {name}", caption, False)


def _arranged(pixels: NDArray[np.uint8], columns: int, places: Sequence[int] | None = None) -> Image.Image:
    scale = 2 if pixels.shape[3] <= SMALL_SIDE else 1
    return tiles.picture_of(pixels, columns, scale=scale, transparent=True, places=places)


def _picture(name: str, picture: Image.Image, alt: str, caption: str, generated: bool) -> Picture:
    content = grids.png(picture)
    content = metadata.stamp(content, {"Title": caption}) if generated else content
    return Picture(name, content, alt, picture.width, caption)


def stages(run: Run) -> dict[str, Path]:
    """The run's grids at `start` (after its first tick), `middle` and `end`; of two start and end, of one the end.

    With one tick only, the start is the grid from before training, if there is one. No two show the same picture.
    """
    every = run.list_grids()
    trained = [grid for grid in every if int(grid.stem)]
    if len(trained) < 2:
        by_stage = dict(zip(("start", "end"), every, strict=False))
        by_stage = by_stage if len(every) > 1 or not trained else {"end": trained[0]}
    else:
        half = int(trained[-1].stem) / 2
        middle = min(trained[1:-1], key=lambda grid: abs(int(grid.stem) - half), default=None)
        by_stage = {"start": trained[0], **({"middle": middle} if middle else {}), "end": trained[-1]}
    first_stage: dict[bytes, str] = {}
    for stage, grid in by_stage.items():
        first_stage.setdefault(grid.read_bytes(), stage)
    return {stage: by_stage[stage] for stage in first_stage.values()}


def line_by_line(run: Run, rows: int) -> tuple[list[int], int]:
    """Which images of a run's grids a report shows, and in how many columns: a noise per line, its classes in order."""
    shape = trained_shape(run)
    rows = rows if shape.size <= SMALL_SIDE else min(rows, STUDY_ROWS)
    if not shape.classes:
        return list(range(min(grids.WITHOUT_CLASSES, COLUMNS * rows))), COLUMNS
    each, labels = _per_line(shape.classes), range(min(COLUMNS, shape.classes))
    rows = min(rows, grids.PER_CLASS // each)
    order = [grids.PER_CLASS * label + each * row + k for row in range(rows) for label in labels for k in range(each)]
    return order, len(labels) * each


def chosen_images(run: Run, per_class: int) -> list[int]:
    """So many noises of each class of a run's grids, class by class, or ten times as many without classes."""
    classes = trained_shape(run).classes
    if not classes:
        return list(range(min(grids.WITHOUT_CLASSES, COLUMNS * per_class)))
    noises = range(min(grids.PER_CLASS, per_class))
    return [grids.PER_CLASS * label + noise for label in range(min(COLUMNS, classes)) for noise in noises]


def _per_line(classes: int) -> int:
    """Images of a class in a line."""
    return max(1, COLUMNS // classes)


def first_of_classes(images: Images, rows: int) -> tuple[NDArray[np.uint8], int, list[int]]:
    """The first images of each class in the order of `line_by_line`, their columns, and the place of each.

    Where a class has fewer images than others, places in its columns stay empty.
    """
    rows = rows if images.pixels.shape[3] <= SMALL_SIDE else min(rows, STUDY_ROWS)
    if images.labels is None:
        pixels = images.pixels[: COLUMNS * rows]
        return pixels, COLUMNS, list(range(len(pixels)))
    each, shown = _per_line(len(images.class_names)), min(COLUMNS, len(images.class_names))
    columns = shown * each
    members = [np.flatnonzero(images.labels == label)[: each * rows] for label in range(shown)]
    at = {
        k // each * columns + label * each + k % each: row
        for label, of in enumerate(members)
        for k, row in enumerate(of)
    }
    places = sorted(at)
    return images.pixels[[at[place] for place in places]], columns, places


def film_picture(configuration: Configuration, run: Run, rows: int) -> Picture:
    """The run's film, whose first frame and so whose still is its last moment."""
    count = min(FRAMES, len(run.list_grids()))
    alt = f"Moving picture: how images of {configuration.name} change through training"
    content, width = film(run, rows)
    width *= 2 if trained_shape(run).size <= SMALL_SIDE else 1
    return Picture(f"{configuration.name}-film", content, alt, width, f"film of {count} moments", "gif")


def film(run: Run, rows: int) -> tuple[bytes, int]:
    """A GIF of the same noises through training, of a run that has grids, and its width in pixels.

    It begins with the last moment, which is what stands where nothing moves. Greys are as they are; of colours each
    frame keeps the 256 that a GIF can hold.
    """
    every = run.list_grids()
    moments = sorted({round(k) for k in np.linspace(0, len(every) - 1, min(FRAMES, len(every)))})
    chosen, columns = line_by_line(run, rows)
    side = trained_shape(run).size
    pictures = [tiles.picture_of(tiles.read_grid(every[k], side)[chosen], columns) for k in [moments[-1], *moments]]
    return grids.gif(pictures, seconds=4.0), pictures[0].width
