"""No command replaces or removes a file that does not say that Modiste wrote it; its own outputs it replaces."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste import config, files, runs
from modiste.config import Recipe
from modiste.exports import model
from modiste.metrics import classifier_training, suite
from modiste.provenance import metadata
from modiste.reports import report
from modiste.sampling import generators, grids, writers
from modiste.training import trainer

Call = Callable[..., tuple[int, str, str]]

PICTURE = b"\x89PNG\r\n\x1a\n holidays"
FOREIGN = {
    ".png": PICTURE,
    ".gif": b"GIF89a holidays",
    ".html": b"<!doctype html><title>mine</title>",
    ".md": b"# Mine\n\nWritten by hand with Modiste in mind.\n",
    ".json": b'{"name": "mine", "version": "1.0"}\n',
    ".toml": b'# mine\nname = "mine"\n',
    ".db": b"mine",
    ".npz": b"PK\x03\x04 mine",
    ".parquet": b"PAR1 mine",
}


def foreign(place: Path) -> Path:
    """Somebody's own file in that place, of the kind that its name says."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(FOREIGN.get(place.suffix, b"mine, whatever it is\n"))
    return place


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Every file below the folder with its content, but for empty locks."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and not (path.name == ".lock" and not path.stat().st_size)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, closet: Path) -> Path:
    """A finished run on the closet."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = Recipe.model_validate({
        "name": "tiny",
        "data": {"name": str(closet), "count": 64},
        "network": {"z_dim": 8, "generator_widths": (8, 4), "discriminator_widths": (4, 8), "conditioning": "one-hot"},
        "train": {"images": 64, "batch_size": 16, "tick_images": 32, "precision": "float32", "threads": 1},
        "evaluate": {"every_images": 0},
    })  # fmt: skip
    trainer.train(recipe, path)
    return path


@pytest.fixture(scope="module")
def bench(made: Path, closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its pretrained export, a recipe, a study, a space, and generated pictures."""
    here = tmp_path_factory.mktemp("bench") / "work"
    shutil.copytree(made, here / "run")
    model.export_pretrained(made, here / "packed")
    (here / "tiny.toml").write_text(config.to_toml(runs.Run(made).read_recipe()), encoding="utf-8")
    (here / "plan.toml").write_text('name = "mine"\nrecipes = ["tiny.toml"]\nseeds = 1\n', encoding="utf-8")
    (here / "space.toml").write_text(
        'name = "mine"\nrecipe = "tiny.toml"\nobjective = "frechet"\ntrials = 1\n'
        '[space."train.lr_generator"]\nlow = 1e-4\nhigh = 1e-3\n',
        encoding="utf-8",
    )
    pictures = generators.load(here / "run").sample_set(12)
    writers.write(pictures, range(12), here / "pictures", "folder", mark=metadata.stamp)
    shutil.copy(closet, here / "closet.npz")
    return here


