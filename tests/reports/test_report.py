"""Reports of runs and studies, as the command line and Python write them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_lab import shown, study_of
from typer.testing import CliRunner

from modiste import cli, runs
from modiste.errors import UsageError
from modiste.evaluation import records, score_tables
from modiste.reports import (
    inputs,
    judge_features,
    render,
    report,
)

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_a_run_in_its_order(written: report.WrittenReport) -> None:
    run = written.html.parent
    assert (written.html, written.markdown) == (run / "report.html", run / "report.md") and written.finished
    anchors = re.findall(r'<section id="([^"]+)"', written.html.read_text())
    assert anchors == ["images", "answer", "grids", "curves", "published", "missing", "neighbours", "judge", "data",
                       "networks", "method"]  # fmt: skip
    page, text = written.html.read_text(), shown(written.html)
    assert page.index("<img ") < page.index('class="lead"') < page.index("<table")
    assert page.index('<nav aria-label="Contents"') < page.index("<main>")
    record = records.read(run / "metrics.json")
    for name, value, *_ in score_tables.rows(record):
        assert name in text and value in text
    assert "was shown 320 images" in text and "320 images shown" in text
    assert "another seed would differ, it cannot tell" in text
    assert "modiste evaluate" in text and str(runs.Run(run).read_manifest().torch) in text


def test_the_second_report_has_the_same_bytes(written: report.WrittenReport) -> None:
    first = written.html.read_bytes()
    assert report.report(written.html.parent).html.read_bytes() == first


def test_a_run_that_was_not_measured_says_what_to_type_and_measures_nothing(run: Path) -> None:
    (run / "metrics.json").unlink()
    page = report.report(run).html
    text = shown(page)
    assert f"modiste evaluate {run.name}" in text and "it was not evaluated" in text
    assert not (run / "metrics.json").exists() and "from noise to real images" not in text


def test_a_run_without_test_images_shows_its_scores_against_heldout_ones(run: Path) -> None:
    record = json.loads((run / "metrics.json").read_text())
    record["protocol"]["reference"]["part"] = "heldout"
    (run / "metrics.json").unlink()
    (run / "metrics-heldout.json").write_text(json.dumps(record))
    page = report.report(run).html
    assert "from noise to real images" in shown(page) and "it was not evaluated" not in shown(page)
    assert f"modiste evaluate {run.name} --count 50 --reference heldout" in shown(page)


def test_without_judge_and_scikit_learn_the_cloud_is_left_out_with_its_reason(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "empty"))  # where neither a judge nor a cloud is remembered
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    text = shown(report.report(run).html)
    assert "t-SNE is left out" in text and "modiste[report]" in text
    assert "neighbour is right" in text and "how sure it is" not in text


def test_a_study_that_has_just_begun_has_a_page_too(measured_run: Path, tmp_path: Path) -> None:
    study = study_of(measured_run, tmp_path / "study", {"good": (1.0,), "bad": (9.0,)}, None)
    shutil.rmtree(study / "runs")
    (study / "records.jsonl").unlink()
    comparison = inputs.open_path(study)
    assert not comparison.finished
    built = report.build(comparison, brief=True, refresh_seconds=7, log=print)
    page = render.to_html(built)
    assert 'http-equiv="refresh" content="7"' in page and "there is no answer yet" in page


@pytest.mark.parametrize("end", ["finished", "interrupted"])
def test_watching_ends_with_the_whole_report(end: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.update_manifest(runs.Run(run), status="running")
    live: list[str] = []

    def sleep(seconds: float) -> None:
        live.append((run / "report.html").read_text())
        runs.update_manifest(runs.Run(run), status=end)

    monkeypatch.setattr(report.time, "sleep", sleep)
    assert report.watch(run, seconds=3).finished
    (page,) = live
    assert 'content="3"' in page and "come when the training has ended" in page
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()


def test_what_is_neither_run_nor_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a run folder .* nor a study folder"):
        report.report(tmp_path)


@pytest.mark.parametrize(("out", "html"), [("swift-0.5", "swift-0.5.html"), ("a.md", "a.html"), ("b.html", "b.html")])
def test_a_report_keeps_the_name_it_is_given(out: str, html: str, tmp_path: Path) -> None:
    assert report.report_place(tmp_path, tmp_path / out) == tmp_path / html


def test_the_command_line_prints_the_same_table(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["report", str(run), "--out", str(tmp_path / "page.html"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert Path(told["html"]) == tmp_path / "page.html" and Path(told["html"]).is_file()
    assert [row[0] for row in told["rows"]] == list(records.read(run / "metrics.json").scores)


def test_the_command_line_ends_with_the_page_to_open(
    written: report.WrittenReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "report", lambda *_, **__: written)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    cli.app(["report", "run"], standalone_mode=False)
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"open {written.html}"
    assert max(len(line) for line in lines if not line.startswith("wrote ")) <= 80 and "Fréchet distance" in "".join(
        lines
    )


def test_features_that_cannot_be_computed_are_left_out_with_a_reason(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise UsageError("the data are gone; bring them back")

    monkeypatch.setattr(judge_features, "real_features", missing)
    assert "the data are gone" in shown(report.report(run).html)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_browser_shows_all_of_it_and_asks_for_nothing(
    written: report.WrittenReport, browser: Any, width: int, scheme: str
) -> None:
    page_file = written.html
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    facts = page.evaluate(
        """() => ({
            undecoded: [...document.images].filter(one => !one.complete || !one.naturalWidth).length,
            images: document.images.length,
            charts: document.querySelectorAll("figure.chart svg").length,
            wide: document.documentElement.scrollWidth,
            paper: getComputedStyle(document.body).backgroundColor,
            ink: getComputedStyle(document.querySelector("svg text")).fill,
        })"""
    )
    context.close()
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert facts["undecoded"] == 0 and facts["images"] > 40 and facts["charts"] >= 6
    assert facts["wide"] <= width
    dark = scheme == "dark"
    assert (brightness(facts["paper"]) < 60) == dark and (brightness(facts["ink"]) > 150) == dark


def brightness(colour: str) -> float:
    return float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]))
