"""Training from the page: checked values become one command, one at a time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect
from support import open_part, wait_for_command

from modiste import config, runs
from modiste.studio import commands

SHORT = {
    "recipe": "swift",
    "name": "mine",
    "data": "toy",
    "budget": "64 images",
    "seed": "3",
    "settings": {
        "data.count": "64",
        "train.batch_size": "32",
        "train.threads": "1",
        "network.generator_widths": "[8, 8, 8]",
        "network.discriminator_widths": "[8, 8, 8]",
        "evaluate.every_images": "0",
    },
}


def test_the_form_has_every_key_of_a_recipe_once(client):
    form = client.get("/api/train/form").json()
    keys = [key["key"] for section in form["sections"].values() for key in section]
    own = {"name", "about", "source", "seed", "data.name", "train.images", "train.epochs", "train.budget_seconds"}
    own |= {"finetune.ancestor", "finetune.frozen_layers", "finetune.rate_share"}
    assert sorted([*keys, *own]) == sorted(config.KEYS)
    assert {"toy", "fashion-mnist"} <= set(form["data"])
    assert "swift" in {recipe["name"] for recipe in form["recipes"]}
    values = client.get("/api/train/recipes/swift").json()["values"]
    assert set(values) == set(keys)
    again = config.assignments(f"{key}={text}" for key, text in values.items())
    assert config.override(config.load("swift"), again) == config.load("swift")


def test_checked_values_become_one_command(client, folder):
    checked = client.post("/api/train/check", json=SHORT).json()
    words = checked["command"].split()
    assert words[:5] == ["modiste", "train", "swift", "--out", str(folder / "mine")]
    assert {"--seed", "3", "--data", "toy", "--set=train.batch_size=32"} <= set(words)
    assert not (folder / "mine").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe": "../../x"}, "no recipe is named '../../x'"),
        ({"name": "../x"}, "the name '../x' cannot be a folder's"),
        ({"name": "--help"}, "the name '--help' cannot"),
        ({"name": ""}, "the name '' cannot"),
        ({"name": "small"}, "small exists already"),
        ({"data": "/etc"}, "'/etc' is no data set of the list"),
        ({"budget": "soon"}, "the length 'soon' is no length"),
        ({"seed": "-1"}, "the seed '-1' is no whole number"),
        ({"seed": "9999999999"}, "the seed '9999999999' is no whole number from 0 to 999999999"),
        ({"name": 3}, "name is no short text"),
        ({"settings": [1]}, "the settings are no texts by key"),
        ({"settings": {"train.batch_size": 3}}, "the settings are no texts by key"),
        ({"settings": {"finetune.ancestor": "/runs/x"}}, "'finetune.ancestor' is no setting of this form"),
        ({"settings": {"name": "x"}}, "'name' is no setting of this form"),
        ({"settings": {"data.name": "/etc"}}, "'data.name' is no setting of this form"),
        ({"settings": {"no.such": "1"}}, "'no.such' is no setting of this form"),
        ({"settings": {"train.batch_size": "-4"}}, "train.batch_size"),
        ({"settings": {"loss.adversarial": "evil.py:loss"}}, "'evil.py:loss' is none of"),
        ({"settings": {"network.family": "evil.py:Pair"}}, "'evil.py:Pair' is none of"),
    ],
)
def test_what_is_not_valid_is_refused_before_anything_starts(client, folder, change, sentence):
    assert sentence in client.post("/api/train/check", json={**SHORT, **change}).json()["problem"]
    answer = client.post("/api/train/start", json={**SHORT, **change})
    assert answer.status_code == 400 and sentence in answer.json()["error"]
    assert client.get("/api/command").json() == {"command": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "small"}, "name"),
        ({"data": "/etc"}, "data"),
        ({"budget": "soon"}, "budget"),
        ({"seed": "x"}, "seed"),
        ({"settings": {**SHORT["settings"], "train.batch_size": "-4"}}, "train.batch_size"),
        ({"settings": {"network.family": "x"}}, "network.family"),
        ({"recipe": "../../x"}, ""),
    ],
)
def test_a_problem_names_its_field(client, change, field):
    assert client.post("/api/train/check", json={**SHORT, **change}).json()["field"] == field


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"x" * 70_000])
def test_a_body_that_is_no_json_object_is_refused(client, content):
    assert client.post("/api/train/check", content=content).status_code == 400


def test_one_training_at_a_time_then_stopped_then_resumed(client, folder):
    long = {**SHORT, "budget": "100000 images", "settings": {**SHORT["settings"], "train.tick_images": "32"}}
    assert client.post("/api/train/start", json=long).json()["running"]
    again = client.post("/api/train/start", json={**long, "name": "other"})
    assert again.status_code == 400 and again.json()["error"].startswith("one command at a time")
    deadline = time.monotonic() + 300
    while not runs.states(runs.Run(folder / "mine")):
        assert time.monotonic() < deadline, client.get("/api/command").json()
        time.sleep(0.1)
    client.post("/api/command/stop")
    assert wait_for_command(client)["code"] == 0
    run = runs.Run(folder / "mine")
    assert run.read_manifest().status == "interrupted"
    images = run.read_manifest().images
    (listed,) = [one for one in client.get("/api/runs").json() if one["name"] == "mine"]
    answer = client.post(f"/api/runs/{listed['id']}/go-on", json={"budget": "x"})
    assert answer.status_code == 400 and "the length 'x' is no length" in answer.json()["error"]
    assert client.post(f"/api/runs/{listed['id']}/go-on", json={}).status_code == 200
    client.post("/api/command/stop")
    job = wait_for_command(client)
    assert job["command"] == f"modiste train {folder / 'mine'}" and job["run"] == listed["id"]
    assert run.read_manifest().images >= images


def test_a_training_stopped_within_a_tick_has_the_images_of_its_manifest(folder, tmp_path):
    run = runs.Run(folder / "small")
    runs.update_manifest(run, status="interrupted", images=run.read_manifest().images + 16)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    known = commands.Commands()
    known.last = commands.Command(["train", str(run.path)], run, process, tmp_path / "output", 0.0)
    assert commands.describe(known, folder)["images"] == 336 > runs.read_last_record(run)["images"]


def test_the_shipped_generator_is_not_trained_on(client):
    answer = client.post("/api/runs/pretrained/go-on", json={})
    assert answer.status_code == 400 and "has no state" in answer.json()["error"]


def test_a_name_that_was_typed_stays_when_a_recipe_comes(page):
    held = []
    page.route("**/api/train/recipes/*", lambda route: held.append(route))
    open_part(page, "train")
    name = page.locator(".train input[required]")
    name.fill("mine")
    page.wait_for_timeout(100)
    assert held
    for route in held:
        route.continue_()
    page.wait_for_selector(".train summary:has-text('Data')")
    expect(name).to_have_value("mine")
    page.unroute("**/api/train/recipes/*")
    name.fill("")
    page.select_option(".train select[aria-label=Recipe]", "hour")
    expect(name).to_have_value("hour")


def test_in_the_browser(page, folder):
    open_part(page, "train")
    page.wait_for_selector(".part.train code")
    page.fill(".train input[required]", "from-page")
    page.select_option(".train select[aria-label=Data]", "toy")
    page.fill(".train .controls input[value='2min']", "64 images")
    page.click(".train summary:has-text('Data')")
    page.fill("input[aria-label='data.count']", "64")
    page.press("input[aria-label='data.count']", "Tab")
    page.wait_for_selector(".train .command code:has-text('--set=data.count=64')")
    page.click(".train summary:has-text('Held-out scores')")
    page.fill("input[aria-label='evaluate.every_images']", "0")
    page.press("input[aria-label='evaluate.every_images']", "Tab")
    page.click(".train summary:has-text('Networks')")
    for network in ("generator", "discriminator"):
        page.fill(f"input[aria-label='network.{network}_widths']", "[8, 8, 8]")
        page.press(f"input[aria-label='network.{network}_widths']", "Tab")
    page.fill("input[aria-label='data.count']", "-1")
    page.press("input[aria-label='data.count']", "Tab")
    page.wait_for_selector(".train .error:has-text('data.count')")
    beside = page.locator(".field:has(input[aria-label='data.count']) .error")
    expect(beside).to_contain_text("data.count = -1 is not possible")
    expect(page.locator("input[aria-label='data.count']")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".train button.main").first).to_be_disabled()
    page.fill("input[aria-label='data.count']", "64")
    page.press("input[aria-label='data.count']", "Tab")
    page.wait_for_selector(".train .command code")
    page.click(".train button.main:enabled")
    page.wait_for_selector(".under-way[data-state=done]", timeout=120_000)
    expect(page.locator(".under-way img.grid").first).to_have_attribute(
        "alt", "Generated images after 64 images of training"
    )
    assert runs.Run(folder / "from-page").read_manifest().status == "finished"
    page.click(".under-way a[href^='#wall/']")
    page.wait_for_selector(".wall canvas[data-drawn]")


def test_a_length_that_cannot_be_is_refused_beside_its_field(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    open_part(page, "train")
    page.get_by_label("New length of the run").fill("soon")
    page.get_by_role("button", name="Extend", exact=True).click()
    refused = page.locator(".field", has=page.get_by_label("New length of the run")).locator(".error")
    expect(refused).to_have_text("the length 'soon' is no length; write it as 5min, 3 epochs or 60000 images")
    context.close()
