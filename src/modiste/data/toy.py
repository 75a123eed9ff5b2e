"""The toy set, drawings of ten kinds of garments: for tests and first steps without a download."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from modiste.data.images import Images

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
OVERSAMPLING = 4
TOY_DRAWING = 0x70E5  # keeps this use of (seed, i) apart from all other random streams

Points = list[tuple[float, float]]


def draw(count: int, size: int = 28, seed: int = 0) -> Images:
    """Grey garments uint8 [count, 1, size, size]; image i has class i % 10 and depends on (seed, i) alone."""
    pixels = np.stack([_garment(index, size, seed) for index in range(count)])[:, None]
    return Images(pixels, np.arange(count, dtype=np.int64) % len(CLASS_NAMES), CLASS_NAMES, "toy")


class Canvas:
    """A grey drawing in unit coordinates, x to the right and y down, drawn large and averaged down."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.rng = rng
        self.side = size * OVERSAMPLING
        self.image = Image.new("L", (self.side, self.side))
        self.pen = ImageDraw.Draw(self.image)
        self.level = int(rng.uniform(110, 245))
        self.dark = int(self.level * rng.uniform(0.35, 0.6))
        self.light = min(255, self.level + int(rng.uniform(20, 60)))
        self.scale_x, self.scale_y = rng.uniform(0.92, 1.06), rng.uniform(0.94, 1.0)

    def vary(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def at(self, points: Points) -> Points:
        return [
            (
                (0.5 + (x - 0.5) * self.scale_x) * self.side,
                (0.5 + (y - 0.5) * self.scale_y) * self.side,
            )
            for x, y in points
        ]

    def shape(self, points: Points, level: int | None = None) -> None:
        self.pen.polygon(self.at(points), fill=self.level if level is None else level)

    def line(self, points: Points, level: int, width: float) -> None:
        self.pen.line(self.at(points), fill=level, width=max(1, round(width * self.side)), joint="curve")

    def oval(self, x: float, y: float, radius_x: float, radius_y: float, level: int) -> None:
        self.pen.ellipse(self.at([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)]), fill=level)

    def mirrored(self, right: Points) -> None:
        """A shape whose right half runs from the top to the bottom; x counts from the middle."""
        half = [(0.5 + x, y) for x, y in right]
        self.shape(half + [(1 - x, y) for x, y in reversed(half)])


