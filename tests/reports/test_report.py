"""Reports: what stands in them, that they are whole in one file, and that they say what is not known."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from modiste import cli, config, runs
from modiste import files as safe_files
from modiste.config import Data, Network, Recipe, Train
from modiste.errors import UsageError
from modiste.evaluation import records, score_tables
from modiste.evaluation.evaluate import evaluate
from modiste.evaluation.records import Protocol, Record, ReferenceFacts, ScoreEntry
from modiste.experiments import conclusions, results
from modiste.metrics.metric_names import MetricName
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.reports import galleries, inputs, methods, phrases, pictures, render, report, summary
from modiste.reports.blocks import Bullets, Code, Fold, Paragraph, Picture, Report, Section, Table
from modiste.sampling import grids
from modiste.training import trainer

pytestmark = pytest.mark.usefixtures("closet_judge")


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "EXAMINED", 60)
        patch.setattr(pictures, "SEARCHED", 20)
        yield


@pytest.fixture(scope="module")
def made(closet: Path, closet_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four ticks on the closet, measured on 50 images."""
    recipe = Recipe(
        name="small",
        about="A recipe for tests.",
        data=Data(name=str(closet)),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=320, batch_size=16, tick_images=80, precision="float32", threads=1),
    )
    path = tmp_path_factory.mktemp("runs") / "small"
    trainer.train(recipe, path)
    evaluate(path, count=50)
    return path


@pytest.fixture(scope="module")
def written(made: Path, tmp_path_factory: pytest.TempPathFactory) -> report.Written:
    """The report on it, written once; the stale picture of an earlier one and somebody's own lay in its folder."""
    run = tmp_path_factory.mktemp("written") / "small"
    shutil.copytree(made, run)
    (run / "report_files").mkdir()
    for name in ("stale.png", "mine.png"):
        (run / "report_files" / name).write_bytes(b"old")
    (run / "report.md").write_text(
        safe_files.text_with_mark("# Run small\n\n![one](report_files/stale.png)"), encoding="utf-8"
    )
    return report.write(run)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "small"))


def study_of(made: Path, folder: Path, effects: dict[str, tuple[float, ...]], failed: tuple[str, int] | None) -> Path:
    """A study folder of copies of one run, whose Fréchet distance is 5 % of noise's times each seed's effect."""
    seeds = len(next(iter(effects.values())))
    rows: list[dict[str, Any]] = []
    recipe = config.to_toml(runs.Run(made).read_recipe())
    for name in effects:
        safe_files.write_text(folder_of(folder, "") / f"{name}.toml", recipe)
    names = json.dumps([f"{name}.toml" for name in effects])
    safe_files.write_text(
        folder / "study.toml", f'name = "fake"\nabout = "Which?"\nrecipes = {names}\nseeds = {seeds}\n'
    )
    for name, factors in effects.items():
        for seed, factor in enumerate(factors):
            row: dict[str, Any] = dict.fromkeys(results.COLUMNS)
            row |= {"study": "fake", "configuration": name, "seed": seed, "reason": "", "status": "finished"}
            if failed == (name, seed):
                rows.append({**row, "status": "failed", "reason": "the loss is not finite"})
                continue
            copy = folder_of(folder, "runs") / f"{name}-seed{seed}"
            shutil.copytree(made, copy)
            record = records.read(copy / "metrics.json")
            scores = dict(record.scores)
            for full, score in record.scores.items():
                if score.kind in ("frechet", "frechet_infinite"):  # after so short a training nothing is learned
                    scores[full] = replace(score, value=0.05 * score.trivial * factor)
                rows.append({**row, "score": full, "value": scores[full].value, "better": score.better})
            records.write(copy / "metrics.json", replace(record, scores=scores))
    safe_files.write_text(folder / "records.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def answered(comparison: inputs.Comparison) -> tuple[Section, Table]:
    return summary.answer(comparison, conclusions.conclude(comparison.score_rows))


def folder_of(base: Path, name: str) -> Path:
    (base / name).mkdir(parents=True, exist_ok=True)
    return base / name


def shown(page: Path) -> str:
    """The page's text without pictures and styles."""
    text = re.sub(r"<style>.*?</style>|data:image/[^\"']+", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def images(page: Path) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(r"base64,([A-Za-z0-9+/=]+)", page.read_text())]


def test_a_run_in_its_order(written: report.Written) -> None:
    run = written.html.parent
    assert (written.html, written.markdown) == (run / "report.html", run / "report.md") and written.finished
    anchors = re.findall(r'<section id="([^"]+)"', written.html.read_text())
    assert anchors == ["answer", "grids", "neighbours", "scores", "curves", "networks", "data", "predictions",
                       "features", "stability", "method"]  # fmt: skip
    text = shown(written.html)
    record = records.read(run / "metrics.json")
    for name, value, *_ in score_tables.rows(record):
        assert name in text and value in text
    assert "was shown 320 images" in text and "320 images shown" in text
    assert "another seed would differ, it cannot tell" in text
    assert "modiste evaluate" in text and str(runs.Run(run).read_manifest().torch) in text


def test_the_page_is_whole_in_one_file(written: report.Written) -> None:
    page = written.html
    text = page.read_text()
    assert not re.findall(r'(?:src|href|action)="(?!data:|#)', text)
    assert "<script" not in text and "@import" not in text and not re.findall(r"url\((?!#)", text)
    pictures_ = images(page)
    assert len(pictures_) > 40
    for content in pictures_:
        Image.open(io.BytesIO(content)).load()
    assert all(alt.strip() for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text))
    assert len(re.findall(r"<img ", text)) == len(re.findall(r"<img [^>]*alt=", text))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {target for target in re.findall(r'href="#([^"]+)"', text)} <= set(ids)
    assert 'http-equiv="refresh"' not in text


