"""Images through training: which ones a report shows, and how they stand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_lab import study_of

from modiste import runs
from modiste.data.images import Images
from modiste.experiments import conclusions
from modiste.plotting import tiles
from modiste.reports import (
    inputs,
    judge_features,
    summary,
    training_grids,
)
from modiste.reports.blocks import Picture, Table

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_stages_are_the_first_tick_the_middle_and_the_end_and_never_one_picture_twice(run: Path) -> None:
    opened = runs.Run(run)

    def shown() -> dict[str, int]:
        return {stage: int(grid.stem) for stage, grid in training_grids.stages(opened).items()}

    assert shown() == {"start": 80, "middle": 160, "end": 320}
    content = opened.list_grids()[1].read_bytes()
    opened.list_grids()[2].unlink()
    opened.list_grids()[2].unlink()
    assert shown() == {"start": 80, "end": 320}
    opened.list_grids()[1].unlink()
    assert shown() == {"start": 0, "end": 320}
    opened.list_grids()[0].write_bytes(opened.list_grids()[1].read_bytes())  # a generator that did not change
    assert shown() == {"start": 0}
    opened.list_grids()[0].unlink()
    assert shown() == {"end": 320}
    opened.list_grids()[0].rename(run / "samples" / "000000000.png")
    opened.list_grids()[0].write_bytes(content)
    assert shown() == {"start": 0}


def test_a_line_has_every_class_of_one_noise(run: Path) -> None:
    opened = runs.Run(run)
    chosen, columns = training_grids.line_by_line(opened, 2)
    classes = len(opened.read_manifest().data.classes)
    assert columns % classes == 0 and len(chosen) == 2 * columns and len(set(chosen)) == len(chosen)
    per_class = columns // classes
    assert [index // 10 for index in chosen[:columns]] == [label for label in range(classes) for _ in range(per_class)]


def test_real_images_stand_in_the_columns_of_their_classes(run: Path) -> None:
    dataset = inputs.open_path(run).read_dataset()
    assert dataset is not None
    real = judge_features.real_features(dataset).real
    pixels, columns, places = training_grids.first_of_classes(real, 2)
    assert places == list(range(2 * columns))
    assert real.labels is not None and len(pixels) == 2 * columns
    first = np.flatnonzero(real.labels == 0)
    assert (pixels[0] == real.pixels[first[0]]).all()
    assert (pixels[columns] == real.pixels[first[columns // len(real.class_names)]]).all()  # the line below


def test_a_class_with_few_real_images_leaves_places_empty() -> None:
    brightness = np.array([10, 11, 12, 20, 30, 31], np.uint8)
    pixels = np.broadcast_to(brightness[:, None, None, None], (6, 1, 8, 8))
    few = Images(pixels, np.array([0, 0, 0, 1, 3, 3]), ("a", "b", "c", "d"), "few")
    shown, columns, places = training_grids.first_of_classes(few, 3)
    assert columns == 4 * (each := 2)
    by_place = dict(zip(places, shown[:, 0, 0, 0].tolist(), strict=True))
    assert by_place == {0: 10, 1: 11, columns: 12, each: 20, 3 * each: 30, 3 * each + 1: 31}
    picture = np.asarray(tiles.picture_of(shown, columns, transparent=True, places=places))
    assert picture.shape[:2] == (2 * 10 - 2, columns * 10 - 2)
    opaque = picture[4::10, 4::10, 1] == 255
    assert sorted(np.flatnonzero(opaque.ravel())) == places


def test_a_film_begins_with_its_last_moment(run: Path) -> None:
    opened = runs.Run(run)
    content, _ = training_grids.film(opened, 2)
    chosen, columns = training_grids.line_by_line(opened, 2)
    last = tiles.read_grid(opened.list_grids()[-1], inputs.trained_shape(opened).size)[chosen]
    with Image.open(io.BytesIO(content)) as film:
        assert film.n_frames == len(opened.list_grids()) + 1  # type: ignore[attr-defined]
        still = np.asarray(film.convert("L"))
    assert np.array_equal(still, np.asarray(tiles.picture_of(last, columns)))


def test_all_configurations_of_a_study_are_in_one_table(measured_run: Path, tmp_path: Path) -> None:
    comparison = inputs.open_path(study_of(measured_run, tmp_path / "study", {"bad": (9.0,), "good": (1.0,)}, None))
    findings = conclusions.conclude(comparison.read_score_rows())
    section = training_grids.image_section(summary.ranked(comparison, findings), None)
    assert section is not None
    table = section.blocks[0]
    assert isinstance(table, Table) and list(table.heads) == ["configuration", "start", "middle", "end"]
    assert [row[0] for row in table.rows] == ["good", "bad"]
    names = [cell.name for cell in table.rows[0] if isinstance(cell, Picture)]
    assert names == ["good-start", "good-middle", "good-end"]
    assert training_grids.grid_section(comparison) is None
