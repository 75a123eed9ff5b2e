"""The judge: its card, its accuracy on drawn garments, exact repetition, and damaged files."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from modiste.config import Data
from modiste.data import toy
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.metrics import classifier_training, judge

SHIPPED = Path(str(resources.files("modiste"))) / "assets" / "judges"


@pytest.fixture(scope="module")
def garments(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """600 drawn garments of 16 pixels in a file of one's own."""
    images = open_data(Data(name="toy-16", count=600))
    path = tmp_path_factory.mktemp("garments") / "mine.npz"
    np.savez(path, images=images.pixels, labels=images.labels, class_names=np.array(images.class_names))
    return Data(name=str(path))


@pytest.fixture(scope="module")
def trained(garments: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judge") / "mine.safetensors"
    torch.set_num_threads(1)
    judge.train(garments, out, epochs=8, seed=3)
    return out


def test_it_learns_drawn_garments_and_its_card_says_how(trained: Path, garments: Data) -> None:
    card = json.loads(trained.with_suffix(".json").read_text())
    assert card["measured"]["heldout"]["accuracy"] > 0.7
    assert card["data"]["digest"] == content_digest(open_data(garments, part="fit"))
    assert np.array(card["measured"]["heldout"]["confusion"]).sum() == 60
    assert card["training"]["seed"] == 3 and len(card["training"]["log"]) == 8
    assert f"--data {Path(garments.name).name}" in card["training"]["command"]


def test_what_is_loaded_is_what_was_measured(trained: Path, garments: Data) -> None:
    loaded = judge.load(trained)
    heldout = open_data(garments, part="heldout")
    assert judge.measure(loaded.network, heldout) == loaded.card.measured["heldout"]
    assert loaded.fingerprint == loaded.card.sha256[:16]


def test_a_judge_under_another_sets_name_is_not_taken(
    trained: Path, garments: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    digest = judge.load(trained).card.data.digest
    for place in (judge.cache_path(digest, "residual"), judge.cache_path(digest, "plain")):
        place.parent.mkdir(exist_ok=True)
        for suffix in (".safetensors", ".json"):
            shutil.copy(trained.with_suffix(suffix), place.with_suffix(suffix))
    found = judge.for_data(garments)
    assert found is not None and found.fingerprint == judge.load(trained).fingerprint
    with pytest.raises(ModisteError, match=r"-plain\.safetensors was trained on other images.*train it again"):
        judge.for_data(garments, "plain")  # the file says that it is a residual one
    monkeypatch.setattr(judge, "content_digest", lambda _: "0" * 64)
    other = judge.cache_path("0" * 64, "residual")
    for suffix in (".safetensors", ".json"):
        shutil.copy(trained.with_suffix(suffix), other.with_suffix(suffix))
    with pytest.raises(ModisteError, match=r"was trained on other images than its name says"):
        judge.for_data(garments)


def test_a_training_that_dies_between_card_and_weights_leaves_no_judge(
    garments: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    place = judge.cache_path(content_digest(open_data(garments, part="fit")), "residual")
    judge.train(garments, place, epochs=1)
    write_bytes = judge.files.write_bytes

    def die(path: Path, content: bytes) -> None:
        if path.suffix == ".safetensors":
            raise KeyboardInterrupt
        write_bytes(path, content)

    monkeypatch.setattr(judge.files, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
        judge.train(garments, place, epochs=1, seed=1)
    assert judge.for_data(garments) is None  # and not an error until somebody trains it again
    monkeypatch.setattr(judge.files, "write_bytes", write_bytes)
    judge.train(garments, place, epochs=1, seed=1)
    assert judge.for_data(garments) is not None


def test_a_place_that_cannot_be_written_is_said_before_the_training(
    garments: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_training, "train_classifier", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "package.json").write_text('{"name": "mine"}')
    with pytest.raises(UsageError, match=r"package\.json is there and does not say that Modiste wrote it"):
        judge.train(garments, tmp_path / "package.safetensors")
    (tmp_path / "old.safetensors").write_bytes(b"a judge")
    with pytest.raises(UsageError, match=r"old\.safetensors is there and does not say that Modiste wrote it"):
        judge.train(garments, tmp_path / "old.safetensors")
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    kept = judge.cache_path("0" * 64, "residual")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a judge")
    with pytest.raises(pytest.fail.Exception, match="trained"):  # the cache's own is trained anew
        judge.train(garments, kept)
    (tmp_path / "file").touch()
    with pytest.raises(ModisteError, match=r"cannot write .*j\.json"):
        judge.train(garments, tmp_path / "file" / "j.safetensors")


def test_training_repeats_bit_for_bit(garments: Data, tmp_path: Path) -> None:
    for name in ("once", "again"):
        judge.train(garments, tmp_path / f"{name}.safetensors", epochs=1, seed=3)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "once.safetensors").read_bytes()


def test_an_image_has_the_same_features_in_any_company(trained: Path, garments: Data) -> None:
    loaded, images = judge.load(trained), open_data(garments)
    alone, _ = loaded.examine(images.pixels[7:8])
    among, _ = loaded.examine(images.pixels[:300])
    np.testing.assert_allclose(alone[0], among[7], rtol=1e-5, atol=1e-6)


def test_augmentation_moves_and_erases_but_keeps_labels(garments: Data) -> None:
    images = open_data(garments)
    pixels, labels = next(classifier_training.augmented_batches(images, 64, 0, 0))
    again, _ = next(classifier_training.augmented_batches(images, 64, 0, 0))
    other, _ = next(classifier_training.augmented_batches(images, 64, 0, 1))
    assert pixels.dtype == torch.uint8 and pixels.shape == (64, 1, 16, 16)
    assert torch.equal(pixels, again) and not torch.equal(pixels, other)
    epoch = np.concatenate([found.numpy() for _, found in classifier_training.augmented_batches(images, 60, 0, 0)])
    assert np.array_equal(np.bincount(epoch), np.bincount(images.labels))
    assert labels.dtype == torch.int64


def test_a_judge_is_found_by_the_content_of_its_data(
    trained: Path, garments: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    assert judge.for_data(garments) is None
    place = judge.cache_path(content_digest(open_data(garments, part="fit")), "residual")
    place.parent.mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(trained.with_suffix(suffix), place.with_suffix(suffix))
    moved = tmp_path / "moved.npz"
    shutil.copy(garments.name, moved)
    found = judge.for_data(Data(name=str(moved), resize=32))
    assert found is not None and found.card.training["seed"] == 3


@pytest.mark.parametrize("damage", ["weights", "card", "no card"])
def test_a_damaged_judge_is_refused(trained: Path, tmp_path: Path, damage: str) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(trained.with_suffix(suffix), tmp_path / f"mine{suffix}")
    path = tmp_path / "mine.safetensors"
    if damage == "weights":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "card":
        path.with_suffix(".json").write_text("{}")
    else:
        path.with_suffix(".json").unlink()
    with pytest.raises(ModisteError, match="train"):
        judge.load(path)


def test_no_labels_no_judge(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "bare.npz", images=pixels)
    with pytest.raises(UsageError, match="no labels"):
        judge.train(Data(name=str(tmp_path / "bare.npz")), tmp_path / "j.safetensors", epochs=1)
    with pytest.raises(UsageError, match="is no judge"):
        judge.load(tmp_path / "j.safetensors")
    np.savez(tmp_path / "same.npz", images=np.zeros((40, 1, 8, 8), np.uint8), labels=np.arange(40) % 2)
    with pytest.raises(UsageError, match=r"all 40 images of same .*are the same, black"):
        judge.train(Data(name=str(tmp_path / "same.npz")), tmp_path / "j.safetensors", epochs=1)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_the_shortest_trainings_have_a_learning_rate_too(steps: int) -> None:
    losses: list[float] = []
    classifier_training.train_classifier(
        toy.draw(20, 8, 0), epochs=steps, after_epoch=lambda _, loss, *__: losses.append(loss)
    )
    assert len(losses) == steps and np.isfinite(losses).all()


@pytest.mark.parametrize(("name", "least"), [("garment", 0.945), ("second", 0.94)])
def test_shipped_judges_are_sharp_enough(name: str, least: float) -> None:
    assert judge.load(name).card.measured["test"].accuracy >= least


@pytest.mark.parametrize("name", ["garment", "second"])
def test_shipped_judges_keep_their_promises(name: str) -> None:
    shipped = judge.load(name)
    card = shipped.card
    assert card.measured["test"].count == 10_000
    assert np.trace(card.measured["test"].confusion) / 10_000 == card.measured["test"].accuracy
    assert card.data.part == "fit" and card.data.count == 55_000
    assert sum(p.numel() for p in shipped.network.parameters()) == card.parameters <= 400_000
    assert shipped.network.head.in_features == 128
    assert (SHIPPED / f"{judge.SHIPPED[name]}.safetensors").stat().st_size <= 1_000_000


@pytest.mark.parametrize("name", ["garment", "second"])
def test_a_card_is_read_and_written_without_loss(name: str) -> None:
    text = (SHIPPED / f"{judge.SHIPPED[name]}.json").read_text(encoding="utf-8")
    assert json.dumps(judge.JudgeCard.from_json(json.loads(text)).to_json()) == json.dumps(json.loads(text))


def test_the_two_shipped_judges_are_of_different_kinds() -> None:
    first, second = judge.load("garment"), judge.load("second")
    assert first.card.kind != second.card.kind
    assert first.card.training["seed"] != second.card.training["seed"]
    assert first.fingerprint != second.fingerprint


@pytest.mark.slow
def test_shipped_judges_measure_as_their_cards_say_on_the_real_test_images() -> None:
    test = open_data(Data(), part="test")
    for name in judge.SHIPPED:
        shipped = judge.load(name)
        again = judge.measure(shipped.network, test)
        assert again.digest == shipped.card.measured["test"].digest
        assert abs(again.accuracy - shipped.card.measured["test"].accuracy) <= 2e-4


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"kind": "residual"}', "\udcff", None])
def test_a_foreign_card_is_named_with_a_remedy(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    if content is not None:
        (tmp_path / "mine.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModisteError, match=r"mine\.json.* (no card of|the card of) a judge.*train .* again$"):
        judge.load(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("measured", [{}, {"heldout": {}}, {"test": 3}])
def test_a_card_without_measurements_is_refused(trained: Path, tmp_path: Path, measured: object) -> None:
    card = json.loads(trained.with_suffix(".json").read_text(encoding="utf-8"))
    (tmp_path / "mine.json").write_text(json.dumps({**card, "measured": measured}), encoding="utf-8")
    shutil.copy(trained, tmp_path / "mine.safetensors")
    with pytest.raises(ModisteError, match="no card of a judge"):
        judge.load(tmp_path / "mine.safetensors")


def test_a_set_that_is_not_there_leaves_no_folder_for_its_judge(tmp_path: Path) -> None:
    with pytest.raises(ModisteError, match="does not exist"):
        judge.train(Data(name=str(tmp_path / "nowhere")), tmp_path / "judges" / "mine")
    assert not list(tmp_path.iterdir())
