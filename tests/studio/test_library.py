"""Runs by id from a listing; links that lead out and broken folders are shown as such."""

from __future__ import annotations

import json
import shutil

import pytest
from playwright.sync_api import expect
from support import open_part

from modiste.errors import UsageError
from modiste.studio import library


def test_all_runs_are_listed_and_the_shipped_one_last(folder):
    (folder / "study" / "runs").mkdir(parents=True)
    shutil.move(folder / "quick", folder / "study" / "runs" / "quick-1")
    assert sorted(entry.name for entry in library.list_runs(folder)) == ["pretrained", "small", "study/runs/quick-1"]
    assert library.list_runs(folder)[-1].name == "pretrained"
    assert all(entry.is_usable for entry in library.list_runs(folder))


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
    ],
)
def test_a_broken_run_shows_as_broken_and_takes_nothing_else_down(client, folder, file, content):
    (folder / "small" / file).write_bytes(content)
    answer = client.get("/api/runs")
    assert answer.status_code == 200
    runs = {run["name"]: run for run in answer.json()}
    assert runs["small"]["problem"] and str(folder) not in runs["small"]["problem"]
    assert "problem" not in runs["quick"]
    refused = client.get(f"/api/runs/{runs['small']['id']}/wall.png?seeds=1&labels=0")
    assert refused.status_code == 400 and refused.json()["error"] == runs["small"]["problem"]
    fine = client.get(f"/api/runs/{runs['quick']['id']}/wall.png?seeds=1&labels=0")
    assert fine.status_code == 200


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
