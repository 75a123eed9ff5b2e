"""A set of images with labels, its hashes, and the conversions of pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from modiste.errors import ModisteError
from modiste.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]  # [N, C, H, W]
Labels = NDArray[np.int64]  # [N]
Split = Literal["train", "test"]
T = TypeVar("T")
RESIZE = "`--resize SIDE` of train, data, project, augment and judge train (data.resize)"
"""What brings images to one size: the option of the commands that have it, and the recipe's key."""
BLOCK_BYTES = 2**22
"""Of images that are read a few at a time: how much of them."""


@dataclass(frozen=True)
class Note:
    """A fact about a set that its user may not expect; `str` words it in a sentence."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images uint8 [N, C, H, W] with labels int64 [N] (None if unlabelled) and the names of the classes."""

    pixels: Pixels
    labels: Labels | None
    class_names: tuple[str, ...]
    name: str
    notes: tuple[Note, ...] = ()
    """What a user may not expect of the set as it was read."""
    fingerprints: NDArray[np.uint8] | None = None
    """Of pictures that were scaled when they were read: `fingerprint` [N, 16] of what they were before."""
    groups: tuple[str, ...] | None = None
    """The group of each image [N]; images of one group must not be parted. Like `fingerprints`, of whole sets only."""
    is_shuffled: bool = False
    """Whether the order is known to be random, as in published sets; files may be in the order of their age or kind."""
    source: tuple[str, str] | None = None
    """Of pixels that are mapped from a file: which one, and its state. They cannot be written to, and what follows from
    them is kept in the cache under these words."""

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
                named = counted(len(self.class_names), "class")
                raise ModisteError(f"{self.name} names {named} but has no labels; add them")
            return
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise ModisteError(f"{self.name}: labels are {labels.dtype} {list(labels.shape)}; int64 [N] is needed")
        if len(labels) != len(pixels):
            raise ModisteError(
                f"{self.name}: {counted(len(pixels))} but {counted(len(labels), 'label')}; save one label per image"
            )
        lowest, highest, classes = int(labels.min()), int(labels.max()), len(self.class_names)
        if lowest < 0 or highest >= classes:
            raise ModisteError(
                f"{self.name}: label {lowest if lowest < 0 else highest} is out of range for "
                f"{counted(classes, 'class')}; number the classes from 0 and name each"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def digest(self) -> str:
        """`content_digest`, computed once: pixels do not change."""
        return _digest(self)

    def select(self, indices: slice | NDArray[Any], name: str | None = None) -> Images:
        """The images at these indices, in that order, optionally under another name."""
        labels = None if self.labels is None else self.labels[indices]
        pixels, source = self.pixels[indices], None
        if self.source and isinstance(indices, slice):
            source = (f"{self.source[0]} {indices}", self.source[1])
        name = name or self.name
        return replace(self, pixels=pixels, labels=labels, name=name, fingerprints=None, groups=None, source=source)


def describe_images(images: Images) -> str:
    """One line: name, count, size, channels and classes."""
    _, channels, height, width = images.pixels.shape
    colour = "grey" if channels == 1 else "RGB"
    shown = ", ".join(images.class_names[:10]) + (", ..." if len(images.class_names) > 10 else "")
    classes = f"{counted(len(images.class_names), 'class')} ({shown})" if images.labels is not None else "no labels"
    return f"{images.name}: {counted(len(images))}, {height} x {width} {colour}, {classes}"


def content_digest(images: Images) -> str:
    """SHA-256 over shape, pixels and labels, as 64 hexadecimal digits; names do not count."""
    return images.digest


def _digest(images: Images) -> str:
    labels = b"" if images.labels is None else images.labels.astype("<i8").tobytes()

    def digest() -> str:
        sha = hashlib.sha256(f"{images.pixels.shape} {images.labels is not None}".encode())
        for part in parts(images.pixels):
            sha.update(np.ascontiguousarray(part).data)
        sha.update(labels)
        return sha.hexdigest()

    return remembered(images, f"digest with labels {hashlib.sha256(labels).hexdigest()}", digest)


def remembered(images: Images, what: str, compute: Callable[[], T]) -> T:
    """The JSON value of `compute()`, which follows from the pixels; kept in the cache where these are mapped."""
    if images.source is None:
        return compute()
    from modiste import cache

    value: T = cache.cached_json({"of": images.source, "what": what}, compute)
    return value


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of `count` images of `size` bytes each, of some megabytes in all, in their order."""
    step = max(1, BLOCK_BYTES // size)
    return (slice(start, min(count, start + step)) for start in range(0, count, step))


def parts(pixels: Pixels) -> Iterator[Pixels]:
    """These images a few at a time, so that little of a set that is mapped is in memory."""
    return (pixels[part] for part in blocks(len(pixels), pixels[0].size))


def mean_and_deviation(images: Images) -> tuple[float, float]:
    """Mean and standard deviation of all values, 0 being black and 1 white."""

    def count() -> list[int]:
        counts = np.zeros(256, np.int64)
        for part in parts(images.pixels):
            counts += np.bincount(part.ravel(), minlength=256)
        return counts.tolist()

    counts, values = np.array(remembered(images, "values", count), np.float64), np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    return mean, float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))


def tensor_of(pixels: Pixels) -> Tensor:
    """A tensor of these pixels, which shares their memory unless they are mapped and cannot be written to."""
    import torch

    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def fingerprint(image: NDArray[np.uint8]) -> bytes:
    """A hash of 16 bytes of one image uint8 [H, W] or [C, H, W]; an image of three equal channels counts as grey."""
    if image.ndim == 3 and (len(image) == 1 or (image == image[:1]).all()):
        image = image[0]
    sha = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    sha.update(np.ascontiguousarray(image).data)
    return sha.digest()


def class_folder(name: str, label: int) -> str:
    """The name of a class's folder: the class's name without separators of paths and without leading dots."""
    return name.replace("/", "-").replace("\\", "-").lstrip(".") or str(label)


def resized(pixels: Pixels, side: int, resample: str, fit: str = "stretch", background: str = "black") -> Pixels:
    """Images uint8 [N, C, side, side] by a Pillow filter, antialiased; see `scaled` for those not square."""
    return stack_pictures([np.asarray(scaled(as_picture(image), side, resample, fit, background)) for image in pixels])


def join_pixels(blocks: Sequence[Pixels]) -> Pixels:
    """Images [N, C, H, W] after each other: grey if all are."""
    channels = max(block.shape[1] for block in blocks)
    return np.concatenate([block if block.shape[1] == channels else block.repeat(3, axis=1) for block in blocks])


def stack_pictures(pictures: Sequence[NDArray[np.uint8]]) -> Pixels:
    """Images uint8 [N, C, H, W] from pictures [H, W] or [H, W, 3] of one size: grey if all are."""
    if all(picture.ndim == 2 for picture in pictures):
        return np.stack(pictures)[:, None]
    colour = [picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2) for picture in pictures]
    return np.ascontiguousarray(np.stack(colour).transpose(0, 3, 1, 2))


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


def as_picture(image: NDArray[np.uint8]) -> Image.Image:
    """An image uint8 [C, H, W] as Pillow's."""
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
