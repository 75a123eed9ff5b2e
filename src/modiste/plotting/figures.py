"""Figures of images, and what every figure needs: colours, names, files. Arrays in, a matplotlib Figure out."""

from __future__ import annotations

import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modiste import files, progress
from modiste.plotting.tiles import GAP, arrange

FileType = Literal["png", "svg", "pdf"]

# Okabe and Ito's palette, told apart with every kind of colour vision (jfly.uni-koeln.de/color, 2002)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DPI = 150
SMALL = 8  # points
LONGEST_NAME = 32  # characters of a class's name in a picture
MAGNIFICATION = 3  # figure dots per image pixel, a whole number so that images stay crisp
TILE_SIDE = 84  # dots of a captioned tile, about
TILE_GAP = 6  # dots between two captioned tiles, in which the frame of a marked one has room
FRAME = 3  # dots
CAPTION = 32  # dots: two lines of small text
REPORTED_LETTERS: set[str] = set()
"""Letters without a font, of which the user has been told."""


def save(figure: Figure, path: Path) -> None:
    """Write the figure atomically as a file of the path's type, with a mark that Modiste made it."""
    file_type: Any = path.suffix.removeprefix(".") or "png"
    files.write_bytes(path, encode(figure, file_type))


def encode(figure: Figure, file_type: FileType, *, marked: bool = True) -> bytes:
    """The figure as the content of a file on white; equal figures give equal bytes.

    Text is drawn in SVG, so that it looks the same everywhere, and is text in PDF (TrueType fonts within). A PNG that
    gets other metadata later is made without the mark that Modiste wrote it.
    """
    metadata = {
        "png": {"Software": None},
        "svg": {"Creator": files.MARK, "Date": None},
        "pdf": {"Creator": files.MARK, "CreationDate": None},
    }[file_type]
    buffer = io.BytesIO()
    with (
        mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "modiste", "pdf.fonttype": 42}),
        missing_letters_reported(),
        progress.stage("drawing"),
    ):
        figure.savefig(buffer, dpi=figure.dpi, format=file_type, metadata=metadata)
        figure.set_layout_engine("none")  # laid out once for files of all types
    return files.with_mark(buffer.getvalue()) if marked else buffer.getvalue()


@contextmanager
def missing_letters_reported() -> Iterator[None]:
    """While drawing: report letters that no font here has once, in a sentence; matplotlib warns at every use."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always")
        yield
    missing = ""
    for warning in caught:
        if match := re.match(r"Glyph (\d+) .*missing from", str(warning.message)):
            missing += chr(int(match[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing := "".join(dict.fromkeys(letter for letter in missing if letter not in REPORTED_LETTERS)):
        REPORTED_LETTERS.update(missing)
        progress.log_plain(f"note: no font that matplotlib finds has {missing}; pictures show boxes for them")


def plain(text: str) -> str:
    """Text for matplotlib, which would set what stands between two dollar signs as a formula; cut off where it is long.

    A name of 250 letters would leave no room for anything else.
    """
    return (text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…").replace("$", r"\$")


def rows_of_classes(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    per_class: int = 10,
) -> Figure:
    """Images uint8 [N, C, H, W] as they are: the first ones of each class in a row."""
    _, channels, height, width = pixels.shape
    rows = np.full((len(class_names), per_class, channels, height, width), 255, np.uint8)
    for label in range(len(class_names)):
        first = np.flatnonzero(labels == label)[:per_class]
        rows[label, : len(first)] = pixels[first]
    figure, axes = _image_axes(rows.reshape(-1, channels, height, width), per_class, left=180, bottom=68)
    middles = [(height + GAP) * row + height / 2 for row in range(len(class_names))]
    axes.set_yticks(middles, [plain(name) for name in class_names])
    axes.set_xticks(
        [(width + GAP) * column + width / 2 for column in range(per_class)],
        [str(column + 1) for column in range(per_class)],
    )
    axes.set_xlabel("images drawn from the whole class, in the order of the data set", fontsize=SMALL)
    axes.tick_params(length=0, labelsize=SMALL)
    return figure


def image_grid(pixels: NDArray[np.uint8], columns: int, titles: Sequence[str] | None = None) -> Figure:
    """Images uint8 [N, C, H, W] as they are, row by row, each with its title below."""
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    height, width = pixels.shape[2:]
    # a title needs room: about 1.25 lines of text, counted in image pixels
    magnification = MAGNIFICATION if not titles else max(MAGNIFICATION, -(-120 // width))
    room = round(lines * 1.25 * SMALL / 72 * DPI / magnification)
    figure, axes = _image_axes(pixels, columns, below=room, magnification=magnification)
    axes.set_xticks([])
    axes.set_yticks([])
    for index, title in enumerate(titles or ()):
        row, column = divmod(index, columns)
        x, y = (width + GAP) * column + width / 2, (height + GAP + room) * row + height + 0.5
        axes.text(x, y, plain(title), ha="center", va="top", fontsize=SMALL - 1, linespacing=1.1)
    return figure


def _image_axes(
    images: NDArray[np.uint8],
    columns: int,
    *,
    below: int = 0,
    left: int = 15,
    bottom: int = 15,
    magnification: int = MAGNIFICATION,
) -> tuple[Figure, Axes]:
    """A figure that shows images uint8 [N, C, H, W] in rows at a whole magnification, with margins in dots.

    `below` is room under each image, in its pixels.
    """
    sheet = arrange(images, min(columns, len(images)), below=below)
    height, width, channels = sheet.shape
    drawn_y, drawn_x = height * magnification, width * magnification  # all sizes in dots
    total_x, total_y = drawn_x + left + 15, drawn_y + bottom + 15
    figure = Figure(figsize=(total_x / DPI, total_y / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / total_x, bottom / total_y, drawn_x / total_x, drawn_y / total_y))
    colours = np.repeat(sheet, 3, axis=2) if channels == 1 else sheet  # RGB passes through no colour map
    axes.imshow(colours, interpolation="nearest", extent=(0, width, height, 0), aspect="auto")
    axes.spines[:].set_visible(False)
    return figure, axes


@dataclass(frozen=True)
class Tile:
    """An image uint8 [C, H, W] with a caption of two lines; a marked one has a frame."""

    pixels: NDArray[np.uint8]
    caption: str
    marked: bool = False


@dataclass(frozen=True)
class TileRows:
    """Rows under one heading: each a label and groups of tiles; `heads` stand above the groups of all rows."""

    heading: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[Tile]]]]


@dataclass(frozen=True)
class _Text:
    """A text at a place in dots from the left and from the top, with matplotlib's settings."""

    x: float
    y: float
    text: str
    style: Mapping[str, Any]


