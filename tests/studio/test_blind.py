"""The blind test in the studio: made, taken in its page, scored, kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support import open_part

from modiste.studio import server

ASKED = {"against": "real", "trials": 4, "seed": 1, "per_class": False}


def make(client, ids, **changes):
    return client.post(f"/api/runs/{ids['small']}/blind", json={**ASKED, **changes})


def filled(client, address, folder):
    """The answers of somebody who is always right."""
    key = json.loads((folder / "blind" / f"{address.rsplit('/')[-1]}.key.json").read_text(encoding="utf-8"))
    answers = [{"trial": k, "choice": one["first"], "ms": 900} for k, one in enumerate(key["trials"])]
    person = {"id": "../../x", "name": "<b>Ada</b>"}
    return {"format": "modiste blind answers 1", "test": key["test"], "person": person, "answers": answers}


def test_a_test_is_made_taken_and_scored(client, ids, folder):
    made = make(client, ids).json()
    assert made["command"].startswith(f"modiste blind {folder / 'small'} --against real --trials 4 --seed 1")
    page = client.get(made["address"])
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert "small" not in page.text  # the page does not say whose images it shows
    assert client.get("/api/blind").json() == []
    reply = client.post(made["address"], json=filled(client, made["address"], folder))
    assert reply.status_code == 200 and len(reply.json()["sentences"]) > 1
    (result,) = client.get("/api/blind").json()
    assert result["people"] == 1 and result["sentences"] == reply.json()["sentences"]
    kept = sorted(place.name for place in (folder / "blind").iterdir())
    assert len(kept) == 3 and not (folder.parent / "x").exists()


def test_a_run_called_real_is_not_taken_for_real_images(folder, entry, monkeypatch):
    (folder / "quick").rename(folder / "real")
    monkeypatch.chdir(folder)
    with TestClient(server.make_app(Path(), entry), "http://127.0.0.1:8765") as client:
        client.get(f"/?token={entry.token}")
        client.headers["Origin"] = "http://127.0.0.1:8765"
        ids = {run["name"]: run["id"] for run in client.get("/api/runs").json()}
        made = make(client, ids, against=ids["real"]).json()
    assert made["command"].startswith("modiste blind small --against ./real ")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trials": 0}, "a test has 1 to 500 trials, not 0"),
        ({"trials": "4"}, "a test has 1 to 500 trials, not '4'"),
        ({"trials": True}, "a test has 1 to 500 trials, not True"),
        ({"seed": -1}, "the seed -1 is not possible"),
        ({"trials": 400}, "has too few images of class '"),
        ({"seed": "9" * 500}, f"the seed '{'9' * 60}' is no whole number"),
        ({"seed": "1"}, "the seed '1' is no whole number"),
        ({"against": "../small"}, "no run of the listing has this id"),
        ({"against": 3}, "against is no short text"),
    ],
)
def test_what_cannot_be_is_refused(client, ids, folder, change, sentence):
    answer = make(client, ids, **change)
    assert answer.status_code == 400 and sentence in answer.json()["error"]
    assert not (folder / "blind").exists()


def test_answers_that_are_none_are_refused_and_not_kept(client, ids, folder):
    address = make(client, ids).json()["address"]
    right = filled(client, address, folder)
    beyond = {**right, "answers": [{**right["answers"][0], "trial": 999}]}
    for wrong in ({}, {**right, "test": "another"}, {**right, "answers": [{"trial": 0}]}, beyond):
        assert client.post(address, json=wrong).status_code == 400
    assert client.post("/blind/nothing", json=right).status_code == 400
    assert client.get("/api/blind").json() == []


def test_one_damaged_sheet_leaves_the_other_tests_their_results(client, ids, folder):
    for seed in (1, 2):
        address = make(client, ids, seed=seed).json()["address"]
        assert client.post(address, json=filled(client, address, folder)).status_code == 200
    good, bad = client.get("/api/blind").json()
    bad_file = bad["command"].split()[-1]
    (folder / "blind" / bad_file.rsplit("/")[-1]).write_text("{}", encoding="utf-8")
    found = client.get("/api/blind").json()
    assert good in found and len(found) == 2
    (damaged,) = (one for one in found if one != good)
    assert len(damaged["sentences"]) == 1 and bad_file in damaged["sentences"][0]


def test_in_the_browser(page, folder):
    open_part(page, "blind")
    page.fill(".blind input[type=number]", "2")
    page.click(".blind button.main")
    link = page.wait_for_selector(".made a", timeout=120_000)
    with page.context.expect_page() as opened:
        link.click()
    test = opened.value
    test.click("#start")
    position = 0
    while not test.query_selector("body[data-ready=end]"):
        test.wait_for_selector(f"body[data-ready='{position}'], body[data-ready=end]")
        test.keyboard.press("f")
        position += 1
        test.wait_for_selector(f"body[data-ready='{position}'], body[data-ready=end]")
    test.click("#save")
    test.wait_for_selector("#result p")
    test.close()
    page.reload()
    page.wait_for_selector(".results article")
