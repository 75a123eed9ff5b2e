"""The film: grids by images shown, curves without lost peaks, notes on health, and growth while a run trains."""

from __future__ import annotations

import http.client
import json
import math
import re
import threading
import time
from contextlib import closing
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import expect
from support import open_part

from modiste import config, runs
from modiste.studio import access, film, library, server


def test_a_film_has_the_grids_and_curves_of_its_run(client, ids, folder):
    run = runs.Run(folder / "small")
    told = client.get(f"/api/runs/{ids['small']}/film").json()
    log = run.read_log()
    assert told["grids"] == [0, 80, 160, 240, 320]
    assert (told["status"], told["ticks"], told["images"], told["thinned"]) == ("finished", 4, 320, False)
    for name in film.CURVES:
        assert told["curves"][name] == [[record["images"], record[name]] for record in log]
    shown = client.get(f"/api/runs/{ids['small']}/grid.png?images=160")
    assert shown.headers["content-type"] == "image/png"
    assert shown.content == run.list_grids()[2].read_bytes()


def test_a_run_that_was_exported_has_no_film(client):
    told = client.get("/api/runs/pretrained/film").json()
    assert (told["grids"], told["ticks"], told["heldout"]) == ([], 0, None)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ("images=7", "small has no grid of 7 images shown; load the page again"),
        ("images=../../manifest", "images '../../manifest' is not a number"),
        ("images=-1", "images -1 is out of range"),
    ],
)
def test_only_grids_of_the_run_are_shown(client, ids, ask, sentence):
    answer = client.get(f"/api/runs/{ids['small']}/grid.png?{ask}")
    assert answer.status_code == 400 and sentence in answer.json()["error"]


def test_more_runs_than_colours_and_unknown_runs_are_refused(client, ids):
    many = client.get(f"/api/film?runs={','.join([ids['small']] * 9)}")
    assert many.status_code == 400 and "more than 8 runs are too many" in many.json()["error"]
    assert "no run of the listing" in client.get(f"/api/film?runs={ids['small']},nothing").json()["error"]


def test_a_long_log_is_thinned_without_losing_a_peak():
    random = np.random.default_rng(3)
    for _ in range(20):
        values = random.normal(size=10_000)
        top, bottom = random.choice(10_000, 2, replace=False)
        values[[top, bottom]] = [99.0, -99.0]
        line = list(enumerate(values.tolist()))
        drawn = film.thin(line)
        assert len(drawn) <= film.MOST_POINTS and set(drawn) <= set(line)
        assert all(before < after for before, after in pairwise(place for place, _ in drawn))
        assert {line[0], line[top], line[bottom], line[-1]} <= set(drawn)


def test_a_short_log_is_drawn_whole():
    line = [(k, float(k % 7)) for k in range(film.MOST_POINTS)]
    assert film.thin(line) == line


def test_what_is_not_finite_is_a_gap(client, ids, folder):
    run = runs.Run(folder / "small")
    log = run.read_log()
    log[1]["loss_g"], log[2]["d_accuracy_real"] = math.nan, math.inf
    runs.write_log(run, log)
    curves = client.get(f"/api/runs/{ids['small']}/film").json()["curves"]
    assert [images for images, _ in curves["loss_g"]] == [80, 240, 320]
    assert [images for images, _ in curves["d_accuracy_real"]] == [80, 160, 320]


def test_a_log_of_something_else_is_one_sentence(client, ids, folder):
    (folder / "small" / "log.jsonl").write_text('{"images": "many"}\n[]\n{"images": 3}\n', encoding="utf-8")
    answer = client.get(f"/api/runs/{ids['small']}/film")
    assert answer.status_code == 400 and "small" in answer.json()["error"]


def test_notes_tell_signs_failures_and_alarms(client, ids, folder):
    run = runs.Run(folder / "small")
    first = run.read_log()[0]
    sure = [{**first, "images": 80 * k, "d_accuracy_real": 1.0, "d_accuracy_fake": 1.0} for k in range(1, 8)]
    runs.write_log(run, sure)
    runs.update_manifest(run, status="failed", reason="the loss is no number")
    record = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    (run.path / "metrics.json").write_text(json.dumps({**record, "alarms": ["<b>copies</b>"]}), encoding="utf-8")
    notes = client.get(f"/api/runs/{ids['small']}/film").json()["notes"]
    found = {note["kind"]: note for note in notes}
    assert set(found) == {"failure", "sign", "alarm"}
    assert found["sign"]["images"] == 400 and "it may have won" in found["sign"]["text"]
    assert found["failure"]["text"] == "the training failed: the loss is no number"
    assert found["alarm"]["text"] == "<b>copies</b>"


def test_notes_tell_why_there_is_nothing_to_tell(client, ids, folder):
    (folder / "small" / "metrics.json").unlink()
    texts = [note["text"] for note in client.get(f"/api/runs/{ids['small']}/film").json()["notes"]]
    assert texts == [
        "no sign of a failing training in 4 ticks, of which 5 are needed",
        "no alarms of scores: it was not evaluated",
    ]


