"""The command report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.cli.tables import print_table, score_titles

app = typer.Typer()


@app.command()
def report(
    what: Annotated[Path, Argument(help="A run folder, `pretrained` or a study folder.")],
    out: Annotated[Path | None, Option(help="The page to write; default report.html in that folder.")] = None,
    watch: Annotated[bool, Option("--watch", help="Update the page while training goes on.")] = False,
    every: Annotated[int, Option(min=1, help="Seconds between two updates of the page.")] = 30,
    latex: Annotated[
        bool, Option("--latex", help="Write a study's table for a paper instead: table.tex, with booktabs.")
    ] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a report with pictures, charts and scores: one HTML page, and the same as Markdown with its files.

    The charts stand beside the Markdown as PNG, SVG and PDF.

    Example: modiste report runs/swift
    """
    trust_code(trust, [what])
    from modiste import progress
    from modiste.experiments import conclusions
    from modiste.reports import report as reports

    if latex:
        from modiste.reports import latex as tables

        place = tables.write(what, out)
        print(json.dumps({"latex": str(place)}, indent=2) if as_json else f"wrote {place}")
        return
    with progress.live_log("report") as log:
        written = reports.watch(what, out, seconds=every, log=log) if watch else reports.report(what, out, log=log)
    table = written.report.summary
    rows = [[cell for cell in row if isinstance(cell, str)] for row in table.rows]
    if as_json:
        files = {"html": str(written.html), "markdown": str(written.markdown)}
        result: dict[str, Any] = {**files, "heads": list(table.heads), "rows": rows}
        if written.report.findings is not None:
            result["findings"] = conclusions.to_json(written.report.findings)
        print(json.dumps(result, indent=2))
        return
    spare = "what it says" if "what it says" in table.heads else None
    print_table(*score_titles(table.heads, rows), spare=spare)
    print(f"wrote {written.markdown}")
    print(f"open {written.html}")
