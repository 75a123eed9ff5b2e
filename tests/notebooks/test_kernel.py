"""A real kernel: the work shows itself, the stop button saves and says so, and the cells below do not run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from modiste import config, runs
from modiste.config import Recipe

TRAIN = 'run = modiste.train("long.toml", "runs/long", budget={budget!r})'


class ThisPython(AsyncKernelManager):
    """The kernel of the Python that runs the tests, whatever is installed on the machine."""

    @property
    def kernel_spec(self) -> Any:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


def client(cells: list[str], folder: Path) -> NotebookClient:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    place = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, kernel_manager_class=ThisPython, timeout=300, startup_timeout=200, resources=place)


@pytest.mark.filterwarnings("default")  # Jupyter's own
def test_the_stop_button_saves_says_so_and_stops_run_all(tiny: Recipe, tmp_path: Path) -> None:
    recipe = config.override(tiny, {"train.images": 10**8})
    (tmp_path / "long.toml").write_text(config.to_toml(recipe), encoding="utf-8")
    out = tmp_path / "runs" / "long"
    cells = ["import modiste", TRAIN.format(budget="10min"), "open('after', 'w').close()"]
    work = client(cells, tmp_path)

    def press_stop() -> None:
        deadline = time.monotonic() + 250
        while not any((out / "state").glob("*.pt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(work.km.provisioner.pid, signal.SIGINT)

    hand = threading.Thread(target=press_stop)
    hand.start()
    with pytest.raises(CellExecutionError) as stopped:
        work.execute()
    hand.join()
    run = runs.open_run(out)
    manifest = run.read_manifest()
    assert manifest.status == "interrupted" and manifest.images
    state, notes = runs.load_state(run)
    assert state is not None and state["images"] == manifest.images and not notes
    assert not (tmp_path / "after").exists()
    assert stopped.value.ename == "Interrupted"
    sentence = (
        f"the training in runs/long was stopped after {manifest.images:,} images and its state is saved: "
        'go on with modiste.train("runs/long")'
    )
    assert stopped.value.evalue == sentence
    outputs = work.nb.cells[1].outputs
    assert outputs[-1]["traceback"] == [f"Interrupted: {sentence}"]
    kinds = [tuple(sorted(one["data"])) for one in outputs[:-1]]
    assert kinds == [("text/html", "text/plain"), ("image/png", "text/plain")]  # one bar and one grid, changed in place
    assert "training long.toml: stopped" in outputs[0]["data"]["text/plain"]
