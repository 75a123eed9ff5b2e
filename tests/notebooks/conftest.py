"""A notebook that is none: what a kernel would show is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import modiste
from modiste.config import Data, Network, Recipe, Train
from modiste.errors import ModisteError
from modiste.notebooks import live
from modiste.reports import judge_features


class FakeNotebook:
    """The outputs that a cell would have, each as its newest content."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def show(self, content: dict[str, Any]) -> SimpleNamespace:
        number = len(self.outputs)
        self.outputs.append(content)

        def update(newer: dict[str, Any], raw: bool) -> None:
            assert raw
            self.outputs[number] = newer

        return SimpleNamespace(update=update)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> FakeNotebook:
    """This process as the kernel of a notebook."""
    fake = FakeNotebook()
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(live.NotebookDisplay, "_show", lambda _, content: fake.show(content))
    return fake


@pytest.fixture(autouse=True)
def _short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pictures that need features of thousands of images."""

    def leave_out(*_: Any) -> Any:
        raise ModisteError("they are left out in this test")

    monkeypatch.setattr(judge_features, "compute", leave_out)


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
    modiste.train(recipe, path)
    modiste.evaluate(path, count=50)
    return path


@pytest.fixture
def run(measured_run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(measured_run, tmp_path / "small"))
