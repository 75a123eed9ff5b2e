"""Two runs side by side: one table of scores measured alike, a sentence where there is none, no verdict of one seed."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest
from playwright.sync_api import expect
from support import open_part

from modiste.evaluation import records, score_tables
from modiste.plotting import charts
from modiste.reports import phrases
from modiste.studio import server


def ask(client, ids, first="small", second="quick"):
    return client.get(f"/api/compare?first={ids[first]}&second={ids[second]}")


def change(folder, **facts):
    """Change the protocol of the record of `quick`."""
    place = folder / "quick" / "metrics.json"
    tree = json.loads(place.read_text(encoding="utf-8"))
    tree["protocol"].update(facts)
    place.write_text(json.dumps(tree), encoding="utf-8")


def test_the_table_is_that_of_the_command_line(client, ids, folder):
    told = ask(client, ids).json()
    both = [records.read(folder / name / "metrics.json") for name in ("small", "quick")]
    _, body = score_tables.comparison(both)
    shown = [
        [*(f"{value} ± {error}" if error else value for value, error in zip(row["values"], row["errors"], strict=True)),
         row["real"], row["trivial"]]
        for row in told["rows"]
    ]  # fmt: skip
    assert shown == [cells for _, *cells in body]
    assert [row["score"] for row in told["rows"]] == [name.partition(" ")[0] for name, *_ in body]
    assert (told["missing"], told["refused"]) == ([], "")
    headline = [row["title"] for row in told["rows"] if row["headline"]]
    assert headline[0] == "Fréchet distance" and len(headline) == 6
    assert all(place is None or 0 <= place <= 1 for row in told["rows"] for place in row["places"])
    assert told["recipes"] == [["train.lr_generator", "0.0002", "0.001"]]


def test_one_training_each_gives_no_verdict(client, ids):
    first, *others = ask(client, ids).json()["sentences"]
    assert re.fullmatch(
        r"No verdict is possible on small and quick by frechet_\S+_50_test with only one seed: \S+ against \S+; "
        r"train at least three seeds of each\.",
        first,
    )
    assert others[-1].startswith("What stands after ± is one standard error")


def test_what_was_measured_differently_shares_no_table(client, ids, folder, call):
    change(folder, pixels="rescaled")
    told = ask(client, ids).json()
    assert "rows" not in told and told["missing"] == []
    files = [folder / name / "metrics.json" for name in ("small", "quick")]
    code, _, printed = call("evaluate", *files)
    assert code == 2 and told["refused"] in printed
    assert told["refused"].startswith("small and quick were not measured alike, so one table cannot hold both: pixels:")
    assert shlex.split(told["command"]) == ["modiste", "evaluate", str(folder / "small"), str(folder / "quick")]


@pytest.mark.parametrize("lost", ["record", "weights"])
def test_missing_scores_are_told_with_the_command_that_measures_them(client, ids, folder, lost):
    if lost == "record":
        (folder / "quick" / "metrics.json").unlink()
    else:  # the run was trained on since it was evaluated
        shutil.copyfile(folder / "small" / "generator.safetensors", folder / "quick" / "generator.safetensors")
    told = ask(client, ids).json()
    reasons = {
        "record": "it was not evaluated",
        "weights": "its scores are of other weights, or of images made in another way",
    }
    assert told["missing"] == [{"run": "quick", "reason": reasons[lost]}]
    assert "rows" not in told
    other = phrases.distance_sentence(records.read(folder / "small" / "metrics.json"))
    assert told["sentences"] == [f"small: {other}"]
    assert shlex.split(told["command"])[:2] == ["modiste", "evaluate"]


def test_the_shipped_run_has_scores_of_another_data_set(client, ids):
    told = ask(client, ids, "small", "pretrained").json()
    assert "were not measured alike" in told["refused"]
    assert shlex.split(told["command"])[-1] == "pretrained"


def test_a_file_that_is_no_record_is_a_sentence(client, ids, folder):
    (folder / "quick" / "metrics.json").write_text("[]", encoding="utf-8")
    answer = ask(client, ids)
    assert answer.status_code == 400 and "holds no record" in answer.json()["error"]


def test_a_run_is_not_compared_with_itself_or_with_a_path(client, ids):
    assert "choose another run" in ask(client, ids, "small", "small").json()["error"]
    answer = client.get(f"/api/compare?first={ids['small']}&second=../quick")
    assert answer.status_code == 400 and "no run of the listing" in answer.json()["error"]
    assert client.get("/api/compare").status_code == 400


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_of_runs_are_seen_on_the_page(scheme):
    css = (server.STATIC / "studio.css").read_text(encoding="utf-8")
    paper = luminance(re.findall(r"--paper: (#\w{6})", css)[scheme])
    for number in range(8):
        colour = luminance(re.findall(rf"--run-{number}: (#\w{{6}})", css)[scheme])
        light, dark = max(colour, paper), min(colour, paper)
        assert (light + 0.05) / (dark + 0.05) >= 3, number  # WCAG 2.2, 1.4.11
    assert len(charts.LINES) == 8


def test_in_the_browser(page):
    open_part(page, "compare")
    page.get_by_label("Compare with").select_option(label="quick")
    page.wait_for_selector(".wipe[data-drawn='2'], .wipe[data-drawn='3']")
    over = re.compile("^Generated images of quick, right of the")
    expect(page.locator(".wipe canvas.over").first).to_have_attribute("aria-label", over)
    page.wait_for_selector(".scores tbody tr")
    expect(page.locator(".scores").first).to_contain_text("No verdict is possible on small and quick")
    page.focus(".cut input")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cut input").first).to_have_attribute("aria-valuetext", "51 % small, 49 % quick")
    box = page.locator(".wipe").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 5, middle)
    page.mouse.up()
    expect(page.locator(".cut input").first).to_have_value("20")
    page.click("text=More seeds")
    page.wait_for_selector(".compare output:has-text('seeds 12 to 23')")
    page.get_by_label("Compare with").select_option(label="pretrained")
    page.wait_for_selector(".scores .error:has-text('were not measured alike')")
    expect(page.locator(".scores .command code").first).to_have_text(re.compile("^modiste evaluate"))
