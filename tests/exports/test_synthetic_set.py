"""Sets to hand on: balanced, without copies of training images, with a card that is true, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import Credentials

from modiste import config, files, runs
from modiste.config import Data, Network, Recipe, Train
from modiste.data.images import content_digest
from modiste.data.sets import CLASS_NAMES, open_data
from modiste.errors import UsageError
from modiste.evaluation import sources
from modiste.evaluation.options import EvaluateOptions
from modiste.exports import cards, synthetic_set
from modiste.networks.layers import ImageShape
from modiste.provenance import c2pa, verify
from modiste.sampling import generators, writers
from modiste.training import trainer

PAGE = (Path(__file__).parents[2] / "docs" / "synthetic-sets.md").read_text(encoding="utf-8")
KINDS = {"npz": "set.npz", "folder": "pictures", "idx": "idx", "parquet": "set.parquet", "huggingface": "hub"}


def trained(closet: Path, folder: Path, conditioning: str) -> Path:
    recipe = Recipe(
        name="small",
        data=Data(name=str(closet)),
        network=Network(z_dim=6, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning=conditioning),  # type: ignore[arg-type]
        train=Train(images=32, batch_size=16, tick_images=32, precision="float32", threads=1),
    )
    trainer.train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def made(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(closet, tmp_path_factory.mktemp("runs") / "small", "one-hot")


@pytest.fixture(scope="module")
def made_without_classes(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(closet, tmp_path_factory.mktemp("runs") / "plain", "none")


def card_of(done: synthetic_set.SyntheticSet) -> str:
    return done.card.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


# sets of runs


def plant(run: Path, closet: Path, seeds: Sequence[int], place: Path) -> None:
    """Give the run varied images, and let it believe that the closet it was trained on had these of them in it."""
    tensors = load_file(run / "generator.safetensors")
    last = [name for name, tensor in tensors.items() if tensor.ndim > 1][-1]
    save_file({**tensors, last: tensors[last] * 50}, run / "generator.safetensors")
    own = generators.load(run).sample(seeds=seeds)
    with np.load(closet) as arrays:
        everything = dict(arrays)
    everything["images"] = everything["images"].copy()
    everything["images"][5 : 5 + len(own)] = own
    np.savez(place, **everything)
    opened = runs.open_run(run)
    recipe = opened.read_recipe().model_copy(update={"data": Data(name=str(place))})
    files.write_text(run / "recipe.toml", config.to_toml(recipe))
    digest = content_digest(open_data(recipe.data))
    runs.update_manifest(opened, data=replace(opened.read_manifest().data, digest=digest))


def test_copies_of_training_images_are_searched_for_and_told(made: Path, closet: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "copier"))
    plant(run, closet, [0, 3, 4, 23], tmp_path / "closet.npz")
    told: list[str] = []
    done = synthetic_set.write_set(run, tmp_path / "set.npz", per_class=2, log=told.append)
    assert {0, 3, 4, 23} <= set(done.search.removed) and done.search.exact == 4 and done.count == 20
    with np.load(tmp_path / "set.npz") as arrays:
        assert not set(arrays["seeds"]) & {0, 3, 4, 23}
        assert np.bincount(arrays["labels"]).tolist() == [2] * 10
        assert (arrays["labels"] == arrays["seeds"] % 10).all()
        assert np.array_equal(generators.load(run).sample(seeds=arrays["seeds"].tolist()), arrays["images"])
    card = card_of(done)
    removed = len(done.search.removed)
    assert f"{removed} of {20 + removed} images that were made were near-duplicates" in card
    assert "(4 of them exact copies)" in card and f"Removed seeds: {', '.join(map(str, done.search.removed))}." in card
    assert "1 % of the 200 unseen real images in closet test" in card and "300 training images" in card
    kept = synthetic_set.write_set(run, tmp_path / "kept.npz", per_class=2, keep_duplicates=True)
    with np.load(tmp_path / "kept.npz") as arrays:
        assert arrays["seeds"].tolist() == list(range(20))
    assert "Not removed: they were to be kept." in card_of(kept) and "--keep-duplicates" in card_of(kept)


def test_without_the_training_images_the_card_says_so(made: Path, closet: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "moved"))
    place = tmp_path / "closet.npz"
    plant(run, closet, [0], place)
    away = tmp_path / "away.npz"
    place.rename(away)
    told: list[str] = []
    done = synthetic_set.write_set(run, tmp_path / "set.npz", per_class=1, log=told.append)
    assert "Not removed: the training images could not be opened" in card_of(done) and str(place) in told[0]
    with np.load(away) as arrays:
        np.savez(place, **{**arrays, "images": arrays["images"][::-1]})
    done = synthetic_set.write_set(run, tmp_path / "set.npz", per_class=1, log=told.append)
    assert "Not removed: the training images had been changed" in card_of(done)
    assert str(tmp_path) not in card_of(done)


@pytest.mark.parametrize("kind", writers.SET_FORMATS)
def test_every_format_is_balanced_marked_and_carded(
    kind: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in ("parquet", "huggingface"):
        pytest.importorskip("pyarrow")
    done = synthetic_set.write_set(made, tmp_path / "deep" / KINDS[kind], kind=kind, per_class=3)
    assert done.card == (tmp_path / "deep" / f"{KINDS[kind]}.md" if kind in writers.SINGLE else done.out / "README.md")
    card = card_of(done)
    run = runs.open_run(made)
    manifest, weights = run.read_manifest(), sources.open_source(made, EvaluateOptions(count=1)).facts["hash"]
    row = f"| {'Trouser' if kind == 'folder' else 1} | Trouser | 3 |"
    for part in (manifest.recipe_hash, weights, manifest.data.digest, "Run `small`", "Seeds: 0 to 29",
                 "Truncation: none", "modiste evaluate small", row, "Watermark: none",
                 "Signature (C2PA): none", "No licence has been chosen",
                 f"modiste sample small --per-class 3 --format {kind} --out {KINDS[kind]}"):  # fmt: skip
        assert part in card, part
    assert str(tmp_path) not in card and str(made.parent) not in card
    assert not list(tmp_path.rglob(".*"))
    (snippet,) = blocks(card, "python")
    if kind != "huggingface":
        monkeypatch.chdir(done.card.parent)
        scope: dict[str, Any] = {}
        exec(snippet, scope)
        assert len(scope["images"]) == 30 and np.bincount(scope["labels"]).tolist() == [3] * 10
    if kind in ("npz", "folder", "idx"):
        back = open_data(Data(name=str(done.out)), part="train")
        assert back.labels is not None and np.bincount(back.labels).tolist() == [3] * 10
        expected = {pixels.tobytes() for pixels in generators.load(made).sample(30)}
        assert {pixels.tobytes() for pixels in back.pixels} == expected
    if kind in ("npz", "folder"):
        assert verify.verify(done.out)["synthetic"] == (1 if kind == "npz" else 30)


def test_the_cards_commands_can_be_typed_where_the_set_was_made(
    call: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "here" / "runs" / "my run")
    shutil.copytree(made, tmp_path / "there" / "small")
    monkeypatch.chdir(tmp_path / "here")
    for run, name in (
        ("runs/my run", "'runs/my run'"),
        (tmp_path / "here" / "runs" / "my run", "'runs/my run'"),
        ("../here/runs/my run", "'runs/my run'"),
        ("../there/small", "small"),  # but not where it lies on this machine
        (tmp_path / "there" / "small", "small"),
        (tmp_path / "here" / ".." / "there" / "small", "small"),
    ):
        card = card_of(synthetic_set.write_set(run, "set.npz", per_class=1))
        (again,) = re.findall(r"The same again, .*: `(.*)`", card)
        assert again == f"modiste sample {name} --per-class 1 --format npz --out set.npz"
        assert f"`modiste evaluate {name}`" in card and str(tmp_path) not in card
        if name != "small":
            assert call(*shlex.split(again)[1:])[0] == 0
    monkeypatch.chdir(tmp_path / "here" / "runs" / "my run")
    assert "`modiste evaluate 'my run'`" in card_of(synthetic_set.write_set(".", tmp_path / "a.npz", per_class=1))
    monkeypatch.chdir(tmp_path / "here" / "runs" / "my run" / "samples")
    card = card_of(synthetic_set.write_set("..", tmp_path / "b.npz", per_class=1))
    assert "`modiste evaluate 'my run'`" in card and "10 images by my run" in card and "/.." not in card


def test_the_head_of_a_hugging_face_card_is_yaml_with_the_features(made: Path, tmp_path: Path) -> None:
    yaml, parquet = pytest.importorskip("yaml"), pytest.importorskip("pyarrow.parquet")
    done = synthetic_set.write_set(made, tmp_path / "hub", kind="huggingface", per_class=2)
    head = yaml.safe_load(card_of(done).split("---\n")[1])
    image, label = head["dataset_info"]["features"]
    assert image == {"name": "image", "dtype": "image"}
    names = label["dtype"]["class_label"]["names"]
    table = parquet.read_table(done.out / "data")
    stored = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    assert [names[str(k)] for k in range(10)] == stored == list(CLASS_NAMES)
    (split,) = head["dataset_info"]["splits"]
    assert split["name"] == "train" and split["num_examples"] == table.num_rows == 20
    (file,) = (done.out / "data").iterdir()
    assert head["dataset_info"]["download_size"] == file.stat().st_size
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert head["task_categories"] == ["image-classification"] and "synthetic" in head["tags"]


def record_of(run: Path, **facts: Any) -> dict[str, Any]:
    """A record as evaluate writes it, of one score, on the run's last weights."""
    reference = {"data": "closet test", "count": 200}
    extractor = {"extractor": "garment judge", "hash": "0123"}
    score = {"value": 12.5, "uncertainty": 0.25, "real": 1.5, "trivial": 97.0, "better": "lower", "details": {}}
    source = sources.open_source(run, EvaluateOptions(count=1))
    return {
        "format": 2,
        "subject": {**source.facts, "name": "small", "warnings": [], **facts},
        "protocol": {"reference": reference, "generated": 500, "real": "closet heldout", "real_count": 300,
                     "trivial": "noise", "pixels": "uint8", "extractors": {"garment": extractor}},
        "scores": {"frechet_garment_500_test": score},
        "alarms": ["classes that are hardly ever made: Bag"],
        "not_measured": {},
    }  # fmt: skip


