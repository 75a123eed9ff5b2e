"""Inception-v3 features, for the protocols of the literature (FID, KID, IS), where its weights are on this machine.

The network is torch-fidelity's port of the TensorFlow graph of 2015-12-05, from which the published scores come. Its
weights are never downloaded here and are read as data only. With other weights the extractor has another name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from modiste.data.images import tensor_of
from modiste.errors import ModisteError, UsageError, first_line
from modiste.metrics.features import Extractor, Features, Pixels
from modiste.networks.layers import ImageShape

FEATURES, LOGITS = 2048, 1008
PUBLISHED_HASH = "6726825d"  # how the SHA-256 of the published weights begins, also the end of their file names
FILE_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
ADDRESS = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE_NAMES[0]}"
SMALLEST_SIDE = 8
CHUNK = 8
"""Images per forward pass: a constant, so that one image's features never depend on how many follow."""


def extractor(size: int, weights: Path | None = None) -> Extractor:
    """Inception's 2048 features after average pooling, and its 1008 logits without bias, of images `size` pixels wide.

    The network brings its input to 299 pixels itself, as TensorFlow did; give the images' own size, so that nothing
    else resizes them. `weights` is a file of torch-fidelity's form; without it torch's hub cache is searched.
    """
    if size < SMALLEST_SIDE:
        raise UsageError(f"images of {size} pixels are too small for Inception; give {SMALLEST_SIDE} or more")
    path = _weights_file(weights)
    library = _torch_fidelity()
    state, sha = _read(path)
    network = _network(library, state, path)
    published = sha.startswith(PUBLISHED_HASH)
    version = metadata.version("torch-fidelity")

    @torch.inference_mode()
    def examine(pixels: Pixels) -> Features:
        vectors, logits = [np.empty((0, FEATURES), np.float32)], [np.empty((0, LOGITS), np.float32)]
        for start in range(0, len(pixels), CHUNK):
            part = tensor_of(np.ascontiguousarray(pixels[start : start + CHUNK]))
            padded = torch.cat([part, part.new_zeros(CHUNK - len(part), *part.shape[1:])])
            features, unbiased = network(padded)
            vectors.append(features[: len(part)].numpy())
            logits.append(unbiased[: len(part)].numpy())
        return Features(np.concatenate(vectors), np.concatenate(logits))

    facts = {
        "extractor": f"Inception-v3 as in torch-fidelity {version}",
        "weights": f"published (TensorFlow, 2015-12-05, {PUBLISHED_HASH})"
        if published
        else "stand-in or other: not the published Inception",
        "hash": sha[:16],
        "layer": "global average pooling; logits without bias",
        "features": FEATURES,
        "logits": LOGITS,
        "input": [3, size, size],
        "resize": "bilinear to 299, TensorFlow-compatible, inside the extractor",
        "grey": "repeated",
    }
    fingerprint = hashlib.sha256(f"inception 1 {sha} {size} {version}".encode()).hexdigest()[:16]
    name = "inception" if published else "inception-other"
    return Extractor(name, ImageShape(3, size, LOGITS), fingerprint, facts, examine, kernel=True)


def _weights_file(weights: Path | None) -> Path:
    """The file with the weights; ModisteError with the address of one if there is none."""
    if weights is not None:
        if not weights.is_file():
            raise UsageError(f"{weights} is no file; give the path of {FILE_NAMES[0]}, which {ADDRESS} has")
        return weights
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for name in FILE_NAMES:
        if (cache / name).is_file():
            return cache / name
    raise ModisteError(f"Inception's weights are not in {cache}; download {ADDRESS} (96 MB) into that folder, or name "
                       "the file with --inception-weights")  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights by name and the SHA-256 of their file."""
    try:
        content = path.read_bytes()
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the reader to errors of any kind, such as struct.error
        raise ModisteError(
            f"{path} cannot be read as weights ({first_line(error)}); get it again from {ADDRESS}"
        ) from None
    if not isinstance(state, Mapping):
        raise ModisteError(f"{path} holds a {type(state).__name__} and no weights by name; get {ADDRESS}")
    return dict(state), hashlib.sha256(content).hexdigest()


def _network(library: ModuleType, state: dict[str, Tensor], path: Path) -> nn.Module:
    # The constructor would download its weights, or unpickle a file that may hold code; it gets these ones instead.
    library.load_state_dict_from_url = lambda *_, **__: state  # type: ignore[attr-defined]
    try:
        network: nn.Module = library.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"])
    except RuntimeError as error:
        raise ModisteError(
            f"{path} holds other weights than Inception's ({first_line(error)}); get {ADDRESS}"
        ) from None
    return network.eval().requires_grad_(False)


def _torch_fidelity() -> ModuleType:
    """A private copy of torch-fidelity's Inception module.

    Importing the package would import torchvision, which this network does not need and which fails where it was built
    for another torch. So the module is imported below a package without content, and no trace of it is left.
    """
    package = "torch_fidelity"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModisteError("Inception features need torch-fidelity; install it with pip install 'modiste[inception]'")
    others = _remove_modules(package)
    bare = ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = bare
    try:
        return importlib.import_module(f"{package}.feature_extractor_inceptionv3")
    except ImportError as error:
        raise ModisteError(f"torch-fidelity cannot be used ({first_line(error)}); install it with "
                           "pip install 'modiste[inception]'") from None  # fmt: skip
    finally:
        _remove_modules(package)
        sys.modules.update(others)


def _remove_modules(package: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}
