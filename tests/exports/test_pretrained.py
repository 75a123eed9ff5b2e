"""A run to hand on: the same pictures from half the bytes, a card that is true, and a package that is never written."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file
from typer.testing import CliRunner

import modiste
from modiste import cli, config, runs
from modiste import files as safe_files
from modiste.config import Data, Evaluate, Network, Recipe, Train
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import sources
from modiste.evaluation.options import EvaluateOptions
from modiste.exports import cards, model
from modiste.latent import steering
from modiste.networks.build import build_generator
from modiste.networks.layers import ImageShape
from modiste.sampling import discriminators, generators
from modiste.training import finetune, trainer

Call = Callable[..., tuple[int, str, str]]
FILES = sorted(model.PRETRAINED_FILES)


@pytest.fixture(scope="module")
def made(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small conditional generator with batch norm, spectral norm, a moving average and a best checkpoint."""
    recipe = Recipe(
        name="small",
        data=Data(name=str(closet), split="fit"),
        network=Network(
            z_dim=6,
            generator_widths=(8, 4),
            discriminator_widths=(4, 8),
            conditioning="projection",
            generator_spectral=True,
        ),
        train=Train(images=320, batch_size=16, tick_images=80, ema_halflife_images=50, precision="float32", threads=1),
        evaluate=Evaluate(every_images=0),
    )
    run = trainer.train(recipe, tmp_path_factory.mktemp("runs") / "small")
    shutil.copy(run.path / "generator.safetensors", run.path / "best.safetensors")
    command = ("__main__.py", "train", "small", "--out", "/home/someone/small", "--data=/home/closet.npz")
    runs.update_manifest(run, best=runs.BestCheckpoint(160, "frechet_any_heldout", 1.0), command=command)
    return run.path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "small"))


@pytest.fixture
def packed(made: Path, tmp_path: Path) -> Path:
    return model.export_pretrained(made, tmp_path / "packed", "best").folder


@pytest.fixture
def shipped(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder with a generator in it, which nothing may write to, seen from an empty working directory."""
    folder = model.export_pretrained(made, tmp_path / "package" / "pretrained").folder
    monkeypatch.setattr(runs, "SHIPPED", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    places = [folder.parent, folder, *folder.iterdir()]
    before = {place: (place.stat().st_mtime_ns, place.is_file() and place.read_bytes()) for place in places}
    for place in places:
        place.chmod(0o555)
    yield folder
    assert before.keys() == {folder.parent, *folder.parent.rglob("*")}
    assert all(place.stat().st_mtime_ns == time for place, (time, _) in before.items())
    assert all(place.read_bytes() == content for place, (_, content) in before.items() if content)
    for place in places:
        place.chmod(0o755)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def measure(folder: Path, name: str = "metrics.json", weights: str | None = None) -> None:
    """A record as evaluate writes it, of one score, on the folder's weights."""
    facts = sources.open_source(folder, EvaluateOptions(count=1)).facts
    score = {"value": 12.5, "uncertainty": 0.25, "real": 1.5, "trivial": 97.0, "better": "lower", "details": {}}
    protocol = {"reference": {"data": "closet test", "count": 200}, "generated": 50, "real_count": 40,
                "real": "closet heldout", "trivial": "noise", "pixels": "uint8",
                "extractors": {"garment": {"extractor": "garment judge", "hash": "0123"}}}  # fmt: skip
    subject = {"name": folder.name, **facts, "hash": weights or facts["hash"]}
    record = {"format": 2, "subject": subject, "protocol": protocol, "scores": {"frechet_garment_50": score}}
    safe_files.write_json(folder / name, record)


# the folder


def test_the_pictures_are_the_same_from_half_the_bytes(made: Path, packed: Path) -> None:
    assert names(packed) == FILES and not list(packed.parent.glob(".packed*"))
    own, kept = generators.load(made, "best").sample(100), generators.load(packed).sample(100)
    assert np.abs(own.astype(int) - kept).max() <= 2 and own.std() > 1
    tensors = load_file(packed / "generator.safetensors")
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float16}
    assert not [name for name in tensors if "parametrizations" in name]  # spectral norm is worked out
    assert next(generators.load(packed).network.parameters()).dtype == torch.float32
    assert (packed / "generator.safetensors").stat().st_size < 2 * sum(map(torch.numel, floats)) + 4_000


