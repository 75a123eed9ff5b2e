"""The nearest training images of an image on the wall: an exact copy is found, noise is none."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from modiste.config import Data
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import UsageError
from modiste.studio import library, neighbours, wall


def until_done(client, address):
    """The JSON of slow work, once nothing of it is under way."""
    for _ in range(1200):
        found = client.get(address).json()
        parts = [found, *(value for value in found.values() if isinstance(value, dict))]
        if not any("working" in part for part in parts):
            return found
        time.sleep(0.05)
    raise TimeoutError(found)


@pytest.fixture(scope="module")
def spaces(trained):
    entry = library.list_runs(trained / "small")[0]
    return {
        "pixels": neighbours.pixel_space(entry, lambda step: None),
        "features": neighbours.feature_space(entry, lambda step: None),
    }


@pytest.mark.parametrize("name", neighbours.SPACES)
def test_a_training_image_is_its_own_exact_copy(spaces, name):
    train = spaces[name].real.train
    for row in (0, 17, len(train) - 1):
        found = neighbours.find(spaces[name], name, train.select(np.array([row])))
        assert found.rows[0] == row and found.distances[0] == 0 and found.is_near_copy
        assert list(found.distances) == sorted(found.distances)
        assert neighbours.describe(found, 200) == "An exact copy: its distance to a training image is 0."


@pytest.mark.parametrize("name", neighbours.SPACES)
def test_unseen_images_are_near_copies_as_often_as_the_threshold_says(spaces, name):
    unseen = spaces[name].real.unseen
    found = [neighbours.find(spaces[name], name, unseen.select(np.array([row]))) for row in range(len(unseen))]
    assert 0 < sum(one.is_near_copy for one in found) <= 0.03 * len(unseen)


def test_a_slightly_changed_copy_is_a_near_copy_and_noise_is_none(spaces):
    space = spaces["pixels"]
    row = space.real.train.pixels[[3]]
    changed = Images(np.where(row > 128, row - 1, row + 1).astype(np.uint8), None, (), "changed")
    found = neighbours.find(space, "pixels", changed)
    assert found.rows[0] == 3 and 0 < found.distances[0] == pytest.approx(16 / 255)  # 256 pixels, each 1 / 255 away
    assert neighbours.describe(found, 200).startswith("A near-copy: its distance of 0.0627 to a training image")
    noise = np.random.default_rng(0).integers(0, 256, row.shape, np.uint8)
    far = neighbours.find(space, "pixels", Images(noise, None, (), "noise"))
    assert not far.is_near_copy
    assert neighbours.describe(far, 200).startswith("No near-copy: its nearest training image is ")


def test_the_wall_shows_them(client, ids, monkeypatch, closet):
    train = open_data(Data(name=str(closet)), part="train")
    monkeypatch.setattr(wall, "draw_point", lambda generator, point: train.pixels[[40]])
    found = until_done(client, f"/api/runs/{ids['small']}/neighbours?seed=1&label=2")
    for name in neighbours.SPACES:
        assert found[name]["near_copy"] and found[name]["distances"][0] == 0
        assert found[name]["classes"][0] == train.class_names[train.labels[found[name]["rows"][0]]]
    rows = ",".join(map(str, found["pixels"]["rows"][:2]))
    picture = client.get(f"/api/runs/{ids['small']}/training.png?rows={rows}")
    with Image.open(io.BytesIO(picture.content)) as opened:
        assert np.array_equal(np.asarray(opened)[:, :16], train.pixels[40, 0])
    assert b"Synthetic" not in picture.content
    refused = client.get(f"/api/runs/{ids['small']}/training.png?rows=100000")
    assert refused.status_code == 400 and "rows 100000 is out of range" in refused.json()["error"]


def test_a_run_without_its_data_says_so_in_a_sentence(client, ids, folder, tmp_path):
    recipe = (folder / "quick" / "recipe.toml").read_text(encoding="utf-8")
    name = next(line for line in recipe.splitlines() if line.startswith("name = ") and "closet" in line)
    elsewhere = recipe.replace(name, f'name = "{tmp_path / "gone.npz"}"')
    (folder / "quick" / "recipe.toml").write_text(elsewhere, encoding="utf-8")
    for _ in range(200):
        answer = client.get(f"/api/runs/{ids['quick']}/neighbours?seed=1&label=2")
        if answer.status_code != 200:
            break
        time.sleep(0.05)
    assert answer.status_code == 400 and "gone.npz" in answer.json()["error"]


def test_nothing_is_downloaded(folder, monkeypatch, tmp_path):
    recipe = (folder / "quick" / "recipe.toml").read_text(encoding="utf-8")
    name = next(line for line in recipe.splitlines() if line.startswith("name = ") and "closet" in line)
    (folder / "quick" / "recipe.toml").write_text(recipe.replace(name, 'name = "kmnist"'), encoding="utf-8")
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    monkeypatch.delenv("MODISTE_DATA", raising=False)
    (entry,) = [entry for entry in library.list_runs(folder) if entry.name == "quick"]
    with pytest.raises(UsageError, match="kmnist is not on this machine; `modiste data kmnist` fetches it"):
        neighbours.open_real(entry, lambda step: None)


def test_in_the_browser(page):
    page.select_option("#run", label="small")
    page.wait_for_selector(".wall canvas[data-drawn='1']")
    page.locator(".cells button").nth(3).click()
    page.wait_for_selector(".near[data-seed='3']", timeout=120_000)
    expect(page.locator(".neighbours img")).to_have_count(2 * neighbours.SHOWN)
    expect(page.locator(".neighbours img").first).to_have_attribute("alt", re.compile("^Training image "))
    expect(page.locator(".verdict").first).to_contain_text("near-copy")
