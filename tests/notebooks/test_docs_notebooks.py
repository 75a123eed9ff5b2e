"""The notebooks of docs/: every cell runs in short form, and their outputs are small and clean."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modiste
from modiste.config import Data
from modiste.data import toy
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.metrics import judge
from modiste.notebooks import functions

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SHORT = {
    "train.batch_size": 16,
    "train.tick_images": 16,
    "train.threads": 1,
    "train.precision": "float32",
    "network.generator_widths": [8, 4],
    "network.discriminator_widths": [4, 8],
}
MOST_BYTES = 262_144
WORDS: dict[str, dict[str, Any]] = {
    "first_generator": {"DATA": "closet.npz", "BUDGET": "48 images", "COUNT": 40},
    "compare_three_dcgans": {
        "BUDGET": "48 images",
        "COUNT": 40,
        "CHANGES": {"data.name": "closet.npz", **{key: SHORT[key] for key in SHORT if key != "train.threads"}},
    },
    "my_own_images": {"BUDGET": "48 images", "COUNT": 20},
}
"""What the cell with the tag `parameters` says in short form."""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_all_notebooks_are_tested() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(WORDS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_shows_something(
    path: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train, test = (toy.draw(count, 28, seed) for count, seed in ((160, 7), (60, 8)))
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez("closet.npz", class_names=np.array(train.class_names), **arrays)
    closet = Data(name="closet.npz")  # has a judge, as Fashion-MNIST has one
    judge.train(closet, judge.cache_path(content_digest(open_data(closet, part="fit")), "residual"), epochs=1)

    def short_train(*given: Any, **words: Any) -> Any:
        small = {key: value for key, value in SHORT.items() if not key.startswith("network")}
        return functions.train(*given, **{**words, "set": {**words["set"], **small}})

    monkeypatch.setattr(modiste, "train", short_train, raising=False)
    scope: dict[str, Any] = {}
    shown = 0
    for cell in cells(path):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), scope)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert scope.keys() >= WORDS[path.stem].keys()
            scope.update(WORDS[path.stem])
        if isinstance(last, ast.Expr):
            result = eval(compile(ast.Expression(last.value), path.name, "eval"), scope)
            picture = getattr(result, "_repr_png_", lambda: None)()
            page = getattr(result, "_repr_html_", lambda: None)()
            assert picture or page or hasattr(result, "savefig"), cell["source"]
            assert page is None or "is broken" not in page
            shown += 1
    assert shown >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_are_small_and_of_one_run_from_top_to_bottom(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    code = cells(path)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [one for one in outputs if one["output_type"] not in ("display_data", "execute_result")]
    assert sum("image/png" in one["data"] or "data:image/png" in str(one["data"]) for one in outputs) >= 4
    text = "".join(str({kind: value for kind, value in one["data"].items() if kind[:4] == "text"}) for one in outputs)
    assert "/home/" not in text and "/tmp/" not in text and "is broken" not in text
