"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

SCORING, ADVANCED = "Scoring", "Advanced"
"""Panels of a command's help, below its common options."""

JsonFlag = Annotated[bool, Option("--json", help="Print the result as JSON.")]
TrustFlag = Annotated[
    bool,
    Option(
        "--trust",
        help="Let code run that a folder from elsewhere brings (its `parts`); needed once.",
        rich_help_panel=ADVANCED,
    ),
]
GroupOption = Annotated[
    str | None,
    Option(
        help="Hold out images by groups: a separator in file names after which they differ (_ in patient7_03.png), a "
        "Parquet column or an .npz array.",
        rich_help_panel=ADVANCED,
    ),
]
TrackOption = Annotated[
    str | None,
    Option(
        help="Also log to tensorboard (in the run folder's `tensorboard`) or mlflow (to MLFLOW_TRACKING_URI, default "
        "mlflow.db and mlruns here).",
        rich_help_panel=ADVANCED,
    ),
]
RayOption = Annotated[
    str | None, Option(help="Address of a Ray cluster, or local (extra `ray`).", rich_help_panel=ADVANCED)
]
FitOption = Annotated[
    Literal["crop", "pad", "stretch"] | None,
    Option(
        help="With --resize: how images that are not square are fitted; default crop, to their middle square.",
        rich_help_panel=ADVANCED,
    ),
]
BackgroundOption = Annotated[
    str | None,
    Option(
        help="Colour behind transparent parts and of padding: black (default), white or #rrggbb.",
        rich_help_panel=ADVANCED,
    ),
]


def data_changes(
    resize: int | None, fit: str | None, background: str | None, group_by: str | None = None
) -> dict[str, int | str]:
    """The recipe's keys and values that these options set."""
    options = {"data.resize": resize, "data.fit": fit, "data.background": background, "data.group_by": group_by}
    return {key: value for key, value in options.items() if value is not None}


def trust_code(trust: bool, folders: Iterable[str | Path]) -> None:
    """Do as --trust says: let the code run that these folders bring, and name it."""
    from modiste import parts

    for path in (path for folder in folders if trust for path in parts.trust(folder)):
        print(f"note: {path} may run on this machine from now on", file=sys.stderr)
