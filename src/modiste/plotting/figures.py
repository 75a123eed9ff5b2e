"""Pictures: one function each, arrays in, a matplotlib Figure out; `save` writes it."""

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
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modiste import files, progress

# Okabe and Ito's palette, told apart with every kind of colour vision (jfly.uni-koeln.de/color, 2002)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DPI = 150
GAP = 2  # white pixels between two tiles of a sheet
MAGNIFICATION = 3  # figure dots per image pixel, a whole number so that tiles stay crisp
SMALL = 8  # points
LONGEST = 32  # signs of a class's name in a picture
TILE = 84  # dots, about
CAPTION = 32  # dots: two lines of small text
WITHOUT_FONT: set[str] = set()  # letters that the user has been told of


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a file of the path's type, whole or not at all, with a mark that Modiste made it."""
    files.write_bytes(path, drawn(figure, path.suffix.removeprefix(".") or "png"))


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as the content of a png, svg or pdf file, which says that Modiste made it, and no time."""
    metadata = {
        "png": {"Software": files.MARK},
        "svg": {"Creator": files.MARK, "Date": None},
        "pdf": {"Creator": files.MARK, "CreationDate": None},
    }[kind]
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "modiste"}), lettering(), progress.stage("drawing"):
        figure.savefig(buffer, dpi=figure.dpi, format=kind, metadata=metadata)
    return files.with_mark(buffer.getvalue())


@contextmanager
def lettering() -> Iterator[None]:
    """To draw in: letters that no font here has are said once, in a sentence; matplotlib warns at every use."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always")
        yield
    missing = ""
    for one in caught:
        if found := re.match(r"Glyph (\d+) .*missing from", str(one.message)):
            missing += chr(int(found[1]))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing := "".join(dict.fromkeys(letter for letter in missing if letter not in WITHOUT_FONT)):
        WITHOUT_FONT.update(missing)
        progress.log_plain(f"note: no font that matplotlib finds has {missing}; pictures show boxes for them")


