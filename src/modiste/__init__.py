"""Modiste trains, judges and compares GANs on small images.

>>> import modiste
>>> run = modiste.train("swift", out="runs/toy", data="toy", budget="1min")  # doctest: +SKIP
>>> images = modiste.load("runs/toy").sample(16, label="sneaker")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.environment import __version__
    from modiste.errors import Interrupted, ModisteError
    from modiste.experiments.augmentation.augment import augment
    from modiste.experiments.search.search import search
    from modiste.exports.model import export, export_pretrained
    from modiste.metrics.judge import train as train_judge
    from modiste.notebooks.functions import (
        detect,
        evaluate,
        load,
        project,
        recipes,
        report,
        sample,
        show,
        study,
        train,
    )
    from modiste.parts import trust
    from modiste.sampling.generators import TrainedGenerator

_FUNCTIONS = "modiste.notebooks.functions"
_HOMES = {
    "Interrupted": ("modiste.errors", "Interrupted"),
    "ModisteError": ("modiste.errors", "ModisteError"),
    "Recipe": ("modiste.config", "Recipe"),
    "TrainedGenerator": ("modiste.sampling.generators", "TrainedGenerator"),
    "__version__": ("modiste.environment", "__version__"),
    "augment": ("modiste.experiments.augmentation.augment", "augment"),
    "detect": (_FUNCTIONS, "detect"),
    "evaluate": (_FUNCTIONS, "evaluate"),
    "export": ("modiste.exports.model", "export"),
    "export_pretrained": ("modiste.exports.model", "export_pretrained"),
    "load": (_FUNCTIONS, "load"),
    "project": (_FUNCTIONS, "project"),
    "recipes": (_FUNCTIONS, "recipes"),
    "report": (_FUNCTIONS, "report"),
    "sample": (_FUNCTIONS, "sample"),
    "search": ("modiste.experiments.search.search", "search"),
    "show": (_FUNCTIONS, "show"),
    "study": (_FUNCTIONS, "study"),
    "train": (_FUNCTIONS, "train"),
    "train_judge": ("modiste.metrics.judge", "train"),
    "trust": ("modiste.parts", "trust"),
}

__all__ = [
    "Interrupted",
    "ModisteError",
    "Recipe",
    "TrainedGenerator",
    "__version__",
    "augment",
    "detect",
    "evaluate",
    "export",
    "export_pretrained",
    "load",
    "project",
    "recipes",
    "report",
    "sample",
    "search",
    "show",
    "study",
    "train",
    "train_judge",
    "trust",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import modiste` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'modiste' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
