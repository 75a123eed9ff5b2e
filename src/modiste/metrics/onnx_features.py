"""Feature extractors of the user's own, as ONNX models: images in, one vector per image out.

Channels, side and type are read from the model's input [N, C, H, W], and the range of its pixels from its metadata:
`range`, a JSON list such as [-1, 1], to which 0 and 255 are mapped; or `mean` and `std`, one number per channel, for
(pixel / 255 - mean) / std. Without either it is [0, 1], and the record says that this was assumed. A model that takes
uint8 gets the pixels as they are.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.errors import ModisteError, UsageError, first_line
from modiste.metrics.features import RESIZE_FILTER, Extractor, Features, Pixels, slug
from modiste.metrics.metric_names import OF_ONNX
from modiste.networks.layers import ImageShape
from modiste.onnx_sessions import FLOATS, open_model

CHUNK = 64
"""Images per call of a model that takes any number: a constant, so that one image's features never depend on others."""


@dataclass(frozen=True)
class Scaling:
    """What is done to pixels from 0 to 255: value = pixel * factor + offset, per channel."""

    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    words: str
    assumed: bool = False


def extractor(path: Path, size: int) -> Extractor:
    """The model in that file, for images of `size` pixels where it takes any size; UsageError for one that cannot fit.

    Its scores have the file's name in theirs, and the hash of the file is in the protocol.
    """
    session, content = open_model(path, threads=1)  # as extractors are
    (entry, *more), output = session.get_inputs(), session.get_outputs()[0].name
    kind, shape = entry.type, entry.shape
    if more or len(shape) != 4 or (kind not in FLOATS and kind != "tensor(uint8)"):
        found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in session.get_inputs())
        raise UsageError(f"{path} takes {found}, and a feature extractor takes images alone: one input [N, C, H, W] of "
                         "floats or uint8")  # fmt: skip
    channels, sides = shape[1], {side for side in shape[2:] if isinstance(side, int)}
    if channels not in (1, 3) or len(sides) > 1:
        raise UsageError(f"{path} takes images of the shape {shape}, and ours are square, with one or three channels "
                         "first; export it for [N, 1 or 3, side, side]")  # fmt: skip
    side = sides.pop() if sides else size
    scaling = _scaling(path, session.get_modelmeta().custom_metadata_map, channels, kind)
    chunk = shape[0] if isinstance(shape[0], int) else CHUNK

    def examine(pixels: Pixels) -> Features:
        vectors = []
        for start in range(0, len(pixels), chunk):
            part = pixels[start : start + chunk]
            padded = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), np.uint8)])
            values: NDArray[Any] = padded
            if kind in FLOATS:
                scaled = padded * scaling.factor[:, None, None] + scaling.offset[:, None, None]
                values = scaled.astype(FLOATS[kind])
            vectors.append(_run(session, path, output, entry.name, values)[: len(part)])
        return Features(np.concatenate(vectors))

    width = examine(np.zeros((1, channels, side, side), np.uint8)).vectors.shape[1]  # refuses what gives no vectors
    sha = hashlib.sha256(content).hexdigest()
    version = importlib.import_module("onnxruntime").__version__
    facts = {
        "extractor": f"ONNX model {path.name}",
        "hash": sha[:16],
        "layer": f"output {output}",
        "features": width,
        "input": [channels, side, side],
        "resize": f"{RESIZE_FILTER}, antialiased, to uint8",
        "range": scaling.words,
        "colour": "grey repeated" if channels == 3 else "averaged to grey",
    }
    name = f"{OF_ONNX}{slug(path.stem)}"
    warning = (
        f"{path.name} does not say which range of pixels it expects, so it got [0, 1]; write its metadata `range`, or "
        "`mean` and `std`, if it learned from others"
    )
    fingerprint = hashlib.sha256(f"onnx 1 {sha} {side} {scaling.words} {version}".encode()).hexdigest()[:16]
    return Extractor(
        name, ImageShape(channels, side), fingerprint, facts, examine, warning if scaling.assumed else "", kernel=True
    )


def _run(session: Any, path: Path, output: str, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """The model's first output as vectors [N, D]."""
    try:
        found = np.asarray(session.run([output], {name: values})[0])
    except Exception as error:
        raise ModisteError(f"{path} cannot examine images of the shape {list(values.shape)} ({first_line(error)}); "
                           "export it with a free number of images") from None  # fmt: skip
    if found.ndim < 2 or len(found) != len(values) or found[0].size != found.shape[1] or found.shape[1] < 2:
        raise UsageError(f"{path} gives {list(found.shape)} for {len(values)} images, and features are one vector per "
                         "image, [N, D]; average its maps over their positions before you export it")  # fmt: skip
    vectors: NDArray[np.float32] = found.reshape(len(found), -1).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UsageError(f"{path} gives features that are no finite numbers; look at the range of pixels it expects")
    return vectors


def _scaling(path: Path, metadata: Mapping[str, str], channels: int, kind: str) -> Scaling:
    """How pixels are brought to the range that the model's metadata name."""
    if kind == "tensor(uint8)":
        return Scaling(np.ones(channels), np.zeros(channels), "0 to 255, as uint8")
    known = {key: metadata[key] for key in ("range", "mean", "std") if key in metadata}
    if not known:
        return Scaling(np.full(channels, 1 / 255), np.zeros(channels), "[0, 1], assumed", assumed=True)
    try:
        numbers = {key: np.array(json.loads(text), np.float64) for key, text in known.items()}
        if known.keys() == {"range"}:
            low, high = numbers["range"]
            factor, offset = np.full(channels, (high - low) / 255), np.full(channels, low)
        else:
            mean, std = (np.broadcast_to(numbers[key], channels) for key in ("mean", "std"))
            factor, offset = 1 / (255 * std), -mean / std
        if not (np.isfinite(factor).all() and factor.any()):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        shown = ", ".join(f"{key} = {text[:40]}" for key, text in known.items())
        raise UsageError(f'{path} has the metadata {shown}; write range as "[-1, 1]", or mean and std as lists of '
                         f"{channels} numbers") from None  # fmt: skip
    return Scaling(factor, offset, ", ".join(f"{key} {json.loads(text)}" for key, text in known.items()))