def test_the_card_has_scores_of_exactly_these_weights_sampled_alike(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "small"))
    (run / "metrics.json").write_text(json.dumps(record_of(run)), encoding="utf-8")
    with_scores = card_of(synthetic_set.write_set(run, tmp_path / "a.npz", per_class=1))
    assert "12.50 ± 0.25" in with_scores and "Note: classes that are hardly ever made: Bag." in with_scores
    cut = card_of(synthetic_set.write_set(run, tmp_path / "b.npz", per_class=1, truncation=0.7))
    assert "12.50" not in cut and "`modiste evaluate small --truncation 0.7`" in cut
    assert "the noise is cut off at 0.7" in cut and "--truncation 0.7 --format npz" in cut
    (run / "metrics.json").write_text(json.dumps(record_of(run, truncation=0.7)), encoding="utf-8")
    assert "12.50" in card_of(synthetic_set.write_set(run, tmp_path / "b.npz", per_class=1, truncation=0.7))
    (run / "metrics.json").write_text(json.dumps(record_of(run, hash="0" * 16)), encoding="utf-8")
    assert "12.50" not in card_of(synthetic_set.write_set(run, tmp_path / "a.npz", per_class=1))


def test_marks_are_told_and_keys_are_not(made: Path, credentials: Credentials, tmp_path: Path) -> None:
    done = synthetic_set.write_set(made, tmp_path / "set.npz", per_class=6, watermark="our secret")
    assert "Watermark: the pixels carry one" in card_of(done) and "our secret" not in card_of(done)
    assert (np.load(done.out)["images"] != generators.load(made).sample(60)).any()
    parquet = pytest.importorskip("pyarrow.parquet")
    pem = {"certificate": credentials.certificate, "private_key": credentials.private_key}
    done = synthetic_set.write_set(made, tmp_path / "set.parquet", per_class=1, sign=True, **pem)
    assert "Signature (C2PA): the maker's own certificate" in card_of(done)
    first = parquet.read_table(done.out)["image"][0].as_py()["bytes"]
    assert c2pa.read_manifest(first).state == "self-made"
    with pytest.raises(UsageError, match=r"only PNG files are signed"):
        synthetic_set.write_set(made, tmp_path / "again.npz", per_class=1, sign=True)


