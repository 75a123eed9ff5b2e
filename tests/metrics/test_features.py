"""Extractors: their names, facts and hashes, how images are made to fit; and the cache, whatever happens to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modiste import cache as disk_cache
from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.metrics import features, judge
from modiste.metrics.features import Extractor, Features
from modiste.networks.layers import ImageShape


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counting:
    """An extractor that takes each image's mean and notes how often it was called."""

    def __init__(self, fingerprint: str = "c0ffee", logits: bool = False) -> None:
        self.calls, self.logits = 0, logits
        self.extractor = Extractor("counting", ImageShape(1, 8), fingerprint, {}, self.examine)

    def examine(self, pixels: np.ndarray) -> Features:
        self.calls += 1
        means = pixels.mean((1, 2, 3), dtype=np.float32)[:, None]
        return Features(means, -means if self.logits else None)


def some(count: int = 6, seed: int = 0) -> Images:
    return Images(np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8), np.uint8), None, (), "some")


def test_names_are_words() -> None:
    assert [features.slug(text) for text in ("My_Photos (2)", "Été", "__")] == ["my-photos-2", "t", "judge"]


def test_words_that_are_taken_are_not_taken_again() -> None:
    assert features.slug("Random") == "own-random"  # a data set of this name is not the random network


def test_fitting_repeats_grey_averages_colour_and_resizes() -> None:
    grey = some().pixels
    assert features.fit_pixels(grey, ImageShape(1, 8)) is grey
    colour = features.fit_pixels(grey, ImageShape(3, 8))
    assert colour.shape == (6, 3, 8, 8) and all(np.array_equal(colour[:, k], grey[:, 0]) for k in range(3))
    assert np.array_equal(features.fit_pixels(colour, ImageShape(1, 8)), grey)
    flags = np.zeros((3, 3, 8, 8), np.uint8)
    for k in range(3):
        flags[k, k] = 255
    dim = features.fit_pixels(flags, ImageShape(1, 8))
    assert dim.dtype == np.uint8 and dim[:, 0, 0, 0].tolist() == [76, 150, 29]  # of 255, as Pillow's mode L
    large = features.fit_pixels(np.full((2, 3, 4, 4), 77, np.uint8), ImageShape(1, 8))
    assert large.shape == (2, 1, 8, 8) and (large == 77).all()


def test_the_random_network_is_the_same_everywhere() -> None:
    network = features.random_network(ImageShape(1, 28))
    assert network.fingerprint == "6fb394afd5b07dd5"
    others = [
        features.random_network(*how).fingerprint
        for how in ((ImageShape(3, 28),), (ImageShape(1, 16),), (ImageShape(1, 28), 1))
    ]
    assert len({network.fingerprint, *others}) == 4
    assert network.facts["hash"] == network.fingerprint and network.facts["input"] == [1, 28, 28]
    assert json.loads(json.dumps(network.facts)) == network.facts


def test_random_features_are_finite_alive_and_of_a_size() -> None:
    network, garments = features.random_network(ImageShape(1, 28)), toy.draw(300).pixels
    found = network.examine(garments)
    assert found.logits is None and len(found) == 300
    vectors = found.vectors
    assert vectors.shape == (300, 128) and vectors.dtype == np.float32 and np.isfinite(vectors).all()
    assert (vectors.std(0) > 0.01).all() and vectors.std(0).max() < 10 and np.abs(vectors).max() < 10
    np.testing.assert_allclose(network.examine(garments[290:]).vectors, vectors[290:], rtol=1e-5, atol=1e-6)
    again = features.random_network(ImageShape(1, 28)).examine(garments).vectors
    assert np.array_equal(again, vectors)


def test_random_features_tell_structure_apart() -> None:
    network = features.random_network(ImageShape(1, 16))
    one, other = (network.examine(toy.draw(200, 16, seed).pixels).vectors.mean(0) for seed in (1, 2))
    noise = network.examine(np.random.default_rng(0).integers(0, 256, (200, 1, 16, 16), np.uint8)).vectors.mean(0)
    assert np.linalg.norm(one - noise) > 10 * np.linalg.norm(one - other)


def test_a_judge_as_extractor(closet_judge: Path) -> None:
    loaded = judge.load(closet_judge)
    extractor = features.from_judge(loaded, "closet")
    pixels = toy.draw(20, 16, 3).pixels
    found = extractor.examine(pixels)
    vectors, logits = loaded.examine(pixels)
    assert np.array_equal(found.vectors, vectors) and np.array_equal(found.logits, logits)
    assert extractor.name == "closet" and extractor.fingerprint == loaded.fingerprint
    facts = extractor.facts
    assert facts["accuracy"] == round(loaded.card.measured["test"].accuracy, 4) > 0.7
    assert facts["hash"] == loaded.fingerprint and facts["features"] == 128 and facts["input"] == [1, 16, 16]
    assert json.loads(json.dumps(facts)) == facts


