"""A report as one self-contained HTML page, and as Markdown with files beside it."""

from __future__ import annotations

import base64
import functools
import glob
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from modiste import files as safe_files
from modiste.environment import __version__
from modiste.plotting import charts, figures, tiles
from modiste.provenance import metadata
from modiste.reports.blocks import (
    Block,
    Cell,
    Chart,
    Code,
    Fold,
    Gallery,
    Lead,
    Mark,
    Paragraph,
    Picture,
    Report,
    Table,
    Tiles,
)
from modiste.sampling import grids

TILE_WIDTH = 56  # CSS pixels at least, a whole multiple of the image's own
RULER_STEPS = 20  # of a ruler in Markdown


def to_html(report: Report) -> str:
    """The whole page; pictures are inside as data, charts as vectors."""
    import jinja2

    loader = jinja2.PackageLoader("modiste", "reports")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.get_template("page.html")
    return template.render(
        report=report,
        version=__version__,
        mark=safe_files.MARK,
        picture=_picture,
        svg=lambda chart: Markup(charts.svg(chart.figure, chart.alt)),
        tiles=_tile_sources,
        tile_width=_tile_width,
        numeric=is_number,
        inline=_inline,
        has_pictures=lambda table: any(isinstance(cell, Picture) for row in table.rows for cell in row),
        colour=lambda name: charts.colour_of(name, report.palette),
    )


def is_number(cell: str) -> bool:
    """Whether a cell's text is a number, perhaps with an uncertainty or a unit's sign."""
    return bool(re.fullmatch(r"([-+]?[\d.,]+(e[-+]?\d+)?( ?%| ± [\d.,e-]+| \[[^\]]+\])*|-)?", cell))


def _inline(text: str) -> Markup:
    """Text with its `commands` set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False)))


def _picture(picture: Picture) -> Markup:
    source = _data(picture.content, picture.file_type)
    moving = ' class="moving"' if picture.file_type == "gif" else ""
    alt = html.escape(picture.alt)
    return Markup(f'<img src="{source}" alt="{alt}" width="{picture.width}"{moving}>')


def _tile_sources(block: Tiles) -> list[tuple[str, str]]:
    sources = [_data(grids.png(tiles.picture_of(image[None], 1)), "png") for image in block.pixels]
    return list(zip(sources, block.captions, strict=True))


def _tile_width(block: Tiles) -> int:
    width = block.pixels.shape[3]
    return int(width * max(1, round(TILE_WIDTH / width)))


def _data(content: bytes, file_type: str) -> str:
    return f"data:image/{file_type};base64,{base64.b64encode(content).decode()}"


def write_markdown(report: Report, path: Path) -> Path:
    """Write the report as Markdown with its pictures as files in the folder NAME_files beside it; the path.

    Of an earlier report in that place the pictures that this one has not are removed; nothing else there is touched.
    """
    folder = _pictures_of(path)
    files: dict[str, bytes] = {}
    parts = [f"# {_plain(report.title)}", report.about]
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks for text in _markdown(block, folder.name, files)]
    check_markdown(path)
    for name in files:
        safe_files.refuse_foreign_file(folder / name, named_in=path)
    with safe_files.errors_name_place(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        safe_files.write_bytes(folder / name, safe_files.with_mark(content))
    for stale in folder.iterdir():
        if stale.name not in files and safe_files.is_named(stale.name, path):
            stale.unlink()
    safe_files.write_text(path, safe_files.text_with_mark("\n\n".join(part for part in parts if part)))
    return path


def check_markdown(path: Path) -> None:
    """UsageError where the report as Markdown would replace what is not Modiste's, or mix its pictures with others."""
    folder = _pictures_of(path)
    for place in (path,) if folder.is_dir() else (path, folder):
        safe_files.refuse_foreign_file(place)
    if not path.exists():  # where an earlier report is, other files in its folder do not matter
        ours = [entry.name for entry in folder.iterdir() if safe_files.is_ours(entry)] if folder.is_dir() else []
        safe_files.refuse_foreign_folder(folder, "folder of a report's pictures", tuple(map(glob.escape, ours)))