@pytest.fixture
def work(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, the current folder."""
    here = Path(shutil.copytree(bench, tmp_path / "work"))
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def idle(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that takes long may begin."""
    assert work.is_dir()
    for where, what in ((trainer, "loop"), (classifier_training, "train_classifier"), (suite, "measure"),
                        (generators, "generate"), (model, "to_onnx"), (model, "to_float16"),
                        (report, "build")):  # fmt: skip
        monkeypatch.setattr(where, what, lambda *_, **__: pytest.fail("work was begun"))


# What each command is asked, and the names that it writes, each of which may be somebody's own already.
REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "data": (["data", "closet.npz", "--out", "out"], ["out/counts.png", "out/first-images.png", "out/duplicates.png"]),
    "data --label-issues": (["data", "closet.npz", "--out", "out", "--label-issues"], ["out/label-issues.png"]),
    "train": (
        ["train", "tiny.toml", "--out", "out"],
        ["out/recipe.toml", "out/manifest.json", "out/log.jsonl", "out/samples/000000000.png", "out/state/0-a.pt",
         "out/generator.safetensors", "out/best.safetensors", "out/generator.json", "out/progress.gif", "out/.lock",
         "out/mlflow.txt", "out/tensorboard/events.mine", "out/.mine.writing"],
    ),
    "train --track": (["train", "tiny.toml", "--out", "out", "--track", "tensorboard"], ["out/tensorboard/events.1"]),
    "sample png": (["sample", "run", "--out", "out.png"], ["out.png"]),
    "sample gif": (["sample", "run", "--interpolate", "1", "2", "--out", "out.gif"], ["out.gif"]),
    "sample npz": (["sample", "run", "--out", "out.npz"], ["out.npz"]),
    "sample parquet": (["sample", "run", "--out", "out.parquet"], ["out.parquet"]),
    "set npz": (["sample", "run", "--per-class", "1", "--out", "out.npz"], ["out.npz", "out.npz.md"]),
    "set parquet": (["sample", "run", "--per-class", "1", "--out", "out.parquet"], ["out.parquet", "out.parquet.md"]),
    "set folder": (["sample", "run", "--per-class", "1", "--out", "out"], ["out/README.md", "out/Coat/000001.png"]),
    "set idx": (["sample", "run", "--per-class", "1", "--format", "idx", "--out", "out"],
                ["out/train-images-idx3-ubyte.gz", "out/train-labels-idx1-ubyte.gz"]),
    "set hub": (["sample", "run", "--per-class", "1", "--format", "huggingface", "--out", "out"],
                ["out/README.md", "out/data/train-00000-of-00001.parquet"]),
    "evaluate": (["evaluate", "pictures", "--data", "closet.npz", "--count", "12"], ["pictures.metrics.json"]),
    "evaluate npz": (["evaluate", "closet.npz", "--data", "closet.npz", "--count", "50"], ["closet.metrics.json"]),
    "evaluate --audit": (
        ["evaluate", "pictures", "--data", "closet.npz", "--count", "12", "--audit"],
        ["pictures.metrics.json", "pictures.audit-worst.png"],
    ),
    "evaluate --out": (["evaluate", "run", "--count", "50", "--out", "out.json", "--audit"],
                       ["out.json", "out.audit-worst.png"]),
    "evaluate pretrained": (["evaluate", "pretrained", "--count", "50"], ["runs/modiste-pretrained/metrics.json"]),
    "report": (["report", "run"], ["run/report.html", "run/report.md", "run/report_files/chart.png"]),
    "report --out": (["report", "run", "--out", "README"], ["README.html", "README.md", "README_files/holidays.png",
                                                             "README_files/loss.svg", "README_files"]),
    "study": (
        ["study", "plan.toml", "--out", "out", "--reference", "heldout"],
        ["out/study.toml", "out/plan.json", "out/recipes/tiny.toml", "out/records.csv", "out/records.jsonl",
         "out/logs/tiny-seed0.log", "out/runs/tiny-seed0/manifest.json", "out/.lock"],
    ),
    "search": (
        ["search", "space.toml", "--out", "out"],
        ["out/space.toml", "out/optuna.db", "out/recipes/tiny.toml", "out/trials.csv", "out/best.toml",
         "out/.finals", "out/runs/trial-0000/manifest.json", "out/workers/mine", "out/finalists/0/plan.json",
         "out/.lock"],
    ),
    "augment": (
        ["augment", "closet.npz", "--recipe", "tiny.toml", "--budgets", "all", "--seeds", "1", "--out", "out"],
        ["out/settings.toml", "out/recipe.toml", "out/data.json", "out/all-seed0/subset.npz", "out/records.csv",
         "out/report.md", "out/accuracy.png", "out/accuracy.svg", "out/logs/all-seed0.log", "out/.lock"],
    ),
    "judge train": (["judge", "train", "--data", "closet.npz", "--epochs", "1", "--out", "out"],
                    ["out.safetensors", "out.json"]),
    "export --onnx": (["export", "run", "--onnx", "--out", "out"], [f"out/{name}" for name in model.FILES]),
    "export --pretrained": (["export", "run", "--pretrained", "--out", "out"],
                            [f"out/{name}" for name in (*model.PRETRAINED_FILES, "metrics.json")]),
}  # fmt: skip


@pytest.mark.parametrize("command", REFUSED)
@pytest.mark.usefixtures("idle")
def test_every_name_that_a_command_writes_may_be_somebodys_own(command: str, work: Path, call: Call) -> None:
    words, places = REFUSED[command]
    for several in [*([place] for place in places), *([places] if "README_files" not in places else [])]:
        if "parquet" in command or "hub" in command:
            pytest.importorskip("pyarrow")
        for package in {"search": ("optuna",), "export --onnx": ("onnx", "onnxruntime"), "data --label-issues":
                        ("cleanlab",), "train --track": ("tensorboard",)}.get(command, ()):  # fmt: skip
            pytest.importorskip(package)
        mine = {place: foreign(work / place).read_bytes() for place in several}
        before = snapshot(work)
        code, _, said = call(*words)
        assert code in (1, 2) and said.count("\n") <= 2 and "Traceback" not in said, (several, said)
        assert snapshot(work) == before, several
        for place in mine:
            (work / place).unlink()
        for place in ("out", "README_files", "runs", *("run/report_files",)):
            shutil.rmtree(work / place, ignore_errors=True)


