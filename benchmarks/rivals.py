"""torchmetrics, torch-fidelity and prdc on ready features, imported where torchvision is missing, too."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

STAND_INS = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")


@contextmanager
def torchvision_or_stand_in() -> Iterator[None]:
    """A place where torchvision can be imported: the real one, or else empty modules that vanish at the end.

    torch-fidelity imports it for image transforms, which metrics of ready features never touch; it must match torch's
    build, so that not every environment can have it.
    """
    names = STAND_INS if importlib.util.find_spec("torchvision") is None else ()
    for name in names:
        module = sys.modules[name] = ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    if names:
        for dataset in ("CIFAR10", "CIFAR100", "STL10"):
            setattr(sys.modules["torchvision.datasets"], dataset, type(dataset, (), {}))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


class Through(torch.nn.Module):
    """Passes features on: the feature network of a rival."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with torchvision_or_stand_in():
        from torch_fidelity import metric_fid as fidelity_fid
        from torch_fidelity import metric_isc as fidelity_isc
        from torch_fidelity import metric_kid as fidelity_kid
        from torch_fidelity import metric_prc as fidelity_prc
    from prdc import compute_prdc
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

__all__ = [
    "FrechetInceptionDistance",
    "InceptionScore",
    "KernelInceptionDistance",
    "Through",
    "compute_prdc",
    "fidelity_fid",
    "fidelity_isc",
    "fidelity_kid",
    "fidelity_prc",
    "torchvision_or_stand_in",
]
