"""Paths through the noise: their ends and corners are the images of these seeds, and between them lies no jump."""

from __future__ import annotations

import io
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support import open_part

from modiste.sampling import generators
from modiste.studio import noise

SIDE = 16


def tiles(content):
    """The images of a picture, row by row."""
    with Image.open(io.BytesIO(content)) as picture:
        dots = np.asarray(picture).astype(int)
    rows = [row for row in np.split(dots, dots.shape[0] // SIDE)]
    return [tile for row in rows for tile in np.split(row, dots.shape[1] // SIDE, axis=1)]


def away(one, other):
    return np.abs(one - other).max()


def test_a_path_is_that_of_sample_and_goes_from_seed_to_seed(client, ids, folder):
    answer = client.get(f"/api/runs/{ids['small']}/path.png?seeds=3,8&labels=1,1&frames=20&truncation=0.7")
    frames = tiles(answer.content)
    expected = generators.load(folder / "small").interpolate(3, 8, 20, label=1, truncation=0.7).pixels
    assert np.array_equal(frames, expected[:, 0])
    one, other = (
        generators.load(folder / "small").sample(seeds=[seed], label=1, truncation=0.7)[0, 0] for seed in (3, 8)
    )
    assert away(frames[0], one.astype(int)) <= 1 and away(frames[-1], other.astype(int)) <= 1


def test_between_two_classes_both_ends_are_their_images_and_the_middle_is_neither(client, ids, folder):
    frames = tiles(client.get(f"/api/runs/{ids['small']}/path.png?seeds=3,3&labels=0,4&frames=10").content)
    generator = generators.load(folder / "small")
    one, other = (generator.sample(seeds=[3], label=label)[0, 0].astype(int) for label in (0, 4))
    assert away(one, other) > 5
    assert away(frames[0], one) == 0 == away(frames[-1], other)
    assert min(away(frames[5], one), away(frames[5], other)) > 0


def test_the_corners_of_the_map_are_the_four_seeds(client, ids, folder):
    made = tiles(client.get(f"/api/runs/{ids['small']}/map.png?seeds=5,2,9,4&label=2&side=5").content)
    corners = generators.load(folder / "small").sample(seeds=[5, 2, 9, 4], label=2)[:, 0].astype(int)
    assert len(made) == 25
    for k, corner in zip((0, 4, 20, 24), corners, strict=True):
        assert away(made[k], corner) <= 1


def test_noise_on_the_map_is_as_long_as_training_knows_it():
    """Within the lengths of its corners, while the mean of the four is half as long."""
    corners = generators.seed_noise(range(4), 256)
    lengths = noise.noise_between(corners, 9).norm(dim=1)
    assert 0.9 * corners.norm(dim=1).min() < lengths.min() and lengths.max() < 1.1 * corners.norm(dim=1).max()


def test_a_path_tells_the_command_that_makes_it(client, ids, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about = client.get(f"/api/runs/{ids['small']}/path?seeds=3,8&labels=1,1").json()
    name, *words = shlex.split(about["command"])
    assert name == "modiste" and call(*words)[0] == 0
    assert (tmp_path / "between.gif").read_bytes()[:3] == b"GIF"
    assert client.get(f"/api/runs/{ids['small']}/path?seeds=3,8&labels=1,2").json() == {"command": None}


def test_a_network_that_takes_one_class_is_asked_for_no_mixture(folder):
    trained = generators.load(folder / "small")

    class Own(type(trained.network)):
        pass

    trained.network.__class__ = Own
    with pytest.raises(noise.UsageError, match="takes one class at a time; choose the same at both ends"):
        noise.check_mixes(trained)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ("path.png?seeds=1&labels=0,0", "a path has two ends"),
        ("path.png?seeds=1,2&labels=0", "a path has two ends"),
        ("path.png?seeds=1,2&labels=0,10", "labels 10 is out of range; take 0 to 9"),
        ("path.png?seeds=1,2&labels=0,0&frames=5000", "frames 5000 is out of range; take 2 to 121"),
        ("map.png?seeds=1,2,3&label=0", "a map has four corners, not 3; give four seeds"),
        ("map.png?seeds=1,2,3,4&label=0&side=99", "side 99 is out of range; take 2 to 33"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(client, ids, ask, sentence):
    answer = client.get(f"/api/runs/{ids['small']}/{ask}")
    assert answer.status_code == 400 and sentence in answer.json()["error"]


def test_in_the_browser(page):
    open_part(page, "paths")
    page.wait_for_selector(".strip[data-drawn='1']")
    expect(page.locator(".about-path code").first).to_contain_text("--interpolate 0 1")
    page.fill(".between input[type=range]", "30")
    page.wait_for_selector(".between canvas.large[data-frame='30']")
    half_way = re.compile("^Generated image 50 % of the way from T-shirt/top, seed 0")
    expect(page.locator(".between canvas.large").first).to_have_attribute("aria-label", half_way)
    page.click(".between button:has-text('Play')")
    page.wait_for_selector(".between canvas.large:not([data-frame='30'])")
    page.click(".between button:has-text('Pause')")
    page.locator(".between select").nth(1).select_option("3")
    page.wait_for_selector(".about-path:has-text('belongs to no class')")
    page.wait_for_selector(".plane[data-drawn='1']")
    page.focus(".plane")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".plane[data-at='11,13']")
    box = page.locator(".plane").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 3, steps=4)
    page.mouse.up()
    page.wait_for_selector(".plane[data-at='24,0']")
    page.wait_for_selector(".every-class canvas[data-drawn='1']")
    page.click(".every-class button:has-text('More seeds')")
    page.wait_for_selector(".every-class canvas[data-drawn='2']")
    expect(page.locator(".every-class canvas").first).to_have_attribute("aria-label", re.compile("Seeds 5 to 9"))
