"""The architecture page, executable: who may import whom, what importing costs, what is public."""

from __future__ import annotations

import ast
import graphlib
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import modiste

SOURCE = Path(modiste.__file__).parent
TESTS = Path(__file__).parent

# From top to bottom: a package imports only from those below it, and the modules at the top of src/modiste from none.
PACKAGES = [
    "cli",
    "studio",
    "notebooks",
    "exports",
    "reports",
    "experiments",
    "evaluation",
    "training",
    "latent",
    "sampling",
    "provenance",
    "metrics",
    "data",
    "networks",
    "plotting",
]
MODULES = {
    "cache", "config", "environment", "errors", "files", "onnx_sessions", "parts", "paths", "progress", "runs",
    "schema", "subprocesses", "wording",
}  # fmt: skip


def modules() -> dict[str, Path]:
    paths = sorted(SOURCE.rglob("*.py"))
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "modiste":
            base = (node.module or "").removeprefix("modiste").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                found.add(inner if inner in known else base)
    return found


def height(name: str) -> int:
    """How high the package of a module stands."""
    first = name.split(".")[0]
    return len(PACKAGES) - PACKAGES.index(first) if first in PACKAGES else 0


def test_packages_import_only_from_those_below() -> None:
    names = modules()
    del names["__init__"], names["__main__"]  # the public names, and the command line as a process
    assert {name.split(".")[0] for name in names} == MODULES | set(PACKAGES)
    assert {name for name in names if "." not in name} == MODULES | set(PACKAGES)
    below = {name: imports(path, set(names)) for name, path in names.items()}
    assert sum(map(len, below.values())) > 400
    for name, others in below.items():
        assert "" not in others, f"{name} imports from the public names"
        for other in others:
            assert height(other) <= height(name), f"{name} imports {other}"


def test_no_two_modules_need_each_other() -> None:
    names = modules()
    order = graphlib.TopologicalSorter({name: imports(path, set(names)) - {name} for name, path in names.items()})
    order.prepare()  # CycleError names the circle


def test_the_architecture_page_has_every_package_in_this_order() -> None:
    page = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE) == PACKAGES
    rows = re.findall(r"^\| `(\w+)\.py` \|", page, re.MULTILINE)
    assert set(rows) == MODULES and len(rows) == len(MODULES)


def test_tests_stand_in_folders_like_the_packages() -> None:
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS}
    assert folders == set(PACKAGES)


def test_there_is_no_drawer_and_no_long_file() -> None:
    for name, path in modules().items():
        assert "util" not in name and "helper" not in name
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, name


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_importing_modiste_loads_nothing_heavy() -> None:
    code = "import sys, modiste; print([m for m in ('torch', 'numpy', 'pydantic', 'typer', 'PIL') if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_the_command_line_loads_no_torch_before_it_is_needed() -> None:
    code = "import sys, modiste.cli; print([m for m in ('torch', 'matplotlib', 'pydantic') if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_public_names() -> None:
    public = [
        "Interrupted",
        "ModisteError",
        "Recipe",
        "TrainedGenerator",
        "__version__",
        "augment",
        "detect",
        "evaluate",
        "export",
        "export_pretrained",
        "load",
        "project",
        "recipes",
        "report",
        "sample",
        "search",
        "show",
        "study",
        "train",
        "train_judge",
        "trust",
    ]
    assert dir(modiste) == public
    for name in modiste.__all__:
        assert getattr(modiste, name) is not None


def test_the_package_is_small() -> None:
    """A wheel is a zip of the package's files: below 6 MB with generator, discriminator, judges and baselines."""
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in SOURCE.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                wheel.write(file)
    assert len(place.getvalue()) < 6_000_000
