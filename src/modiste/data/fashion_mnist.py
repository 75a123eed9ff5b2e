"""Where Fashion-MNIST comes from, and MNIST and KMNIST, which are published in the same form."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from modiste.data import readers, toy
from modiste.data.images import Images
from modiste.data.readers import Split
from modiste.errors import ModisteError


@dataclass(frozen=True)
class Published:
    """A data set with official files: classes, addresses, and the MD5 of each decompressed file if known."""

    name: str
    class_names: tuple[str, ...]
    addresses: tuple[str, ...]
    md5: dict[str, str] = field(default_factory=dict)
    debian_package: str | None = None


FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
FASHION_MNIST = Published(
    name="fashion-mnist",
    class_names=toy.CLASS_NAMES,
    addresses=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    md5={
        "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    debian_package="dataset-fashion-mnist",
)
MNIST = Published(
    name="mnist",
    class_names=tuple("0123456789"),
    addresses=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
)
KMNIST = Published(
    name="kmnist",
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    addresses=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
)
PUBLISHED = {dataset.name: dataset for dataset in (FASHION_MNIST, MNIST, KMNIST)}


def open_published(dataset: Published, split: Split, progress: bool = True) -> Images:
    """One split of a published data set from the first place that has it whole, verified where possible."""
    reasons: list[str] = []
    for place, folder in _folders(dataset):
        try:
            return _read(dataset, folder, split)
        except ModisteError as error:
            reasons.append(f"{place}: {error}")
    raise ModisteError("; ".join(reasons))


def _folders(dataset: Published) -> Iterator[tuple[str, Path]]:
    given = os.environ.get("MODISTE_DATA")
    if given:
        yield "MODISTE_DATA", Path(given) / dataset.name
        if dataset.md5:  # only what can be verified is taken from a folder that does not name it
            yield "MODISTE_DATA", Path(given)
    yield "cache", cache_folder(dataset)
    yield "system", Path("/usr/share/datasets") / dataset.name


def cache_folder(dataset: Published) -> Path:
    """The folder in which a downloaded data set is kept; MODISTE_CACHE moves it."""
    root = os.environ.get("MODISTE_CACHE") or platformdirs.user_cache_dir("modiste")
    return Path(root) / dataset.name


def _read(dataset: Published, folder: Path, split: Split) -> Images:
    arrays = []
    for name, dimensions in zip(FILES[split], (3, 1), strict=True):
        path = folder / name
        if not path.exists():
            path = path.with_suffix("")
        if not path.exists():
            raise ModisteError(f"{folder / name} does not exist")
        arrays.append(readers.parse_idx(verified(dataset, name, path), path, dimensions))
    return readers.labelled(arrays[0][:, None], arrays[1], dataset.class_names, dataset.name)


def verified(dataset: Published, name: str, path: Path) -> bytes:
    """The decompressed content of a file, which is what was published; another one is an error."""
    content = readers.payload(path)
    wanted = dataset.md5.get(name)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if wanted and found != wanted:
        raise ModisteError(f"{path} is not the published file: its content has md5 {found}, not {wanted}")
    return content