def test_distances_measured_alike_share_a_chart_and_others_do_not(client, ids, folder):
    def read(name):
        return client.get(f"/api/runs/{ids[name]}/film").json()["heldout"]

    first, log = read("small"), runs.Run(folder / "small").read_log()
    assert first["measured"] == read("quick")["measured"]
    assert first["points"] == [[320, log[-1][first["score"]]]] and first["best"] == 320  # a held-out score at the end
    renamed = [{key.replace("_2k_", "_1k_"): value for key, value in record.items()} for record in log]
    runs.write_log(runs.Run(folder / "small"), renamed)
    assert read("small")["score"] != first["score"] and read("small")["measured"] != first["measured"]
    place = folder / "quick" / "recipe.toml"
    recipe = runs.Run(folder / "quick").read_recipe()
    training_part = {"data.split": "fit", "data.resize": 8, "data.fit": "stretch"}  # held-out images stay as they are
    for changes, alike in ((training_part, True), ({"data.heldout": "last"}, False)):
        place.write_text(config.to_toml(config.override(recipe, changes)), encoding="utf-8")
        assert read("quick")["score"] == first["score"] and (read("quick")["measured"] == first["measured"]) == alike


class Stream:
    """The events of a stream, read over a socket as a browser does."""

    def __init__(self, address, path):
        parts = urlsplit(address)
        self.connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        self.connection.request("GET", f"/?{parts.query}")
        answer = self.connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.connection.request("GET", path, headers={"Cookie": cookie})
        self.answer = self.connection.getresponse()

    def lines(self):
        for line in self.answer:
            if text := line.decode().strip():
                yield text

    def close(self):
        self.connection.close()

    def next_event(self):
        return json.loads(next(line for line in self.lines() if line.startswith("data: "))[len("data: ") :])


def id_of(folder, name):
    return next(entry.id for entry in library.list_runs(folder) if entry.name == name)


def test_a_film_grows_with_its_run(folder, address):
    run = runs.Run(folder / "small")
    ids = id_of(folder, "small"), id_of(folder, "quick")
    with closing(Stream(address, f"/api/film?runs={','.join(ids)}")) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert [stream.next_event()["id"] for _ in ids] == list(ids)
        runs.append_log(run, {**run.read_log()[-1], "images": 400})
        grown = stream.next_event()
        assert (grown["id"], grown["images"], grown["ticks"]) == (ids[0], 400, 5)
        (run.path / "log.jsonl").write_text("nothing\n", encoding="utf-8")
        assert "line that is no record" in stream.next_event()["error"]
        assert list(stream.lines()) == []  # the stream has ended


def test_streams_end_with_the_studio_and_without_a_word(folder, caplog):
    with server.listen("127.0.0.1", None) as listening:
        entry = access.Access("127.0.0.1", listening.getsockname()[1], lambda address: None)
        made = server.make_app(folder, entry, lambda: app.should_exit)
        app = uvicorn.Server(uvicorn.Config(made, timeout_graceful_shutdown=server.GRACE_SECONDS))
        thread = threading.Thread(target=app.run, args=([listening],))
        thread.start()
        while not app.started:
            time.sleep(0.01)
        with closing(Stream(entry.address, f"/api/film?runs={id_of(folder, 'small')}")) as stream:
            stream.next_event()
            app.should_exit = True
            assert list(stream.lines()) == []
        thread.join(10)
        assert not thread.is_alive()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_in_the_browser(page, folder):
    open_part(page, "film")
    page.wait_for_selector(".reel canvas[data-images='320']")
    expect(page.locator(".transport input").first).to_have_value("4")
    page.focus(".transport input")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".reel canvas[data-images='240']")
    expect(page.locator(".transport output").first).to_have_text("240 images shown")
    page.check(".chosen label:has-text('quick') input")
    page.wait_for_selector(".reel:nth-child(2) canvas[data-images='240']")
    both = re.compile("^Losses over images shown: small: generator from .*quick: discriminator")
    expect(page.locator(".chart:first-child svg").first).to_have_attribute("aria-label", both)
    page.click(".chart:first-child summary")
    expect(page.locator(".chart:first-child tbody tr")).to_have_count(4)
    runs.append_log(runs.Run(folder / "small"), {**runs.Run(folder / "small").read_log()[-1], "images": 400})
    page.wait_for_selector(".transport input[max='5']")
    expect(page.locator(".chart:first-child tbody tr")).to_have_count(5)
    page.focus(".transport input")
    page.keyboard.press("Home")
    page.wait_for_selector(".reel canvas[data-images='0']")
    page.click(".transport button")
    page.wait_for_selector(".transport button:has-text('Pause')")
    page.wait_for_selector(".transport button:has-text('Play')")
    expect(page.locator(".transport input").first).to_have_value("5")
    page.wait_for_selector(".reel canvas[data-images='320']")  # small has logged 400 images and drawn no grid of them
    page.check(".chosen label:has-text('pretrained') input")
    page.wait_for_selector(".reel:has-text('This run holds no grids')")
    page.click("#tabs a[href^='#wall/']")
    page.wait_for_selector(".wall canvas[data-drawn='1']")
