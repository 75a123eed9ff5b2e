"""What is handed on names no folder of the machine that it was made on."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modiste import config, paths, runs
from modiste.config import Recipe
from modiste.exports import cards

Call = Callable[..., tuple[int, str, str]]


def contents(content: bytes) -> Iterator[bytes]:
    """The bytes of a file and of all that is packed in it: archives, compressed texts, pictures in pages."""
    yield content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name))
    elif content.startswith(b"\x1f\x8b"):
        yield from contents(gzip.decompress(content))
    elif content.startswith(b"PAR1"):
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(io.BytesIO(content))
        yield repr(table.schema.metadata).encode()
        for row in table["image"].to_pylist():
            yield row["path"].encode()
            yield from contents(row["bytes"])
    elif content.startswith(b"\x89PNG"):
        place = 8
        while place + 8 <= len(content):
            (length,) = struct.unpack(">I", content[place : place + 4])
            kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                for start in range(min(len(body), 80)):
                    try:
                        yield zlib.decompress(body[start:])
                    except zlib.error:
                        continue
            place += 12 + length
    for packed in re.findall(rb"data:image/\w+;base64,([A-Za-z0-9+/=]+)", content):
        yield from contents(base64.b64decode(packed))


def check(files: list[Path], secrets: list[str]) -> None:
    assert files
    for file in files:
        for content in contents(file.read_bytes()):
            for secret in secrets:
                assert secret.encode() not in content, f"{secret} in {file}"
            assert b"Secret" not in content.replace(b"Secretary", b""), file


def files_of(*places: Path) -> list[Path]:
    return [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))
            if file.is_file() and file.name != ".lock"]  # fmt: skip


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    """The test below could not fail otherwise."""
    from PIL import Image

    from modiste import files as safe_files
    from modiste.sampling import grids

    picture = grids.png(Image.new("L", (8, 8)))
    hidden = b"zTXtkey\0\0" + zlib.compress(b"in /home/jane/Secret")
    chunk = struct.pack(">I", len(hidden) - 4) + hidden + struct.pack(">I", zlib.crc32(hidden))
    (tmp_path / "a.png").write_bytes(picture[: safe_files.PNG_HEAD] + chunk + picture[safe_files.PNG_HEAD :])
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.png")
    page = b'<img src="data:image/png;base64,' + base64.b64encode((tmp_path / "a.png").read_bytes()) + b'">'
    (tmp_path / "a.html").write_bytes(page)
    for name in ("a.png", "a.npz", "a.html"):
        assert any(b"Secret" in content for content in contents((tmp_path / name).read_bytes())), name


@pytest.fixture
def home(tmp_path: Path, closet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with private data, a folder to work in (the current one), and a run that was made there from them."""
    home = tmp_path / "home" / "Jane Doe"
    private = home / "Secret Client" / "scans"
    private.mkdir(parents=True)
    shutil.copy(closet, private / "closet.npz")
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    recipe = Recipe.model_validate({
        "name": "tiny",
        "data": {"count": 64},
        "network": {"z_dim": 8, "generator_widths": (8, 4), "discriminator_widths": (4, 8), "conditioning": "one-hot"},
        "train": {"images": 64, "batch_size": 16, "tick_images": 32, "precision": "float32", "threads": 1},
        "evaluate": {"every_images": 0},
    })  # fmt: skip
    (private / "tiny.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    return home


def secrets_of(home: Path) -> list[str]:
    return [str(home), home.name, "Secret Client", str(home.parent.parent)]


@pytest.mark.usefixtures("closet_judge")
def test_nothing_that_is_handed_on_tells_where_it_was_made(home: Path, call: Call) -> None:
    private, work = home / "Secret Client" / "scans", home / "work"
    run, data = work / "runs" / "mine", private / "closet.npz"

    def done(*words: object) -> None:
        code, _, said = call(*words)
        assert code == 0, (words, said)

    done("train", private / "tiny.toml", "--data", "../Secret Client/scans/closet.npz", "--out", run)
    assert runs.Run(run).read_recipe().data.name == str(data.resolve())  # to go on from
    done("evaluate", run, "--count", 50, "--audit")
    done("evaluate", data, "--data", data, "--count", 50, "--out", work / "record.json")
    done("report", run)
    done("judge", "train", "--data", data, "--epochs", 1, "--out", work / "judge")
    done("sample", run, "--out", work / "grid.png")
    done("sample", run, "--interpolate", 1, 2, "--out", work / "walk.gif")
    done("sample", run, "--per-class", 2, "--out", private / "set.npz")
    for kind in ("folder", "idx"):
        done("sample", run, "--per-class", 1, "--format", kind, "--out", work / kind)
    if "pyarrow" in sys.modules or pytest.importorskip("pyarrow"):
        done("sample", run, "--per-class", 1, "--out", work / "set.parquet")
        done("sample", run, "--per-class", 1, "--format", "huggingface", "--out", work / "hub")
    done("export", run, "--pretrained", "--out", work / "packed")
    done("evaluate", work / "packed", "--data", data, "--count", 50)
    done("export", work / "packed", "--pretrained")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    done("export", run, "--onnx", "--out", work / "onnx")
    names = ("record.json", "judge.json", "judge.safetensors", "grid.png", "walk.gif", "folder", "idx", "set.parquet",
             "set.parquet.md", "hub", "packed", "onnx")  # fmt: skip
    handed = files_of(*(work / name for name in names), private / "set.npz", private / "set.npz.md", run / "samples",
                      *run.glob("report*"), *run.glob("metrics*"), *run.glob("audit*"), *run.glob("*.safetensors"),
                      run / "progress.gif")  # fmt: skip
    assert {"report.html", "report.md", "metrics.json", "audit-worst.png", "README.md"} <= {one.name for one in handed}
    check(handed, secrets_of(home))
    record = json.loads((run / "metrics.json").read_text())
    assert (
        record["subject"]["path"] in ("runs/mine", "mine") and record["protocol"]["reference"]["data"] == "closet test"
    )
    page = (run / "report.md").read_text()
    assert "modiste evaluate runs/mine --count 50" in page and "--data closet.npz" in page
    assert cards.published_recipe(runs.Run(run).read_recipe()).data.name == "closet.npz"


@pytest.mark.slow
def test_neither_does_a_study_or_an_experiment(home: Path, call: Call) -> None:
    private, work = home / "Secret Client" / "scans", home / "work"
    text = (
        (private / "tiny.toml")
        .read_text(encoding="utf-8")
        .replace('name = "fashion-mnist"', f'name = "{private}/closet.npz"')
    )
    (private / "tiny.toml").write_text(text, encoding="utf-8")
    (private / "plan.toml").write_text(
        f'name = "mine"\nseeds = 2\nevaluate = {{count = 50}}\n'
        f'[[configuration]]\nname = "a"\nrecipe = "{private}/tiny.toml"\n'
        f'[[configuration]]\nname = "b"\nrecipe = "{private}/tiny.toml"\nset = {{"train.beta1" = 0.4}}\n',
        encoding="utf-8",
    )  # fmt: skip
    for words in (
        ["study", private / "plan.toml", "--out", work / "studies" / "mine"],
        ["report", work / "studies" / "mine"],
        ["augment", private / "closet.npz", "--recipe", private / "tiny.toml", "--budgets", "all", "--seeds", "1",
         "--steps", "2", "--count", "100", "--out", work / "help"],
    ):  # fmt: skip
        code, _, said = call(*words)
        assert code == 0, (words, said)
    study, experiment = work / "studies" / "mine", work / "help"
    handed = files_of(*study.glob("report*"), *study.glob("records*"), *experiment.glob("report.md"),
                      *experiment.glob("records*"), *experiment.glob("accuracy*"))  # fmt: skip
    assert len(handed) > 10
    check(handed, secrets_of(home))
    assert "# Do synthetic images help on closet.npz?" in (experiment / "report.md").read_text()


def test_paths_in_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spaced = tmp_path.parent / f"{tmp_path.name} of mine" / "a b.npz"
    spaced.parent.mkdir()
    spaced.touch()
    gone = "/srv/some where/closet.npz"
    told = {
        f"cannot read {spaced}: no such key": "cannot read a b.npz: no such key",
        f"modiste train '{gone}' --out /srv/runs/x": "modiste train closet.npz --out x",
        f"the data are at {gone}; put them back": "the data are at closet.npz; put them back",
        f"see {tmp_path}/runs/mine/log.jsonl.": "see runs/mine/log.jsonl.",
        "12 images/s, 3/4 of /5, and/or, a / b": "12 images/s, 3/4 of /5, and/or, a / b",
        "http://cv.iptc.org/newscodes/digitalsourcetype/print": "http://cv.iptc.org/newscodes/digitalsourcetype/print",
        "sqlite:////srv/a/search.db file:///srv/a/b": "sqlite:search.db file:b",
        "~/private/a.npz and ~jane/b/c": "a.npz and c",
        "runs/mine stays, ./mine too ... /": "runs/mine stays, ./mine too ... /",
        "--data '../../some where/x.npz' ../y": "--data x.npz y",
        "(/srv/a/b), `/srv/c/d`\n/srv/e/f": "(b), `d`\nf",
        f"evaluate '{tmp_path}/runs/a b' 'data.name={gone}'": "evaluate 'runs/a b' data.name=closet.npz",
        "": "",
    }
    for text, wanted in told.items():
        assert paths.without_folders(text, [gone]) == wanted
    assert paths.last_part("../../private/x") == "x" and paths.last_part("--data=~/x/y") == "--data=y"
    tree = {"class_names": ["/srv/a/b"], "n": 3, "also": ["/srv/a/b", {"x": None}]}
    sentence = {"warnings": ["/home/anna/x/j.onnx has no labels and/or classes (docs/judging.md)"]}
    assert paths.without_paths(sentence) == {"warnings": ["j.onnx has no labels and/or classes (docs/judging.md)"]}
    assert paths.without_paths(tree) == {"class_names": ["/srv/a/b"], "n": 3, "also": ["b", {"x": None}]}
    assert os.sep == "/"
