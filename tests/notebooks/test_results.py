"""Results show themselves: pictures that are PNG files, names that stay text, and broken ones that say so."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_lab import images as images_in
from report_lab import study_of

import modiste
from modiste import runs
from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.records import Record as PlainRecord
from modiste.experiments.studies import StudyFolder
from modiste.notebooks.generated import GeneratedImages, Generator
from modiste.notebooks.results import Record, Report, Study
from modiste.notebooks.run import Run
from modiste.notebooks.shown import upgraded
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.reports import latex

MARKUP = "<script>alert(1)</script>&"


@pytest.fixture
def record(run: Path) -> Record:
    return upgraded(Record, records.read(run / "metrics.json"))


@pytest.fixture
def study(measured_run: Path, tmp_path: Path) -> Study:
    folder = study_of(measured_run, tmp_path / "study", {"a": (1.0, 1.1), "b": (3.0, 3.2)}, None)
    return Study(folder)


def test_a_generator_and_its_images_are_grids_that_say_they_are_synthetic(run: Path, tmp_path: Path) -> None:
    generator = modiste.load(run)
    assert isinstance(generator, Generator) and isinstance(generator, modiste.TrainedGenerator)
    for shown, pixels in ((generator, generator.sample(40)), (modiste.sample(run, count=4), generator.sample(4))):
        png = shown._repr_png_()
        assert png is not None and metadata.read_metadata(png)
        (tmp_path / "grid.png").write_bytes(png)
        assert np.array_equal(tiles.read_grid(tmp_path / "grid.png", 16), pixels)
    assert repr(generator) == "<generator of small: 1 x 16 x 16 pixels, 10 classes>"


def test_a_run_shows_its_state_images_and_curves(run: Path) -> None:
    shown = Run(run)
    page = shown._repr_html_()
    assert "finished, 320 images" in page and "start: 80 images" in page and "end: 320 images" in page
    assert page.count("data:image/png") == 5  # start, middle, end; losses, accuracy
    assert "go on" not in page
    runs.update_manifest(shown, status="interrupted")
    assert f"go on with modiste.train(&#34;{run}&#34;)" in shown._repr_html_()


def test_a_run_is_plotted_and_framed(run: Path) -> None:
    shown = Run(run)
    for what in ("losses", "accuracy", "film", "nearest", "gradient_norm_g"):
        assert isinstance(shown.plot(what), Figure)
    lines = shown.plot("losses").axes[0].get_lines()
    log = shown.read_log()
    assert [list(line.get_ydata()) for line in lines] == [[one[key] for one in log] for key in ("loss_g", "loss_d")]
    frame = shown.frame()
    assert list(frame["images"]) == [80, 160, 240, 320] and list(frame["loss_g"]) == [one["loss_g"] for one in log]
    with pytest.raises(UsageError, match=r"there is no plot 'loses' of .*; did you mean 'losses'\?"):
        shown.plot("loses")
    (shown.path / "samples").rename(run / "gone")
    with pytest.raises(UsageError, match="holds no grids, so there is no film"):
        shown.plot("film")


def test_a_record_is_a_table(record: Record, run: Path) -> None:
    page = record._repr_html_()
    assert all(name in page for name in record.scores) and "50 images against" in page
    frame = record.frame()
    assert list(frame["score"]) == list(record.scores)
    assert list(frame["value"]) == [score.value for score in record.scores.values()]
    plain = records.read(run / "metrics.json")
    assert isinstance(record, PlainRecord) and record == plain and plain == record
    assert record != replace(plain, name="other") and replace(plain, name="other") != record
    assert repr(record).startswith(f"<record of small: {len(record.scores)} scores, frechet_")


def test_a_study_is_a_table_with_verdicts_and_images(study: Study) -> None:
    page = study._repr_html_()
    assert page.count("data:image/png") == 2 and "<td" in page and "2/2" in page
    assert study.to_latex() == latex.study_table(study.path) and r"\toprule" in study.to_latex()
    for what in ("frechet", "radar", "film", "losses", "loss_d", "precision_k3"):
        assert isinstance(study.plot(what), Figure)
    assert len(study.frame()) == len(study.read_rows()) and study == StudyFolder(study.path)
    assert isinstance(study.run("a", 1), Run) and study.run("a", 1) == StudyFolder(study.path).run("a", 1)
    with pytest.raises(UsageError, match=r"there is no plot 'fréchet' of .*; did you mean 'frechet'\?"):
        study.plot("fréchet")


def test_a_report_has_its_table_and_a_link(run: Path) -> None:
    written = modiste.report(run)
    assert isinstance(written, Report) and f'href="{run}/report.html"' in written._repr_html_()
    assert repr(written) == f"<report in {run}/report.html>"


def test_names_stay_text(run: Path, record: Record, study: Study) -> None:
    """Of runs, classes, data sets, scores, warnings and recipes."""
    named = run.parent / "<b>run"
    run.rename(named)
    manifest = runs.Run(named).read_manifest()
    runs.update_manifest(runs.Run(named), data=replace(manifest.data, name=MARKUP), status="failed", reason=MARKUP)
    hostile = replace(record, name=MARKUP, warnings=[MARKUP], alarms=[MARKUP])
    for name in ("study.toml", "records.jsonl"):
        file = study.path / name
        file.write_text(file.read_text().replace("fake", "<b>fake"), encoding="utf-8")
    pages = [Run(named)._repr_html_(), hostile._repr_html_(), study._repr_html_()]
    assert all("<script" not in page and "<b>run" not in page and "<b>fake" not in page for page in pages)
    assert MARKUP.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in pages[0]


@pytest.mark.parametrize("file", ["manifest.json", "log.jsonl", "recipe.toml"])
def test_a_broken_run_shows_as_broken(run: Path, file: str) -> None:
    (run / file).write_text("{ no\n", encoding="utf-8")
    page = Run(run)._repr_html_()
    assert page.startswith("<p") and f"{run} is broken and cannot be shown: " in page and file in page
    assert f"{run / 'x'} is broken" in Run(run / "x")._repr_html_()


def test_what_else_is_broken_does_not_raise(run: Path, study: Study) -> None:
    generator = modiste.load(run)
    object.__setattr__(generator, "shape", replace(generator.shape, classes=3))
    assert generator._repr_png_() is None or isinstance(generator._repr_png_(), bytes)
    images = modiste.sample(run, count=4)
    object.__setattr__(images, "pixels", None)
    assert isinstance(images, GeneratedImages) and images._repr_png_() is None
    for grid in run.glob("samples/*.png"):
        grid.write_bytes(b"no picture")
    assert "is broken" in Run(run)._repr_html_()
    (study.path / "records.jsonl").write_text("no json", encoding="utf-8")
    assert "is broken" in study._repr_html_()
    (study.path / "study.toml").unlink()
    assert f"{study.path} is broken" in study._repr_html_()


def test_without_pandas_a_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"^pandas is not installed, and frame"):
        Run(run).frame()


def test_pictures_in_a_page_are_small(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(Run(run)._repr_html_(), encoding="utf-8")
    pictures: list[Any] = images_in(page)
    assert len(pictures) == 5 and max(map(len, pictures)) < 40_000
    assert len(json.dumps(page.read_text())) < 150_000
