"""The options of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modiste.sampling import generators

Split = Literal["test", "heldout", "train"]
Checkpoint = Literal["last", "best"]


PATCHES = Path("patches")
"""Among feature extractors: a dictionary of the data set's patches (see `metrics.patches`)."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `modiste evaluate`."""

    count: int = 10_000
    """Generated images."""
    reference: Split | None = None
    """The part of the data set to compare with; None: test, or heldout where there are no test images."""
    data_name: str | None = None
    """The data set to compare with; None: that of the run or ONNX model, else Fashion-MNIST."""
    judge: Path | None = None
    """A file of `modiste judge train`; None: the judge that was trained on the data set."""
    inception: bool | Path = False
    """Whether to measure the field's scores, too, with weights in the cache (True) or in a file."""
    features: tuple[Path, ...] = ()
    """Further extractors: ONNX models of the user's own (see `metrics.onnx_features`), or PATCHES."""
    checkpoint: Checkpoint = "last"
    truncation: float | None = None
    """How a run is sampled, as `batch_norm`; see `generators.load`."""
    batch_norm: generators.Statistics = "running"
    classifier: bool = False
    """Whether to train a classifier on the images (up to an hour on one core)."""
    audit: bool = False
    """Whether to measure class by class, look for near-duplicates and draw a picture of the worst cases."""
    reconstruct: int | None = None
    """Of how many reference images to find the best code; None: of none."""
    seed: int = 0
    """Of the noise and of every random choice of the scores."""
    out: str | Path | None = None
    """Where the record goes."""
