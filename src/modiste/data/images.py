"""A set of images with labels, the only two pixel conversions, and the order in which training sees a set."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from modiste.data.proportions import class_counts, is_skewed
from modiste.errors import ModisteError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]  # [N, C, H, W]
Labels = NDArray[np.int64]  # [N]

DATA_ORDER = 0x0D47A  # keeps this use of (seed, epoch) apart from all other random streams


@dataclass(frozen=True)
class Note:
    """Something in a set that is otherwise than its user may think; `str` says it in a sentence."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images uint8 [N, C, H, W] with labels int64 [N] (none if unlabelled) and the names of the classes."""

    pixels: Pixels
    labels: Labels | None
    class_names: tuple[str, ...]
    name: str
    notes: tuple[Note, ...] = ()
    """What the user must be told of how the set was read."""
    prints: tuple[bytes, ...] | None = None
    """Fingerprints [N] of pictures that were scaled when they were read; of what they were before."""
    groups: tuple[str, ...] | None = None
    """What each image belongs to, where images of one group must not be parted. Like `prints`, of whole sets only."""
    mixed: bool = False
    """Whether the order is known to say nothing, as in published sets; that of files may be their age or kind."""

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise ModisteError(
                f"{self.name}: pixels are {pixels.dtype} {list(pixels.shape)}, not uint8 [N, C, H, W]; "
                "save them as whole numbers from 0 to 255"
            )
        if pixels.size == 0:
            raise ModisteError(f"{self.name} holds no images ({list(pixels.shape)}); check the file or folder")
        if pixels.shape[1] not in (1, 3):
            raise ModisteError(f"{self.name}: images have {pixels.shape[1]} channels; convert them to grey or RGB")
        if labels is None:
            if self.class_names:
                raise ModisteError(f"{self.name} names {len(self.class_names)} classes but has no labels; add them")
            return
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise ModisteError(f"{self.name}: labels are {labels.dtype} {list(labels.shape)}; int64 [N] is needed")
        if len(labels) != len(pixels):
            raise ModisteError(
                f"{self.name}: {len(pixels):,} images but {len(labels):,} labels; take both from the same release"
            )
        lowest, highest, classes = int(labels.min()), int(labels.max()), len(self.class_names)
        if lowest < 0 or highest >= classes:
            raise ModisteError(
                f"{self.name}: label {lowest if lowest < 0 else highest} is out of range for "
                f"{classes} classes; number the classes from 0 to {classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, indices: slice | NDArray[Any], name: str | None = None) -> Images:
        """The images at these indices, in that order, optionally under another name."""
        labels = None if self.labels is None else self.labels[indices]
        pixels = self.pixels[indices]
        return replace(self, pixels=pixels, labels=labels, name=name or self.name, prints=None, groups=None)


def describe_images(images: Images) -> str:
    """One line: name, count, size, channels and classes."""
    _, channels, height, width = images.pixels.shape
    colour = "grey" if channels == 1 else "RGB"
    shown = ", ".join(images.class_names[:10]) + (", ..." if len(images.class_names) > 10 else "")
    classes = f"{len(images.class_names)} classes ({shown})" if images.labels is not None else "no labels"
    return f"{images.name}: {len(images):,} images, {height} x {width} {colour}, {classes}"


def content_digest(images: Images) -> str:
    """SHA-256 over shape, pixels and labels, as 64 hexadecimal digits; names do not count."""
    sha = hashlib.sha256(f"{images.pixels.shape} {images.labels is not None}".encode())
    sha.update(np.ascontiguousarray(images.pixels).data)
    if images.labels is not None:
        sha.update(np.ascontiguousarray(images.labels, dtype="<i8").data)
    return sha.hexdigest()


def class_folder(name: str, label: int) -> str:
    """The folder of a class, which is below the set's whatever the class is called, and not hidden."""
    return name.replace("/", "-").replace("\\", "-").lstrip(".") or str(label)


def resized(pixels: Pixels, side: int, resample: str, fit: str = "stretch", background: str = "black") -> Pixels:
    """Images uint8 [N, C, side, side] by a Pillow filter, antialiased; `scaled` says what becomes of other shapes."""
    rows = [np.asarray(scaled(_picture(image), side, resample, fit, background)) for image in pixels]
    if any(row.ndim == 3 for row in rows):
        rows = [row if row.ndim == 3 else np.repeat(row[:, :, None], 3, axis=2) for row in rows]
    stack = np.stack(rows)
    return np.ascontiguousarray(stack[:, None] if stack.ndim == 3 else stack.transpose(0, 3, 1, 2))


def scaled(
    picture: Image.Image, side: int, resample: str, fit: str = "stretch", background: str = "black"
) -> Image.Image:
    """One picture (mode L or RGB) at side x side pixels.

    One that is not square is cut to its middle square (crop), laid in the middle of the background (pad), which may
    bring in colour, or has each side scaled on its own (stretch).
    """
    method = Image.Resampling[resample.upper()]
    width, height = picture.size
    if fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        return picture.resize((side, side), method, box=(left, top, left + edge, top + edge))
    if fit == "pad" and width != height:
        factor = side / max(width, height)
        inner = (max(1, round(width * factor)), max(1, round(height * factor)))
        colours = ImageColor.getrgb(background)
        mode = picture.mode if len(set(colours)) == 1 else "RGB"
        canvas = Image.new(mode, (side, side), colours if mode == "RGB" else colours[0])
        canvas.paste(picture.resize(inner, method), ((side - inner[0]) // 2, (side - inner[1]) // 2))
        return canvas
    return picture.resize((side, side), method)


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def to_unit(pixels: Tensor) -> Tensor:
    """Float32 in [-1, 1] from uint8 pixels of any shape: 0 -> -1, 255 -> 1."""
    if pixels.is_floating_point():
        raise TypeError(f"to_unit takes uint8 pixels, not {pixels.dtype}")
    return pixels.float() / 127.5 - 1


def to_pixels(unit: Tensor) -> Tensor:
    """Uint8 pixels from floats in [-1, 1], rounded to the nearest value; what lies outside is clamped."""
    if not unit.is_floating_point():
        raise TypeError(f"to_pixels takes floats in [-1, 1], not {unit.dtype}")
    return ((unit.float() + 1) * 127.5).round().clamp(0, 255).byte()


def batch_indices(dataset_size: int, seed: int, images_seen: int, count: int) -> NDArray[np.int64]:
    """Indices [count] at positions images_seen, images_seen + 1, ... of an endless shuffled order.

    Position p belongs to epoch p // dataset_size and is entry p % dataset_size of that epoch's permutation.
    The order depends on (seed, position) alone: batch size, process count and resuming cannot change it.
    """
    parts: list[NDArray[np.int64]] = []
    position, end = images_seen, images_seen + count
    while position < end:
        epoch, offset = divmod(position, dataset_size)
        part = _permutation(dataset_size, seed, epoch)[offset : offset + end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@functools.lru_cache(maxsize=2)
def _permutation(dataset_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, DATA_ORDER])))
    order = generator.permutation(dataset_size).astype(np.int64)
    order.flags.writeable = False
    return order


def drawn_subset(total: int, labels: Labels | None, count: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices of `count` images drawn at random, in proportion to the classes; all if there are no more.

    Drawn, because every regular pick goes wrong on some order: the first ones where a file is sorted by class, every
    tenth one where ten classes take turns.
    """
    if total <= count:
        return np.arange(total)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[np.arange(count) * total // count])


def first_images(images: Images, count: int) -> Images:
    """The first `count` images of a published set, which everybody has who measures with it; of others so many drawn.

    Drawn too where the first ones have a class more or less often than a draw would, by six standard deviations.
    """
    total, labels = len(images), images.labels
    if total <= count:
        return images
    counts = () if labels is None else class_counts(labels, len(images.class_names))
    if not images.mixed or (labels is not None and is_skewed(labels[:count], counts, total)):
        return images.select(drawn_subset(total, labels, count, seed=0))
    return images.select(slice(count))
