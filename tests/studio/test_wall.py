"""The wall: its images are those of `sample`, its refusals are sentences."""

from __future__ import annotations

import io
import re
import shlex
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support import open_part

from modiste.provenance import metadata
from modiste.sampling import generators


def dots(content):
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def test_the_wall_has_a_class_per_row_and_a_seed_per_column(client, ids, folder):
    answer = client.get(f"/api/runs/{ids['small']}/wall.png?seeds=5,7&labels=2,0,1&truncation=0.8")
    generator = generators.load(folder / "small")
    rows = [generator.sample(seeds=[5, 7], label=label, truncation=0.8)[:, 0] for label in (2, 0, 1)]
    expected = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    assert np.array_equal(dots(answer.content), expected)
    assert metadata.read_metadata(answer.content)["Synthetic"] == "true"


def test_an_image_tells_the_command_that_makes_it(client, ids, folder, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask = "seed=9&label=3&truncation=0.5"
    about = client.get(f"/api/runs/{ids['small']}/image?{ask}").json()
    assert about["class"] == generators.load(folder / "small").class_names[3]
    name, *words = shlex.split(about["command"])
    assert name == "modiste" and call(*words)[0] == 0
    shown = dots(client.get(f"/api/runs/{ids['small']}/image.png?{ask}").content)
    made = dots((tmp_path / "seed-9.png").read_bytes())
    scale = made.shape[0] // shown.shape[0]
    assert np.array_equal(made[2:-2:scale, 2:-2:scale][: len(shown)], shown)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ("labels=0", "seeds '' is not a number from 0 to 4294967295"),
        ("seeds=1,x&labels=0", "seeds 'x' is not a number"),
        ("seeds=-1&labels=0", "seeds -1 is out of range"),
        ("seeds=4294967296&labels=0", "seeds 4294967296 is out of range"),
        (f"seeds={'9' * 4000}&labels=0", f"seeds {'9' * 60} is out of range"),
        ("seeds=1&labels=99", "labels 99 is out of range"),
        ("seeds=1&labels=0&truncation=nan", "truncation nan is out of range"),
        ("seeds=1&labels=0&truncation=0", "truncation 0.0 is out of range"),
        ("seeds=1&labels=0&checkpoint=../../x", "small has no checkpoint '../../x'; take last or best"),
        (f"seeds={','.join(map(str, range(401)))}&labels=0", "a wall has 1 to 400 images, not 401"),
        (f"seeds={','.join(map(str, range(5000)))}&labels=0", "seeds are more than 1000"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(client, ids, ask, sentence):
    answer = client.get(f"/api/runs/{ids['small']}/wall.png?{ask}")
    assert answer.status_code == 400 and sentence in answer.json()["error"]


def test_two_hundred_requests_at_once_are_all_answered(client, ids):
    ask = [f"/api/runs/{ids['small']}/wall.png?seeds={seed}&labels=0,1" for seed in range(200)]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(client.get, ask))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 200
    assert client.get("/api/runs").status_code == 200


def test_in_the_browser(page):
    page.select_option("#run", label="small")
    page.wait_for_selector(".wall canvas[data-drawn='1']")
    page.fill(".wall input[type=range]", "0.5")
    page.wait_for_selector(".wall canvas[data-drawn='2']")
    expect(page.locator(".wall output").first).to_have_text("0.50")
    page.focus(".cells button")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".facts img")
    expect(page.locator(".facts code").first).to_contain_text(re.compile("--seeds 1.*--truncation 0.5"))
    expect(page.locator(".facts img").first).to_have_attribute("alt", re.compile("seed 1$"))


@pytest.mark.parametrize(
    ("typed", "value"), [("-5", "-5"), ("0.5", "0.5"), ("99999999999", "99999999999"), ("", "This")]
)
@pytest.mark.parametrize("part", ["wall", "paths"])
def test_what_is_no_seed_is_refused_beside_its_field(page, part, typed, value):
    open_part(page, part)
    page.wait_for_selector("canvas[data-drawn]")
    for field in page.locator(".field:has(input[type=number])").all():
        field.locator("input").fill("3")
        field.locator("input").fill(typed)
        field.locator("input").press("Tab")
        expect(field.locator(".error")).to_have_text(f"{value} is no seed; write a whole number from 0 to 4294967000.")
        assert field.locator("input").input_value() == typed
        field.locator("input").fill("7")
        field.locator("input").press("Tab")
        expect(field.locator(".error")).to_have_text("")
