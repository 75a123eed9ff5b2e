"""Blocks of a report: sections of paragraphs, tables, pictures and charts, independent of the output format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from modiste.experiments.conclusions import Conclusions


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of plain text."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Lead:
    """The sentence that stands for the whole report, in large letters."""

    text: str
    kind: ClassVar[str] = "lead"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Code:
    """Lines to type as they are."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, eq=False)
class Picture:
    """A PNG or GIF file's bytes; `width` is how wide it stands on the page, in CSS pixels."""

    name: str
    """The file's name without ending, unique in a report."""
    content: bytes
    alt: str
    width: int
    caption: str = ""
    file_type: str = "png"
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure, drawn as vectors where that is possible."""

    name: str
    figure: Figure
    alt: str
    caption: str = ""
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True, eq=False)
class Tiles:
    """Small pictures with a caption each; they stand in lines as long as the page is wide."""

    name: str
    pixels: NDArray[np.uint8]
    """Uint8 [N, C, H, W], as they are."""
    captions: Sequence[str]
    alt: str
    source_type: str = ""
    """For the file's metadata (provenance/metadata.py); empty where all pictures are real."""
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Gallery:
    """Pictures or charts side by side, as many as there is room for."""

    items: Sequence[Picture | Chart]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Mark:
    """A table's cell: a value's place on a ruler from noise (0) to real images (1), with its text."""

    position: float
    text: str
    span: tuple[float, float] | None = None
    """Places of the ends of its interval."""


Cell = str | Picture | Mark


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; the first cell of a row names it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Fold:
    """Details that a reader opens; printed open."""

    title: str
    blocks: Sequence[Paragraph | Bullets | Code | Picture | Chart | Tiles | Gallery | Table]
    kind: ClassVar[str] = "fold"


Block = Paragraph | Lead | Bullets | Code | Picture | Chart | Tiles | Gallery | Table | Fold


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it; `anchor` is its address on the page, `short` its name in the contents."""

    anchor: str
    short: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    about: str
    sections: Sequence[Section]
    summary: Table
    """The table of scores, which the terminal shows too."""
    palette: Sequence[str] = ()
    """The names of a study's configurations; the place of each fixes its colour in charts and tables."""
    findings: Conclusions | None = None
    """The conclusions of a study; None for a single run."""
    refresh_seconds: int | None = None
    """How often a page loads itself again while training goes on."""


def map_texts(part: Any, change: Callable[[str], str]) -> Any:
    """A report, or a part of one, with `change` applied to every text; pictures and charts stay as they are."""
    if isinstance(part, str):
        return change(part)
    if type(part) in (list, tuple):
        return type(part)(map_texts(one, change) for one in part)
    if is_dataclass(part) and not isinstance(part, type) and type(part).__module__ == __name__:
        return replace(part, **{field.name: map_texts(getattr(part, field.name), change) for field in fields(part)})
    return part
