"""The command studio."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

app = typer.Typer()


@app.command()
def studio(
    folder: Annotated[Path | None, Argument(help="The folder that holds your runs; default runs.")] = None,
    open_browser: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    host: Annotated[
        str, Option(help="The address to listen at; the default can be reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, Option(min=1, max=65535, help="The port; by default the first free one from 8765.")
    ] = None,
) -> None:
    """Open a page to look at runs, play with generators, compare and train (extra `studio`).

    Example: modiste studio runs --open
    """
    from modiste import progress
    from modiste.errors import ModisteError

    try:
        from modiste.studio import jobs, server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ModisteError(f"the studio needs {error.name}; install it with `pip install 'modiste[studio]'`") from None
    server.serve(folder, host, port, open_browser, progress.log_plain)
    if jobs.under_way():  # Ctrl-C was meant for it, too: Python would wait until its threads are done
        sys.stderr.flush()
        os._exit(0)