def test_the_markdown_says_the_same_and_its_files_are_there(written: report.Written) -> None:
    run = written.html.parent
    assert written.markdown is not None
    text = written.markdown.read_text()
    files = re.findall(r"\]\((report_files/[^)]+)\)", text)
    there = sorted(f.name for f in (run / "report_files").iterdir())
    assert files and sorted([*(Path(file).name for file in files), "mine.png"]) == there
    for file in files:
        content = (run / file).read_bytes()
        if file.endswith(".svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
        elif file.endswith(".pdf"):
            assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
        else:
            Image.open(io.BytesIO(content)).load()
    drawn = {Path(file).stem for file in files if file.endswith(".svg")}
    assert {"radar", "bars-frechet", "curve-loss-g"} <= drawn
    assert {Path(file).stem for file in files if file.endswith(".pdf")} == drawn
    titles = [section.title for section in written.report.sections]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == titles
    (scores,) = [block.splitlines() for block in text.split("\n\n") if block.startswith("| score | generated")]
    assert len(scores) > 15 and len({len(re.findall(r"(?<!\\)\|", line)) for line in scores}) == 1


def test_pictures_with_generated_images_say_so(written: report.Written) -> None:
    said = {}
    for file in (written.html.parent / "report_files").glob("[!m]*.png"):
        said[file.stem] = metadata.read_metadata(file.read_bytes()).get("DigitalSourceType")
    for ending in ("start", "middle", "end"):
        assert {said[name] for name in said if name.endswith(f"-{ending}")} == {metadata.SOURCE_TYPE}
    assert {said[name] for name in said if name.endswith("-predictions")} == {metadata.SOURCE_TYPE}
    assert said["_unseen-nearest"] is None and said["class-1"] is None
    nearest = {said[name] for name in said if name.endswith("-nearest") and name != "_unseen-nearest"}
    assert nearest == {metadata.COMPOSITE_TYPE}


def test_the_second_report_has_the_same_bytes(written: report.Written) -> None:
    first = written.html.read_bytes()
    assert report.write(written.html.parent).html.read_bytes() == first


def test_a_run_that_was_not_measured_says_what_to_type_and_measures_nothing(run: Path) -> None:
    (run / "metrics.json").unlink()
    page = report.write(run).html
    text = shown(page)
    assert f"modiste evaluate {run.name}" in text and "was not measured" in text
    assert not (run / "metrics.json").exists() and 'id="scores"' not in page.read_text()


def test_a_record_of_other_weights_or_other_images_is_not_shown_as_the_runs(run: Path) -> None:
    record = records.read(run / "metrics.json")
    for changed in (
        replace(record, source={**record.source, "hash": "0" * 16}),
        replace(record, protocol=replace(record.protocol, generator={**record.protocol.generator, "truncation": 0.5})),
    ):
        records.write(run / "metrics.json", changed)
        (member,) = inputs.open_path(run).members
        assert member.record is None and "other weights" in member.reason
        (block, *_) = summary.not_measured(inputs.open_path(run))
        assert isinstance(block, Paragraph) and "was not measured as it is now" in block.text
    records.write(run / "metrics.json", record)
    assert inputs.open_path(run).members[0].record == record


def test_a_run_of_a_study_that_was_evaluated_otherwise_waits_to_be_measured(made: Path, tmp_path: Path) -> None:
    study = study_of(made, tmp_path / "study", {"good": (1.0, 1.0), "bad": (9.0, 9.0)}, None)
    place = study / "runs" / "good-seed1" / "metrics.json"
    record = records.read(place)
    record.protocol.generator["batch_norm_statistics"] = "standing"
    records.write(place, record)
    members = {(one.path.name, one.status, one.record is None) for one in inputs.open_path(study).members}
    assert ("good-seed1", "not measured yet", True) in members and ("good-seed0", "finished", False) in members


def test_a_study_folder_with_the_name_of_a_study_that_ships(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_of(made, tmp_path / "diaz", {"good": (1.0,), "bad": (9.0,)}, None)
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in inputs.open_path("diaz").configurations] == ["good", "bad"]


def test_a_run_that_goes_on_is_told_by_its_log(run: Path) -> None:
    runs.update_manifest(runs.Run(run), status="running", images=80, seconds=0.001)
    (member,) = inputs.open_path(run).members
    assert member.images == 320 and member.seconds == member.log[-1]["seconds"]


def test_the_command_of_an_evaluation_has_its_count(run: Path) -> None:
    assert f"modiste evaluate {run} --count 50" in methods.commands(inputs.open_path(run))


def test_images_that_were_trained_on_are_not_called_unseen(run: Path, closet: Path, tmp_path: Path) -> None:
    with np.load(closet) as whole:
        own = {key: whole[key] for key in whole.files if not key.startswith(("x_test", "y_test"))}
    recipe = runs.Run(run).read_recipe()
    np.savez(tmp_path / "own.npz", **own)
    changed = recipe.model_copy(update={"data": Data(name=str(tmp_path / "own.npz"))})
    safe_files.write_text(run / "recipe.toml", config.to_toml(changed))
    dataset = inputs.open_path(run).dataset
    assert dataset is not None
    eyes = pictures.open_features(dataset)
    looks = {"small": (runs.Run(run), pictures.examine(runs.Run(run), eyes))}
    section = galleries.neighbour_section(galleries.GalleryInputs(eyes, looks), print)
    assert section is not None
    said = " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))
    assert "it was trained on all" in said and "no training has seen" not in said


def test_a_run_without_test_images_shows_its_scores_against_heldout_ones(run: Path) -> None:
    record = json.loads((run / "metrics.json").read_text())
    record["protocol"]["reference"]["part"] = "heldout"
    (run / "metrics.json").unlink()
    (run / "metrics-heldout.json").write_text(json.dumps(record))
    page = report.write(run).html
    assert 'id="scores"' in page.read_text() and "was not measured" not in shown(page)
    assert f"modiste evaluate {run.name} --count 50 --reference heldout" in shown(page)


def test_without_judge_and_scikit_learn_the_cloud_is_left_out_with_its_reason(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "empty"))  # where neither a judge nor a cloud is remembered
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    text = shown(report.write(run).html)
    assert "t-SNE is left out" in text and "modiste[report]" in text
    assert "neighbour is right" in text and "What the judge sees" not in text


