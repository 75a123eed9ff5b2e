"""Tables that several commands print."""

from __future__ import annotations

import re
from collections.abc import Sequence

GAP = 2  # blanks between two columns
NARROW = 10  # characters: the head of a column of numbers is not broken into shorter lines
PROSE = 24  # characters: a column with a longer cell holds text, which may be broken into lines
LEFT = ("reading", "what it says", "state", "verdict")


def print_table(heads: Sequence[str], body: Sequence[Sequence[str]], markdown: bool = False) -> None:
    """Print a table for the terminal, as wide lines for a pipe, or as Markdown."""
    if markdown:
        from modiste.evaluation import records

        print(records.markdown(heads, body))
        return
    from modiste import progress

    console = progress.console(to_errors=False)
    for line in layout(heads, body, console.width if console.is_terminal else None):
        progress.log(console, line)


def layout(heads: Sequence[str], body: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, none wider than `width` (None: as wide as they come).

    A table that is too wide is broken into several below each other, each of which begins with the first column: that
    names the rows, and is never cut while it leaves room for another one. Text is broken into lines, numbers never.
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
        PROSE if prose[k] else max(NARROW, *map(_width, column[1:])) if body else natural[k]
        for k, column in enumerate(columns)
    ]
    least = [min(one, full) for one, full in zip(least, natural, strict=True)]
    first = min(natural[0], max(NARROW, width - GAP - max(least[1:], default=0)))
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
