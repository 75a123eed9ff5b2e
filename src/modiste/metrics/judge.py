"""The judge: a small classifier of real images whose features and verdicts the scores are made of.

Two kinds of network are trained alike: `residual` (He et al. 2016, basic blocks) is the judge; `plain`, without
shortcuts and with max pooling, is the second one that no recipe is selected on. Both learn from the part `fit` of a
data set only, so that held-out and test images are new to them. Weights are kept in float16 and used in float32, and
every figure on a judge's card was measured with the weights as they are kept.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modiste import environment, files, paths, progress
from modiste.cache import cache_root
from modiste.config import Data
from modiste.data.classes import check_learnable
from modiste.data.images import Images, content_digest, to_unit
from modiste.data.sets import Part, check_varied, has_test, native_data, open_data, remarks
from modiste.errors import ModisteError, UsageError
from modiste.metrics.classifier_training import _channels_last, learn
from modiste.networks.build import Shape
from modiste.networks.classifier import FEATURES, Classifier, Kind

CHUNK = 250
"""Images per forward pass when judging: a constant, so that one image's features never depend on how many follow."""
WEAK_SKILL = 1 / 3  # of the way from naming the most frequent class to never being wrong
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judge:
    """A trained classifier in eval mode with its card and the hash of its weights (16 hexadecimal digits)."""

    network: Classifier
    shape: Shape
    card: dict[str, Any]
    fingerprint: str

    @torch.inference_mode()
    def examine(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features [N, 128] and logits [N, classes], float32, of pixels uint8 [N, C, size, size]."""
        results = []
        for start in range(0, len(pixels), CHUNK):
            images = torch.from_numpy(pixels[start : start + CHUNK])
            padded = torch.cat([images, images.new_zeros(CHUNK - len(images), *images.shape[1:])])
            features, logits = self.network(_channels_last(to_unit(padded)))
            results.append((features[: len(images)].numpy(), logits[: len(images)].numpy()))
        features_, logits_ = zip(*results, strict=True) if results else ([np.empty((0, FEATURES))], [np.empty((0, 1))])
        return np.concatenate(features_).astype(np.float32), np.concatenate(logits_).astype(np.float32)


def train(
    dataset: Data,
    out: Path,
    *,
    kind: Kind = "residual",
    epochs: int = 30,
    seed: int = 0,
    flip: bool = False,
    say: Say | None = None,
) -> Judge:
    """Train a judge on the part `fit` of a labelled data set, measure it, and write OUT.safetensors and OUT.json.

    Stochastic gradient descent with Nesterov momentum, batches of 128, weight decay 5e-4, a learning rate that rises
    to 0.1 over a tenth of the training and falls to zero along cosines, a momentum that goes the other way between
    0.95 and 0.85; images shifted by up to a fourteenth of their side, half of them with a random rectangle erased
    (Zhong et al. 2020) and, with `flip`, half of them mirrored, which suits garments and not letters. Repeats bit for
    bit with the same seed and threads on one machine.
    """
    _try_place(out)
    fit, heldout, shape = _parts(dataset)
    for note in dict.fromkeys((*remarks(fit), *map(str, heldout.notes))):
        if say:
            say(f"warning: {note}")
    log: list[dict[str, Any]] = []

    def after_epoch(epoch: int, loss: float, network: Classifier, seconds: float) -> None:
        accuracy = _accuracy(Judge(network.eval(), shape, {}, ""), heldout)
        log.append({"epoch": epoch, "loss": loss, "heldout_accuracy": accuracy})
        if say:
            left = progress.duration(seconds / epoch * (epochs - epoch))
            say(f"epoch {epoch:3}/{epochs}  loss {loss:.4f}  accuracy on held-out images {accuracy:.2%}  {left} left")

    with progress.stage(f"learning from the {len(fit):,} images of {fit.name}, {epochs} epochs"):
        network = learn(fit, kind=kind, epochs=epochs, seed=seed, flip=flip, after_epoch=after_epoch)
    name = paths.last_part(dataset.name)
    command = ["modiste", "judge", "train", "--data", name, "--kind", kind, "--epochs", str(epochs)]
    command += ["--seed", str(seed), *(["--flip"] if flip else [])]
    command += ["--resize", str(dataset.resize), "--fit", dataset.fit] if dataset.resize else []
    command += ["--background", dataset.background] if dataset.background != Data().background else []
    command += ["--group-by", dataset.group_by] if dataset.group_by else []
    made = {
        "command": shlex.join(command),
        "seed": seed,
        "epochs": epochs,
        "threads": torch.get_num_threads(),
        "log": log,
    }
    return _keep(network, shape, kind, dataset, made, out)


def _parts(dataset: Data) -> tuple[Images, Images, Shape]:
    fit, heldout = (open_data(dataset, part=part) for part in ("fit", "heldout"))
    if fit.labels is None or len(fit.class_names) < 2:
        raise UsageError(f"{fit.name} has no labels of two classes or more, and a judge learns from labels; "
                         "give one folder per class, or labels in the .npz file")  # fmt: skip
    check_learnable(fit)
    check_varied(fit)
    return fit, heldout, Shape(fit.pixels.shape[1], fit.pixels.shape[2], len(fit.class_names))


def _try_place(out: Path) -> None:
    """An error before the training and not after it where weights and card cannot be written, or would replace what is
    no judge: its card is known by what it says, its weights by their hash, which the card has."""
    weights, card = out.with_suffix(".safetensors"), out.with_suffix(".json")
    files.check_writable(card)
    if weights.parent.absolute() == (cache_root() / "judges").absolute():
        return
    files.refuse_foreign_file(card)
    if not (weights.is_file() and files.is_named(hashlib.sha256(weights.read_bytes()).hexdigest(), card)):
        files.refuse_foreign_file(weights)


def _keep(network: Classifier, shape: Shape, kind: Kind, dataset: Data, made: dict[str, Any], out: Path) -> Judge:
    """Round the weights to float16, measure what is kept, and write weights and card."""
    from safetensors.torch import save

    network.load_state_dict(
        {k: v.half().to(v.dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    )
    tensors = {
        k: v.half().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()
    }  # batch norm's counters are of no use any more
    content = save(tensors)
    fit = open_data(dataset, part="fit")
    fingerprint = hashlib.sha256(content).hexdigest()
    card: dict[str, Any] = {
        "format": 1,
        "kind": kind,
        "shape": {"channels": shape.channels, "size": shape.size, "classes": shape.classes},
        "class_names": list(fit.class_names),
        "parameters": sum(p.numel() for p in network.parameters()),
        "features": FEATURES,
        "data": {
            "name": paths.last_part(dataset.name),
            "part": "fit",
            "count": len(fit),
            "digest": content_digest(fit),
        },
        "sha256": fingerprint,
        "training": made,
        "measured": {},
        "versions": {key: environment.describe_machine()[key] for key in ("modiste", "python", "torch", "numpy")},
    }
    judge = Judge(network.eval(), shape, card, fingerprint[:16])
    parts: list[Part] = ["heldout", "test"] if has_test(dataset) else ["heldout"]
    for part in parts:
        images = open_data(dataset, part=part)
        if images.labels is not None:
            card["measured"][part] = measure(judge, images)
    weights = out.with_suffix(".safetensors")
    with files.errors_name_place(weights):
        weights.unlink(missing_ok=True)  # of an earlier judge, which would stand beside this one's card
    files.write_json(out.with_suffix(".json"), card)
    files.write_bytes(weights, content)  # last: they make the judge
    return judge


@progress.stage("measuring the judge")
def measure(judge: Judge, images: Images) -> dict[str, Any]:
    """Accuracy in [0, 1] on labelled images over all and per class (None: no image), and the confusion matrix.

    Its rows are true classes.
    """
    assert images.labels is not None
    _, logits = judge.examine(images.pixels)
    classes = judge.shape.classes
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (images.labels, logits.argmax(1)), 1)
    right, there = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    per_class = [round(r / n, 4) if n else None for r, n in zip(right, there, strict=True)]
    return {
        "count": len(images),
        "digest": content_digest(images),
        "accuracy": float(confusion.trace() / len(images)),
        "accuracy_per_class": dict(zip(images.class_names, per_class, strict=True)),
        "confusion": confusion.tolist(),
    }


def weakness(card: Mapping[str, Any]) -> str:
    """A sentence about a judge that does little better than to name the most frequent class, else "".

    "Little" is less than a third of the way from that to never being wrong, or less than three standard errors.
    Images of one class alone tell nothing of a judge.
    """
    measured = card["measured"].get("test") or card["measured"]["heldout"]
    count, right = measured["count"], measured["accuracy"]
    common = max(map(sum, measured["confusion"])) / count
    error = (common * (1 - common) / count) ** 0.5
    if common == 1 or right - common >= max((1 - common) * WEAK_SKILL, 3 * error):
        return ""
    return (
        f"the judge of {Path(card['data']['name']).name} is right about {right:.1%} of {count:,} images new to it, and "
        f"naming the most frequent class about {common:.1%}: its features tell little; train it longer "
        "(`modiste judge train --epochs`), or on more images"
    )


SHIPPED = {"garment": "garment", "second": "garment-second"}
"""Judges in the package by the name they have in scores, and their files; both know Fashion-MNIST."""


def load(name_or_path: str | Path) -> Judge:
    """A shipped judge by name, or the one in that file; its weights must match the hash on its card."""
    if name_or_path in SHIPPED:
        folder = Path(str(resources.files("modiste"))) / "assets" / "judges"
        return _load(folder / f"{SHIPPED[str(name_or_path)]}.safetensors")
    path = Path(name_or_path)
    if path.suffix != ".safetensors" or not path.is_file():
        raise UsageError(f"{path} is no judge; give one of {', '.join(SHIPPED)}, or the .safetensors file that "
                         "`modiste judge train` wrote")  # fmt: skip
    return _load(path)


def for_data(dataset: Data, kind: Kind = "residual") -> Judge | None:
    """The judge trained on this data set's part `fit`, shipped or from the user's cache; None if there is none.

    What a judge was trained on is told by content, so a data set that moved keeps its judge.
    """
    digest = content_digest(open_data(native_data(dataset), part="fit"))
    for name in SHIPPED:
        judge = load(name)
        if judge.card["data"]["digest"] == digest and judge.card["kind"] == kind:
            return judge
    path = cache_path(digest, kind)
    if not path.is_file():
        return None
    judge = _load(path)
    if judge.card["data"]["digest"] != digest or judge.card["kind"] != kind:
        raise ModisteError(f"the judge {path} was trained on other images than its name says; train it again")
    return judge


def cache_path(digest: str, kind: Kind) -> Path:
    """Where a judge for images of that digest is kept in the user's cache."""
    return cache_root() / "judges" / f"{digest[:16]}-{kind}.safetensors"


def _load(path: Path) -> Judge:
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    try:
        content = path.read_bytes()
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        shape, kind = Shape(**card["shape"]), card["kind"]
        fingerprint = hashlib.sha256(content).hexdigest()
        if fingerprint != card["sha256"]:
            raise ModisteError(f"{path} does not have the hash that its card names; train the judge again")
        network = Classifier(kind, shape.channels, shape.classes)
        state = {name: tensor.float() for name, tensor in tensors_of(content).items()}
        counters = {k: v for k, v in network.state_dict().items() if not v.is_floating_point()}
        network.load_state_dict(state | counters)
    except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError, RuntimeError) as error:
        raise ModisteError(f"cannot load the judge {path}: {error}; train it again") from None
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Judge(network.eval(), shape, card, fingerprint[:16])


def accuracy(network: Classifier, images: Images) -> float:
    """The share of labelled images that this classifier gets right, in [0, 1]."""
    shape = Shape(images.pixels.shape[1], images.pixels.shape[2], len(images.class_names))
    return _accuracy(Judge(network.eval(), shape, {}, ""), images)


def _accuracy(judge: Judge, images: Images) -> float:
    _, logits = judge.examine(images.pixels)
    return float((logits.argmax(1) == images.labels).mean())