def test_tiles_are_what_the_grid_was_drawn_from(run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 1, 16, 16), np.uint8)
    place = run / "samples" / "000000999.png"
    place.write_bytes(grids.png(tiles.grid(pixels, 10)))
    assert (tiles.read_grid(place, 16) == pixels).all()
    sheet = np.asarray(tiles.picture_of(pixels[:6], 3))
    assert sheet.shape == (34, 52) and (sheet[18:34, 36:52] == pixels[5, 0]).all()


def test_stages_are_the_first_tick_the_middle_and_the_end_and_never_one_picture_twice(run: Path) -> None:
    opened = runs.Run(run)

    def shown() -> dict[str, int]:
        return {stage: int(grid.stem) for stage, grid in pictures.stages(opened).items()}

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


def test_peaks_are_local_maxima_highest_first() -> None:
    values = [1.0, 5.0, 2.0, 2.0, 9.0, float("nan"), 3.0, 4.0]
    log = [{"epoch": float(k), "loss_g": value} for k, value in enumerate(values)]
    assert inputs.peaks(log) == [(4.0, 9.0), (1.0, 5.0), (7.0, 4.0)]


def test_chances_are_those_of_a_softmax() -> None:
    found = pictures.chances(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], np.float32))
    assert found == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))


def test_a_nearest_image_is_found_among_the_training_images(run: Path) -> None:
    opened = runs.Run(run)
    dataset = inputs.open_path(run).dataset
    assert dataset is not None
    eyes = pictures.open_features(dataset)
    train = pictures.training_images(opened, dataset)
    distances, indices = pictures.nearest_training(train.select(slice(3, 6)), train, eyes.judge)
    assert distances.tolist() == [0, 0, 0] and (train.pixels[indices] == train.pixels[3:6]).all()


