"""Steps along directions: the images are those of `modiste sample --direction`."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support import open_part

from modiste import runs
from modiste.latent import steering
from modiste.sampling import generators


@pytest.fixture(scope="session")
def steerable(trained):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steering, "MEASURED", 20)
        patch.setattr(steering, "FEWEST_PER_CLASS", 20)
        steering.find(runs.Run(trained / "small"), images=200)


def row(content):
    with Image.open(io.BytesIO(content)) as picture:
        return np.stack(np.split(np.asarray(picture), picture.width // picture.height, axis=1))


def test_a_row_takes_the_steps_of_sample(steerable, client, ids, folder):
    listed = client.get(f"/api/runs/{ids['small']}/directions").json()
    about = {one["name"]: one for one in listed["directions"]}
    assert listed["command"] is None and "width" in about and "random" not in about
    assert about["width"]["kind"] == "attribute" and "width" in about["width"]["about"]
    ask = "seeds=3,4,5&label=2&steps=width=1.5,brightness=-1"
    shown = row(client.get(f"/api/runs/{ids['small']}/steered.png?{ask}").content)
    run = runs.Run(folder / "small")
    steered = steering.steered(run, generators.load(run), {"width": 1.5, "brightness": -1.0})
    np.testing.assert_array_equal(shown, steered.sample(seeds=[3, 4, 5], label=2)[:, 0])
    command = client.get(f"/api/runs/{ids['small']}/steered?{ask}").json()["command"]
    assert "--seeds 3-5 --direction width=1.5 --direction brightness=-1 --class Pullover" in command


def test_a_run_without_directions_names_the_command(client, ids, folder):
    listed = client.get(f"/api/runs/{ids['quick']}/directions").json()
    assert listed["directions"] == [] and listed["command"].startswith("modiste directions ")


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ("seeds=1&steps=wide=1", "small has no direction 'wide'"),
        ("seeds=1&steps=width=9", "width=9 is too wide a step; take -5 to 5"),
        ("seeds=1&steps=width", "has no number"),
        ("seeds=1,2,3,4,5,6,7,8,9,10,11,12,13", "a row has at most 12 images, not 13"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(steerable, client, ids, ask, sentence):
    answer = client.get(f"/api/runs/{ids['small']}/steered.png?{ask}")
    assert answer.status_code == 400 and sentence in answer.json()["error"]


def test_in_the_browser(steerable, page):
    open_part(page, "paths")
    page.wait_for_selector(".along .strip[data-drawn='1']")
    page.locator(".along .steps input[type=range]").first.fill("1.5")
    page.wait_for_selector(".along .strip[data-drawn='2']")
    strip = page.locator(".along .strip")
    expect(strip).to_have_attribute("aria-label", "Generated images of the seeds 0 to 5, brightness +1.5")
    expect(page.locator(".along code").first).to_contain_text("--direction brightness=1.5")
    page.click(".along button:has-text('All back to 0')")
    page.wait_for_selector(".along .strip[data-drawn='3']")
    expect(strip).to_have_attribute("aria-label", re.compile("no step"))
    page.select_option("#run", label="quick")
    page.wait_for_selector(".along .steps code:has-text('modiste directions')")
