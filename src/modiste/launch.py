"""Other processes of this very package: workers of studies and searches, partners of a training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

MAIN = Path(__file__).with_name("__main__.py")


def command(words: Sequence[str]) -> list[str]:
    """The command that carries out these words of the command line in a process of its own.

    `python -m modiste` would look into the working folder first, and a csv.py there would be imported for Python's.
    Run by its path, `__main__.py` takes this package and leaves PYTHONPATH as it is.
    """
    return [sys.executable, str(MAIN.absolute()), *words]
