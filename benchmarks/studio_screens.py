"""The pictures of docs/studio.md: every part of the studio, in Chromium.

Usage: python benchmarks/studio_screens.py FOLDER, which holds two runs that `modiste evaluate` has measured, at least.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PARTS = {
    "wall": ".wall canvas[data-drawn]",
    "paths": ".paths h2",
    "film": ".film h2",
    "compare": ".compare h2",
    "fails": ".fails h2",
    "blind": ".blind h2",
    "train": ".train .command",
    "take-away": ".take-away .product",
}
SIZE = {"width": 1100, "height": 760}
SCALE = 0.5
COLOURS = 64


def take(page: Page, part: str, ready: str, place: Path) -> None:
    """Show the part, wait until it has drawn itself, and write its picture, small."""
    page.click(f"#tabs a[href^='#{part}/']")
    page.wait_for_selector(ready)
    if part == "wall":
        page.click(".cells button:nth-child(3)")
    page.wait_for_timeout(SECONDS.get(part, 4) * 1000)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        small = picture.convert("RGB").resize((round(picture.width * SCALE), round(picture.height * SCALE)))
        small.quantize(COLOURS).save(place, optimize=True)


SECONDS = {"wall": 40, "fails": 60}
"""For what is computed the first time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "studio")
    asked = parser.parse_args()
    asked.out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "modiste", "studio", str(asked.folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as studio, sync_playwright() as engine:
        assert studio.stderr is not None
        address = next(line for line in studio.stderr if line.startswith("open ")).split()[1]
        binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = engine.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        for part, ready in PARTS.items():
            take(page, part, ready, asked.out / f"{part}.png")
            print(f"wrote {asked.out / f'{part}.png'}", flush=True)
        browser.close()
        studio.send_signal(2)


if __name__ == "__main__":
    main()
