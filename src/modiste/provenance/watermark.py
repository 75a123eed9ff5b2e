"""A keyed invisible watermark in the pixels of generated images, and the test that finds it.

Spread spectrum (Cox et al. 1997): to every image a faint pattern is added, a sum of cosines of middle frequency whose
signs come from a secret key; the detector adds up how well the signs fit. Frequencies are relative to the image's side,
so that resizing keeps them. Which signs an image gets depends on the key and on its *cell*, a coarse code of its
largest shapes that compression and shifting hardly change: over many images the patterns differ, so that their mean
shows no pattern, an average of many images reveals little of the key, and features are not all shifted one way.

Whoever has the key can tell marked images from all others. The mark does not resist someone who wants to remove it:
strong noise, blur, rotation, cropping or a shift by more than a pixel is enough.

The p-value is valid for any images, without calibration: if the key was not used on them, its signs are coin throws
independent of the images, and for a sum of fixed numbers with random signs
P(sum / root of sum of squares >= z) <= 3.178 P(N(0, 1) >= z) (Bentkus and Dzindzalieta 2015, theorem 1.1). It is
not valid for someone who tries many keys on the same images and reports the best.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.errors import UsageError

STRENGTH = 2.0
BAND = (12.0, 20.0)
"""Frequencies of the pattern, in half waves per side: lower ones are shapes, higher ones are lost in JPEG."""
TEXTURE = 8.0
"""Local standard deviation in grey levels above which the pattern has its full strength."""
CLIP = 2.0
"""The pattern, of standard deviation 1, is clipped here, so that no pixel changes by much more than the others."""
INTERFERENCE, LEAST, MOST = 0.5, 0.5, 1.5
"""The share of an image's own correlation with the pattern that is compensated, and the limits of that factor."""
CELL_FREQUENCIES = ((0, 1), (1, 0), (0, 2), (2, 0))
CELL_WIDTH = 0.12
BLUR, LOCAL = 1.0 / 28, 0.6 / 28  # of the side: what counts as shape, and around where its remainder is averaged
NOISE_FLOOR = 4.0  # grey levels
SHIFTS: tuple[tuple[int, int], ...] = ((0, 0), (0, -1), (0, 1), (-1, 0), (-1, -1), (-1, 1), (1, 0), (1, -1), (1, 1))
"""Pixels down and right by which an image may have been shifted; each is tried, and the p-value accounts for it."""
SHIFT_FACTORS = np.array([2.0] + [16.0] * 8)
"""Factors of the p-values per shift (weighted Bonferroni, the inverses add up to 1): most images are not shifted."""
PRIOR_IMAGES = 100
"""The weight, in images, of the detector's starting assumption that all waves have the same power."""
TAIL_FACTOR = 3.178
CHUNK_PIXELS = 400_000

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detection:
    """What the detector found in `count` images together."""

    p_value: float
    """Upper bound of the probability of so good a fit if the images were not marked with this key."""
    statistic: float
    """Fit in standard deviations at the best shift; about N(0, 1) at any one without the mark."""
    count: int
    shift: tuple[int, int]
    """Pixels down and right by which the best fit is shifted."""


def embed(pixels: Pixels, key: str, strength: float = STRENGTH) -> Pixels:
    """The images uint8 [N, C, H, W] with the key's watermark; `strength` is about its deviation in grey levels.

    Pixels with a flat 3 x 3 neighbourhood and black or white ones stay as they are, and none changes by more than
    3 strength + 0.5 levels. An image that correlates with its pattern from the start gets less of it, one that
    correlates with the opposite gets more (improved spread spectrum, Malvar and Florêncio 2003, section III).
    """
    _check(pixels, key)
    if not strength > 0:
        raise UsageError(f"the watermark's strength {strength} is not above 0; typical values are 1 to 4")
    if not _band(*pixels.shape[2:]).any():
        raise UsageError(
            f"images of {pixels.shape[2]} x {pixels.shape[3]} pixels have no room for a watermark; from 10 x 10 they do"
        )
    done = [_embed(part, key, strength) for part in _chunks(pixels)]
    return np.concatenate(done) if done else pixels.copy()


