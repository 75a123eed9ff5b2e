"""The page with long names, as wide as a phone and as a screen: rows stay beside their images, nothing sticks out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import open_part

RUN = "r" * 75  # and the five letters of each run's own name
PARTS = ("wall", "paths", "film", "compare", "fails", "blind", "train", "take-away")
STICKS_OUT = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
MIDDLES = "all => all.map((one) => one.getBoundingClientRect()).map((box) => box.top + box.height / 2)"
DONE = {
    "wall": ".wall canvas[data-drawn]",
    "paths": ".every-class canvas[data-drawn]",
    "film": ".film[data-grown]",
    "compare": ".compare:has(.scores table) .wipe[data-drawn]",
    "fails": ".verdicts button",
    "blind": ".blind button",
    "train": ".train .command code",
    "take-away": ".product code",
}


def long(name: str) -> str:
    return (f"{name}-" * 60)[:60]


@pytest.fixture
def folder(folder, closet, closet_judge, tmp_path):
    """Two runs of 80 characters, and the class names of runs and data set of 60, all without a space."""
    with np.load(closet) as opened:
        arrays = {**opened, "class_names": np.array([long(str(name)) for name in opened["class_names"]])}
    np.savez(tmp_path / "closet.npz", **arrays)
    for name in ("small", "quick"):
        recipe, generator = folder / name / "recipe.toml", folder / name / "generator.json"
        changed = recipe.read_text(encoding="utf-8").replace(str(closet), str(tmp_path / "closet.npz"))
        recipe.write_text(changed, encoding="utf-8")
        tree = json.loads(generator.read_text(encoding="utf-8"))
        generator.write_text(
            json.dumps({**tree, "class_names": list(map(long, tree["class_names"]))}), encoding="utf-8"
        )
        (folder / name).rename(folder / f"{RUN}{name}")
    return folder


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for part in PARTS:
        open_part(page, part, f"{RUN}small")
        page.wait_for_selector(DONE[part], timeout=60_000)
        assert page.evaluate(STICKS_OUT) <= 0, part


@pytest.mark.parametrize("width", [390, 1280])
def test_the_names_of_rows_stand_beside_their_images(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for part in ("wall", "compare"):
        open_part(page, part, f"{RUN}small")
        page.wait_for_selector(DONE[part], timeout=60_000)
        names = page.locator(f".{part} .row-names span")
        middles = names.evaluate_all(MIDDLES)
        assert names.first.get_attribute("title") == names.first.inner_text() == long("T-shirt/top")
        if part == "wall":
            assert np.allclose(middles, page.locator(".cells [role=row]").evaluate_all(MIDDLES), atol=1.5)
        box = page.locator(".wall-images canvas, .wipe canvas").first.bounding_box()
        rows = box["y"] + box["height"] * (np.arange(len(middles)) + 0.5) / len(middles)
        assert np.allclose(middles, rows, atol=1.5), part