@pytest.mark.usefixtures("idle")
def test_a_link_and_a_folder_in_the_place_are_somebodys_own_too(work: Path, call: Call) -> None:
    (work / "out.png").symlink_to(work / "nowhere")
    (work / "pictures.metrics.json").mkdir()
    before = snapshot(work)
    assert call("sample", "run", "--out", "out.png")[0] == 2
    assert call("evaluate", "pictures", "--data", "closet.npz", "--count", "12")[0] in (1, 2)
    assert snapshot(work) == before and (work / "out.png").is_symlink()


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("name", [*model.PRETRAINED_FILES, "metrics.json"])
def test_one_foreign_file_in_an_export_of_ours(name: str, work: Path, call: Call) -> None:
    foreign(work / "packed" / name)
    before = snapshot(work)
    assert call("export", "run", "--pretrained", "--out", "packed")[0] in (1, 2)
    assert snapshot(work) == before


@pytest.mark.usefixtures("idle")
def test_ones_own_recipe_in_the_folder_to_train_in_stays(work: Path, call: Call) -> None:
    """As `modiste train mine/recipe.toml --out mine` would have replaced it by the resolved one, comments lost."""
    for place, words in (
        ("mine/recipe.toml", ["train", "mine/recipe.toml", "--out", "mine"]),
        ("mine/study.toml", ["study", "mine/study.toml", "--out", "mine", "--reference", "heldout"]),
        ("mine/recipe.toml", ["augment", "closet.npz", "--recipe", "mine/recipe.toml", "--out", "mine"]),
    ):
        (work / "mine").mkdir()
        text = (work / ("plan.toml" if "study" in place else "tiny.toml")).read_text(encoding="utf-8")
        text = text.replace("tiny.toml", "../tiny.toml")  # of a study
        (work / place).write_text(f"# what I think of it\n{text}", encoding="utf-8")
        before = snapshot(work)
        code, _, said = call(*words)
        assert code == 2 and Path(place).name in said, said
        assert snapshot(work) == before
        shutil.rmtree(work / "mine")


def test_a_database_of_other_studies_is_not_joined(work: Path, call: Call) -> None:
    pytest.importorskip("optuna")
    (work / "out").mkdir()
    with sqlite3.connect(work / "out" / "optuna.db") as database:
        database.execute("create table studies (study_id integer primary key, study_name text)")
        database.execute("insert into studies (study_name) values ('thesis')")
    database.close()
    before = snapshot(work)
    code, _, said = call("search", "space.toml", "--out", "out")
    assert code == 2 and "another study (thesis)" in said
    assert snapshot(work) == before


@pytest.mark.slow
@pytest.mark.usefixtures("closet_judge")
def test_the_second_time_replaces_what_the_first_one_wrote(work: Path, call: Call) -> None:
    """And nothing else in those folders is touched."""
    foreign(work / "out" / "thesis.txt")
    foreign(work / "page_files" / "mine.png")
    marker = snapshot(work / "out") | snapshot(work / "page_files")
    commands = [
        ["data", "closet.npz", "--out", "out"],
        ["sample", "run", "--out", "out/grid.png"],
        ["sample", "run", "--interpolate", "1", "2", "--out", "out/walk.gif"],
        ["sample", "run", "--out", "out/few.npz"],
        ["sample", "run", "--per-class", "1", "--out", "out/set.npz"],
        ["evaluate", "pictures", "--data", "closet.npz", "--count", "12", "--audit", "--reference", "heldout"],
        ["evaluate", "run", "--count", "50", "--audit"],
        ["evaluate", "run", "--count", "50", "--out", "out/record.json"],
        ["judge", "train", "--data", "closet.npz", "--epochs", "1", "--out", "out/judge"],
        ["export", "run", "--pretrained"],
        ["train", "tiny.toml", "--out", "again"],
    ]
    for words in commands:
        for _ in range(2):
            code, _, said = call(*words)
            assert code == 0, (words, said)
    (work / "page_files" / "mine.png").unlink()
    for _ in range(2):
        assert call("report", "run", "--out", "page")[0] == 0
        foreign(work / "page_files" / "mine.png")  # beside our pictures it is let be
    assert marker.items() <= (snapshot(work / "out") | snapshot(work / "page_files")).items()
    for place in ("counts.png", "first-images.png", "grid.png", "walk.gif", "few.npz", "set.npz", "set.npz.md",
                  "record.json", "judge.json"):  # fmt: skip
        assert files.is_ours(work / "out" / place), place
    for place in [work / "page.html", work / "page.md", *(work / "page_files").glob("[!m]*")]:
        assert files.is_ours(place), place