def test_a_generator_without_classes_makes_a_set_by_its_count(made_without_classes: Path, tmp_path: Path) -> None:
    done = synthetic_set.write_set(made_without_classes, tmp_path / "pictures", count=12)
    assert len(list(done.out.glob("*.png"))) == 12 and (done.out / "README.md").is_file()
    card = card_of(done)
    assert "| label |" not in card and "modiste sample plain --count 12" in card and "modulo" not in card
    assert len(open_data(Data(name=str(done.out)), part="train")) == 12
    with pytest.raises(UsageError, match=r"plain was trained without labels"):
        synthetic_set.write_set(made_without_classes, tmp_path / "other", per_class=3)
    if "pyarrow" in sys.modules:
        synthetic_set.write_set(made_without_classes, tmp_path / "hub", kind="huggingface", count=3)
        assert "class_label" not in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")


def test_seeds_by_name_are_left_as_they_are(made: Path, tmp_path: Path) -> None:
    done = synthetic_set.write_set(made, tmp_path / "set.npz", seeds=[7, 3, 4, 5], label="bag")
    with np.load(done.out) as arrays:
        assert arrays["seeds"].tolist() == [7, 3, 4, 5] and (arrays["labels"] == 8).all()
    assert "Seeds: 7,3-5;" in card_of(done) and "--class bag --seeds 7,3-5" in card_of(done)
    assert "chosen by their seeds" in card_of(done)
    assert generators.parse_seeds(cards.format_seeds([7, 3, 4, 5])) == [7, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "a set of 0 images is none"),
        ({"count": 0}, "a set of 0 images is none"),
        ({"count": 2, "seeds": [1]}, "count 2 and 1 seeds contradict"),
        ({"per_class": 0}, "0 images of each class are not possible; ask for 1 to 1,000,000"),
        ({"per_class": -1}, "-1 images of each class are not possible"),
        ({"per_class": 10**9}, "1000000000 images of each class are not possible"),
        ({"per_class": 2, "label": "bag"}, "leave the count, the seeds and the class out"),
        ({"count": 3, "kind": "png"}, "no format of a set is named 'png'"),
        ({"count": 3, "label": "hat"}, "'hat' is no class"),
        ({"seeds": [1, 1], "kind": "folder"}, "a seed is given twice"),
    ],
)
def test_wrong_use_is_a_sentence_and_leaves_nothing(
    made: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as failure:
        synthetic_set.write_set(made, tmp_path / "new" / "set", **options)
    assert "\n" not in str(failure.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "names", "said"),
    [
        ("idx", tuple(map(str, range(257))), "one byte, and there are 257 classes"),
        ("folder", ("a/b", "a-b"), "would lie in one folder"),
    ],
)
def test_classes_that_a_format_cannot_hold_are_refused_before_anything_is_made(
    kind: str, names: tuple[str, ...], said: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = ImageShape(1, 16, len(names))
    monkeypatch.setattr(
        generators, "load", lambda *_: generators.TrainedGenerator(torch.nn.Identity(), shape, names, "it")
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        synthetic_set.write_set(made, tmp_path / "out", kind=kind, per_class=1)
    assert not list(tmp_path.iterdir())
    if kind == "folder":  # one class has a folder of its own
        monkeypatch.setattr(generators, "generate", lambda _, noise, __: np.zeros((len(noise), 1, 16, 16), np.uint8))
        network = torch.nn.Identity()
        network.z_dim = 2  # type: ignore[assignment]
        one = generators.TrainedGenerator(network, shape, names, "it")
        monkeypatch.setattr(generators, "load", lambda *_: one)
        synthetic_set.write_set(made, tmp_path / "out", kind=kind, count=100, label="a/b", keep_duplicates=True)
        assert len(list((tmp_path / "out" / "a-b").iterdir())) == 100


def test_a_card_replaces_cards_of_earlier_sets_and_nothing_else(made: Path, tmp_path: Path) -> None:
    first, out = synthetic_set.write_set(made, tmp_path / "set.npz", per_class=1), tmp_path / "set.npz"
    again = synthetic_set.write_set(made, out, per_class=2)
    assert first.card == again.card and "20 images by small" in card_of(again)
    first.card.write_text("what I found in this set", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"set\.npz\.md is there and does not say that Modiste wrote it"):
        synthetic_set.write_set(made, out, per_class=3)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    first.card.unlink()
    first.card.mkdir()
    with pytest.raises(UsageError, match=r"set\.npz\.md is a folder"):
        synthetic_set.write_set(made, out, per_class=3)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_wherever_a_set_is_killed_no_card_lies_beside_other_images(
    moved: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set.npz"
    synthetic_set.write_set(made, out, per_class=1)
    real, left = Path.replace, [moved]

    def replace(path: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    if moved < 2:
        with pytest.raises(KeyboardInterrupt):
            synthetic_set.write_set(made, out, per_class=2)
    else:
        synthetic_set.write_set(made, out, per_class=2)
    card, count = tmp_path / "set.npz.md", len(open_data(Data(name=str(out))))
    assert count == (20 if moved else 10)
    assert card.exists() == (moved == 2) and (moved < 2 or "20 images by small" in card.read_text(encoding="utf-8"))


def test_the_command_line_makes_sets(call: Any, made: Path, tmp_path: Path) -> None:
    code, out, _ = call("sample", made, "--per-class", 2, "--out", tmp_path / "idx", "--format", "idx")
    assert code == 0 and "wrote 20 images" in out and "README.md" in out and "training images: 0 replaced" in out
    code, out, _ = call("sample", made, "--count", 100, "--out", tmp_path / "set.npz", "--json")
    assert json.loads(out)["card"] == str(tmp_path / "set.npz.md") and json.loads(out)["near_duplicates_removed"] == 0
    code, out, _ = call("sample", made, "--count", 99, "--out", tmp_path / "look.npz")
    assert code == 0 and not (tmp_path / "look.npz.md").exists()
    code, out, _ = call("sample", made, "--count", 99, "--out", tmp_path / "set.npz")
    assert code == 0 and not (tmp_path / "set.npz.md").exists()  # it spoke of other images
    assert f"removed the data card of the earlier set: {tmp_path / 'set.npz.md'}" in out
    code, out, _ = call("sample", made, "--count", 99, "--out", tmp_path / "set.npz", "--json")
    assert code == 0 and json.loads(out)["removed_card"] is None
    code, out, _ = call("sample", made, "--per-class", 2, "--out", tmp_path / "grid.png")
    assert code == 0 and "wrote 20 images" in out


@pytest.mark.parametrize("count", [10, 100])
def test_a_file_that_is_no_earlier_set_is_refused_before_anything_is_made(
    count: int, call: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine.npz"
    np.savez(out, images=np.zeros((2, 16, 16), np.uint8))
    before = out.read_bytes()
    monkeypatch.setattr(generators, "generate", lambda *_: pytest.fail("images were generated"))
    for way in ([], ["--interpolate", 1, 2]):
        code, _, err = call("sample", made, "--count", count, "--out", out, *way)
        assert code == 2 and "does not say that Modiste wrote it" in err and err.count("\n") == 1
        assert out.read_bytes() == before


@pytest.mark.parametrize("way", [[], ["--per-class", 2], ["--interpolate", 1, 2]])
def test_an_unknown_format_is_refused_before_anything_is_made(
    way: list[Any], call: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "generate", lambda *_: pytest.fail("images were generated"))
    code, _, err = call("sample", made, *way, "--out", tmp_path / "a", "--format", "tar")
    assert code == 2 and "--format 'tar' is none; choose one of png, gif, npz" in err and not list(tmp_path.iterdir())


def test_what_cannot_be_made_is_one_sentence_on_the_command_line(
    call: Any, made: Path, made_without_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    for run, options, code, said in (
        (made_without_classes, ["--per-class", 2, "--out", tmp_path / "a"], 2, "without labels"),
        (made_without_classes, ["--per-class", 2, "--out", tmp_path / "a.png"], 2, "without labels"),
        (made, ["--per-class", 0, "--out", tmp_path / "a"], 2, "0 images of each class"),
        (made, ["--per-class", 2, "--out", tmp_path / "full"], 2, "is not empty"),
        (made, ["--per-class", 2, "--count", 4, "--out", tmp_path / "a"], 2, "--per-class says which images"),
        (made, ["--per-class", 2, "--out", tmp_path / "full" / "mine.txt" / "a"], 1, "Not a directory"),
    ):
        done = call("sample", run, *options)
        lines = [line for line in done[2].splitlines() if line.startswith("modiste: ")]
        assert done[0] == code and len(lines) == 1 and said in lines[0], done
        assert sorted(tmp_path.rglob("*")) == before

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = call("sample", made, "--per-class", 2, "--out", tmp_path / "a")
    assert done[0] == 1 and "No space left on device" in done[2] and "Traceback" not in done[2]
    assert sorted(tmp_path.rglob("*")) == before


# the page


@pytest.fixture(scope="module")
def shelf(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page's commands write, 12 images of each class instead of 6,000."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("shelf")
    shutil.copytree(made, folder / "runs" / "mine")
    lines = [shlex.split(line, comments=True) for block in blocks(PAGE, "sh") for line in block.splitlines()]
    assert [words[1] for words in lines].count("sample") == len(writers.SET_FORMATS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in lines:
            from modiste import cli

            patch.setattr(sys, "argv", ["12" if word == "6000" else word for word in words])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert not end.value.code, words
    return folder


def snippet(word: str) -> str:
    (found,) = [block for block in blocks(PAGE, "python") if word in block]
    return found


@pytest.mark.parametrize(
    ("word", "package"),
    [
        ("TensorDataset(", "torch"),
        ("class Pictures", "torch"),
        ("LogisticRegression", "sklearn"),
        ("gzip.open", "numpy"),
        ("pyarrow.parquet.read_table", "pyarrow"),
        ("pandas.read_parquet", "pandas"),
        # what Keras and datasets warn of is theirs
        pytest.param("keras.Sequential", "keras", marks=pytest.mark.filterwarnings("ignore")),
        pytest.param("load_dataset", "datasets", marks=pytest.mark.filterwarnings("ignore")),
        ("synthetic_set.write_set", "modiste"),
    ],
)
def test_the_pages_snippets_load_the_sets(
    word: str, package: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "keras":
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(package)
    monkeypatch.chdir(shelf)
    scope: dict[str, Any] = {"__name__": "page"}
    exec(snippet(word).replace("6000", "2"), scope)
    if "loader" in scope:
        images, labels = next(iter(scope["loader"]))
        assert images.shape == (64, 1, 16, 16) and 0 <= images.min() <= images.max() <= 1
        assert len(scope["loader"].dataset) == 120 and labels.max() <= 9
    elif "rows" in scope:
        assert scope["rows"].shape == (120, 256) and scope["classifier"].score(scope["rows"], scope["labels"]) > 0.3
    elif "table" in scope:
        assert len(scope["table"]) == 120 and np.bincount(scope["table"]["label"]).tolist() == [12] * 10
    elif "dataset" in scope:
        assert len(scope["dataset"]) == len(scope["same"]) == 120 and scope["picture"].size == (16, 16)
    elif "images" in scope:
        assert len(scope["images"]) == len(scope["labels"]) == 120
    else:
        assert scope["done"].count == 20


def test_every_snippet_of_the_page_is_tested() -> None:
    assert len(blocks(PAGE, "python")) == 9
