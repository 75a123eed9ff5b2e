"""Charts of trainings and scores: numbers in, a matplotlib Figure out; `svg` makes it a part of a page."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from modiste.plotting import figures
from modiste.plotting.figures import COLOURS, DPI, SMALL

WIDTH = 4.6  # inches: text of 8 points can still be read where a phone shows this much
RASTER_DPI = 144  # of points too many to be drawn as vectors
LINES = tuple("#B3A100" if colour == "#F0E442" else colour for colour in COLOURS)  # its yellow is too pale for a line
STYLES = ("-", "--", ":", "-.")
QUIET = "#888888"  # seen on white and on black
PALE, DARK = "#ffffff", "#111111"
LEGEND_LINE = 0.17  # inches
FREE_LINES = 4  # of a legend for which a figure has room; it grows for more

Line = tuple[Sequence[float], Sequence[float]]
"""Places along the horizontal axis and the values there."""


@dataclass(frozen=True)
class Dot:
    """One value with its interval (none if unknown) and the single values that it sums up."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    points: Sequence[float] = ()


def line_of(log: Sequence[Mapping[str, Any]], key: str) -> Line:
    """A number that a training's log keeps, over thousands of images shown, where it is finite."""
    kept = [record for record in log if isinstance(record.get(key), int | float) and math.isfinite(record[key])]
    return [record["images"] / 1000 for record in kept], [record[key] for record in kept]


def curves(
    lines: Mapping[str, Sequence[Line]],
    x_label: str,
    y_label: str,
    *,
    dashed: Mapping[str, Sequence[Line]] | None = None,
    share: bool = False,
    palette: Sequence[str] = (),
) -> Figure:
    """One colour per name: each of its lines thin, their mean thick, the range between them shaded.

    `dashed`: a second quantity of the same names, of which only means are drawn. `share`: values are shares of one,
    shown as per cent from 0 to 100. `palette`: all names whose colours are fixed, whether they have lines or not.
    """
    figure, axes = _figure(2.9)
    for name, several in lines.items():
        _draw(axes, several, name, *_style(_number(name, palette or tuple(lines))), alone=dashed is not None)
    for name, several in (dashed or {}).items():
        colour, _ = _style(_number(name, palette or tuple(lines)))
        _draw(axes, several, f"_{name}", colour, "--", alone=True)
    if share:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.axhline(0.5, color=QUIET, lw=0.8, ls=":")
    axes.set_xlim(left=0)
    axes.set_xlabel(x_label, fontsize=SMALL)
    axes.set_ylabel(y_label, fontsize=SMALL)
    if len(lines) > 1:
        _legend(figure, axes)
    return figure


def _draw(axes: Axes, several: Sequence[Line], name: str, colour: str, style: str, *, alone: bool) -> None:
    """The lines of one name; `alone`: their mean without them."""
    several = [line for line in several if len(line[0])]
    if not several:
        return
    if len(several) == 1:
        axes.plot(*several[0], _line_or_marker(several[0][0], style), color=colour, lw=1.3, ms=5, label=name)
        return
    for line in () if alone else several:
        axes.plot(*line, _line_or_marker(line[0], style), color=colour, lw=0.6, ms=3, alpha=0.6)
    places, values = _aligned(several)
    if places[0] == places[-1]:  # one place that all have: a mean with its range
        places, values = places[:1], values[:, :1]
        axes.vlines(places, values.min(0), values.max(0), color=colour, alpha=0.3, lw=3)
    axes.plot(places, values.mean(0), _line_or_marker(places, style), color=colour, lw=1.6, ms=6, label=name)
    if not alone:
        axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)


def _line_or_marker(places: Sequence[float] | NDArray[np.float64], style: str) -> str:
    """The line style, or a marker for what has one point only, which no line would show."""
    return style if len(places) > 1 else "o"