def test_what_somebody_edited_is_theirs(tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    page.write_text(files.text_with_mark("# Run a\n\nas we wrote it"), encoding="utf-8")
    assert files.is_ours(page)
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
    assert files.is_ours(page)  # as some systems check files out
    for text in ("# Mine\n\n" + page.read_text(), page.read_text() + "\nMore.\n", page.read_text().replace("we", "I")):
        page.write_text(text, encoding="utf-8")
        assert not files.is_ours(page)
        with pytest.raises(Exception, match=r"report\.md is there and does not say that Modiste wrote it"):
            files.refuse_foreign_file(page)


def test_marks_of_every_kind(tmp_path: Path) -> None:
    plain = grids.png(Image.new("L", (8, 8)))
    drawing = b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="1"/>'
    film = grids.gif([Image.new("L", (4, 4)), Image.new("L", (4, 4), 9)], synthetic=False)
    for content in (plain, drawing):
        assert not files.has_mark(content) and files.has_mark(files.with_mark(content))
        assert files.with_mark(files.with_mark(content)) == files.with_mark(content)
    assert files.has_mark(film)
    for name, content in (("a.gif", film), ("a.png", files.with_mark(plain))):
        (tmp_path / name).write_bytes(content)
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert getattr(picture, "n_frames", 1) == (2 if name == "a.gif" else 1)
    for told in ({"versions": {"modiste": "0.1"}}, {"protocol": {"versions": {"modiste": "0.1"}}}, {"modiste": "0.1"}):
        assert files.has_mark(json.dumps(told).encode())
    for content in (b"", b"{", b'{"name": "Modiste"}', b"[1]", b"\x89PNG\r\n\x1a\n", b"<html>Modiste</html>"):
        assert not files.has_mark(content)
    for name in ("none", "cut.npz", "cut.parquet"):
        if name != "none":
            foreign(tmp_path / name)
        assert not files.is_ours(tmp_path / name)


def test_files_of_earlier_versions_are_known_where_they_can_be(tmp_path: Path) -> None:
    earlier = {
        "report.html": b"<!doctype html><body><footer>Written by modiste 0.7.0. This page is one file: it loads ...",
        "report.md": b"# Run a\n\nAbout.\n\n## The answer\n\nText\n\n## What was measured and how\n\nMore",
        "set.npz.md": b'---\npretty_name: "6 images"\ntags: [synthetic, gan, modiste]\n---\n',
        "README.md": b"---\nlibrary_name: modiste\npipeline_tag: x\ntags: [gan, onnx, modiste]\n---\n",
    }
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
        assert files.is_ours(tmp_path / name), name
    (tmp_path / "report_files").mkdir()
    (tmp_path / "report_files" / "loss.png").write_bytes(PICTURE)
    (tmp_path / "report.md").write_bytes(earlier["report.md"] + b"\n![loss](report_files/loss.png)\n")
    assert files.is_ours(tmp_path / "report_files" / "loss.png", named_in=tmp_path / "report.md")
    assert not files.is_ours(tmp_path / "report_files" / "loss.png")
    (tmp_path / "report.md").write_bytes(earlier["report.md"] + b"\n![a](report_files/of%20a%3F-start.png)\n")
    assert files.is_named("of a?-start.png", tmp_path / "report.md")
    np.savez(tmp_path / "set.npz", images=np.zeros(3), digital_source_type=np.array(metadata.SOURCE_TYPE))
    np.savez(tmp_path / "mine.npz", images=np.zeros(3))
    assert files.is_ours(tmp_path / "set.npz") and not files.is_ours(tmp_path / "mine.npz")
