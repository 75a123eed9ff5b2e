"""Fashion-MNIST, and MNIST and KMNIST, which are published in the same form: where they are found or fetched.

The places are tried in this order: MODISTE_DATA, the user's cache, the system's folder, the official addresses, and
the distribution's package, which needs no root here. Wherever a file comes from, it is used only if its content is that
which was published.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import filelock
import numpy as np

from modiste import progress
from modiste.cache import cache_root
from modiste.data import idx, toy
from modiste.data.download import download, from_debian
from modiste.data.images import Images, Split
from modiste.errors import ModisteError


@dataclass(frozen=True)
class Published:
    """A data set with official files: classes, addresses, and the MD5 of each decompressed file if known."""

    name: str
    class_names: tuple[str, ...]
    addresses: tuple[str, ...]
    md5: dict[str, str] = field(default_factory=dict)
    system_folder: Path | None = None
    debian_package: str | None = None


COUNTS: dict[Split, int] = {"train": 60_000, "test": 10_000}
FILES: dict[Split, tuple[str, str]] = {  # images, labels
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
    system_folder=Path("/usr/share/datasets/fashion-mnist"),
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


def open_published(dataset: Published, split: Split, show_progress: bool = True) -> Images:
    """One split of a published data set from the first place that has it whole, verified where possible."""
    reasons = [] if os.environ.get("MODISTE_DATA") else ["MODISTE_DATA: not set"]
    for place, folder in _folders(dataset):
        try:
            return _read(dataset, folder, split)
        except ModisteError as error:
            reasons.append(f"{place}: {error}")
    try:
        images = _fetch(dataset, split, show_progress, reasons)
        if images is not None:
            return images
    except OSError as error:
        reasons.append(f"cache: cannot write {error.filename or cache_folder(dataset)} ({error.strerror or error})")
    places = "".join(f"\n  {reason}" for reason in reasons)
    files = ", ".join(name for pair in FILES.values() for name in pair)
    raise ModisteError(
        f"{dataset.name} is in none of the places tried:{places}\n"
        f"Put {files} into a folder and name that in its place, or in MODISTE_DATA."
    )


def is_at_hand(dataset: Published) -> bool:
    """Whether a folder of this machine has the files of the data set, as far as their names tell."""
    return any(
        all((folder / name).exists() or (folder / name).with_suffix("").exists() for name in FILES["train"])
        for _, folder in _folders(dataset)
    )


def cache_folder(dataset: Published) -> Path:
    """The folder in which a downloaded data set is kept; MODISTE_CACHE moves it."""
    return cache_root() / dataset.name


def recognise(images: Images) -> Images:
    """The images, under Fashion-MNIST's name and class names if they are one of its splits, byte for byte."""
    if images.labels is None or images.pixels.shape[1:] != (1, 28, 28) or images.labels.max() > 9:
        return images
    if len(images) not in COUNTS.values():
        return images
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (len(images), 28, 28))
    pixels = _md5(header + images.pixels.tobytes())
    labels = _md5(bytes([0, 0, 8, 1]) + len(images).to_bytes(4, "big") + images.labels.astype(np.uint8).tobytes())
    for names in FILES.values():
        if [pixels, labels] == [FASHION_MNIST.md5[name] for name in names]:
            return replace(images, name=FASHION_MNIST.name, class_names=FASHION_MNIST.class_names, is_shuffled=True)
    return images


def _folders(dataset: Published) -> Iterator[tuple[str, Path]]:
    if folder := os.environ.get("MODISTE_DATA"):
        yield "MODISTE_DATA", Path(folder).expanduser() / dataset.name
        if dataset.md5:  # a folder without the set's name is used only for what can be verified
            yield "MODISTE_DATA", Path(folder).expanduser()
    yield "cache", cache_folder(dataset)
    if dataset.system_folder:
        yield "system", dataset.system_folder


def _read(dataset: Published, folder: Path, split: Split) -> Images:
    arrays = []
    for name, dimensions in zip(FILES[split], (3, 1), strict=True):
        path = next((path for path in (folder / name, (folder / name).with_suffix("")) if path.exists()), None)
        if path is None:
            raise ModisteError(f"{folder / name} does not exist")
        arrays.append(idx.parse_idx(_verified(dataset, name, path), path, dimensions))
    return Images(arrays[0][:, None], arrays[1].astype(np.int64), dataset.class_names, dataset.name, is_shuffled=True)


def _verified(dataset: Published, name: str, path: Path) -> bytes:
    """The decompressed content of a file; ModisteError unless it is what was published under that name."""
    content = idx.read_decompressed(path)
    expected, actual = dataset.md5.get(name), _md5(content)
    if expected and actual != expected:
        raise ModisteError(f"{path} is not the published file: its content has md5 {actual}, not {expected}")
    if not expected:
        split: Split = "train" if name in FILES["train"] else "test"
        count = len(idx.parse_idx(content, path, dimensions=3 if "images" in name else 1))
        if count != COUNTS[split]:
            raise ModisteError(f"{path} holds {count:,} items, not the {COUNTS[split]:,} that were published")
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _fetch(dataset: Published, split: Split, show_progress: bool, reasons: list[str]) -> Images | None:
    """The split from the cache, which one process at a time fills; None, with `reasons` added, where that fails."""
    folder = cache_folder(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    names = FILES["train"] + FILES["test"]

    def verify(name: str, path: Path) -> None:
        _verified(dataset, name, path)

    def from_address(address: str) -> None:
        for name in names:
            download(address + name, folder / name, verify, show_progress)
        if show_progress and not dataset.md5:
            progress.log_plain(f"{dataset.name}: no checksums are known here; only format and counts were checked")

    def from_package(package: str) -> None:
        if show_progress:
            progress.log_plain(f"fetching the package {package} (31 MB)")
        from_debian(package, names, folder, verify)

    sources = [(address, partial(from_address, address)) for address in dataset.addresses]
    if dataset.debian_package:
        sources.append((f"package {dataset.debian_package}", partial(from_package, dataset.debian_package)))
    with filelock.FileLock(folder.with_name(f"{dataset.name}.lock")):
        with contextlib.suppress(ModisteError):  # another process may have filled it in the meantime
            return _read(dataset, folder, split)
        for place, fill in sources:
            try:
                fill()
                return _read(dataset, folder, split)
            except ModisteError as error:
                reasons.append(f"{place}: {error}")
    return None
