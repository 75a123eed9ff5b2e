"""Baselines that ship: found by content, protocol and editions only, and equal to those computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modiste
from modiste import cache
from modiste.config import Data
from modiste.data.sets import open_data
from modiste.evaluation import baselines, references
from modiste.evaluation.evaluate import extractors_for
from modiste.metrics import standard_errors, suite

FASHION_MNIST = json.loads((cache.SHIPPED / "fashion-mnist.json").read_text(encoding="utf-8"))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of what ships, and an empty cache."""

    def forget() -> None:
        cache._shipped_scores.cache_clear()
        cache._shipped_arrays.cache_clear()

    monkeypatch.setattr(cache, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path
    forget()


def never() -> Any:
    pytest.fail("computed although it ships")


def test_what_ships_is_found_by_its_key_alone(shipped: Path) -> None:
    key = {"suite": 1, "images": "a"}
    with cache.recorded() as found:
        assert cache.cached_json(key, lambda: [0.5], {"torch": "1"}) == [0.5]
        assert cache.cached_json(key, never, {"torch": "1"}) == [0.5]
        cache.cached_arrays(key, lambda: {"x": np.arange(3), "y": np.ones(2)})
    places = cache.write_shipped("some", found, {"modiste": "9"})
    assert [place.name for place in places] == ["some.json", "some.npz"]
    cache._shipped_scores.cache_clear()
    cache._shipped_arrays.cache_clear()
    assert cache.cached_json(key, never, {"torch": "2"}) == [0.5] and cache.shipped_versions(key) == {"modiste": "9"}
    arrays = cache.cached_arrays(key, lambda: never())
    assert arrays["x"].tolist() == [0, 1, 2] and arrays["y"].tolist() == [1, 1]
    for other in ({**key, "suite": 2}, {**key, "images": "b"}):
        assert cache.cached_json(other, lambda: "new") == "new" and cache.shipped_versions(other) == {}
    with cache.recorded() as again:
        assert cache.cached_json(key, lambda: "anew") == "anew"  # neither what ships nor what is on disk
    assert [one["value"] for one in again.scores.values()] == ["anew"]


def test_the_record_names_the_versions_of_the_baselines(shipped: Path, closet: Path, tmp_path: Path, call: Any) -> None:
    images = open_data(Data(name=str(closet)), part="test")
    np.savez(tmp_path / "made.npz", images=images.pixels[:60], labels=images.labels[:60])
    with cache.recorded() as found:
        first = modiste.evaluate(tmp_path / "made.npz", count=60, data_name=str(closet))
    assert "baselines" not in first.protocol.versions
    cache.write_shipped("closet", found, {"modiste": "9.9", "torch": "1.0"})
    cache._shipped_scores.cache_clear()
    cache._shipped_arrays.cache_clear()
    second = modiste.evaluate(tmp_path / "made.npz", count=60, data_name=str(closet))
    assert second.protocol.versions["baselines"] == "modiste 9.9, torch 1.0"
    assert second.scores == first.scores


def test_what_ships_is_of_todays_editions_and_small() -> None:
    keys = [one["key"] for one in FASHION_MNIST["scores"].values()]
    assert {(key["suite"][1], key["standard_errors"]) for key in keys} == {(suite.EDITION, standard_errors.METHOD)}
    assert {key["count"] for key in keys} == {10_000, 2_000} and {key["seed"] for key in keys} == {0}
    assert all(cache.shipped_name(key) in FASHION_MNIST["scores"] for key in keys)
    assert sum(place.stat().st_size for place in cache.SHIPPED.glob("fashion-mnist.*")) < 800_000


@pytest.mark.slow
def test_what_ships_is_what_a_fresh_computation_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 images, for trainings without the held-out images; two minutes."""
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    dataset, open_part = Data(name="fashion-mnist", split="train"), references.opener()
    real, fit = open_part(dataset, "test"), open_part(dataset, "fit")
    extractors, _ = extractors_for(dataset, real, None, False)
    with cache.recorded() as found:
        against = suite.make_reference(real, "test", extractors, train=fit, unseen=real, count=2_000)
        held, new_to_judge = references.baseline_images(dataset, "test", 2_000, open_part)
        baselines.measure(held, new_to_judge, fit, against, lambda _: None)
    for name, fresh in found.scores.items():
        before, now = FASHION_MNIST["scores"][name]["value"], fresh["value"]
        assert before["scores"].keys() == now["scores"].keys() and before["missing"] == now["missing"]
        for score, one in now["scores"].items():
            known = before["scores"][score]
            assert one["value"] == pytest.approx(known["value"], rel=1e-3, abs=1e-5), score
            assert one["uncertainty"] == pytest.approx(known["uncertainty"], rel=1e-2, abs=1e-5), score
    shipped = cache._shipped_arrays()
    for name, arrays in found.arrays.items():
        for array, values in arrays.items():
            if array not in ("axes", "centres"):  # directions of equal variance may turn, and all else with them
                np.testing.assert_allclose(values, shipped[name][array], rtol=1e-3, atol=1e-4)
