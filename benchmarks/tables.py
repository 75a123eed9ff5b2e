"""Tables on a terminal, or as Markdown for docs/."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def put(table: Table, console: Console, markdown: bool) -> None:
    """Print the table."""
    if not markdown:
        return console.print(table)
    heads = [str(column.header).replace("\n", ", ") for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(map(str, cells))} |")
    print()
