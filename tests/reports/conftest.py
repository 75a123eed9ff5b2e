"""Runs and reports that the tests of reports share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modiste import files as safe_files
from modiste.config import Data, Network, Recipe, Train
from modiste.evaluation.evaluate import evaluate
from modiste.reports import report
from modiste.training import trainer


@pytest.fixture(scope="session")
def measured_run(closet: Path, closet_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four ticks on the closet, measured on 50 images."""
    recipe = Recipe(
        name="small",
        about="A recipe for tests.",
        data=Data(name=str(closet)),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=Train(images=320, batch_size=16, tick_images=80, precision="float32", threads=1),
    )
    path = tmp_path_factory.mktemp("runs") / "small"
    trainer.train(recipe, path)
    evaluate(path, count=50)
    return path


@pytest.fixture(scope="session")
def written(measured_run: Path, tmp_path_factory: pytest.TempPathFactory) -> report.WrittenReport:
    """The report on it, written once; the stale picture of an earlier one and somebody's own lay in its folder."""
    run = tmp_path_factory.mktemp("written") / "small"
    shutil.copytree(measured_run, run)
    (run / "report_files").mkdir()
    for name in ("stale.png", "mine.png"):
        (run / "report_files" / name).write_bytes(b"old")
    (run / "report.md").write_text(
        safe_files.text_with_mark("# Run small\n\n![one](report_files/stale.png)"), encoding="utf-8"
    )
    return report.report(run)


@pytest.fixture
def run(measured_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured_run, tmp_path / "small"))
