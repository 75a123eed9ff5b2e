"""What tests of evaluations share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import modiste
from modiste.data import toy
from modiste.evaluation import alarms, records


def save(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None, names: tuple[str, ...] = ()) -> Path:
    arrays: dict[str, Any] = {"images": pixels}
    if labels is not None:
        arrays |= {"labels": labels, "class_names": np.array(names or toy.CLASS_NAMES)}
    np.savez(path, **arrays)
    return path


def measured(what: Path, closet: Path, **options: Any) -> records.Record:
    return modiste.evaluate(what, **{"count": 60, "data_name": str(closet), **options})


def alarms_of(record: records.Record) -> set[str]:
    return {alarm.kind for alarm in alarms.find(record.scores.values(), record.protocol)}


def missing(record: records.Record) -> dict[str, str]:
    return {str(name): reason for name, reason in record.not_measured.items()}
