"""Baselines that ship: found by content, protocol and editions only, and equal to those computed anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modiste
from modiste import cache
from modiste.config import Data
from modiste.data.sets import open_data


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
