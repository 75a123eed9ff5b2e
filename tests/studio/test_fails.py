"""Where a generator fails: what is known of a set beforehand is found in it."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support import open_part

from modiste.data.images import Images
from modiste.metrics.features import Features
from modiste.provenance import metadata
from modiste.studio import fails, jobs, library
from modiste.studio.fails import Found, Seen


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(fails, "COUNT", 100)


@pytest.fixture(scope="module")
def found(trained):
    entry = library.list_runs(trained / "small")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fails, "COUNT", 100)
        return fails.examine(entry, library.load(entry), lambda step: None)


def rolled(seen: Seen, places: int) -> Seen:
    """The images, each asked for as the class `places` after its own."""
    images, classes = seen.images, len(seen.images.class_names)
    return Seen(Images(images.pixels, (images.labels + places) % classes, images.class_names, "rolled"), seen.features)


def test_real_images_of_the_reference_fail_nowhere(found):
    same = fails.describe(Found(found.judge, found.reference, found.reference, found.other, 30))
    assert same["recall"] == 1 and same["uncovered"] == []
    assert all(one["frechet"] == pytest.approx(0, abs=1e-3) and one["recall"] == 1 for one in same["classes"])
    assert 0 < same["other_recall"] < 1


def test_a_class_that_is_never_made_is_not_covered(found):
    labels = found.reference.labels
    kept = np.flatnonzero(labels != 7)
    part = Features(found.reference.features.vectors[kept], found.reference.features.logits[kept])
    lost = fails.describe(
        Found(found.judge, found.reference, Seen(found.reference.images.select(kept), part), found.other, 30)
    )
    shares = [one["recall"] for one in lost["classes"]]
    assert min(shares) == shares[7] < 1 and lost["classes"][7]["frechet"] is None
    assert {one["label"] for one in lost["uncovered"]} == {7}
    distances = [one["distance"] for one in lost["uncovered"]]
    assert distances == sorted(distances, reverse=True)
    first = lost["uncovered"][0]
    real, made = found.reference.features.vectors[first["row"]], part.vectors[first["nearest"]]
    assert first["distance"] == pytest.approx(np.linalg.norm(real.astype(float) - made), rel=1e-6)


def test_rows_are_the_class_asked_for_and_columns_what_the_judge_sees(found):
    classes = len(found.reference.images.class_names)
    straight = np.array(fails.confusion(found.other, classes))
    assert straight.sum() == len(found.other.images) and np.trace(straight) > 0.6 * straight.sum()
    assert np.array_equal(straight.sum(axis=1), np.bincount(found.other.labels, minlength=classes))
    assert np.array_equal(np.array(fails.confusion(rolled(found.other, 1), classes)), np.roll(straight, 1, axis=0))
    agreement = [one.agreement for one in fails.by_class(found.reference, found.other, np.zeros(200, bool))]
    assert agreement == pytest.approx(list(np.diag(straight) / straight.sum(axis=1)))


def test_the_least_sure_images_come_first(found):
    for label in range(3):
        images = fails.least_sure(found.other, label)
        chances = [image["chance"] for image in images]
        assert chances == sorted(chances) and len(images) == fails.LEAST_SURE
        assert all(found.other.labels[image["row"]] == label for image in images)
        assert all(found.other.predicted[image["row"]] == image["seen"] for image in images)


def test_without_a_judge_there_are_no_classes_but_uncovered_images(found):
    def blind(seen):
        return Seen(seen.images, Features(seen.features.vectors))

    facts = fails.describe(Found(found.judge, blind(found.reference), blind(found.generated), blind(found.other), 30))
    assert facts["classes"] is None and "has no judge; `modiste judge train` makes one" in facts["no_classes"]
    assert facts["other_known"] == 0
    assert facts["uncovered"]


def test_the_page_gets_facts_and_pictures(client, ids, folder):
    for _ in range(1200):
        facts = client.get(f"/api/runs/{ids['small']}/fails").json()
        if "working" not in facts:
            break
        time.sleep(0.05)
    assert (facts["count"], facts["other_count"], facts["other_known"]) == (100, 100, 70)
    assert len(facts["classes"]) == 10 == len(facts["confusion"]["generated"])
    assert sum(map(sum, facts["confusion"]["generated"])) == 100
    answer = client.get(f"/api/runs/{ids['small']}/fails.png?of=generated&rows=3,70")
    (entry,) = [entry for entry in library.list_runs(folder) if entry.name == "small"]
    expected = library.load(entry).sample(seeds=[3, 70])
    with Image.open(io.BytesIO(answer.content)) as opened:
        assert np.array_equal(np.asarray(opened), np.concatenate([expected[0, 0], expected[1, 0]], axis=1))
    assert metadata.read_metadata(answer.content)["Synthetic"] == "true"
    real = client.get(f"/api/runs/{ids['small']}/fails.png?of=reference&rows=3")
    assert real.status_code == 200 and metadata.read_metadata(real.content) == {}
    for ask, sentence in (
        ("of=secret&rows=1", "'secret' is no set of images here; take reference, other, generated"),
        ("of=generated&rows=100", "rows 100 is out of range; take 0 to 99"),
    ):
        refused = client.get(f"/api/runs/{ids['small']}/fails.png?{ask}")
        assert refused.status_code == 400 and refused.json()["error"] == sentence


def test_in_the_browser(page, monkeypatch):
    monkeypatch.setattr(jobs, "_jobs", type(jobs._jobs)())
    open_part(page, "fails")
    page.wait_for_selector(".fails [data-drawn='1']", timeout=120_000)
    expect(page.locator(".worst-classes tbody tr")).to_have_count(10)
    page.locator(".uncovered select").select_option("3")
    expect(page.locator(".uncovered figcaption").first).to_have_text(re.compile("^Dress, "))
    page.locator(".confusion button[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".of-cell[data-shown]")
    expect(page.locator(".of-cell p").first).to_have_text(re.compile("^Trouser seen as T-shirt/top: "))
    page.locator(".verdicts select").select_option("other")
    page.wait_for_selector(".confusion caption:has-text('other real images')")
