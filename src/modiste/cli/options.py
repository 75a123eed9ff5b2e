"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

from typer import Option

JsonFlag = Annotated[bool, Option("--json", help="Print the result as JSON.")]
TrackOption = Annotated[
    str | None,
    Option(
        help="Mirror the numbers in tensorboard (the run folder's `tensorboard`) or mlflow (where MLFLOW_TRACKING_URI "
        "says, else mlflow.db and mlruns here)."
    ),
]