def _aligned(lines: Sequence[Line]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values [lines, 100] at common places, up to where the shortest line ends."""
    first, last = max(line[0][0] for line in lines), min(line[0][-1] for line in lines)
    places = np.linspace(first, max(first, last), 100)
    return places, np.stack([np.interp(places, *line) for line in lines])


def dots(
    rows: Sequence[Dot],
    x_label: str,
    *,
    noise: float | None = None,
    real: float | None = None,
    least: float | None = None,
    palette: Sequence[str] = (),
) -> Figure:
    """A row per value: a dot in its colour, its interval, the single values as rings; better ones further right.

    Lines show where `noise` and `real` images stand. With `least` the axis is logarithmic and what is smaller is drawn
    there: factors are distances. `palette`: all labels whose colours are fixed.
    """
    figure, axes = _figure(0.85 + 0.3 * len(rows))

    def shown(value: float) -> float:
        return value if least is None else max(value, least)

    for place, row in enumerate(rows):
        colour, _ = _style(_number(row.label, palette or [one.label for one in rows]))
        if row.interval is not None:
            axes.plot([shown(end) for end in row.interval], [place, place], color=colour, lw=2.2, alpha=0.55)
        rings = [shown(value) for value in row.points]
        axes.plot(rings, [place] * len(rings), "o", color=colour, mfc="none", ms=4, mew=0.8)
        axes.plot(shown(row.value), place, "o", color=colour, ms=7, gid="mean")
    for label, value in (("noise", noise), ("real images", real)):
        if value is not None:
            axes.axvline(shown(value), color=QUIET, lw=1, ls=":")
            axes.text(shown(value), -0.75, label, fontsize=SMALL - 1, ha="center", va="bottom", color=QUIET)
    if least is not None:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.09)
    axes.set_ylim(len(rows) - 0.4, -0.7)
    if noise is not None and real is not None and real < noise:
        axes.invert_xaxis()
    axes.set_yticks(range(len(rows)), [figures.plain(row.label) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(x_label, fontsize=SMALL)
    return figure


def class_chart(counts_by_split: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Bars with the number of images per class, one colour per split."""
    splits, classes = len(counts_by_split), len(class_names)
    figure = _empty(1.2 + 0.34 * classes * max(1, splits) ** 0.5, 7)
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
    axes.set_yticks(rows, [figures.plain(name) for name in class_names])
    axes.invert_yaxis()
    axes.set_ylabel("class")
    axes.set_xlabel("images")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=splits, frameon=False, fontsize=SMALL)
    return figure


def radar(spokes: Sequence[str], values: Mapping[str, Sequence[float]], *, palette: Sequence[str] = ()) -> Figure:
    """A polygon per name over at least three spokes; values from 0 (centre) to 1 (rim)."""
    figure = _empty(3.9)
    figure.set_layout_engine("none")  # which would leave no room for the names of the spokes
    axes = figure.add_axes((0.15, 0.1, 0.7, 0.74), projection="polar")
    angles = [2 * math.pi * k / len(spokes) for k in range(len(spokes))]
    for name, row in values.items():
        colour, style = _style(_number(name, palette or tuple(values)))
        axes.plot([*angles, angles[0]], [*row, row[0]], style, color=colour, lw=1.4, label=name, marker="o", ms=2.5)
        if len(values) <= 3:
            axes.fill([*angles, angles[0]], [*row, row[0]], color=colour, alpha=0.06, lw=0)
    sides = [round(1.2 * math.cos(angle)) for angle in angles]  # left, middle, right
    names = ["\n".join(name.split()) if side else name for name, side in zip(spokes, sides, strict=True)]
    axes.set_xticks(angles, names, fontsize=SMALL - 1)
    axes.tick_params(axis="x", pad=1)
    for label, side in zip(axes.get_xticklabels(), sides, strict=True):
        label.set_horizontalalignment(("right", "center", "left")[side + 1])
    axes.set_yticks([0.25, 0.5, 0.75, 1], ["0.25", "0.5", "0.75", "real = 1"], fontsize=SMALL - 2)
    axes.set_ylim(0, 1.05)
    axes.grid(color=QUIET, lw=0.4)
    axes.spines[:].set_color(QUIET)
    axes.patch.set_alpha(0)
    if len(values) > 1:
        _legend(figure, axes)
    return figure


def confusion(matrix: NDArray[np.int64], class_names: Sequence[str], x_label: str, y_label: str) -> Figure:
    """Counts [classes, classes] as per cent of their row, each written into its cell."""
    figure, axes = _figure(4.2)
    share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    classes = len(class_names)
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors=QUIET, lw=0.2)
    for row in range(classes):
        for column in range(classes):
            if share[row, column] >= 0.005:
                colour = PALE if share[row, column] > 0.55 else DARK
                place = (column + 0.5, row + 0.52)
                text = f"{100 * share[row, column]:.0f}"
                axes.text(*place, text, ha="center", va="center", fontsize=SMALL - 2, color=colour)
    names = [figures.plain(name) for name in class_names]
    axes.set_xticks(np.arange(classes) + 0.5, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(classes) + 0.5, names)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_xlabel(x_label, fontsize=SMALL)
    axes.set_ylabel(y_label, fontsize=SMALL)
    axes.spines[:].set_visible(False)
    return figure