def detect(pixels: Pixels, key: str) -> Detection:
    """Test whether these images [N, C, H, W], taken together, carry the key's watermark: small p-values say yes."""
    _check(pixels, key)
    band = _band(*pixels.shape[2:])
    if not band.any():
        raise UsageError(
            f"images of {pixels.shape[2]} x {pixels.shape[3]} pixels have no room for a watermark (from 10 x 10 they "
            "do), so none can be looked for; ask without a key"
        )
    sums: dict[int, Floats] = {}
    power = np.zeros((len(SHIFTS), int(band.sum())))
    for part in _chunks(pixels):
        grey = _grey(part)
        cells, found = _cells(grey), _coefficients(grey, band, SHIFTS)
        power += (found**2).sum(0)
        for cell in np.unique(cells).tolist():
            sums[cell] = sums.get(cell, 0.0) + found[cells == cell].sum(0)
    # A wave counts less the more of it the images have anyway. Weights may depend on the images, but not on the key.
    usual = power.sum(1, keepdims=True) / max(1, power.shape[1])
    weights = 1 / (power + PRIOR_IMAGES / max(1, len(pixels)) * usual + 1e-12)
    fit, squares = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS))
    for cell, total in sums.items():
        fit += (weights * total) @ _signs(key, cell, band)
        squares += ((weights * total) ** 2).sum(1)
    return _detection(fit, squares, len(pixels))


def detect_each(pixels: Pixels, key: str) -> list[Detection]:
    """The same for every image on its own."""
    return [detect(image[None], key) for image in pixels]


def tail(statistic: float) -> float:
    """An upper bound of the chance that fixed numbers with random signs fit so well, from 0 to 1.

    The smaller of Hoeffding's exp(-z²/2) and the normal tail times 3.178 (Bentkus and Dzindzalieta 2015).
    """
    if statistic <= 0:
        return 1.0
    normal = TAIL_FACTOR * math.erfc(statistic / math.sqrt(2)) / 2
    return min(1.0, math.exp(-(statistic**2) / 2), normal)


def _detection(fit: Floats, squares: Floats, count: int) -> Detection:
    statistics = np.divide(fit, np.sqrt(squares), out=np.zeros_like(fit), where=squares > 0)
    bounds = SHIFT_FACTORS * [tail(statistic) for statistic in statistics.tolist()]
    best = int(bounds.argmin())
    return Detection(min(1.0, float(bounds[best])), float(statistics[best]), count, SHIFTS[best])


def _check(pixels: NDArray[Any], key: str) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise UsageError(f"a watermark needs uint8 images [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}")
    if not key:
        raise UsageError("the watermark's key is empty; choose a secret text")


