"""Arrays in .npy files: one of images, or a folder of them under the names that they would have in an .npz file.

Unlike an .npz file they are not read whole: a large one is mapped into memory, so that it may be larger than that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayFiles:
    """The .npy files at a path, read as `numpy.load` opens an .npz file; every array is mapped."""

    def __init__(self, path: Path) -> None:
        self.paths = {"images": path} if path.is_file() else {file.stem: file for file in sorted(files(path))}
        self.files = list(self.paths)

    def __getitem__(self, key: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.paths[key], mmap_mode="r", allow_pickle=False)
        return array

    def __enter__(self) -> ArrayFiles:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open but the arrays in use."""


def is_npy(path: Path) -> bool:
    """Whether this is a file that ends in .npy, in any case of letters."""
    return path.suffix.lower() == ".npy" and path.is_file()


def files(folder: Path) -> list[Path]:
    """The .npy files in a folder that are not hidden, in no order."""
    return [file for file in folder.iterdir() if is_npy(file) and not file.name.startswith(".")]
