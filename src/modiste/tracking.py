"""Mirrors of the log for people who live in a tracker; the run folder stays the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from PIL import Image

from modiste import runs
from modiste.errors import UsageError
from modiste.progress import Listener


def choose(name: str) -> Callable[[runs.Run], AbstractContextManager[Listener]]:
    """What `modiste train --track NAME` opens."""
    trackers = {"tensorboard": tensorboard}
    if name not in trackers:
        raise UsageError(f"no tracker is named {name!r}; choose one of {', '.join(trackers)}")
    return trackers[name]


@contextmanager
def tensorboard(run: runs.Run) -> Iterator[Listener]:
    """Event files in the run's folder `tensorboard`: every number of the log and the sample grids, by images shown."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed; run pip install 'modiste[track]'") from None
    seen = run.log[-1]["images"] if run.log else 0
    with SummaryWriter(str(run.path / "tensorboard"), purge_step=seen + 1) as writer:

        def listen(record: Mapping[str, Any]) -> None:
            for key, value in record.items():
                if key != "images":
                    writer.add_scalar(key, value, record["images"])
            with Image.open(run.grids[-1]) as grid:
                pixels = np.asarray(grid)
            writer.add_image("samples", pixels, record["images"], dataformats="HW" if pixels.ndim == 2 else "HWC")

        yield listen