def _chunks(pixels: Pixels) -> Iterator[Pixels]:
    step = max(1, CHUNK_PIXELS // max(1, math.prod(pixels.shape[2:])))
    return (pixels[start : start + step] for start in range(0, len(pixels), step))


def _embed(pixels: Pixels, key: str, strength: float) -> Pixels:
    grey = _grey(pixels)
    height, width = grey.shape[1:]
    band = _band(height, width)
    cells, found = _cells(grey), _coefficients(grey, band, SHIFTS[:1])[:, 0]
    known, where = np.unique(cells, return_inverse=True)
    signs = np.stack([_signs(key, cell, band) for cell in known.tolist()])[where]
    spectrum = np.zeros((len(grey), *band.shape))
    spectrum[:, band] = signs
    pattern = _cosines(height, len(band)).T @ spectrum @ _cosines(width, len(band[0]))
    deviation = np.maximum(pattern.std((1, 2), keepdims=True), 1e-9)
    norm = np.maximum(np.sqrt((found**2).sum(1)), 1e-9)
    likeness = (found * signs).sum(1) / norm
    factor = np.clip(1 - INTERFERENCE * likeness, LEAST, MOST)[:, None, None]
    change = strength * factor * _room(grey) * np.clip(pattern / deviation, -CLIP, CLIP)
    moved = np.clip(np.round(pixels + change[:, None]), 0, 255)
    return np.where((pixels == 0) | (pixels == 255), pixels, moved).astype(np.uint8)


def _grey(pixels: Pixels) -> Floats:
    grey: Floats = pixels.mean(axis=1, dtype=np.float64)
    return grey


def _band(height: int, width: int) -> NDArray[np.bool_]:
    """The pairs of frequencies [U, V] that the pattern consists of, as a mask."""
    down, right = np.arange(min(height, int(BAND[1]) + 1)), np.arange(min(width, int(BAND[1]) + 1))
    radius = np.hypot(down[:, None], right[None])
    found: NDArray[np.bool_] = (radius >= BAND[0]) & (radius <= BAND[1])
    return found


def _cosines(side: int, count: int, shift: int = 0) -> Floats:
    """The first waves [count, side] of the discrete cosine transform, shifted by `shift` pixels."""
    places = (np.arange(side) + 0.5 - shift) / side
    waves: Floats = np.cos(np.pi * np.arange(count)[:, None] * places) * math.sqrt(2 / side)
    return waves


def _signs(key: str, cell: int, band: NDArray[np.bool_]) -> Floats:
    """The signs, -1 or 1, that the key gives the band's waves in that cell: bits of SHAKE-256.

    They are drawn for the largest band, so that an image keeps its signs when it is made smaller.
    """
    side = int(BAND[1]) + 1
    stream = hashlib.shake_256(f"modiste watermark 1|{cell}|{key}".encode()).digest((side * side + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[: side * side].reshape(side, side).astype(np.float64)
    signs: Floats = bits[: band.shape[0], : band.shape[1]][band] * 2 - 1
    return signs


def _cells(grey: Floats) -> NDArray[np.int64]:
    """The cell of every image [N]: lengths of its lowest Fourier waves relative to the mean, coarsely rounded.

    Neither shifts nor contrast change these lengths, resizing and compression hardly.
    """
    height, width = grey.shape[1:]
    down, right = (
        np.exp(-2j * np.pi * np.arange(3)[:, None] * (np.arange(side) + 0.5) / side) for side in (height, width)
    )
    waves = np.abs(down @ grey @ right.T)
    lengths = waves / np.maximum(waves[:, :1, :1], 1e-9)
    code = np.zeros(len(grey), np.int64)
    for u, v in CELL_FREQUENCIES:
        code = code * 100 + np.floor(lengths[:, u, v] / CELL_WIDTH).astype(np.int64)
    return code


def _room(grey: Floats) -> Floats:
    """The share of the pattern that each pixel gets [N, H, W], 0 to 1: none where the neighbourhood is flat."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = grey.shape[1:]
    nine = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    total, squares, low, high = np.zeros_like(grey), np.zeros_like(grey), grey.copy(), grey.copy()
    for view in nine:
        total += view
        squares += view * view
        np.minimum(low, view, out=low)
        np.maximum(high, view, out=high)
    deviation = np.sqrt(np.maximum(squares / 9 - (total / 9) ** 2, 0))
    room: Floats = np.where((low == high) | (grey <= 0) | (grey >= 255), 0.0, np.minimum(deviation / TEXTURE, 1))
    return room


def _blurred(images: Floats, deviation: float) -> Floats:
    """Gaussian blur with a standard deviation in shares of the side; at the edges weights are normalised."""
    smooth: Floats = _kernel(images.shape[1], deviation) @ images @ _kernel(images.shape[2], deviation).T
    return smooth


def _kernel(side: int, deviation: float) -> Floats:
    places = (np.arange(side) + 0.5) / side
    weights = np.exp(-((places[:, None] - places) ** 2) / (2 * deviation**2))
    kernel: Floats = weights / weights.sum(1, keepdims=True)
    return kernel


def _coefficients(grey: Floats, band: NDArray[np.bool_], shifts: tuple[tuple[int, int], ...]) -> Floats:
    """The coefficient of each wave of the band in each image at each shift [N, S, K].

    A matched filter that treats the image itself as noise: a high-pass removes shapes, twice (once for the pattern),
    and the remainder counts less where it varies more.
    """
    rough = grey - _blurred(grey, BLUR)
    rough = rough / (_blurred(rough * rough, LOCAL) + NOISE_FLOOR**2)
    rough = (rough - _blurred(rough, BLUR)) * _room(grey)
    found = np.empty((len(grey), len(shifts), int(band.sum())))
    for k, (down, right) in enumerate(shifts):
        waves = _cosines(grey.shape[1], len(band), down) @ rough @ _cosines(grey.shape[2], len(band[0]), right).T
        found[:, k] = waves[:, band]
    return found