def test_a_study_ranks_tells_apart_and_names_what_failed(made: Path, tmp_path: Path) -> None:
    effects = {"good": (1.0, 1.01, 1.02, 1.0), "twin": (1.01, 1.0, 1.0, 1.03), "bad": (5.0, 5.1, 4.9, 5.0)}
    study = study_of(made, tmp_path / "study", effects, ("twin", 3))
    written = report.write(study)
    table = written.report.summary
    assert [row[0] for row in table.rows][2:] == ["bad", "real images", "trivial"]
    ranks = {str(row[0]): str(row[1]) for row in table.rows}
    assert ranks["good"].endswith("a") and ranks["bad"].endswith("b")
    text = shown(written.html)
    assert "good and twin are better than bad" in text
    assert re.search(r"good and twin cannot be told apart", text)
    assert "1 of 12 runs failed" in text and "twin, seed 3 failed: the loss is not finite" in text
    comparison = inputs.open_path(study)
    score = comparison.of_kind("frechet")
    assert score is not None
    rows = results.read(study)
    mean = float(np.exp(np.mean(np.log(list(results.values(rows, score)["good"].values())))))
    assert "By the geometric mean of the Fréchet distance in the features of closet over 4 training seeds" in text
    assert "Fréchet distance: geometric" in text
    assert records.format_number(mean) in text


def test_the_alarms_of_a_study_are_a_line_for_each_kind(made: Path, tmp_path: Path) -> None:
    study = study_of(made, tmp_path / "study", {"calm": (1.0, 1.0), "loud": (1.0, 1.0), "odd": (1.0, 1.0)}, ("odd", 1))
    missing_and_copies = {
        ("loud", 0): (["coat"], 7),
        ("loud", 1): (["coat", "bag"], 0),
        ("odd", 0): (["bag"], 0),
        ("calm", 0): ([], 0),
        ("calm", 1): ([], 0),
    }
    for (name, seed), (missing, exact) in missing_and_copies.items():
        place = folder_of(study, "runs") / f"{name}-seed{seed}" / "metrics.json"
        record = records.read(place)
        shares = [0.0 if label in missing else 0.1 for label in record.protocol.reference.class_names]
        details = {
            "class_balance_tv": {"frequencies": shares, "images": 1000},
            "near_duplicates_pixels": {"exact": exact, "near": exact, "expected_near": 5.0},
            "frechet": {},
        }
        scores = {
            full: replace(score, details=details[score.kind])
            for full, score in record.scores.items()
            if score.kind in details
        }
        records.write(place, replace(record, scores=scores))
    first, _ = answered(inputs.open_path(study))
    doubts, *lists = [block for block in first.blocks if isinstance(block, Bullets)]
    assert len(doubts.items) == 1 and "few images (50 per run)" in doubts.items[0]
    assert [list(one.items) for one in lists] == [
        ["exact copies of training images: loud 1/2", "classes that are hardly ever made: loud 2/2, odd 1/1"]
    ]
    (fold,) = [block for block in first.blocks if isinstance(block, Fold)]
    (each,) = [block for block in fold.blocks if isinstance(block, Bullets)]
    assert len(each.items) == 4 and "loud, seed 1: classes that are hardly ever made: coat, bag" in each.items


def test_one_seed_gives_no_verdict(made: Path, tmp_path: Path) -> None:
    study = study_of(made, tmp_path / "study", {"good": (1.0,), "bad": (9.0,)}, None)
    first, _ = answered(inputs.open_path(study))
    assert isinstance(first.blocks[0], Paragraph)
    assert "no verdict on any pair is possible" in first.blocks[0].text
    assert "better" not in first.blocks[0].text


def test_a_study_of_one_configuration_has_nothing_to_compare(made: Path, tmp_path: Path) -> None:
    comparison = inputs.open_path(study_of(made, tmp_path / "study", {"alone": (1.0, 1.1, 1.2)}, None))
    first, _ = answered(comparison)
    assert isinstance(first.blocks[0], Paragraph) and "the only configuration" in first.blocks[0].text
    assert summary.verdict_blocks(conclusions.conclude(comparison.score_rows)) == []


def test_a_mean_over_fewer_seeds_does_not_come_first(made: Path, tmp_path: Path) -> None:
    effects = {"lucky": (1.0, 9.0), "steady": (1.1, 1.2)}
    first, _ = answered(inputs.open_path(study_of(made, tmp_path / "study", effects, ("lucky", 1))))
    assert isinstance(first.blocks[0], Paragraph)
    assert "over 2 training seeds, steady, of the 1 that have all of them, comes nearest" in first.blocks[0].text


