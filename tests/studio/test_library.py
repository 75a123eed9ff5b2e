"""Runs by id from a listing; links that lead out and broken folders are shown as such."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from playwright.sync_api import expect
from support import open_part

from modiste import runs
from modiste.errors import UsageError
from modiste.studio import library


def test_all_runs_are_listed_and_the_shipped_one_last(folder):
    (folder / "study" / "runs").mkdir(parents=True)
    shutil.move(folder / "quick", folder / "study" / "runs" / "quick-1")
    assert sorted(entry.name for entry in library.list_runs(folder)) == ["pretrained", "small", "study/runs/quick-1"]
    assert library.list_runs(folder)[-1].name == "pretrained"
    assert not any(entry.problem for entry in library.list_runs(folder))


def test_without_runs_the_shipped_one_is_there(tmp_path):
    assert [entry.name for entry in library.list_runs(tmp_path)] == ["pretrained"]


def test_the_folder_may_be_a_run(folder):
    assert [entry.name for entry in library.list_runs(folder / "small")] == ["small", "pretrained"]


@pytest.mark.parametrize("id", ["small", "../small", "0" * 12, "", "%2e%2e"])
def test_a_path_is_no_id(folder, id):
    with pytest.raises(UsageError, match="no run of the listing has this id"):
        library.find(folder, id)


def test_links_that_lead_out_are_not_followed(folder, tmp_path):
    elsewhere = shutil.move(folder / "quick", tmp_path / "quick")
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert "linked" not in {entry.name for entry in library.list_runs(folder)}
    shutil.move(folder / "small" / "generator.safetensors", tmp_path / "weights")
    (folder / "small" / "generator.safetensors").symlink_to(tmp_path / "weights")
    (small,) = [entry for entry in library.list_runs(folder) if entry.name == "small"]
    assert small.problem == "generator.safetensors is a link that leads out of the folder; copy what it leads to"
    with pytest.raises(UsageError, match="leads out"):
        library.find(folder, small.id)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", b"{"),
        ("manifest.json", b"[]"),
        ("manifest.json", b'{"status": 3, "data": 5, "device": [], "threads": {}}'),
        ("manifest.json", b"\xff\xfe"),
        ("recipe.toml", b"train = 3"),
        ("recipe.toml", b"\0"),
        ("generator.json", b"{}"),
        ("generator.json", b'{"shape": {"channels": 1, "size": "<b>"}, "class_names": [], "network": {}}'),
        ("log.jsonl", b"no json\n"),
        ("log.jsonl", b"[1, 2]\n"),
        ("log.jsonl", b"{}\n"),
        ("log.jsonl", b"3\n"),
        ("log.jsonl", b'{"images": "many"}\n'),
        ("log.jsonl", b"[" * 10**5 + b"\n"),
        ("log.jsonl", b"\xff\n"),
    ],
)
def test_a_broken_run_shows_as_broken_and_takes_nothing_else_down(client, folder, file, content):
    (folder / "small" / file).write_bytes(content)
    answer = client.get("/api/runs")
    assert answer.status_code == 200
    listed = {run["name"]: run for run in answer.json()}
    assert listed["small"]["problem"] and str(folder) not in listed["small"]["problem"]
    assert listed["small"]["broken"] and "problem" not in listed["quick"]
    refused = client.get(f"/api/runs/{listed['small']['id']}/wall.png?seeds=1&labels=0")
    assert refused.status_code == 400 and refused.json()["error"] == listed["small"]["problem"]
    fine = client.get(f"/api/runs/{listed['quick']['id']}/wall.png?seeds=1&labels=0")
    assert fine.status_code == 200


@pytest.mark.parametrize("lost", ["generator.json", "generator.safetensors"])
def test_before_the_first_tick_only_that_run_has_no_generator(client, ids, folder, lost):
    for name in (lost, "best.safetensors"):
        (folder / "small" / name).unlink(missing_ok=True)
    runs.update_manifest(runs.Run(folder / "small"), status="running")
    listed = {run["name"]: run for run in client.get("/api/runs").json()}
    assert "problem" not in listed["quick"] and listed["small"]["checkpoints"] == []
    assert listed["small"]["problem"] == (
        "small has no generator; wait for the first tick of its training or, if that has ended, resume it"
    )
    assert not listed["small"]["broken"] and client.get(f"/api/runs/{ids['small']}/film").status_code == 200
    assert client.get(f"/api/runs/{ids['small']}/wall.png?seeds=1").json()["error"] == listed["small"]["problem"]


@pytest.mark.parametrize(
    ("status", "remedy"), [("interrupted", "resume it"), ("failed", "resume it"), ("finished", "train it anew")]
)
def test_nobody_waits_for_a_training_that_has_ended(folder, status, remedy):
    (folder / "small" / "generator.json").unlink()
    runs.update_manifest(runs.Run(folder / "small"), status=status)
    (small,) = [entry for entry in library.list_runs(folder) if entry.name == "small"]
    assert small.problem == f"small has no generator; {remedy}"


@pytest.mark.parametrize(
    ("logged", "ended", "images"), [(320, 352, 352), (320, 300, 320), (None, 96, 96), (None, None, 0)]
)
def test_images_shown_are_those_of_log_or_manifest(folder, logged, ended, images):
    run = runs.Run(folder / "small")
    runs.write_log(run, [] if logged is None else [{"images": logged}])
    runs.update_manifest(run, images=ended)
    assert library.images_shown(run) == images


def test_a_name_that_is_not_utf_8_takes_nothing_down(client, folder):
    (folder / "small").rename(os.fsdecode(os.fsencode(folder) + b"/sm\xffll"))
    answer = client.get("/api/runs")
    assert answer.status_code == 200 and len(answer.json()) == 3


def test_damaged_weights_are_one_sentence(client, ids, folder):
    (folder / "small" / "generator.safetensors").write_bytes(b"nothing")
    answer = client.get(f"/api/runs/{ids['small']}/wall.png?seeds=1&labels=0")
    assert answer.status_code == 400 and "cannot be loaded" in answer.json()["error"]


def test_a_new_generator_is_loaded_when_its_file_changes(client, ids, folder):
    ask = f"/api/runs/{ids['small']}/wall.png?seeds=1,2&labels=0"
    before = client.get(ask).content
    shutil.copyfile(folder / "quick" / "generator.safetensors", folder / "small" / "generator.safetensors")
    assert client.get(ask).content != before


def test_markup_in_names_is_only_text(client, folder):
    tree = json.loads((folder / "small" / "generator.json").read_text(encoding="utf-8"))
    tree["class_names"][0] = "<script>alert(1)</script>"
    (folder / "small" / "generator.json").write_text(json.dumps(tree), encoding="utf-8")
    (run,) = [run for run in client.get("/api/runs").json() if run["name"] == "small"]
    assert run["classes"][0] == "<script>alert(1)</script>"
    assert client.get("/api/runs").headers["content-type"] == "application/json"


def test_markup_in_names_stays_text_in_every_part(page, folder):
    name = "<img src=x onerror=alert(1)>"
    page.wait_for_load_state("networkidle")  # the wall is drawn before the folder under it goes
    for file, key in (("generator.json", "class_names"), ("metrics.json", None), ("manifest.json", None)):
        text = (folder / "small" / file).read_text(encoding="utf-8")
        tree = json.loads(text)
        if key:
            tree[key][0] = name
        else:
            tree = json.loads(text.replace("closet", "<u>closet</u>"))
        (folder / "small" / file).write_text(json.dumps(tree), encoding="utf-8")
    (folder / "small").rename(folder / "<i>small<i>")
    page.reload()
    for part in ("wall", "paths", "film", "compare", "fails", "blind", "train", "take-away"):
        open_part(page, part, "<i>small<i>")
        page.wait_for_load_state("networkidle" if part not in ("film", "train", "take-away") else "load")
        assert not page.query_selector("main img[src=x], main u, main i"), part
    open_part(page, "wall", "<i>small<i>")
    page.wait_for_selector(".row-names span")
    expect(page.locator(".row-names span").first).to_have_text(name)


@pytest.mark.parametrize(
    ("fragment", "sentence"),
    [("wall/nope", "No run of this folder has the id “nope”"), ("nope", "The studio has no part “nope”")],
)
def test_an_address_that_names_nothing_shows_nothing_else(page, fragment, sentence):
    page.wait_for_selector(".wall canvas[data-drawn]")
    page.goto(f"{page.url.partition('#')[0]}#{fragment}")
    expect(page.locator("main .error")).to_contain_text(sentence)
    assert page.query_selector(".part") is None


def test_a_run_without_a_generator_can_be_resumed_in_the_browser(page, folder):
    page.wait_for_selector(".wall canvas[data-drawn]")
    (folder / "small" / "generator.json").unlink()
    runs.update_manifest(runs.Run(folder / "small"), status="interrupted")
    page.reload()
    page.select_option("#run", label="small (no generator)")
    expect(page.locator("main .error")).to_have_text("small has no generator; resume it.")
    page.click("#tabs a[href^='#train/']")
    expect(page.get_by_role("button", name="Resume")).to_be_enabled()
