"""A run folder that the last version wrote goes on in this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import modiste
from modiste import runs
from modiste.sampling import generators

RUN = Path(__file__).with_name("last_version") / "run"
"""160 of 320 images, by commit 85418d7 on toy garments of 16 pixels; the same training is extended below."""
LATER = {
    240: {"loss_d": 1.2522315502, "loss_g": 0.7639334321},
    320: {"loss_d": 1.2198292017, "loss_g": 0.7790705801},
}
"""What the last version logged when it trained all 320 images in one go."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_a_run_of_the_last_version_goes_on_as_there(folder: Path) -> None:
    before = (folder / "log.jsonl").read_text()
    run = modiste.train(folder, overrides={"train.images": 320}, extend=True)
    assert (folder / "log.jsonl").read_text().startswith(before)
    records = {record["images"]: record for record in run.read_log()}
    assert list(records) == [80, 160, 240, 320]
    for images, expected in LATER.items():
        assert {key: records[images][key] for key in expected} == pytest.approx(expected, rel=1e-3)
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"


def test_a_generator_of_the_last_version_makes_the_same_images(folder: Path) -> None:
    images = generators.load(runs.Run(folder)).sample(4, label="Bag")
    assert images.shape == (4, 1, 16, 16)
    assert images[0, 0, 8, ::4].tolist() == pytest.approx([128, 129, 134, 128], abs=1)  # rounding differs by machine
    assert images.mean() == pytest.approx(127.579, abs=0.05)
