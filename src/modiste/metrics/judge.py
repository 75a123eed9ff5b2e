"""The judge: a reference classifier, trained on real images, in whose features generated images are measured.

Two kinds of network are trained alike: `residual` (He et al. 2016, basic blocks) is the judge; `plain`, without
shortcuts and with max pooling, gives a second opinion that no recipe is selected on. Both learn from the part `fit` of
a data set only, so that held-out and test images are new to them. Weights are stored in float16 and used in float32,
and every number on a judge's card was measured with the stored weights.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from modiste import environment, files, paths, progress
from modiste.cache import cache_root
from modiste.config import Data
from modiste.data.classes import check_learnable
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part, check_varied, has_test, list_warnings, native_data, open_data
from modiste.errors import ModisteError, UsageError, first_line
from modiste.metrics import classifier_training
from modiste.networks.classifier import FEATURES, Classifier
from modiste.networks.layers import ImageShape
from modiste.wording import counted

WEAK_SKILL = 1 / 3  # of the way from naming the most frequent class to never being wrong
SHIPPED = {"garment": "garment", "second": "garment-second"}
"""Judges in the package by the name they have in scores, and their files; both know Fashion-MNIST."""

Kind = Literal["residual", "plain"]
Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainingData:
    """The images that a judge learned from."""

    name: str
    part: str
    count: int
    digest: str


@dataclass(frozen=True)
class JudgeAccuracy:
    """How well a judge classifies the images of one part of a data set."""

    count: int
    digest: str
    accuracy: float
    """The share of right answers, 0 to 1."""
    accuracy_per_class: dict[str, float | None]
    """By class name; None without images of the class."""
    confusion: list[list[int]]
    """Counts of images; rows are true classes, columns predicted ones."""


@dataclass(frozen=True)
class JudgeCard:
    """What is known of a judge, as stored in JSON beside its weights."""

    kind: Kind
    shape: ImageShape
    class_names: tuple[str, ...]
    parameters: int
    features: int
    data: TrainingData
    sha256: str
    """The hash of the weights' file."""
    training: dict[str, Any]
    """`command`, `seed`, `epochs`, `threads`, and the `log` with one entry per epoch."""
    measured: dict[str, JudgeAccuracy]
    """By part: `heldout`, and `test` where the data set has one."""
    versions: dict[str, str]

    @property
    def tested(self) -> JudgeAccuracy:
        """The measurement on test images, or else on held-out ones."""
        return self.measured.get("test") or self.measured["heldout"]

    def to_json(self) -> dict[str, Any]:
        """The card as plain values."""
        return {"format": 1, **asdict(self), "class_names": list(self.class_names)}

    @staticmethod
    def from_json(tree: Mapping[str, Any]) -> JudgeCard:
        """The card that `to_json` wrote; KeyError or TypeError for anything else."""
        return JudgeCard(
            tree["kind"],
            ImageShape(**tree["shape"]),
            tuple(tree["class_names"]),
            tree["parameters"],
            tree["features"],
            TrainingData(**tree["data"]),
            tree["sha256"],
            tree["training"],
            {part: JudgeAccuracy(**measured) for part, measured in tree["measured"].items()},
            tree["versions"],
        )