def _pictures_of(path: Path) -> Path:
    """The folder of the pictures of that page."""
    return path.with_name(f"{path.stem}_files")


def _markdown(block: Block, folder: str, files: dict[str, bytes]) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield _plain(block.text)
    elif isinstance(block, Lead):
        yield f"**{_plain(block.text)}**"
    elif isinstance(block, Code):
        yield f"```\n{block.text}\n```"
    elif isinstance(block, Picture):
        yield _link(block.name, block.content, block.alt, folder, files, block.file_type)
        if block.caption:
            yield f"*{_plain(block.caption)}*"
    elif isinstance(block, Chart):
        yield _link(block.name, _compact(figures.encode(block.figure, "png")), block.alt, folder, files)
        vectors = []
        for file_type in ("svg", "pdf"):
            files[f"{block.name}.{file_type}"] = figures.encode(block.figure, file_type)
            vectors.append(f"[{file_type.upper()}]({folder}/{block.name}.{file_type})")
        yield f"{f'*{_plain(block.caption)}* ' if block.caption else ''}({', '.join(vectors)})"
    elif isinstance(block, Tiles):
        figure = figures.image_grid(block.pixels, 10, block.captions)
        content = _compact(figures.encode(figure, "png"))
        content = metadata.stamp(content, {"Title": block.alt}, block.source_type) if block.source_type else content
        yield _link(block.name, content, block.alt, folder, files)
    elif isinstance(block, Gallery):
        for item in block.items:
            yield from _markdown(item, folder, files)
    elif isinstance(block, Table):
        cell_text = functools.partial(_cell, folder=folder, files=files)
        if block.caption:
            yield f"*{_plain(block.caption)}*"
        lines = [
            list(map(cell_text, block.heads)),
            ["---"] * len(block.heads),
            *[list(map(cell_text, row)) for row in block.rows],
        ]
        yield "\n".join("| " + " | ".join(line) + " |" for line in lines)
    elif isinstance(block, Fold):
        yield f"### {block.title}"
        for inner in block.blocks:
            yield from _markdown(inner, folder, files)
    else:
        yield "\n".join(f"- {_plain(item)}" for item in block.items)


def _cell(cell: Cell, folder: str, files: dict[str, bytes]) -> str:
    if isinstance(cell, Picture):
        link = _link(cell.name, cell.content, cell.alt, folder, files, cell.file_type)
        return f"{link}<br>{_plain(cell.caption)}" if cell.caption else link
    if isinstance(cell, Mark):
        before = round(cell.position * RULER_STEPS)
        return f"{'─' * before}●{'─' * (RULER_STEPS - before)} {_plain(cell.text)}"
    return _plain(cell).replace("|", "\\|").replace("\n", " ")


def _link(name: str, content: bytes, alt: str, folder: str, files: dict[str, bytes], file_type: str = "png") -> str:
    files[f"{name}.{file_type}"] = content
    return f"![{_plain(alt)}]({quote(f'{folder}/{name}.{file_type}')})"


def _plain(text: str) -> str:
    """Text in which Markdown sees no marks of its own."""
    return re.sub(r"([*_<\[\]])", r"\\\1", text)


def _compact(content: bytes) -> bytes:
    """The PNG's same pixels in fewer bytes: without transparency, and in one channel where all are equal."""
    with Image.open(io.BytesIO(content)) as picture:
        colours, density = picture.convert("RGB"), picture.info.get("dpi", (figures.DPI, figures.DPI))
    red, green, blue = colours.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    buffer = io.BytesIO()
    (red if grey else colours).save(buffer, format="PNG", optimize=True, dpi=density)
    return buffer.getvalue()