def tile_rows(title: str, sections: Sequence[TileRows], *, label_width: int = 150) -> Figure:
    """Labelled rows of captioned tiles of one size, in groups that stand apart, dot by dot at a whole magnification.

    `label_width` is the room for labels in dots.
    """
    any_tile = next(tile for section in sections for _, groups in section.rows for group in groups for tile in group)
    height, width = any_tile.pixels.shape[1:]
    scale = max(1, round(TILE_SIDE / width))
    height, width, group_gap = height * scale, width * scale, 22
    step = width + TILE_GAP
    texts = [_Text(16, 14, title, {"fontsize": SMALL + 3, "weight": "bold"})]
    placed: list[tuple[int, int, Sequence[Tile]]] = []  # top, left, tiles side by side
    top, right = 58, 0
    for section in sections:
        columns = itertools.zip_longest(*(groups for _, groups in section.rows), fillvalue=())
        sizes = [max(map(len, column)) for column in columns]
        starts = [label_width + sum(sizes[:k]) * step + k * group_gap for k in range(len(sizes) + 1)]
        right = max(right, starts[-1] - group_gap - TILE_GAP)
        texts.append(_Text(16, top, section.heading, {"fontsize": SMALL, "color": COLOURS[0]}))
        top += 30
        for start, size, head in zip(starts, sizes, section.heads, strict=False):
            texts.append(_Text(start, top, textwrap.fill(head, max(12, size * step // 8)), {"fontsize": SMALL - 1}))
        top += 42 if section.heads else 0
        for label, groups in section.rows:
            wrapped = textwrap.fill(label, 15, replace_whitespace=False, break_long_words=False)
            style = {"fontsize": SMALL - 1, "ha": "right", "va": "center"}
            texts.append(_Text(label_width - 14, top + height / 2, wrapped, style))
            placed += [(top, start, group) for start, group in zip(starts, groups, strict=False) if group]
            top += height + CAPTION + 12
        top += 22
    right = max(right, 15 * len(title), *(19 * len(section.heading) // 2 for section in sections))  # for their letters
    canvas = np.full((top, right + 20, 3), 255, np.uint8)
    for y, left, group in placed:
        row = arrange(np.stack([tile.pixels for tile in group]), len(group), scale=scale, gap=TILE_GAP)
        canvas[y : y + height, left : left + row.shape[1]] = row
        for x, tile in zip(itertools.count(left, step), group, strict=False):
            if tile.marked:
                _frame(canvas[y - FRAME : y + height + FRAME, x - FRAME : x + width + FRAME])
            style = {"fontsize": SMALL - 2, "ha": "center", "va": "baseline"}
            for k, line in enumerate(tile.caption.split("\n")):
                texts.append(_Text(x + width / 2, y + height + 15 + 14 * k, line, style))
    return _write_on(canvas, texts)


def _frame(part: NDArray[np.uint8]) -> None:
    """Colour the outermost dots of this part of a canvas."""
    inside = part[FRAME:-FRAME, FRAME:-FRAME].copy()
    part[:] = tuple(bytes.fromhex(COLOURS[3][1:]))
    part[FRAME:-FRAME, FRAME:-FRAME] = inside


def _write_on(canvas: NDArray[np.uint8], texts: Sequence[_Text]) -> Figure:
    """A figure of these dots [H, W, 3] with texts on it."""
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest", extent=(0, width, height, 0), aspect="auto")
    axes.set_axis_off()
    for text in texts:
        style = {"va": "top", "linespacing": 1.15, "parse_math": False, **text.style}
        axes.text(text.x, text.y, text.text, **style)
    return figure
