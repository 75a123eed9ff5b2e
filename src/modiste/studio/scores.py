"""The scores of runs: the record of a run's last generator, where there is one."""

from __future__ import annotations

from dataclasses import dataclass

from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import results
from modiste.studio import library

NAMES = ("metrics.json", "metrics-heldout.json")
"""The second for data sets without test images."""


@dataclass(frozen=True)
class Scores:
    """A run's record, or why there is none."""

    record: Record | None
    reason: str = ""


def read(entry: library.Entry) -> Scores:
    """The record of the run's last generator as it is now, sampled as it comes."""
    folders = dict.fromkeys((entry.run.outputs, entry.run.path))  # of the shipped run two: its own is never written to
    places = [folder / name for folder in folders for name in NAMES if (folder / name).is_file()]
    found = (records.read(place) for place in places)
    record = next((one for one in found if results.is_current(one, entry.run.path)), None)
    if record is not None:
        return Scores(record)
    outdated = "its scores are of other weights, or of images made in another way"
    return Scores(None, outdated if places else "it was not evaluated")
