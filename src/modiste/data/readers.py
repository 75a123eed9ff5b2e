"""Images from a path: an .npz, .npy or Parquet file, a folder of IDX files, pictures, arrays or Parquet files.

The splits of a set are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from modiste.config import Data
from modiste.data import folders, idx, npz, parquet, stored
from modiste.data.classes import NoReference, without_images
from modiste.data.images import RESIZE, Images, Note, Split, mean_and_deviation
from modiste.errors import ModisteError

FAR_APART = 0.25
"""Mean brightness (0 black, 1 white) of two splits that differs by more is noted: one may be inverted."""


def expanded(path: str | Path) -> Path:
    """The path with ~ expanded to the home folder; unchanged where ~ stands for no user, as in a file's name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_path(path: Path, split: Split, data: Data | None = None) -> Images:
    """The images of one split of a folder (IDX, picture, array or Parquet files), a .npz, .npy or .parquet file.

    `data` says how pictures are brought to one square size; without data.resize they must have it.
    """
    data = data or Data()
    if not path.exists():
        raise ModisteError(
            f"{path} does not exist; check the path, or where a run's images moved, say with --data where they are"
        )
    if npz.is_arrays(path):
        return npz.read_arrays(path, split)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return parquet.read_parquet(path, split, data)
    if not path.is_dir():
        remedy = f"give its folder, {path.parent}" if idx.IDX_LIKE.search(path.name) else "give one of these"
        raise ModisteError(f"{path} is neither a folder nor a .npz, .npy or .parquet file; {remedy}")
    if idx.is_idx_folder(path):
        return idx.read_idx_folder(path, split)
    if parquet.files(path):
        return parquet.read_parquet(path, split, data)
    return folders.read_folder(path, split, data)


def has_test_split(path: Path) -> bool:
    """Whether the folder or file brings its own test images."""
    if npz.is_arrays(path):
        with npz.open_arrays(path) as archive:
            return bool(npz.matching_names(archive.files, "images", "test"))
    if idx.is_idx_folder(path):
        return idx.idx_file(path, "test", "images") is not None
    if parquet.files(path):
        return bool(parquet.files(path, "test"))
    return folders.has_test_images(path)


# training and test images of one set compared


@dataclass(frozen=True)
class SplitFacts:
    """What the images of one split have in common, as far as both splits must agree."""

    channels: int
    size: tuple[int, int]
    """Height and width in pixels."""
    labelled: bool
    missing: tuple[str, ...]
    """Classes of the set without an image here."""
    brightness: float
    """The mean, from 0 (black) to 1 (white)."""


@dataclass(frozen=True)
class Unlabelled(Note):
    """A split without labels where the other has some."""

    place: str
    split: Split

    def __str__(self) -> str:
        other = "training" if self.split == "test" else "test"
        own = "training" if self.split == "train" else "test"
        return f"{self.place}: the {own} images have no labels, and the {other} images have some"


@dataclass(frozen=True)
class OtherBrightness(Note):
    """Training and test images of which one seems to be inverted, or in another range."""

    place: str
    train: float
    test: float

    def __str__(self) -> str:
        return (
            f"{self.place}: the mean brightness is {self.train:.2f} in training and {self.test:.2f} in test images "
            "(0 is black, 1 white), as if one of them were inverted or in another range"
        )


def read_split(path: Path, split: Split, data: Data) -> Images:
    """One split of a folder or file (see `read_path`), with notes on how it differs from the other.

    ModisteError where training and test images cannot be compared: of another size (which `data.resize` mends), grey
    and in colour, or of classes that have no training image.
    """
    images = read_path(path, split, data)
    if not has_test_split(path):
        return images
    files = stored.state_of(path)
    settings = data.model_copy(update={"split": "train", "count": None})
    _known[files, settings, split] = _split_facts(images)
    other: Split = "test" if split == "train" else "train"
    if (files, settings, other) not in _known:
        _known[files, settings, other] = _split_facts(read_path(path, other, data))
    train, test = (_known[files, settings, part] for part in ("train", "test"))
    return replace(images, notes=(*images.notes, *compare(train, test, images.name, data.resize)))


_known: dict[tuple[str, Data, Split], SplitFacts] = {}
"""By the state of the files and the settings, so that the other split is read only once."""


def _split_facts(images: Images) -> SplitFacts:
    _, channels, height, width = images.pixels.shape
    missing = without_images(images.labels, images.class_names)
    brightness = mean_and_deviation(images)[0]
    return SplitFacts(channels, (height, width), images.labels is not None, missing, brightness)


def compare(train: SplitFacts, test: SplitFacts, place: str, resize: int | None = None) -> tuple[Note, ...]:
    """Notes on how test images differ from training images; ModisteError where they cannot be compared."""
    if train.channels != test.channels:
        one, other = ("grey", "in colour") if train.channels == 1 else ("in colour", "grey")
        raise ModisteError(
            f"{place}: the training images are {one} and the test images {other}, so they cannot be compared; "
            "convert them to one of these"
        )
    if train.size != test.size and resize is None:
        sizes = " and the test images ".join(f"{width} x {height}" for height, width in (train.size, test.size))
        raise ModisteError(
            f"{place}: the training images are {sizes} pixels, so they cannot be compared; bring them to one size, "
            f"before or with {RESIZE}"
        )
    notes: list[Note] = []
    if train.labelled and test.missing:
        notes.append(NoReference(place, "test", test.missing))
    if train.labelled != test.labelled:
        notes.append(Unlabelled(place, "test" if train.labelled else "train"))
    if abs(train.brightness - test.brightness) > FAR_APART:
        notes.append(OtherBrightness(place, round(train.brightness, 4), round(test.brightness, 4)))
    return tuple(notes)
