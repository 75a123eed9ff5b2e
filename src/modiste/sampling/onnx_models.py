"""Generators as ONNX models of any origin: noise, and labels where they take them, in; images out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste import config
from modiste.errors import ModisteError, UsageError, first_line
from modiste.onnx_sessions import FLOATS, open_model
from modiste.wording import quoted

INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
CLASS_KEYS = ("modiste.class_names", "modiste.classes", "class_names", "classes")
GUESSED_CLASSES = 10
CHUNK = 64
"""Images per call of a model that takes any number of them: a constant, as in `generators`."""


@dataclass(frozen=True)
class OnnxGenerator:
    """A model ready to run on the CPU; `load` makes one."""

    session: Any
    noise: Any
    labels: Any | None
    z_dim: int
    class_names: tuple[str, ...]
    """Empty for a model that takes no labels."""
    fingerprint: str
    """16 hexadecimal digits of the file's SHA-256; weights that a model keeps in other files do not count."""
    warnings: tuple[str, ...]
    data: dict[str, Any] | None
    """The recipe's section `data` of its training, where the file has it; paths without their folders."""

    def run(self, noise: NDArray[np.float32], labels: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """The model's first output for noise [N, z_dim] and labels [N], computed in chunks of one size."""
        fixed = self.noise.shape[0]
        chunk = fixed if isinstance(fixed, int) else CHUNK
        rest = [1] * (len(self.noise.shape) - 2)
        results = []
        for start in range(0, len(noise), chunk):
            part = noise[start : start + chunk]
            padded = np.concatenate([part, np.zeros((chunk - len(part), self.z_dim), np.float32)])
            feed = {self.noise.name: padded.reshape(chunk, self.z_dim, *rest).astype(FLOATS[self.noise.type])}
            if self.labels is not None and labels is not None:
                chosen = np.zeros(chunk, INTEGERS[self.labels.type])
                chosen[: len(part)] = labels[start : start + chunk]
                feed[self.labels.name] = chosen
            try:
                output = np.asarray(self.session.run(None, feed)[0])
            except Exception as error:  # the runtime's own exceptions have no base class in common
                raise ModisteError(f"the ONNX model cannot make {chunk} images at once ({first_line(error)}); "
                                   "their number must be free, and class_names in its metadata must name "
                                   "the classes that it knows") from None  # fmt: skip
            if output.shape[:1] != (chunk,):
                found = f"{output.shape[0] if output.ndim else 'no'} images for {chunk} noises"
                raise ModisteError(f"the ONNX model gives {found}; its first output must be images [N, C, H, W]")
            results.append(output[: len(part)])
        return np.concatenate(results)


def load(path: Path) -> OnnxGenerator:
    """The generator in an .onnx file: one float input [N, z] or [N, z, 1, 1], and labels [N] if it takes classes.

    The names or the number of the classes are read as JSON from the model's metadata (class_names).
    """
    session, content = open_model(path)
    inputs = session.get_inputs()
    noises = [entry for entry in inputs if entry.type in FLOATS]
    labels = [entry for entry in inputs if entry.type in INTEGERS]
    if len(noises) != 1 or len(labels) > 1 or len(inputs) > len(noises) + len(labels):
        found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs) or "none"
        raise UsageError(f"{path} has the inputs {found}; a generator takes noise (one float input) "
                         "and at most labels (one integer input)")  # fmt: skip
    z_dim = noises[0].shape[1] if len(noises[0].shape) > 1 else None
    if not isinstance(z_dim, int) or any(side != 1 for side in noises[0].shape[2:]):
        raise UsageError(f"{path}: the input {noises[0].name} has the shape {noises[0].shape}; export the generator "
                         "with noise [N, z] or [N, z, 1, 1] where z is a number")  # fmt: skip
    metadata = session.get_modelmeta().custom_metadata_map
    names, warnings = _class_names(path, metadata) if labels else ((), ())
    fingerprint, label = hashlib.sha256(content).hexdigest()[:16], labels[0] if labels else None
    return OnnxGenerator(session, noises[0], label, z_dim, names, fingerprint, warnings, _data(metadata))


def _class_names(path: Path, metadata: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The model's classes from its metadata, or ten with a warning."""
    key = next((key for key in CLASS_KEYS if key in metadata), None)
    if key is None:
        text = (
            f"{path} takes labels but does not name its classes; {GUESSED_CLASSES} are assumed (metadata class_names)"
        )
        return tuple(map(str, range(GUESSED_CLASSES))), (text,)
    try:
        value = json.loads(metadata[key])
    except json.JSONDecodeError:
        value = None
    names = tuple(map(str, range(value) if isinstance(value, int) else value if isinstance(value, list) else ()))
    if not names:
        raise ModisteError(f"{path}: the metadata {key} is {quoted(metadata[key])}; write a JSON list of class names")
    return names, ()


def _data(metadata: dict[str, str]) -> dict[str, Any] | None:
    """The settings of the training data, as `modiste export` writes them; None for any other text."""
    try:
        known = config.Data.model_validate_json(metadata["modiste.data"])
        return config.with_older_data_defaults(known.model_dump(exclude_unset=True))
    except (KeyError, ValueError):
        return None
