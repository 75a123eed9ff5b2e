"""The page: it asks for nothing, says nothing of the answers, and keeps them through a closed tab."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blind_lab import garments, key_of
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import expect

from modiste.data import toy
from modiste.errors import UsageError
from modiste.experiments.blind import answers, page, phrases, scores, trials
from modiste.experiments.blind.trials import BlindOptions, BlindTest

MARKUP = "</script><script>alert('1')</script><b title=\"x\">"


@pytest.fixture(scope="module")
def test(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> BlindTest:
    made = garments(tmp_path_factory.mktemp("blind") / "seamstress.npz")
    return trials.make_test([made], BlindOptions(data_name=str(closet), trials=12))


def data_of(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="test">(.*?)</script>', html, re.DOTALL)
    tree: dict[str, Any] = json.loads(found)
    return tree


def pictures(html: str) -> list[bytes]:
    return [base64.b64decode(trial[side]) for trial in data_of(html)["trials"] for side in ("left", "right")]


def chunks(png: bytes) -> list[bytes]:
    found, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append(png[place + 4 : place + 8])
        place += 12 + length
    return found


def test_the_page_names_classes_and_nothing_else(test: BlindTest) -> None:
    html = page.render(test)
    tree = data_of(html)
    assert set(tree) == {"id", "side", "save_to", "trials"} and len(tree["trials"]) == len(test.trials)
    assert all(set(trial) == {"class", "left", "right"} for trial in tree["trials"])
    text = re.sub(r"<style>.*?</style>|<script.*?</script>", "", html, flags=re.DOTALL)
    for secret in ("seamstress", "closet", "real images", ".npz", "key"):
        assert secret not in text.replace("kbd", "")
    assert "Which picture is generated?" in text


def test_every_picture_is_written_alike_and_shown_as_it_is(test: BlindTest) -> None:
    content = pictures(page.render(test))
    assert len({len(one) for one in content}) == 1
    assert {one[:33] for one in content} == {content[0][:33]}  # signature and header: size, depth, colour, filter
    assert {tuple(chunks(one)) for one in content} == {(b"IHDR", b"IDAT", b"IEND")}
    shown = [np.asarray(Image.open(io.BytesIO(one))) for one in content]
    expected = [picture[0] for trial in test.trials for picture in (trial.left, trial.right)]
    assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=True))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_file_has_one_size_whatever_it_shows(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert len(page.encoded(noise)) == len(page.encoded(np.zeros(shape, np.uint8)))


def test_no_simple_rule_tells_sources_that_do_not_differ(tmp_path: Path) -> None:
    drawn = toy.draw(800, 8, 3)
    order = np.random.default_rng(2).permutation(800)
    for name, part in (("one", order[:400]), ("two", order[400:])):
        np.savez(tmp_path / f"{name}.npz", images=drawn.pixels[part], labels=drawn.labels[part])  # type: ignore[index]
    files = [str(tmp_path / "one.npz"), str(tmp_path / "two.npz")]
    test = trials.make_test(files, BlindOptions(trials=240, seed=4))
    content = iter(pictures(page.render(test)))
    sides: list[float] = []
    rules: dict[str, Callable[[NDArray[np.uint8], bytes], float]] = {
        "bytes": lambda _, png: len(png),
        "digits": lambda _, png: hash(png) % 1000,
        "darkest": lambda shown, _: float(shown.min()),
        "brightest": lambda shown, _: float(shown.max()),
        "black": lambda shown, _: float((shown == 0).sum()),
        "mean": lambda shown, _: float(shown.mean()),
    }
    right: dict[str, list[float]] = {name: [] for name in rules}
    for trial in test.trials:
        png = [next(content), next(content)]
        if trial.pair is None:
            continue
        shown = [np.asarray(Image.open(io.BytesIO(one))) for one in png]
        sides.append(float(trial.first == "left"))
        for name, rule in rules.items():
            larger = np.sign(rule(shown[0], png[0]) - rule(shown[1], png[1])) * (1 if trial.first == "left" else -1)
            right[name].append((larger + 1) / 2)
    assert len(sides) == 240
    for name, hits in {**right, "side": sides}.items():
        assert abs(np.mean(hits) - 0.5) < 0.1, name  # three deviations
    assert abs(np.corrcoef(sides, range(240))[0, 1]) < 0.2


def test_names_with_markup_stay_text(tmp_path: Path) -> None:
    names = [MARKUP, *(f"kind {k}" for k in range(9))]
    files = [garments(tmp_path / f"{k}.npz", 60, seed=k, names=names) for k in "12"]
    html = page.render(trials.make_test(files, BlindOptions(trials=20)))
    assert MARKUP in {trial["class"] for trial in data_of(html)["trials"]}
    assert html.count("<script") == 2 and MARKUP not in html


def test_the_policy_allows_this_script_alone(test: BlindTest) -> None:
    html = page.render(test)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy == page.content_security_policy().replace("'", "&#39;")
    for tag in ("style", "script"):
        (code,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() in policy
    assert "default-src &#39;none&#39;" in policy and "connect-src" not in policy and "unsafe" not in policy
    assert not re.findall(r'(?:src|href|action)="(?!data:)', html) and "http://" not in html and "https://" not in html
    assert "connect-src 'self'" in page.content_security_policy("/answers")


def test_the_page_and_its_key_replace_nothing_else(test: BlindTest, closet: Path, tmp_path: Path) -> None:
    place, key = page.write(test, tmp_path / "blind.html")
    first = place.read_bytes(), key.read_bytes()
    page.write(test, place)
    assert (place.read_bytes(), key.read_bytes()) == first
    other = trials.make_test([garments(tmp_path / "m.npz")], BlindOptions(data_name=str(closet), trials=5))
    with pytest.raises(UsageError, match="the key of another blind test"):
        page.write(other, place)
    (tmp_path / "mine.html").write_text("<html>mine")
    with pytest.raises(UsageError, match="does not say that Modiste wrote it"):
        page.check_places(tmp_path / "mine.html")
    with pytest.raises(UsageError, match=r"does not end in \.html"):
        page.check_places(tmp_path / "blind.png")


class Visit:
    """A browser at the page, and what went wrong there."""

    def __init__(self, browser: Any, place: Path, width: int, scheme: str, touch: bool = False) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, accept_downloads=True, has_touch=touch
        )
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(place.as_uri())

    def answer(self, position: int, key: str) -> None:
        self.page.wait_for_selector(f'body[data-ready="{position}"]')
        if key in ("#left", "#right"):
            self.page.click(key)
        else:
            self.page.keyboard.press(key)

    def saved(self, folder: Path) -> Path:
        self.page.wait_for_selector("body[data-ready=end]")
        with self.page.expect_download() as download:
            self.page.click("#save")
        place = folder / download.value.suggested_filename
        download.value.save_as(place)
        return place


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_somebody_answers_all_of_it_in_a_browser(
    test: BlindTest, browser: Any, width: int, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "TOO_FAST_MS", 0)  # the test does not wait as a person would
    place, _ = page.write(test, tmp_path / "blind.html")
    visit = Visit(browser, place, width, scheme, touch=width == 390)
    visit.page.fill("#name", "Ada <i>")
    visit.page.click("#start")
    keys = {"left": ["f", "ArrowLeft", "#left"], "right": ["j", "ArrowRight", "#right"]}
    key = key_of(test)
    for k, trial in enumerate(key.trials):
        if k == 6:  # the tab is closed and opened again
            visit.page.reload()
            expect(visit.page.locator("#kept")).to_contain_text("6 of 16")
            visit.page.click("#start")
        visit.answer(k, keys[trial.first][k % 3])
    file = visit.saved(tmp_path)
    facts = visit.page.evaluate("() => [document.documentElement.scrollWidth, localStorage.length]")
    assert visit.messages == [] and facts == [width, 1]
    urls = {url for url in visit.requests if not url.startswith(("data:", "blob:"))}
    assert urls == {place.as_uri()}
    visit.context.close()
    (sheet,) = answers.read_sheets([file])
    assert sheet.name == "Ada <i>" and len(sheet.answers) == 16
    result = scores.score(answers.find_key([sheet]), [sheet])
    assert result.pairs[0].answers == 12 and result.pairs[0].share == 0 and result.pairs[0].word == "told apart"
    assert result.people[0].checks == 4 and result.people[0].checks_wrong == 0
    assert "seamstress is told from real images: 0.0 % of 12 answers of 1 person" in phrases.sentences(result)[0]


@pytest.mark.parametrize(("width", "side"), [(390, 176), (1200, 384)])
def test_both_pictures_are_drawn_alike_and_crisp(
    test: BlindTest, browser: Any, width: int, side: int, tmp_path: Path
) -> None:
    place, _ = page.write(test, tmp_path / "blind.html")
    visit = Visit(browser, place, width, "light")
    visit.page.click("#start")
    visit.page.wait_for_selector('body[data-ready="0"]')
    facts = visit.page.evaluate(
        """() => [...document.querySelectorAll(".choice img")].map((one) => {
            const style = getComputedStyle(one);
            return [one.clientWidth, one.clientHeight, one.naturalWidth, style.imageRendering, one.title];
        })"""
    )
    assert facts == [[side, side, 16, "pixelated", ""]] * 2 and side % 16 == 0
    alts = visit.page.evaluate("() => [...document.images].map((one) => one.alt)")
    assert alts == ["Left picture", "Right picture"]
    visit.page.keyboard.press("Tab")
    outline = visit.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    visit.page.keyboard.press("Enter")  # the left picture, which has the focus
    visit.page.wait_for_selector('body[data-ready="1"]')
    visit.context.close()


def test_a_held_key_answers_once_and_anew_forgets(test: BlindTest, browser: Any, tmp_path: Path) -> None:
    place, _ = page.write(test, tmp_path / "blind.html")
    visit = Visit(browser, place, 1200, "light")
    visit.page.click("#start")
    visit.page.wait_for_selector('body[data-ready="0"]')
    visit.page.keyboard.down("f")
    visit.page.wait_for_selector('body[data-ready="1"]')
    visit.page.keyboard.down("f")  # the system repeats it
    visit.page.wait_for_timeout(300)
    expect(visit.page.locator("#count")).to_have_text("2 of 16")
    visit.page.reload()
    visit.page.click("#anew")
    expect(visit.page.locator("#start")).to_have_text("Start")
    visit.context.close()


def test_a_server_gets_the_answers_and_its_sentences_are_shown(test: BlindTest, browser: Any) -> None:
    context = browser.new_context()
    visited = context.new_page()
    sent: list[Any] = []

    def serve(route: Any) -> None:
        if route.request.method == "POST":
            sent.append(json.loads(route.request.post_data))
            route.fulfill(json={"sentences": ["<b>told</b>"]})
        else:
            headers = {"Content-Security-Policy": page.content_security_policy("/answers")}
            route.fulfill(body=page.render(test, "/answers"), content_type="text/html", headers=headers)

    visited.route("**/*", serve)
    visited.goto("http://127.0.0.1:9/blind")
    visited.click("#start")
    for k in range(len(test.trials)):
        visited.wait_for_selector(f'body[data-ready="{k}"]')
        visited.keyboard.press("f")
    visited.wait_for_selector("body[data-ready=end]")
    visited.click("#save")
    visited.wait_for_selector("#result p")
    assert visited.text_content("#result") == "<b>told</b>"
    context.close()
    sheet = answers.parse_answers(sent[0], "what was sent")
    assert sheet.test == test.identity and {one.choice for one in sheet.answers} == {"left"}
