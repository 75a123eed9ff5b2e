"""The part of a report on how images change through training: grids of the same noise, and a film."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.reports.blocks import Block, Gallery, Paragraph, Picture, Section
from modiste.reports.inputs import Comparison, Configuration, Member, trained_shape
from modiste.runs import Run
from modiste.sampling import grids

MANY = 4
"""Configurations; with more of them each gets fewer pictures, so that the page stays small enough to send."""
SMALL_SIDE = 40
"""Pixels: images up to this side are shown twice as large, and more of them."""


def grid_section(comparison: Comparison) -> Section | None:
    """The same noise at start, middle and end per configuration, and the film of each."""
    drawn = [(one, one.find_representative()) for one in comparison.configurations]
    drawn = [(one, member) for one, member in drawn if member and member.run and member.run.list_grids()]
    if not drawn:
        return None
    blocks: list[Block] = [
        Paragraph(
            "Each grid shows the same noises, so that columns can be followed from start to end; with classes there is "
            "one per row. Pixels are as the generator made them: nothing is chosen by look or rescaled."
            + (" The lowest seed of each configuration stands for it." if comparison.is_study else "")
        )
    ]
    many = len(drawn) > MANY
    frames, per_class = (12, 1) if many else (20, 2)
    for configuration, member in drawn:
        assert member is not None and member.run is not None
        run, name = member.run, configuration.name
        blocks.append(Gallery(list(_stage_pictures(comparison, configuration, member, run, 3 if many else 5))))
        alt = f"Moving picture: how images of {name} change through training"
        caption = f"{name}: {min(frames, len(run.list_grids()))} moments of the whole training"
        width = _magnification(run) * (10 * (trained_shape(run).size + tiles.GAP) - tiles.GAP)
        blocks.append(Picture(f"{name}-film", film(run, frames, per_class), alt, width, caption, "gif"))
    return Section("grids", "The same noise at start, middle and end", blocks)


def _stage_pictures(
    comparison: Comparison, configuration: Configuration, member: Member, run: Run, columns: int
) -> Iterator[Picture]:
    epoch_images = run.read_manifest().data.count
    side = trained_shape(run).size
    columns = columns if side <= SMALL_SIDE else 2
    chosen = chosen_images(run, columns)
    for stage, grid in stages(run).items():
        images = int(grid.stem)
        moment = f"{stage}, {images:,} images shown (epoch {images / epoch_images:.1f})"
        picture = tiles.picture_of(tiles.read_grid(grid, side)[chosen], columns)
        caption = f"{configuration.name}, {moment}" + (f", seed {member.seed}" if comparison.is_study else "")
        alt = f"{len(chosen)} images that {configuration.name} makes at the {moment}"
        content = metadata.stamp(grids.png(picture), {"Title": caption})
        yield Picture(f"{configuration.name}-{stage}", content, alt, _magnification(run) * picture.width, caption)


def _magnification(run: Run) -> int:
    return 2 if trained_shape(run).size <= SMALL_SIDE else 1


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


def chosen_images(run: Run, per_class: int) -> list[int]:
    """Which images of a run's grids a report shows: so many noises of each class, or ten times as many without."""
    classes = trained_shape(run).classes
    if not classes:
        return list(range(min(64, 10 * per_class)))
    return [10 * label + noise for label in range(min(10, classes)) for noise in range(min(10, per_class))]


def film(run: Run, frames: int, per_class: int) -> bytes:
    """A GIF of a few of the same noises through training, class by class, of a run that has grids.

    Greys are as they are; of colours each frame keeps the 256 that a GIF can hold.
    """
    every, shape = run.list_grids(), trained_shape(run)
    moments = sorted({round(k) for k in np.linspace(0, len(every) - 1, min(frames, len(every)))})
    chosen = np.array(chosen_images(run, per_class))
    order = chosen.reshape(-1, per_class).T.ravel() if shape.classes else chosen
    columns = -(-len(order) // per_class)
    pictures = [tiles.picture_of(tiles.read_grid(every[k], shape.size)[order], columns) for k in moments]
    return grids.gif(pictures, seconds=4.0)
