"""Tables that several commands print."""

from __future__ import annotations

import re
from collections.abc import Sequence

GAP = 2  # blanks between two columns
NARROW = 8  # characters: the head of a column of numbers is not broken into shorter lines
PROSE = 24  # characters: a column with a longer cell holds text, which may be broken into lines
TEXT = 17  # characters: lines of text are not shorter
FIRST = 22  # characters: names of rows with blanks may be broken into lines so long, where one table then holds all
LEFT = ("reading", "what it says", "state", "verdict")
ARROWS = {"lower": "↓", "higher": "↑", "near": "≈"}
DIRECTIONS = "↓ lower is better, ↑ higher is better, ≈ near real images is better"


def print_table(
    heads: Sequence[str], body: Sequence[Sequence[str]], markdown: bool = False, spare: str | None = None
) -> None:
    """Print a table for the terminal, as wide lines for a pipe, or as Markdown.

    A terminal too narrow for the column `spare` is spared it.
    """
    if markdown:
        from modiste.evaluation import records

        print(records.markdown(heads, body))
        return
    from modiste import progress

    console = progress.console(to_errors=False)
    width = console.width if console.is_terminal else None
    lines = layout(heads, body, width)
    if spare is not None and "" in lines:
        place = list(heads).index(spare)
        kept = [[*row[:place], *row[place + 1 :]] for row in (heads, *body)]
        lines = [*layout(kept[0], kept[1:], width), f"({spare}: in a wider window, or with --markdown)"]
    lines += [DIRECTIONS] if any(arrow in line for arrow in ARROWS.values() for line in lines) else []
    for line in lines:
        progress.log(console, line)


def layout(heads: Sequence[str], body: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, none wider than `width` (None: as wide as they come).

    A table that is too wide is broken into several below each other, each of which begins with the first column: that
    names the rows, and is broken at its blanks where this saves a second table, else never while it leaves room for
    another one. Text is broken into lines, numbers never.
    """
    columns = [[head, *(row[k] for row in body)] for k, head in enumerate(heads)]
    prose = [k > 0 and max(map(_width, column[1:]), default=0) > PROSE for k, column in enumerate(columns)]
    left = [k == 0 or prose[k] or heads[k] in LEFT for k in range(len(columns))]
    natural = [max(map(_width, column)) for column in columns]
    if width is None or sum(natural) + GAP * (len(natural) - 1) <= width:
        return _format_lines(columns, natural, left)
    if len(columns) == 1:
        return _format_lines(columns, [width], left)
    least = [
        TEXT if prose[k] else max(NARROW, *map(_width, column[1:])) if body else natural[k]
        for k, column in enumerate(columns)
    ]
    least = [min(one, full) for one, full in zip(least, natural, strict=True)]
    first = min(natural[0], max(NARROW, width - GAP - max(least[1:], default=0)))
    words = max(FIRST, *(_width(word) for cell in columns[0] for word in cell.split()))
    if sum(least[1:]) + GAP * (len(least) - 1) + words <= width:
        first = min(first, width - sum(least[1:]) - GAP * (len(least) - 1))
    lines: list[str] = []
    rest = list(range(1, len(columns)))
    while rest:
        taken = [rest.pop(0)]
        while rest and first + sum(GAP + least[k] for k in [*taken, rest[0]]) <= width:
            taken.append(rest.pop(0))
        room = width - first - sum(GAP + least[k] for k in taken)
        wide = dict(zip(taken, [least[k] for k in taken], strict=True))
        for k in taken:  # what is left over goes to the columns in their order
            more = max(0, min(room, natural[k] - least[k]))
            wide[k], room = wide[k] + more, room - more
        shown = [0, *taken]
        lines += [""] if lines else []
        lines += _format_lines([columns[k] for k in shown], [first, *wide.values()], [left[k] for k in shown])
    return lines


def _format_lines(columns: Sequence[Sequence[str]], widths: Sequence[int], left: Sequence[bool]) -> list[str]:
    lines = []
    for row in zip(*columns, strict=True):
        cells = [_wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for k in range(max(map(len, cells))):
            parts = []
            for cell, width, is_left in zip(cells, widths, left, strict=True):
                text = cell[k] if k < len(cell) else ""
                blank = " " * (width - _width(text))
                parts.append(text + blank if is_left else blank + text)
            lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _wrap(text: str, width: int) -> list[str]:
    """The text in lines of that width, broken after blanks, underscores, hyphens, slashes and commas, else anywhere."""
    lines = [""]
    for piece in re.findall(r"[^ _,/-]*[ _,/-]?", text):
        if _width((lines[-1] + piece).rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
        while _width(lines[-1].rstrip()) > width:
            cut = width
            while cut > 1 and _width(lines[-1][:cut]) > width:
                cut -= 1
            lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
    return [line.rstrip() for line in lines]


def _width(text: str) -> int:
    """How many columns of a terminal the text takes; some characters take two."""
    from rich.cells import cell_len

    return cell_len(text)


def score_titles(
    heads: Sequence[str], body: Sequence[Sequence[str]], markdown: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The table with titles for people in place of full names of scores, in a terminal; in a pipe and for Markdown as
    it is.

    Names stand in the first column under `score`, or else in the heads, with or without which values are better:
    `frechet_garment_10k_test (lower)` becomes `Fréchet distance ↓`.
    """
    from modiste import progress

    rows = [list(row) for row in body]
    if markdown or not progress.console(to_errors=False).is_terminal:
        return list(heads), rows
    if heads[0] != "score":
        return titles(heads), rows
    named = titles([row[0] for row in rows])
    return list(heads), [[name, *row[1:]] for name, row in zip(named, rows, strict=True)]


def titles(names: Sequence[str]) -> list[str]:
    """Titles of scores for people; what is no score, and what would get a title twice, keeps its name."""
    from modiste.errors import ModisteError
    from modiste.reports import phrases

    found = []
    for name in names:
        score, _, better = name.partition(" (")
        try:
            found.append(f"{phrases.title_of(score)}\N{NO-BREAK SPACE}{ARROWS.get(better.rstrip(')'), '')}".rstrip())
        except ModisteError:
            found.append(name)
    return [title if found.count(title) == 1 else name for name, title in zip(names, found, strict=True)]