def _in_cache(judged: Path) -> None:
    """Copy a judge into this test's cache, where it is found by its data set."""
    place = judge.cache_path(judge.load(judged).card.data.digest, "residual")
    place.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(judged.with_suffix(suffix), place.with_suffix(suffix))


def test_the_judge_of_all_classes_serves_some(closet: Path, closet_judge: Path) -> None:
    """Its features stay, its logits are those of the chosen classes, and its fingerprint tells the two apart."""
    _in_cache(closet_judge)
    every = features.judge_of(Data(name=str(closet)))
    some = features.judge_of(Data(name=str(closet), classes=("Bag", "Trouser")))
    assert every is not None and some is not None
    pixels = open_data(Data(name=str(closet)), part="test").pixels[:20]
    of_every, of_some = every.examine(pixels), some.examine(pixels)
    np.testing.assert_array_equal(of_every.vectors, of_some.vectors)
    assert of_every.logits is not None and of_some.logits is not None
    np.testing.assert_array_equal(of_every.logits[:, [1, 8]], of_some.logits)
    assert some.facts["classes"] == ["Trouser", "Bag"] and some.shape.classes == 2
    assert (some.name, some.facts["hash"]) == (every.name, every.facts["hash"])
    assert some.fingerprint != every.fingerprint


def test_scores_are_named_after_the_judge_or_the_random_network(closet: Path, closet_judge: Path) -> None:
    settings = Data(name=str(closet))
    nothing = features.primary_extractor(settings)  # in this test's cache
    assert nothing.name == "random" and nothing.shape == ImageShape(1, 16)
    _in_cache(closet_judge)
    found = features.primary_extractor(settings)
    assert found.name == "closet" and found.fingerprint == judge.load(closet_judge).fingerprint


@pytest.mark.parametrize("logits", [False, True])
def test_features_are_kept_by_content(cache: Path, logits: bool) -> None:
    counting, images = Counting(logits=logits), some()
    first = features.extract(counting.extractor, images, cached=True)
    second = features.extract(counting.extractor, replace(images, name="renamed"), cached=True)
    assert counting.calls == 1 and len(list(cache.rglob("*.cached"))) == 1
    assert np.array_equal(first.vectors, second.vectors) and second.vectors.dtype == np.float32
    assert (second.logits is None) is (not logits)
    if logits:
        assert first.logits is not None and np.array_equal(first.logits, second.logits)  # type: ignore[arg-type]


def test_other_images_and_other_extractors_are_computed(cache: Path) -> None:
    counting, other = Counting(), Counting("f00d")
    features.extract(counting.extractor, some(), cached=True)
    features.extract(counting.extractor, some(seed=1), cached=True)
    features.extract(other.extractor, some(), cached=True)
    assert (counting.calls, other.calls) == (2, 1)
    features.extract(counting.extractor, some())  # generated images are never kept
    features.extract(counting.extractor, some(seed=2))
    assert counting.calls == 4 and len(list(cache.rglob("*.cached"))) == 3


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit turned over."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "without its first line": lambda content: content.partition(b"\n")[2],
    "one bit of the hash": lambda content: flipped(content, 100),
    "one bit of a value": lambda content: flipped(content, 8 * (len(content) - 4)),
    "text": lambda content: b"not what it was",
    "null": lambda content: b"null",
    "list": lambda content: b"[1, 2]",
}


def value() -> dict[str, float]:
    return {"value": 0.5125}


def array() -> np.ndarray:
    return np.arange(4.0)


def right(counting: Counting) -> None:
    """Ask for all that the tests below keep, and hold it to what it is."""
    found = features.extract(counting.extractor, some(), cached=True)
    assert np.array_equal(found.vectors, Counting().examine(some().pixels).vectors)
    assert found.logits is not None and np.array_equal(found.logits, -found.vectors)
    assert disk_cache.cached_json({"kind": "value"}, value) == value()
    assert disk_cache.cached_array({"kind": "array"}, array).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_of_the_cache_are_computed_anew(cache: Path, damage: str) -> None:
    counting = Counting(logits=True)
    for _ in range(2):
        right(counting)
    assert counting.calls == 1
    before = {place: place.read_bytes() for place in cache.rglob("*.cached")}
    assert len(before) == 3
    for place, content in before.items():
        place.write_bytes(DAMAGES[damage](content))
    for _ in range(2):  # the second time from the mended file
        right(counting)
    assert counting.calls == 2 and {place: place.read_bytes() for place in cache.rglob("*.cached")} == before


