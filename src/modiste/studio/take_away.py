"""What leaves the studio: an ONNX model, the report, and samples with their provenance."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from modiste import runs, subprocesses
from modiste.errors import UsageError
from modiste.studio import library
from modiste.studio.commands import commands_of, describe
from modiste.studio.queries import entry_of, folder_of, posting

PER_CLASS, IN_ALL = 100, 1_000
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""A report is one file with its styles and pictures inside, and has no script."""


@dataclass(frozen=True)
class Product:
    """Something that a command makes of a run."""

    words: list[str]
    """The arguments of `modiste`."""
    place: Path
    """The file or folder that it writes."""


def products(entry: library.Entry, folder: Path) -> dict[str, Product]:
    """What can be taken away from a run, by name."""
    run = entry.run
    base = folder / f"modiste-{runs.PRETRAINED}" if run.shipped else run.path
    classes = library.load(entry).shape.classes
    count = ["--per-class", str(PER_CLASS)] if classes else ["--count", str(IN_ALL)]
    onnx, page, samples = base / "onnx", base / "report.html", base / "samples-to-share"
    return {
        "onnx": Product(["export", run.word, "--onnx", "--out", str(onnx)], onnx),
        "report": Product(["report", run.word, "--out", str(page)], page),
        "samples": Product(["sample", run.word, *count, "--format", "folder", "--out", str(samples)], samples),
    }


def offered(request: Request) -> Response:
    """Each product's command, and whether it is made already."""
    found = products(entry_of(request), folder_of(request))
    facts = {
        name: {"command": subprocesses.printable(one.words), "made": one.place.exists()} for name, one in found.items()
    }
    return JSONResponse(facts)


def make(request: Request, asked: dict[str, Any]) -> Response:
    """Start the command that makes a product."""
    entry = entry_of(request)
    name = asked.get("product")
    found = products(entry, folder_of(request))
    if not isinstance(name, str) or name not in found:
        raise UsageError(f"there is no such product; choose one of {', '.join(found)}")
    found[name].place.parent.mkdir(parents=True, exist_ok=True)
    commands_of(request).start(found[name].words, entry.run)
    return JSONResponse(describe(commands_of(request), folder_of(request)))


def fetch(request: Request) -> Response:
    """A product: the report as a page, the others as a zip file."""
    entry, name = entry_of(request), request.path_params["product"]
    found = products(entry, folder_of(request))
    if name not in found or not found[name].place.exists():
        raise UsageError("this is not made yet; make it first")
    place = found[name].place
    if place.is_file():
        return FileResponse(place, headers={"Content-Security-Policy": REPORT_POLICY}, media_type="text/html")
    with tempfile.NamedTemporaryFile(prefix="modiste-studio-", suffix=".zip", delete=False) as opened:
        archive = Path(opened.name)
        try:
            with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as packed:
                for file in sorted(place.rglob("*")):
                    if file.is_file() and not file.is_symlink():
                        packed.write(file, f"{name}/{file.relative_to(place).as_posix()}")
        except BaseException:
            archive.unlink()
            raise
    remove = BackgroundTask(archive.unlink, missing_ok=True)
    return FileResponse(archive, filename=f"{entry.run.name}-{name}.zip", background=remove)


ROUTES = [
    Route("/api/runs/{id}/products", offered),
    Route("/api/runs/{id}/products", posting(make), methods=["POST"]),
    Route("/api/runs/{id}/products/{product}", fetch),
]