@dataclass(frozen=True)
class Judge:
    """A trained classifier in eval mode, and its card."""

    network: Classifier
    card: JudgeCard

    @property
    def shape(self) -> ImageShape:
        """Channels, side and number of classes of the images it knows."""
        return self.card.shape

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the weights' hash."""
        return self.card.sha256[:16]

    def examine(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features [N, 128] and logits [N, classes], float32, of pixels uint8 [N, C, size, size]."""
        return classifier_training.classify(self.network, pixels)


def train(
    dataset: Data,
    out: Path,
    *,
    kind: Kind = "residual",
    epochs: int = 30,
    seed: int = 0,
    flip: bool = False,
    log: Log | None = None,
) -> Judge:
    """Train a judge on the part `fit` of a labelled data set, measure it, and write OUT.safetensors and OUT.json.

    Images are shifted by up to a fourteenth of their side, half of them have a random rectangle erased (Zhong et al.
    2020) and, with `flip`, half of them are mirrored, which suits garments and not letters; `train_classifier` has the
    rest. Repeats bit for bit with the same seed and threads on one machine.
    """
    fit, heldout = _training_parts(dataset)
    _check_destination(out)
    for note in dict.fromkeys((*list_warnings(fit), *map(str, heldout.notes))):
        if log:
            log(f"warning: {note}")
    history: list[dict[str, Any]] = []

    def after_epoch(epoch: int, loss: float, network: Classifier, seconds: float) -> None:
        accuracy = classifier_training.accuracy(network, heldout)
        history.append({"epoch": epoch, "loss": loss, "heldout_accuracy": accuracy})
        if log:
            left = progress.duration(seconds / epoch * (epochs - epoch))
            log(f"epoch {epoch:3}/{epochs}  loss {loss:.4f}  accuracy on held-out images {accuracy:.2%}  {left} left")

    with progress.stage(f"learning from the {counted(len(fit))} of {fit.name}, {counted(epochs, 'epoch')}"):
        network = classifier_training.train_classifier(
            fit, kind=kind, epochs=epochs, seed=seed, flip=flip, after_epoch=after_epoch
        )
    name = paths.last_part(dataset.name)
    command = ["modiste", "judge", "train", "--data", name, "--kind", kind, "--epochs", str(epochs)]
    command += ["--seed", str(seed), *(["--flip"] if flip else [])]
    command += ["--resize", str(dataset.resize), "--fit", dataset.fit] if dataset.resize else []
    command += ["--background", dataset.background] if dataset.background != Data().background else []
    command += ["--group-by", dataset.group_by] if dataset.group_by else []
    training = {
        "command": shlex.join(command),
        "seed": seed,
        "epochs": epochs,
        "threads": torch.get_num_threads(),
        "log": history,
    }
    return _store(network, kind, dataset, fit, training, out)


def _training_parts(dataset: Data) -> tuple[Images, Images]:
    """The labelled images to learn from, and the held-out ones."""
    fit, heldout = (open_data(dataset, part=part) for part in ("fit", "heldout"))
    if fit.labels is None or len(fit.class_names) < 2:
        raise UsageError(f"{fit.name} has no labels of two classes or more, and a judge learns from labels; "
                         "give one folder per class, or labels in the .npz file")  # fmt: skip
    check_learnable(fit)
    check_varied(fit)
    return fit, heldout


def _check_destination(out: Path) -> None:
    """Raise an error, before the training, where weights or card cannot be written or would replace another file.

    A judge's card is known by its content, its weights by their hash, which the card has.
    """
    weights, card = out.with_suffix(".safetensors"), out.with_suffix(".json")
    files.check_writable(card)
    if weights.parent.absolute() == (cache_root() / "judges").absolute():
        return
    files.refuse_foreign_file(card)
    if not (weights.is_file() and files.is_named(hashlib.sha256(weights.read_bytes()).hexdigest(), card)):
        files.refuse_foreign_file(weights)


def _store(network: Classifier, kind: Kind, dataset: Data, fit: Images, training: dict[str, Any], out: Path) -> Judge:
    """Round the weights to float16, measure the rounded network, and write weights and card."""
    from safetensors.torch import save

    network.load_state_dict(
        {k: v.half().to(v.dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    )
    tensors = {
        k: v.half().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()
    }  # the counters of batch normalisation are not needed any more
    content = save(tensors)
    parts: list[Part] = ["heldout", "test"] if has_test(dataset) else ["heldout"]
    opened = {part: open_data(dataset, part=part) for part in parts}
    card = JudgeCard(
        kind=kind,
        shape=ImageShape(fit.pixels.shape[1], fit.pixels.shape[2], len(fit.class_names)),
        class_names=fit.class_names,
        parameters=sum(p.numel() for p in network.parameters()),
        features=FEATURES,
        data=TrainingData(paths.last_part(dataset.name), "fit", len(fit), content_digest(fit)),
        sha256=hashlib.sha256(content).hexdigest(),
        training=training,
        measured={part: measure(network, images) for part, images in opened.items() if images.labels is not None},
        versions={key: environment.describe_machine()[key] for key in ("modiste", "python", "torch", "numpy")},
    )
    weights = out.with_suffix(".safetensors")
    with files.errors_name_place(weights):
        weights.unlink(missing_ok=True)  # of an earlier judge, which would stand beside this one's card
    files.write_json(out.with_suffix(".json"), card.to_json())
    files.write_bytes(weights, content)  # last: without weights there is no judge
    return Judge(network, card)


@progress.stage("measuring the judge")
def measure(network: Classifier, images: Images) -> JudgeAccuracy:
    """The accuracy of a classifier in eval mode on labelled images."""
    confusion = classifier_training.confusion_matrix(network, images)
    correct, counts = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    per_class = [round(k / n, 4) if n else None for k, n in zip(correct, counts, strict=True)]
    return JudgeAccuracy(
        count=len(images),
        digest=content_digest(images),
        accuracy=float(confusion.trace() / len(images)),
        accuracy_per_class=dict(zip(images.class_names, per_class, strict=True)),
        confusion=confusion.tolist(),
    )


def weakness(card: JudgeCard) -> str:
    """A warning about a judge that does little better than to name the most frequent class, or "".

    "Little" is less than a third of the way from that to never being wrong, or less than three standard errors.
    Images of a single class say nothing of a judge.
    """
    tested = card.tested
    common = max(map(sum, tested.confusion)) / tested.count
    error = (common * (1 - common) / tested.count) ** 0.5
    if common == 1 or tested.accuracy - common >= max((1 - common) * WEAK_SKILL, 3 * error):
        return ""
    return (
        f"the judge of {Path(card.data.name).name} is right about {tested.accuracy:.1%} of {counted(tested.count)} new "
        f"to it, and naming the most frequent class about {common:.1%}: its features tell little; train it longer "
        "(`modiste judge train --epochs`), or on more images"
    )


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

    It knows all classes, also where data.classes chooses some. It is found by the images' content, so a data set that
    moved keeps its judge.
    """
    uncut = native_data(dataset).model_copy(update={"classes": ()})
    digest = content_digest(open_data(uncut, part="fit"))

    def fits(judge: Judge) -> bool:
        return (judge.card.data.digest, judge.card.kind) == (digest, kind)

    for name in SHIPPED:
        if fits(judge := load(name)):
            return judge
    path = cache_path(digest, kind)
    if not path.is_file():
        return None
    if not fits(judge := _load(path)):
        raise ModisteError(f"the judge {path} was trained on other images than its name says; train it again")
    return judge


def cache_path(digest: str, kind: Kind) -> Path:
    """The place in the user's cache of a judge for images of that digest."""
    return cache_root() / "judges" / f"{digest[:16]}-{kind}.safetensors"


def _read_card(path: Path) -> JudgeCard:
    """The card in that file, with a measurement; ModisteError for any other file."""
    try:
        card = JudgeCard.from_json(json.loads(path.read_text(encoding="utf-8")))
        if card.kind not in get_args(Kind):
            raise ValueError
        float(card.tested.accuracy), float(card.tested.count)
    except FileNotFoundError:
        raise ModisteError(f"{path}, the card of a judge, is missing; put it back, or train the judge again") from None
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        raise ModisteError(
            f"{path} is damaged, or no card of a judge; give the files that `modiste judge train` wrote, or train it "
            "again"
        ) from None
    return card


def _load(path: Path) -> Judge:
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    try:
        content, card = path.read_bytes(), _read_card(path.with_suffix(".json"))
        if hashlib.sha256(content).hexdigest() != card.sha256:
            raise ModisteError(f"{path} does not have the hash that its card names; train the judge again")
        network = Classifier(card.kind, card.shape.channels, card.shape.classes)
        state = {name: tensor.float() for name, tensor in tensors_of(content).items()}
        counters = {k: v for k, v in network.state_dict().items() if not v.is_floating_point()}
        network.load_state_dict(state | counters)
    except (OSError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModisteError(f"cannot load the judge {path}: {first_line(error)}; train it again") from None
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Judge(network.eval(), card)
