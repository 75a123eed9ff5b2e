"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

JsonFlag = Annotated[bool, Option("--json", help="Print the result as JSON.")]
GroupOption = Annotated[
    str | None,
    Option(
        help="Keep together what belongs together when images are held out: the text before which file names are alike "
        "(_ of patient7_03.png), a Parquet column or an .npz array."
    ),
]
TrackOption = Annotated[
    str | None,
    Option(
        help="Mirror the numbers in tensorboard (the run folder's `tensorboard`) or mlflow (where MLFLOW_TRACKING_URI "
        "says, else mlflow.db and mlruns here)."
    ),
]
FitOption = Annotated[
    Literal["crop", "pad", "stretch"] | None,
    Option(help="With a resize: what becomes of images that are not square; default crop, their middle square."),
]
BackgroundOption = Annotated[
    str | None,
    Option(help="What transparent parts are laid over, and what pads: black (default), white or #rrggbb."),
]


def data_changes(
    resize: int | None, fit: str | None, background: str | None, group_by: str | None = None
) -> dict[str, int | str]:
    """The keys of a recipe that these options set."""
    given = {"data.resize": resize, "data.fit": fit, "data.background": background, "data.group_by": group_by}
    return {key: value for key, value in given.items() if value is not None}
