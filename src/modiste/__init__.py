"""Modiste trains, judges and compares GANs on small images.

>>> import modiste
>>> run = modiste.train("swift", out="runs/toy", overrides={"data.name": "toy"})  # doctest: +SKIP
>>> images = modiste.load("runs/toy").sample(16, label="sneaker")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from modiste.augmentation import augment
    from modiste.config import Recipe
    from modiste.errors import ModisteError
    from modiste.evaluation import evaluate
    from modiste.exports import export, export_pretrained
    from modiste.sample import TrainedGenerator, load
    from modiste.studies import study
    from modiste.trainer import train

_HOMES = {
    "ModisteError": "modiste.errors",
    "Recipe": "modiste.config",
    "TrainedGenerator": "modiste.sample",
    "augment": "modiste.augmentation",
    "evaluate": "modiste.evaluation",
    "export": "modiste.exports",
    "export_pretrained": "modiste.exports",
    "load": "modiste.sample",
    "study": "modiste.studies",
    "train": "modiste.trainer",
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