def test_every_flipped_bit_of_the_cache_is_noticed(cache: Path) -> None:
    """A digit of a number, a sign of an array's header, a flag of an archive: each would be read as something else."""
    counting = Counting(logits=True)
    right(counting)
    before = {place: place.read_bytes() for place in cache.rglob("*.cached")}
    for place, content in before.items():
        for bit in range(0, 8 * len(content), 7 if len(content) < 200 else 61):
            place.write_bytes(flipped(content, bit))
            right(counting)
            assert place.read_bytes() == content, (place, bit)


def test_a_file_of_another_entry_is_not_taken(cache: Path) -> None:
    counting, other = Counting(), Counting("f00d")
    for extractor in (counting.extractor, other.extractor):
        features.extract(extractor, some(), cached=True)
        features.extract(extractor, some(seed=1), cached=True)
    one, two, three, four = sorted(cache.rglob("*.cached"))
    contents = [place.read_bytes() for place in (one, two, three, four)]
    for place, content in zip((one, two, three, four), contents[1:] + contents[:1], strict=True):
        place.write_bytes(content)
    for extractor in (counting.extractor, other.extractor):
        for seed in (0, 1):
            found = features.extract(extractor, some(seed=seed), cached=True)
            assert np.array_equal(found.vectors, Counting().examine(some(seed=seed).pixels).vectors)
    assert [place.read_bytes() for place in (one, two, three, four)] == contents


@pytest.mark.parametrize("hindrance", ["a file", "read only"])
def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, hindrance: str) -> None:
    if hindrance == "a file":
        cache.write_text("in the way")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        cache.mkdir(mode=0o500)
    counting = Counting()
    for _ in range(2):
        assert len(features.extract(counting.extractor, some(), cached=True)) == 6
        assert disk_cache.cached_json({"a": 1}, lambda: 3) == 3
        assert disk_cache.cached_array({"a": 1}, lambda: np.ones(2)).tolist() == [1, 1]
    assert counting.calls == 2


def test_values_are_remembered_under_all_they_depend_on(cache: Path) -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert disk_cache.cached_json({"images": "a", "seed": 0}, compute) == 1
    assert disk_cache.cached_json({"seed": 0, "images": "a"}, compute) == 1  # the order of the key does not count
    assert disk_cache.cached_json({"images": "b", "seed": 0}, compute) == 2
    assert disk_cache.cached_json({"images": "a", "seed": 1}, compute) == 3
    one, other, _ = (cache / "scores").iterdir()
    one.write_bytes(other.read_bytes())  # a file under a name that is not its key's
    for images, seed in (("a", 0), ("b", 0), ("a", 1)):
        disk_cache.cached_json({"images": images, "seed": seed}, compute)
    assert len(calls) == 4 and one.read_bytes() != other.read_bytes()


def test_arrays_are_remembered_exactly(cache: Path) -> None:
    values = np.random.default_rng(0).normal(size=50)
    disk_cache.cached_array({"kind": "distances"}, lambda: values)
    again = disk_cache.cached_array({"kind": "distances"}, lambda: np.zeros(1))
    assert again.dtype == np.float64 and np.array_equal(again, values)


@pytest.mark.parametrize(("off", "gpu"), [(1e-6, "cuda"), (1e-2, "")])
def test_a_gpu_is_used_where_it_agrees_with_the_processor(
    off: float, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = features.random_network(ImageShape(1, 8))
    flags: list[bool] = []

    def on_device(device: str) -> features.Examine:
        assert device == "cuda"

        def examine(pixels: np.ndarray) -> Features:
            flags.append(torch.backends.cudnn.allow_tf32)
            return Features(plain.examine(pixels).vectors * np.float32(1 + off))

        return examine

    extractor = replace(plain, fingerprint=f"off by {off}", on_device=on_device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert features.gpu_of(extractor) == "" and features.gpu_of(replace(plain, on_device=None)) == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.backends.cudnn.allow_tf32
    assert features.gpu_of(extractor) == gpu and len(flags) == 1
    pixels = np.random.default_rng(1).integers(0, 256, (30, 1, 8, 8), np.uint8)
    found = features.extract(extractor, Images(pixels, None, (), "some")).vectors
    expected = plain.examine(pixels).vectors
    assert np.array_equal(found, expected) == (gpu == "") and np.allclose(found, expected, rtol=1e-5)
    assert not any(flags) and torch.backends.cudnn.allow_tf32 == before


@pytest.mark.gpu
def test_features_on_a_gpu_are_those_of_the_processor() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (700, 1, 28, 28), np.uint8)
    shipped = [features.from_judge(judge.load(name), name) for name in judge.SHIPPED]
    for extractor in (*shipped, features.random_network(ImageShape(1, 28))):
        assert features.gpu_of(extractor) == "cuda"
        found, expected = features.extract(extractor, Images(pixels, None, (), "some")), extractor.examine(pixels)
        assert np.abs(found.vectors - expected.vectors).max() < 1e-4 * np.abs(expected.vectors).max()
