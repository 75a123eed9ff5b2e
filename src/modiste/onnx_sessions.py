"""ONNX models of any origin, ready to run on the processor."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from modiste.errors import ModisteError, UsageError, first_line

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
"""NumPy's types of the inputs that take real numbers."""


def open_model(path: Path, threads: int = 0) -> tuple[Any, bytes]:
    """A session of the model in that file with so many threads (0: one per core), and the bytes of the file."""
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise ModisteError("ONNX models need onnxruntime; install it with pip install 'modiste[onnx]'") from None
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give the path of an ONNX model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        content = path.read_bytes()
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), content
    except Exception as error:  # the runtime's own exceptions have no base class in common
        raise UsageError(f"{path} cannot be loaded as an ONNX model ({first_line(error)}); export it anew") from None
