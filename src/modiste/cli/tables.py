"""Tables that several verbs print."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(heads: Sequence[str], body: Sequence[Sequence[str]], markdown: bool = False) -> None:
    """Print a table for the terminal, as wide lines for a pipe, or as Markdown."""
    if markdown:
        from modiste import records

        print(records.markdown(heads, body))
        return
    from rich.table import Table

    from modiste import terminal

    console = terminal.console(to_errors=False)
    table = Table(box=None, pad_edge=False)
    for k, head in enumerate(heads):
        number = 0 < k < len(heads) and head not in ("reading", "what it says")
        table.add_column(head, justify="right" if number else "left", no_wrap=number)
    for row in body:
        table.add_row(*row)
    if not console.is_terminal:
        console = terminal.console(to_errors=False, width=max(len("  ".join(row)) for row in [heads, *body]) + 60)
    console.print(table)
