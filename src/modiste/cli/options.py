"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

from typer import Option

JsonFlag = Annotated[bool, Option("--json", help="Print the result as JSON.")]
