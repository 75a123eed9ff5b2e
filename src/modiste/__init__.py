"""Modiste trains, judges and compares GANs on small images.

>>> import modiste
>>> run = modiste.train("swift", out="runs/toy", overrides={"data.name": "toy"})  # doctest: +SKIP
>>> images = modiste.load("runs/toy").sample(16, label="sneaker")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"


if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.errors import ModisteError
    from modiste.evaluation.evaluate import evaluate
    from modiste.experiments.augmentation.augment import augment
    from modiste.experiments.studies import study
    from modiste.exports.model import export, export_pretrained
    from modiste.sampling.generators import TrainedGenerator, load
    from modiste.training.trainer import train

_HOMES = {
    "ModisteError": "modiste.errors",
    "Recipe": "modiste.config",
    "TrainedGenerator": "modiste.sampling.generators",
    "augment": "modiste.experiments.augmentation.augment",
    "evaluate": "modiste.evaluation.evaluate",
    "export": "modiste.exports.model",
    "export_pretrained": "modiste.exports.model",
    "load": "modiste.sampling.generators",
    "study": "modiste.experiments.studies",
    "train": "modiste.training.trainer",
}

__all__ = [
    "ModisteError",
    "Recipe",
    "TrainedGenerator",
    "__version__",
    "augment",
    "evaluate",
    "export",
    "export_pretrained",
    "load",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import modiste` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'modiste' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