def plain(text: str) -> str:
    """Text for matplotlib, which would set what stands between two dollar signs as a formula; cut off where it is long.

    A name of 250 letters would leave no room for anything else.
    """
    return (text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…").replace("$", r"\$")


def class_counts(counts_by_split: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Bars with the number of images per class, one colour per split."""
    splits, classes = len(counts_by_split), len(class_names)
    figure = _figure(7, 1.2 + 0.34 * classes * max(1, splits) ** 0.5)
    axes = figure.subplots()
    height = 0.8 / splits
    rows = np.arange(classes)
    for index, (split, counts) in enumerate(counts_by_split.items()):
        bars = axes.barh(
            rows + (index - (splits - 1) / 2) * height,
            counts,
            height * 0.92,
            color=COLOURS[index % len(COLOURS)],
            label=f"{split} ({sum(counts):,})",
        )
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=SMALL - 1)
    axes.set_yticks(rows, [plain(name) for name in class_names])
    axes.invert_yaxis()
    axes.set_ylabel("class")
    axes.set_xlabel("images")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=splits, frameon=False, fontsize=SMALL)
    return figure


def rows_of_classes(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    per_class: int = 10,
) -> Figure:
    """Images uint8 [N, C, H, W] as they are, one class per row, of each the first ones."""
    _, channels, height, width = pixels.shape
    tiles = np.full((len(class_names), per_class, channels, height, width), 255, np.uint8)
    for label in range(len(class_names)):
        first = np.flatnonzero(labels == label)[:per_class]
        tiles[label, : len(first)] = pixels[first]
    axes = _sheet(tiles.reshape(-1, channels, height, width), per_class, left=180, bottom=68)
    middles = [(height + GAP) * row + height / 2 for row in range(len(class_names))]
    axes.set_yticks(middles, [plain(name) for name in class_names])
    axes.set_xticks(
        [(width + GAP) * column + width / 2 for column in range(per_class)],
        [str(column + 1) for column in range(per_class)],
    )
    axes.set_xlabel("images drawn from the whole class, in the order of the data set", fontsize=SMALL)
    axes.tick_params(length=0, labelsize=SMALL)
    return axes.get_figure(root=True) or Figure()


def image_grid(pixels: NDArray[np.uint8], columns: int, titles: Sequence[str] | None = None) -> Figure:
    """Images uint8 [N, C, H, W] as they are, row by row, each with its title below."""
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    height, width = pixels.shape[2:]
    # a title needs room: about 1.25 lines of text, counted in image pixels
    magnification = MAGNIFICATION if not titles else max(MAGNIFICATION, -(-120 // width))
    room = round(lines * 1.25 * SMALL / 72 * DPI / magnification)
    axes = _sheet(pixels, columns, below=room, magnification=magnification)
    axes.set_xticks([])
    axes.set_yticks([])
    for index, title in enumerate(titles or ()):
        row, column = divmod(index, columns)
        x, y = (width + GAP) * column + width / 2, (height + GAP + room) * row + height + 0.5
        axes.text(x, y, plain(title), ha="center", va="top", fontsize=SMALL - 1, linespacing=1.1)
    return axes.get_figure(root=True) or Figure()


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


def tile_rows(title: str, sections: Sequence[TileRows]) -> Figure:
    """Labelled rows of captioned tiles of one size, in groups that stand apart, dot by dot at a whole magnification."""
    any_tile = next(tile for section in sections for _, groups in section.rows for group in groups for tile in group)
    height, width = any_tile.pixels.shape[1:]
    times = max(1, round(TILE / width))
    high, wide, left, apart = height * times, width * times, 150, 22
    texts: list[tuple[float, float, str, dict[str, Any]]] = [(16, 14, title, {"fontsize": SMALL + 3, "weight": "bold"})]
    tiles: list[tuple[int, int, Tile]] = []
    top, right = 58, 0
    for section in sections:
        columns = itertools.zip_longest(*(groups for _, groups in section.rows), fillvalue=())
        sizes = [max(map(len, column)) for column in columns]
        starts = [left + sum(sizes[:k]) * (wide + 6) + k * apart for k in range(len(sizes) + 1)]
        right = max(right, starts[-1] - apart - 6)
        texts.append((16, top, section.heading, {"fontsize": SMALL, "color": COLOURS[0]}))
        top += 30
        for start, size, head in zip(starts, sizes, section.heads, strict=False):
            texts.append((start, top, textwrap.fill(head, max(12, size * (wide + 6) // 8)), {"fontsize": SMALL - 1}))
        top += 42 if section.heads else 0
        for label, groups in section.rows:
            wrapped = textwrap.fill(label, 15, replace_whitespace=False, break_long_words=False)
            texts.append((left - 14, top + high / 2, wrapped, {"fontsize": SMALL - 1, "ha": "right", "va": "center"}))
            for start, group in zip(starts, groups, strict=False):
                tiles += [(top, start + k * (wide + 6), tile) for k, tile in enumerate(group)]
            top += high + CAPTION + 12
        top += 22
    canvas = np.full((top, right + 20, 3), 255, np.uint8)
    for y, x, tile in tiles:
        if tile.marked:
            canvas[y - 3 : y + high + 3, x - 3 : x + wide + 3] = _rgb(COLOURS[3])
        canvas[y : y + high, x : x + wide] = tile.pixels.repeat(times, 1).repeat(times, 2).transpose(1, 2, 0)
        for k, line in enumerate(tile.caption.split("\n")):
            look = {"fontsize": SMALL - 2, "ha": "center", "va": "baseline"}
            texts.append((x + wide / 2, y + high + 15 + 14 * k, line, look))
    return _written_on(canvas, texts)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _written_on(canvas: NDArray[np.uint8], texts: Sequence[tuple[float, float, str, Mapping[str, Any]]]) -> Figure:
    """A figure of these dots [H, W, 3] with texts at places in dots from the left and from the top."""
    high, wide = canvas.shape[:2]
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest", extent=(0, wide, high, 0), aspect="auto")
    axes.set_axis_off()
    for x, y, text, look in texts:
        axes.text(x, y, text, **{"va": "top", "linespacing": 1.15, "parse_math": False, **look})
    return figure


def ladders(
    kinds: Mapping[str, tuple[str, Sequence[float]]], values: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """Scores over rising strengths, one panel per kind: `kinds` has unit and strengths, `values` a line per extractor.

    Values are multiples of the undamaged images' score, on a logarithmic axis from 0.5 on.
    """
    columns = 3
    figure = _figure(7.5, 2.3 * -(-len(kinds) // columns))
    panels = figure.subplots(-(-len(kinds) // columns), columns, sharey=True, squeeze=False).flat
    for axes, (kind, (unit, strengths)) in zip(panels, kinds.items(), strict=False):
        for index, (name, lines) in enumerate(values.items()):
            axes.plot([0, *strengths], [1, *lines[kind]], "o-", ms=3, lw=1, color=COLOURS[index], label=name)
        axes.axhline(1, color="#999999", lw=0.7, ls=":")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        axes.set_title(kind, fontsize=SMALL + 1)
        axes.set_xlabel(unit, fontsize=SMALL)
        axes.tick_params(labelsize=SMALL - 1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("Fréchet distance / that of undamaged images", fontsize=SMALL)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(values), frameon=False, fontsize=SMALL)
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, drawn by Agg without any global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _sheet(
    tiles: NDArray[np.uint8],
    columns: int,
    *,
    below: int = 0,
    left: int = 15,
    bottom: int = 15,
    magnification: int = MAGNIFICATION,
) -> Axes:
    """Axes that show tiles uint8 [N, C, H, W] in rows at a whole magnification, with margins in dots.

    Nothing is rescaled: black is 0 and white is 255 in every tile. `below` is room under each tile, in its pixels.
    """
    count, channels, height, width = tiles.shape
    rows, columns = -(-count // columns), min(columns, count)
    step_y, step_x = height + GAP + below, width + GAP
    sheet = np.full((rows * step_y - GAP, columns * step_x - GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, start = row * step_y, column * step_x
        sheet[top : top + height, start : start + width] = tile.transpose(1, 2, 0)
    drawn_y, drawn_x = sheet.shape[0] * magnification, sheet.shape[1] * magnification  # all sizes in dots
    total_x, total_y = drawn_x + left + 15, drawn_y + bottom + 15
    figure = Figure(figsize=(total_x / DPI, total_y / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / total_x, bottom / total_y, drawn_x / total_x, drawn_y / total_y))
    shown = np.repeat(sheet, 3, axis=2) if channels == 1 else sheet  # RGB passes through no colour map
    extent = (0, sheet.shape[1], sheet.shape[0], 0)
    axes.imshow(shown, interpolation="nearest", extent=extent, aspect="auto")
    axes.spines[:].set_visible(False)
    return axes