def test_a_study_that_has_just_begun_has_a_page_too(made: Path, tmp_path: Path) -> None:
    study = study_of(made, tmp_path / "study", {"good": (1.0,), "bad": (9.0,)}, None)
    shutil.rmtree(study / "runs")
    (study / "records.jsonl").unlink()
    comparison = inputs.open_path(study)
    assert not comparison.finished
    built = report.build(comparison, brief=True, refresh_seconds=7, say=print)
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


def test_text_is_text_in_both_formats(tmp_path: Path) -> None:
    blocks = [
        Paragraph("a <b> & `code` *star*"),
        Bullets(["one | two"]),
        Code("x < y"),
        Table(["h|h", "n"], [["a|b", "1.5 [1, 2]"]]),
        Fold("more", [Paragraph("inside")]),
        Picture("dot", grids.png(Image.new("L", (2, 2))), 'an "alt"', 4),
    ]
    made_ = Report("T <i>", "", [Section("s", "S", blocks)], Table([], []))
    page = render.to_html(made_)
    assert "a &lt;b&gt; &amp; <code>code</code> *star*" in page and "T &lt;i&gt;" in page
    assert "1.5\n[1, 2]" in page and "x &lt; y" in page and "an &quot;alt&quot;" in page
    text = render.write_markdown(made_, tmp_path / "r.md").read_text()
    assert "| a\\|b | 1.5 \\[1, 2] |" in text.replace("\\]", "]") and "```\nx < y\n```" in text
    assert (tmp_path / "r_files" / "dot.png").is_file()


def test_links_of_the_markdown_lead_to_its_pictures(tmp_path: Path) -> None:
    picture = Picture("dot", grids.png(Image.new("L", (2, 2))), "a dot", 4)
    made_ = Report("T", "", [Section("s", "S", [picture, Table(["class [x|y]"], [["z"]])])], Table([], []))
    text = render.write_markdown(made_, tmp_path / "lr?1 (50%) #2 [日].md").read_text(encoding="utf-8")
    (target,) = re.findall(r"!\[a dot\]\((\S+)\)", text)
    assert not set(target) & set("?#()[] ") and (tmp_path / urllib.parse.unquote(target)).is_file()
    assert "| class \\[x\\|y\\] |" in text


def test_what_is_neither_run_nor_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a run folder .* nor a study folder"):
        report.write(tmp_path)


@pytest.mark.parametrize(("out", "html"), [("swift-0.5", "swift-0.5.html"), ("a.md", "a.html"), ("b.html", "b.html")])
def test_a_report_keeps_the_name_it_is_given(out: str, html: str, tmp_path: Path) -> None:
    assert report._place(SimpleNamespace(outputs=tmp_path), tmp_path / out) == tmp_path / html  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "nothing"), [(100.0, True), (20.0, False)])
def test_a_run_that_learned_nothing_is_told_so(value: float, nothing: bool) -> None:
    name = MetricName("frechet", "garment", 10_000, "test")
    score = ScoreEntry(name, value, 0.5, real=0.05, trivial=112.0)
    record = Record("run", {}, Protocol(ReferenceFacts("toy test"), 10_000), {str(name): score})
    assert ("nothing has been learned yet" in phrases.about_one(record)) == nothing


def test_groups_beyond_z_have_letters_of_their_own() -> None:
    assert [summary._letter(number) for number in (0, 25, 26, 51, 52)] == ["a", "z", "a1", "z1", "a2"]


def test_the_command_line_prints_the_same_table(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["report", str(run), "--out", str(tmp_path / "page.html"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert Path(told["html"]) == tmp_path / "page.html" and Path(told["html"]).is_file()
    assert [row[0] for row in told["rows"]] == list(records.read(run / "metrics.json").scores)


def test_a_look_that_cannot_be_had_is_a_sentence(run: Path, closet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise UsageError("the data are gone; bring them back")

    monkeypatch.setattr(pictures, "open_features", missing)
    assert "the data are gone" in str(galleries.look(inputs.open_path(run), print))
    assert "the data are gone" in shown(report.write(run).html)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_browser_shows_all_of_it_and_asks_for_nothing(
    written: report.Written, browser: Any, width: int, scheme: str
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
    assert facts["undecoded"] == 0 and facts["images"] > 40 and facts["charts"] >= 9
    assert facts["wide"] <= width
    dark = scheme == "dark"
    assert (brightness(facts["paper"]) < 60) == dark and (brightness(facts["ink"]) > 150) == dark


def brightness(colour: str) -> float:
    return float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]))