def clouds(
    real: NDArray[np.float64], generated: NDArray[np.float64], names: Mapping[str, tuple[float, float]]
) -> Figure:
    """Two clouds of points [N, 2] by colour and shape, and names at their places."""
    figure, axes = _figure(3.8)
    style = {"ms": 2.6, "mew": 0.6, "ls": "", "rasterized": True}
    axes.plot(*real.T, marker="o", mfc="none", color=COLOURS[0], label=f"real ({len(real):,})", **style)  # type: ignore[arg-type]
    axes.plot(*generated.T, marker="x", color=COLOURS[1], label=f"generated ({len(generated):,})", **style)  # type: ignore[arg-type]
    for name, place in names.items():
        box = {"boxstyle": "round,pad=0.15", "fc": PALE, "ec": QUIET, "lw": 0.4, "alpha": 0.85}
        axes.text(*place, figures.plain(name), ha="center", va="center", fontsize=SMALL - 2, color=DARK, bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _legend(figure, axes)
    return figure


def ranges(
    samples: Mapping[str, NDArray[np.float64]],
    references: Sequence[NDArray[np.float64]],
    x_label: str,
    *,
    palette: Sequence[str] = (),
) -> Figure:
    """Shares of a sample up to each value (distribution functions), a colour per name; references dashed in black."""
    figure, axes = _figure(2.7)
    lines = [(name, one, *_style(_number(name, palette or tuple(samples)))) for name, one in samples.items()]
    label = "unseen real images"
    lines += [(f"_{label}" if k else label, one, "black", "--") for k, one in enumerate(references)]
    for name, sample, colour, style in lines:
        steps = np.linspace(0, 1, 101)
        axes.plot(np.quantile(sample, steps), steps, style, color=colour, lw=1.3, label=name)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylim(0, 1)
    axes.set_xlabel(x_label, fontsize=SMALL)
    axes.set_ylabel("share of images up to it", fontsize=SMALL)
    _legend(figure, axes)
    return figure


def svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element: text as text, black as the page's own colour, no two ids alike on one page."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "modiste"}), figures.missing_letters_reported():
        figure.savefig(buffer, format="svg", dpi=RASTER_DPI, transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"(data:image/png;base64,)([A-Za-z0-9+/=\s]+)", lambda found: found[1] + _palette(found[2]), text)
    text = re.sub(r"<[^>]*>", lambda tag: _rounded(tag[0]), text)  # places, not the numbers that are to be read
    text = re.sub(r"\s*\n\s*", "\n", text)
    prefix = "c" + hashlib.sha256((label + text).encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    text = re.sub(r'font: (\S+) [^;"]*', r"font: \1 var(--chart)", text)
    text = text.replace("#000000", "currentColor")
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1))
    return text.replace("<svg ", f'<svg role="img" aria-label="{_escaped(label)}" ', 1)


def _rounded(tag: str) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), tag)


def _palette(encoded: str) -> str:
    """A PNG in base64 with at most 32 colours, some of them half transparent: a fifth of the size."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGBA").quantize(32).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def colour_of(name: str, palette: Sequence[str]) -> str:
    """The colour of that name in every chart that was given the palette."""
    return _style(_number(name, palette))[0]


def _number(name: str, palette: Sequence[str]) -> int:
    """The name's place in the palette; of a name that is not in it the next one."""
    return palette.index(name) if name in palette else len(palette)


def _style(index: int) -> tuple[str, str]:
    """Colour and line style of the line of that number; never two alike among 32."""
    return LINES[index % len(LINES)], STYLES[index // len(LINES) % len(STYLES)]


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > 24 else min(3, len(labels))
        lines = -(-len(labels) // columns)
        figure.set_figheight(figure.get_figheight() + LEGEND_LINE * max(0, lines - FREE_LINES))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=SMALL - 1)


def _empty(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of that size in inches, drawn by Agg without any global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = _empty(height)
    axes = figure.subplots()
    axes.tick_params(labelsize=SMALL - 1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