def _garment(index: int, size: int, seed: int) -> NDArray[np.uint8]:
    """One garment uint8 [size, size] with shading, cloth grain and sometimes stripes."""
    rng = np.random.default_rng([seed, index, TOY_DRAWING])
    canvas = Canvas(size, rng)
    kind = index % len(CLASS_NAMES)
    GARMENTS[kind](canvas)
    drawing: NDArray[np.float32] = np.asarray(canvas.image.reduce(OVERSAMPLING), dtype=np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    cloth = 1 + rng.uniform(-0.25, 0.25) * (x - 0.5) + rng.uniform(-0.2, 0.2) * (y - 0.5)
    cloth += rng.normal(0, rng.uniform(0.01, 0.05), (size, size)).astype(np.float32)
    if kind in STRIPED and rng.random() < 0.25:
        along = y if rng.random() < 0.7 else x
        wave = np.sin(along * math.tau * rng.uniform(4, 8) + rng.uniform(0, math.tau))
        cloth *= 1 - rng.uniform(0.1, 0.3) * (1 + wave)
    shaded: NDArray[np.uint8] = np.clip(np.rint(drawing * cloth), 0, 255).astype(np.uint8)
    return shaded


def _neckline(c: Canvas, width: float, top: float, depth: float) -> None:
    c.oval(0.5, top, width, depth, 0)


def _sleeves(c: Canvas, shoulder: float, top: float, reach: float, end: float, width: float) -> None:
    """Two sleeves from the shoulder out to `reach` at height `end`, with a seam towards the body."""
    outer = [(shoulder - 0.06, top), (shoulder, top + 0.02), (reach, end), (reach - width, end + 0.02)]
    inner = [(shoulder - 0.06, top + 0.2)]
    for side in (1, -1):
        c.shape([(0.5 + side * x, y) for x, y in outer + inner])
        c.line([(0.5 + side * x, y) for x, y in (outer[1], inner[0])], c.dark, 0.006)


def _tshirt(c: Canvas) -> None:
    top, hem, body = c.vary(0.1, 0.14), c.vary(0.86, 0.95), c.vary(0.2, 0.25)
    shoulder = body + c.vary(0.02, 0.05)
    _sleeves(c, shoulder, top + 0.02, c.vary(0.4, 0.46), c.vary(0.34, 0.42), c.vary(0.09, 0.12))
    c.mirrored([(0.1, top), (shoulder, top + 0.04), (body, 0.36), (body - 0.01, 0.6), (body + 0.01, hem)])
    _neckline(c, c.vary(0.08, 0.11), top, c.vary(0.04, 0.1))
    if c.chance(0.4):
        c.oval(
            0.5,
            c.vary(0.42, 0.5),
            c.vary(0.06, 0.12),
            c.vary(0.05, 0.1),
            c.dark if c.chance(0.5) else c.light,
        )


def _trouser(c: Canvas) -> None:
    waist, hip, ankle = c.vary(0.13, 0.17), c.vary(0.17, 0.21), c.vary(0.1, 0.2)
    leg, crotch, gap = c.vary(0.08, 0.11), c.vary(0.3, 0.36), c.vary(0.02, 0.06)
    ankle = max(ankle, gap + leg)
    for side in (1, -1):
        half = [(0, 0.05), (waist, 0.05), (hip, 0.24), (ankle, 0.96), (ankle - leg, 0.96), (0, crotch)]
        c.shape([(0.5 + side * x, y) for x, y in half])
    c.line([(0.5 - waist, 0.1), (0.5 + waist, 0.1)], c.dark, 0.012)
    c.line([(0.5, 0.1), (0.5, crotch)], c.dark, 0.01)


def _pullover(c: Canvas) -> None:
    top, hem, body = c.vary(0.08, 0.13), c.vary(0.84, 0.93), c.vary(0.19, 0.24)
    cuff, width = c.vary(0.76, 0.9), c.vary(0.08, 0.11)
    reach = body + c.vary(0.14, 0.18)
    _sleeves(c, body + 0.04, top + 0.02, reach, cuff, width)
    c.mirrored([(0.1, top), (body + 0.04, top + 0.05), (body, 0.34), (body, hem)])
    _neckline(c, c.vary(0.07, 0.1), top, c.vary(0.03, 0.05))
    c.line([(0.5 - body, hem - 0.05), (0.5 + body, hem - 0.05)], c.dark, 0.012)
    for side in (1, -1):
        c.line([(0.5 + side * x, cuff - 0.05) for x in (reach - 0.01, reach - width - 0.01)], c.dark, 0.012)


def _dress(c: Canvas) -> None:
    top, hem, shoulder = c.vary(0.05, 0.09), c.vary(0.9, 0.97), c.vary(0.11, 0.15)
    waist, flare, height = c.vary(0.09, 0.13), c.vary(0.14, 0.27), c.vary(0.36, 0.46)
    if c.chance(0.35):
        _sleeves(c, shoulder, top, shoulder + 0.1, c.vary(0.25, 0.4), 0.07)
    c.mirrored([(0.06, top), (shoulder, top + 0.01), (shoulder, 0.24), (waist, height), (flare, hem)])
    _neckline(c, c.vary(0.05, 0.08), top, c.vary(0.06, 0.12))
    if c.chance(0.6):
        c.line([(0.5 - waist, height), (0.5 + waist, height)], c.dark, c.vary(0.012, 0.03))


def _coat(c: Canvas) -> None:
    top, hem, body = c.vary(0.05, 0.09), c.vary(0.93, 0.98), c.vary(0.2, 0.25)
    _sleeves(c, body + 0.04, top + 0.03, body + c.vary(0.12, 0.17), c.vary(0.78, 0.88), c.vary(0.09, 0.12))
    c.mirrored([(0.08, top), (body + 0.04, top + 0.06), (body, 0.36), (body + c.vary(0, 0.04), hem)])
    lapel = c.vary(0.3, 0.45)
    c.shape([(0.43, top), (0.57, top), (0.5, lapel)], c.dark // 2)
    for side in (1, -1):
        c.shape([(0.5 + side * x, y) for x, y in ((0.07, top), (0.13, top + 0.1), (0, lapel))], c.light)
    c.line([(0.5, lapel), (0.5, hem)], c.dark // 2, 0.018)
    for side in (1, -1):
        c.line([(0.5 + side * 0.08, 0.66), (0.5 + side * 0.17, 0.64)], c.dark, 0.016)


def _sandal(c: Canvas) -> None:
    # the toe points to the left, as in Fashion-MNIST
    ground, heel, sole = c.vary(0.72, 0.8), c.vary(-0.12, 0.2), c.vary(0.06, 0.09)
    heel = max(heel, 0.0)  # four in ten are flat
    rear = ground - heel

    def height(x: float) -> float:  # the sole's lower edge: flat under the toes, rising to the heel
        return ground - heel * min(1.0, max(0.0, (x - 0.3) / 0.5))

    edge = [float(x) for x in np.linspace(0.05, 0.95, 9)]
    c.shape([(x, height(x) - sole) for x in edge] + [(x, height(x)) for x in reversed(edge)])
    if heel > 0.04:
        c.shape([(0.8, rear), (0.95, rear), (0.94, ground), (0.94 - c.vary(0.04, 0.12), ground)], c.dark)
    else:
        c.line([(0.05, ground), (0.95, ground)], c.dark, 0.025)
    # a low upper from which openings are cut, so that straps remain
    tall, strap = c.vary(0.26, 0.36), c.vary(0.06, 0.09)
    toe, instep, ankle = c.vary(0.1, 0.2), c.vary(0.34, 0.42), c.vary(0.66, 0.74)

    def above(x: float, share: float) -> tuple[float, float]:  # a point over the sole, in shares of the upper
        return x, height(x) - sole - share * tall

    c.shape([above(toe, 0), above(instep, 0.62), above(instep + 0.1, 0.6), above(ankle, 0.8), above(ankle, 1)])
    c.shape([above(toe, 0), above(ankle, 1), above(0.94, 1), above(0.95, 0), above(0.6, 0), above(0.4, 0)])
    c.shape([above(instep + strap, 0.0), above(instep + strap + 0.04, 0.42), above(ankle - strap, 0.0)], 0)
    c.shape(
        [above(ankle - 0.02, 0.0), above(ankle - 0.12, 0.4), above(ankle, 0.72), above(0.87, 0.72), above(0.87, 0)], 0
    )
    if c.chance(0.5):  # two straps over the toes instead of one
        c.shape([above(toe + 0.1, 0), above(toe + 0.17, 0.3), above(instep - 0.04, 0)], 0)


def _shirt(c: Canvas) -> None:
    top, hem, body = c.vary(0.08, 0.12), c.vary(0.88, 0.96), c.vary(0.19, 0.24)
    long = c.chance(0.6)
    end = c.vary(0.7, 0.82) if long else c.vary(0.36, 0.46)
    _sleeves(c, body + 0.04, top + 0.02, body + (0.15 if long else 0.18), end, c.vary(0.08, 0.11))
    c.mirrored([(0.1, top), (body + 0.04, top + 0.05), (body, 0.36), (body, hem - 0.05), (0, hem)])
    c.shape([(0.44, top), (0.56, top), (0.5, top + 0.09)], 0)
    for side in (1, -1):
        c.shape(
            [
                (0.5 + side * x, y)
                for x, y in ((0.06, top - 0.03), (0.11, top + 0.02), (0.05, top + 0.13), (0, top + 0.09))
            ],
            c.light,
        )
    c.line([(0.5, top + 0.1), (0.5, hem)], c.dark, 0.012)
    for step in range(5):
        c.oval(0.5, top + 0.2 + step * 0.13, 0.014, 0.014, c.light)


def _sneaker(c: Canvas) -> None:
    ground, sole = c.vary(0.7, 0.76), c.vary(0.05, 0.08)
    collar, tongue = ground - c.vary(0.3, 0.36), ground - c.vary(0.32, 0.4)
    upper = [
        (0.94, ground - sole),
        (0.95, collar),
        (0.82, collar + 0.05),
        (0.7, collar + 0.06),
        (0.58, tongue),
    ]
    toe = [(0.5, tongue + 0.05), (0.3, ground - 0.2), (0.12, ground - 0.16), (0.05, ground - sole)]
    c.shape(upper + toe)
    c.shape([(0.04, ground - sole), (0.95, ground - sole), (0.95, ground), (0.08, ground)], c.light)
    c.line([(0.05, ground - sole), (0.95, ground - sole)], c.dark, 0.014)
    for step in range(3):
        x, y = 0.35 + step * 0.08, ground - 0.19 - step * 0.045
        c.line([(x, y), (x + 0.07, y + 0.06)], c.dark, 0.014)
    if c.chance(0.6):
        c.line([(0.5, ground - sole), (0.66, ground - 0.22), (0.74, ground - sole)], c.dark, c.vary(0.015, 0.03))


def _bag(c: Canvas) -> None:
    top, bottom = c.vary(0.36, 0.46), c.vary(0.82, 0.92)
    upper, lower = c.vary(0.3, 0.42), c.vary(0.36, 0.45)
    handle, rise = c.vary(0.14, 0.24), top - c.vary(0.2, 0.3)
    width = c.vary(0.02, 0.045)
    points = [
        (0.5 + handle * math.cos(a), top + 0.03 + (rise - top) * math.sin(a)) for a in np.linspace(0, math.pi, 13)
    ]
    c.line(points, c.level, width)
    c.mirrored([(upper, top), (lower, bottom - 0.03), (lower - 0.03, bottom)])
    if c.chance(0.6):
        flap = top + (bottom - top) * c.vary(0.35, 0.55)
        c.line(
            [(0.5 - upper, top), (0.5 - upper * 0.6, flap), (0.5 + upper * 0.6, flap), (0.5 + upper, top)],
            c.dark,
            0.016,
        )
        c.oval(0.5, flap, 0.03, 0.03, c.light if c.light - c.level > 30 else c.dark)
    else:
        c.line([(0.5 - upper, top + 0.08), (0.5 + upper, top + 0.08)], c.dark, 0.02)


def _boot(c: Canvas) -> None:
    ground, heel = c.vary(0.9, 0.95), c.vary(0.03, 0.14)
    shaft, front, back = c.vary(0.06, 0.2), c.vary(0.5, 0.56), c.vary(0.88, 0.93)
    sole = ground - heel
    instep = c.vary(0.52, 0.6)
    c.shape(
        [
            *((front, shaft), (back, shaft + 0.02), (back - 0.02, instep), (back + 0.02, sole), (0.6, sole)),
            *((0.45, ground - 0.02), (0.08, ground - 0.02), (0.05, ground - 0.1), (0.14, ground - 0.19)),
            *((0.34, ground - 0.26), (front - 0.01, instep)),
        ]
    )
    c.shape([(0.74, sole), (back + 0.02, sole), (back, ground), (0.77, ground)], c.dark)
    c.line([(0.06, ground), (0.45, ground), (0.6, sole + 0.01), (0.74, sole + 0.01)], c.dark, 0.03)
    if c.chance(0.5):
        c.line([(front + 0.16, shaft), (front + 0.18, instep + 0.05)], c.dark, 0.014)
    if c.chance(0.4):
        c.line([(front, shaft + 0.05), (back, shaft + 0.06)], c.light, 0.03)


GARMENTS: tuple[Callable[[Canvas], None], ...] = (
    _tshirt, _trouser, _pullover, _dress, _coat, _sandal, _shirt, _sneaker, _bag, _boot,
)  # fmt: skip
STRIPED = (0, 2, 3, 6, 8)  # classes that sometimes come striped