@pytest.mark.parametrize("written", range(6))
def test_a_full_disk_is_told_of_the_place_that_was_asked_for(
    written: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the files, and when they are settled; nothing is left behind."""
    kinds = [(model.export_pretrained, ["generator.safetensors", "generator.json", "recipe.toml", "manifest.json",
                                          "README.md", ""])]  # fmt: skip
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        kinds += [(model.export, ["generator.safetensors", "generator.json", "generator.onnx", "grid.png",
                                    "README.md", ""])]  # fmt: skip
    for export, files in kinds:
        calls: list[int] = []

        def full(descriptor: int, calls: list[int] = calls) -> None:
            calls.append(descriptor)
            if len(calls) > written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        place = re.escape(str(tmp_path / "out" / files[written]))
        with pytest.raises(ModisteError, match=f"^cannot write {place}: No space left .*; make room and run it again$"):
            export(made, tmp_path / "out")
        assert not list(tmp_path.iterdir())


def test_weights_of_another_shape_or_number_are_refused(packed: Path) -> None:
    from safetensors.torch import save

    tensors = load((packed / "generator.safetensors").read_bytes())
    name = next(iter(tensors))
    for wrong in ({**tensors, "more": torch.zeros(1)}, {key: tensors[key] for key in tensors if key != name}):
        (packed / "generator.safetensors").write_bytes(save(wrong))
        with pytest.raises(ModisteError, match="cannot be loaded"):
            generators.load(packed)


def test_a_generator_of_more_than_a_million_weights_stays_below_three_megabytes() -> None:
    network = Network(family="slim", conditioning="projection", generator_widths=(224, 128, 96))
    generator = build_generator(network, ImageShape(1, 28, 10))
    numbers = sum(parameter.numel() for parameter in generator.parameters())
    assert numbers > 1_000_000 and len(model.to_float16(generator, "x")) < numbers / 1_400_000 * 3_000_000


def test_numbers_beyond_float16_are_refused() -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = 70_000.0
    with pytest.raises(ModisteError, match=r"best\.safetensors has numbers beyond 65,504"):
        model.to_float16(layer, "best.safetensors")


def test_nothing_tells_where_it_was_made(packed: Path, closet: Path) -> None:
    measure(packed)
    record = json.loads((packed / "metrics.json").read_text())
    assert record["subject"]["path"] == str(packed) and packed.is_absolute()
    model.export_pretrained(packed)
    for file in packed.iterdir():
        for place in (b"/home", b"someone", str(closet.parent).encode(), str(packed.parent).encode()):
            assert place not in file.read_bytes(), file
    manifest = runs.Run(packed).read_manifest()
    assert manifest.command == ("__main__.py", "train", "small", "--out", "small", "--data=closet.npz")
    assert manifest.pretrained.checkpoint == "best" and manifest.pretrained.images_shown == 160
    assert runs.Run(packed).read_recipe().data.name == "closet.npz"


def test_the_card_has_the_scores_of_the_weights_as_they_are_kept(run: Path) -> None:
    measure(run)  # of the weights before they were rounded: no score of what is handed on
    done = modiste.export_pretrained(run, checkpoint="best")
    card = (done.folder / "README.md").read_text()
    assert done.folder == run / "pretrained" and not done.measured and names(done.folder) == FILES
    assert "were not measured" in card and "12.5" not in card
    for said in ("modiste train small --out small --data=closet.npz", "160 images shown to this checkpoint, the best",
                 f"differ by at most {done.difference} of 255", runs.Run(run).read_manifest().recipe_hash,
                 "modiste sample ./pretrained --class 'Ankle boot' --count 64"):  # fmt: skip
        assert said in card
    assert "onnx |" not in card and "grid.png)" not in card and "{{" not in card and "{%" not in card
    weights = (done.folder / "generator.safetensors").read_bytes()
    measure(done.folder)
    measure(done.folder, "metrics-heldout.json", weights="0" * 16)
    done.folder.rename(
        safe_files.temporary_beside(done.folder).with_suffix(".replaced")
    )  # as a process does that is killed then
    again = model.export_pretrained(done.folder)
    card = (done.folder / "README.md").read_text()
    assert again.measured and again.difference == done.difference and again.folder == done.folder
    assert "| frechet_garment_50 | 12.50 ± 0.25 | 1.500 | 97.00 |" in card and "were not measured" not in card
    assert "160 images shown" in card and "metrics.json |" in card
    assert names(done.folder) == sorted([*FILES, "metrics.json"])
    assert (done.folder / "generator.safetensors").read_bytes() == weights


def test_only_such_a_folder_is_replaced(made: Path, packed: Path, run: Path, tmp_path: Path) -> None:
    (packed / "notes.txt").write_text("mine")
    (page := tmp_path / "page").mkdir()
    (page / "README.md").write_text("mine")
    for folder in (packed, page, run):
        before = names(folder)
        with pytest.raises(UsageError, match="holds other files"):
            model.export_pretrained(made, folder)
        assert names(folder) == before
    with pytest.raises(UsageError, match=r"has no best\.safetensors"):
        model.export_pretrained(page.parent / "packed", tmp_path / "other", "best")
    assert not (tmp_path / "other").exists()


def test_a_record_says_that_the_weights_were_rounded(made: Path, packed: Path) -> None:
    facts = sources.open_source(packed, EvaluateOptions(count=2)).facts
    assert facts["kept_as"] == "float16" and facts["images_shown"] == 160
    assert "kept_as" not in sources.open_source(made, EvaluateOptions(count=2)).facts


# the word


def test_the_one_that_ships_is_measured_and_says_so_in_its_card() -> None:
    run = runs.open_run("pretrained")
    digest = hashlib.sha256((run.path / "generator.safetensors").read_bytes()).hexdigest()[:16]
    (record,) = cards.records_of(run, digest).values()
    value = record.scores["frechet_garment_10k_test"].value
    assert f"{value:.4g}" in (run.path / "README.md").read_text(encoding="utf-8")


def test_sample_from_anywhere_without_writing_into_the_package(shipped: Path, made: Path, call: Call) -> None:
    assert call("sample", "pretrained", "--class", "bag", "--count", 4, "--out", "bags.npz")[0] == 0
    with np.load("bags.npz") as archive:
        bags = archive["images"]
    assert np.abs(bags.astype(int) - generators.load(made).sample(4, label="bag")).max() <= 2
    assert (modiste.load("pretrained").sample(4, label="bag") == bags).all()
    assert call("sample", "pretrained", "--out", "grid.png")[0] == 0
    assert names(Path.cwd()) == ["bags.npz", "grid.png"]


def test_evaluate_writes_here(shipped: Path, closet: Path, call: Call) -> None:
    code, told, _ = call("evaluate", "pretrained", "--count", 20, "--data", closet, "--json")
    record = json.loads(told)
    assert code == 0 and record["subject"]["path"] == "pretrained" and record["subject"]["name"] == "pretrained"
    assert record["written"] == "runs/modiste-pretrained/metrics.json" and Path(record["written"]).is_file()
    assert "discriminator_accuracy_real" in record["not_measured"]


def test_export_writes_here(shipped: Path, call: Call) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    code, told, _ = call("export", "pretrained", "--onnx", "--json")
    assert code == 0 and json.loads(told)["out"] == "runs/modiste-pretrained/onnx"
    assert names(Path("runs/modiste-pretrained/onnx")) == sorted(model.FILES)
    assert "320 images shown" in Path("runs/modiste-pretrained/onnx/README.md").read_text()
    code, told, _ = call("export", "pretrained", "--pretrained", "--out", "copy", "--json")
    assert code == 0 and names(Path("copy")) == FILES
    copied = Path("copy/generator.safetensors").read_bytes()
    assert copied == (shipped / "generator.safetensors").read_bytes()


def test_report_writes_here(shipped: Path, closet: Path, call: Call) -> None:
    shutil.copy(closet, "closet.npz")  # the recipe has only the name of a data set of one's own
    assert call("report", "pretrained")[0] == 0
    page = Path("runs/modiste-pretrained/report.html").read_text()
    assert "modiste evaluate pretrained" in page and str(shipped) not in page


def test_a_run_of_that_name_comes_first(shipped: Path, made: Path, call: Call) -> None:
    assert runs.open_run("pretrained").shipped
    mine = Path(shutil.copytree(made, "pretrained"))
    assert runs.open_run("pretrained") == runs.Run(mine) and runs.open_run("pretrained").outputs == mine
    shutil.rmtree(mine)
    mine.mkdir()
    (mine / "weights.txt").write_text("a folder that is no run")
    assert runs.open_run("pretrained").shipped
    (warning,) = sources.open_source("pretrained", EvaluateOptions(count=2)).warnings
    assert "the pretrained that lies here" in warning


def test_train_says_where_it_came_from(shipped: Path, packed: Path, closet: Path, call: Call) -> None:
    for what in ("pretrained", packed):
        code, _, errors = call("train", what)
        assert code == 2 and errors.count("\n") == 1
        assert "made with the recipe small" in errors and f"modiste train {what} --out runs/mine" in errors
    with pytest.raises(UsageError, match="holds a pretrained generator"):
        trainer.train(runs.Run(packed).read_recipe(), packed, overrides={"data.name": str(closet)})
    assert names(packed) == FILES and names(Path.cwd()) == []


def test_train_repeats_its_recipe_elsewhere(shipped: Path, closet: Path, call: Call) -> None:
    asked = ("--data", closet, "--set", "train.images=32", "--set", "train.tick_images=32")
    assert call("train", "pretrained", "--out", "mine", *asked)[0] == 0
    recipe = runs.open_run("mine").read_recipe()
    assert not runs.open_run("mine").is_pretrained() and recipe.name == "small" and recipe.network.generator_spectral
    assert config.content_hash(recipe) != config.content_hash(runs.Run(shipped).read_recipe())


@pytest.mark.parametrize(
    "words", [("sample", "--out", "a.png"), ("evaluate",), ("train",), ("export", "--onnx"), ("report",), ("augment",)]
)
def test_a_build_without_weights_says_so(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr(runs, "SHIPPED", tmp_path / "package" / "pretrained")
    monkeypatch.chdir(tmp_path)
    verb, *options = words
    code, _, errors = call(verb, "pretrained", *options)
    assert code == 1 and errors.startswith("modiste: this copy of Modiste ships without a pretrained generator")
    assert errors.count("\n") == 1 and names(tmp_path) == []


# the verb


def test_the_verb_writes_either_or_both(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    done = CliRunner().invoke(cli.app, ["export", str(run), "--pretrained", "--checkpoint", "best"])
    assert done.exit_code == 0 and f"wrote {run / 'pretrained'}" in done.stdout
    assert f"modiste export {run / 'pretrained'} --pretrained" in done.stdout
    out = tmp_path / "both"
    done = CliRunner().invoke(cli.app, ["export", str(run), "--onnx", "--pretrained", "--out", str(out), "--json"])
    told: list[dict[str, Any]] = json.loads(done.stdout)
    assert [one["out"] for one in told] == [str(out / "pretrained"), str(out / "onnx")]
    assert all(Path(file).is_file() for one in told for file in one["files"])
    refused = CliRunner().invoke(cli.app, ["export", str(run)])
    assert isinstance(refused.exception, UsageError) and "--onnx, --pretrained or both" in str(refused.exception)


def test_the_discriminator_comes_along_where_it_is_asked_for_and_stays(run: Path) -> None:
    folder = model.export_pretrained(run, discriminator=True).folder
    assert names(folder) == sorted([*FILES, *discriminators.FILES])
    assert "| discriminator.safetensors, discriminator.json |" in (folder / "README.md").read_text()
    before = (folder / discriminators.WEIGHTS).read_bytes()
    model.export_pretrained(folder)
    assert (folder / discriminators.WEIGHTS).read_bytes() == before
    assert finetune.facts(str(folder)).discriminator
    ours = discriminators.load(run).network.state_dict()
    theirs = discriminators.load(folder).network.state_dict()
    assert all(torch.allclose(theirs[name], tensor, atol=1e-3) for name, tensor in ours.items())
    assert "### The discriminator" not in (folder / "README.md").read_text()
    discriminators.save(folder, replace(discriminators.load(folder), note="This one was made later."))
    model.export_pretrained(folder)
    model.export_pretrained(folder)
    card = (folder / "README.md").read_text()
    assert "\n### The discriminator\n\nThis one was made later.\n\n## Scores" in card
    assert "| the same of a discriminator, for trainings" in card


def test_the_shipped_card_says_how_its_discriminator_was_made() -> None:
    note = discriminators.read_note(runs.open_run(runs.PRETRAINED))
    assert note.startswith("The one that the generator was trained with was not kept.")
    assert f"### The discriminator\n\n{note}\n\n## Scores" in (runs.SHIPPED / "README.md").read_text()


def test_directions_stay_where_the_weights_do(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the run are of its own weights and not of the rounded ones; those of the export are its own."""
    monkeypatch.setattr(steering, "MEASURED", 10)
    monkeypatch.setattr(steering, "FEWEST_PER_CLASS", 20)
    steering.find(runs.Run(run), images=100)
    folder = model.export_pretrained(run).folder
    assert names(folder) == sorted(FILES)
    steering.find(runs.Run(folder), images=100)
    before = {file.name: file.read_bytes() for file in folder.glob("directions*")}
    model.export_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.glob("directions*")} == before and len(before) == 3
    assert "| directions.safetensors, directions.json |" in (folder / "README.md").read_text()
