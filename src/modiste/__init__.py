"""Modiste trains, judges and compares GANs on small images.

>>> import modiste
>>> run = modiste.train("swift", out="runs/toy", overrides={"data.name": "toy"})  # doctest: +SKIP
>>> images = modiste.load("runs/toy").sample(16, label="sneaker")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modiste.config import Recipe
    from modiste.environment import __version__
    from modiste.errors import ModisteError
    from modiste.evaluation.evaluate import evaluate
    from modiste.experiments.augmentation.augment import augment
    from modiste.experiments.search.search import search
    from modiste.experiments.studies import study
    from modiste.exports.model import export, export_pretrained
    from modiste.metrics.judge import train as train_judge
    from modiste.parts import trust
    from modiste.reports.report import report
    from modiste.sampling.generators import TrainedGenerator, load
    from modiste.training.trainer import train

_HOMES = {
    "ModisteError": ("modiste.errors", "ModisteError"),
    "Recipe": ("modiste.config", "Recipe"),
    "TrainedGenerator": ("modiste.sampling.generators", "TrainedGenerator"),
    "__version__": ("modiste.environment", "__version__"),
    "augment": ("modiste.experiments.augmentation.augment", "augment"),
    "evaluate": ("modiste.evaluation.evaluate", "evaluate"),
    "export": ("modiste.exports.model", "export"),
    "export_pretrained": ("modiste.exports.model", "export_pretrained"),
    "load": ("modiste.sampling.generators", "load"),
    "report": ("modiste.reports.report", "report"),
    "search": ("modiste.experiments.search.search", "search"),
    "study": ("modiste.experiments.studies", "study"),
    "train": ("modiste.training.trainer", "train"),
    "train_judge": ("modiste.metrics.judge", "train"),
    "trust": ("modiste.parts", "trust"),
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
    "report",
    "search",
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
