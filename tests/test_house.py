"""The architecture page, executable: who may import whom, what importing costs, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import modiste

SOURCE = Path(modiste.__file__).parent

# A module imports only from those above it.
ORDER = [
    "errors",
    "marks",
    "writing",
    "terminal",
    "launch",
    "lifeline",
    "config",
    "data.proportions",
    "data.images",
    "data.findings",
    "data.classes",
    "data.heldout",
    "data.download",
    "data.toy",
    "data.keys",
    "data.parquet",
    "data.pictures",
    "data.archives",
    "data.readers",
    "data.groups",
    "data.splits",
    "data.fashion_mnist",
    "data",
    "publishing",
    "networks",
    "networks.second_order",
    "networks.convolution",
    "networks.layers",
    "networks.dcgan",
    "networks.dense_dcgan",
    "networks.slim",
    "networks.residual",
    "networks.norm_free",
    "networks.summary",
    "losses",
    "penalties",
    "diffaug",
    "runs",
    "watermark",
    "claims",
    "certificates",
    "provenance",
    "formats",
    "sample",
    "onnx_models",
    "subjects",
    "processes",
    "updates",
    "assembly",
    "cuda_graph",
    "health",
    "progress",
    "judge",
    "features",
    "inception",
    "neighbours",
    "scales",
    "student",
    "standard_errors",
    "scores",
    "memorisation",
    "measures",
    "baselines",
    "records",
    "selection",
    "figures",
    "audit",
    "audit_tables",
    "references",
    "evaluation",
    "opening",
    "trainer",
    "tracking",
    "statistics",
    "plan",
    "spaces",
    "workers",
    "outcomes",
    "findings",
    "pace",
    "studies",
    "finals",
    "trials",
    "search",
    "forecast",
    "survey",
    "charts",
    "augmentation.subsets",
    "augmentation.arms",
    "augmentation.experiment",
    "augmentation.gains",
    "augmentation",
    "report.content",
    "report.gather",
    "report.pictures",
    "report.words",
    "report.answers",
    "report.course",
    "report.showing",
    "report.methods",
    "report.pages",
    "report",
    "exports",
    "sets",
    "cli.options",
    "cli.tables",
    "cli.training",
    "cli.judging",
    "cli.comparing",
    "cli.searching",
    "cli.augmenting",
    "cli.reporting",
    "cli.exporting",
    "cli.verifying",
    "cli.browsing",
    "cli",
    "__main__",
]


def modules() -> dict[str, Path]:
    paths = sorted(SOURCE.rglob("*.py"))
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    del names["__init__"]
    return names


def imports(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "modiste":
            base = (node.module or "").removeprefix("modiste").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                found.add(inner if inner in known else base)
    return found - {""}


def test_every_module_has_its_place_and_imports_only_upwards() -> None:
    names = modules()
    assert set(names) == set(ORDER)
    edges = 0
    for name, path in names.items():
        for other in imports(path, set(names)):
            edges += 1
            assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"
    assert edges > 40


def test_the_architecture_page_has_every_room_in_this_order() -> None:
    page = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+(?:\.py|/))` \|", page, re.MULTILINE)
    places: list[int] = []
    named: set[str] = set()
    for row in rows:
        name = row.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        here = {one for one in ORDER if one == name or (row.endswith("/") and f"{one}.".startswith(name))}
        assert here or (SOURCE / row).is_dir(), f"ARCHITECTURE.md has {row}, which is nowhere"
        places += [max(map(ORDER.index, here))] if here else []
        named |= here
    assert places == sorted(places)
    assert set(ORDER) - named == {"__main__"}


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
        "ModisteError",
        "Recipe",
        "TrainedGenerator",
        "__version__",
        "augment",
        "evaluate",
        "export",
        "export_pretrained",
        "load",
        "study",
        "train",
    ]
    assert dir(modiste) == public
    for name in modiste.__all__:
        assert getattr(modiste, name) is not None
