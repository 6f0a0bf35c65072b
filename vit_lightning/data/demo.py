"""A drawn stand-in for the cartoon frames: short clips of a cat, a mouse, both or neither.

The clips keep what makes the real frames awkward. Frames of one clip are nearly the same picture, clips share
little but the characters, and other animals and things wear the characters' shapes or colours. A random split of
the frames is therefore easy and misleading; a split by clips is the honest one.
"""

import colorsys
import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageOps

_Colour: TypeAlias = tuple[int, ...]
_Points: TypeAlias = Sequence[tuple[float, float]]

#: Of the drawing: counted up with every change that shows, so that frames of an older one are not taken for it.
VERSION: Final = 1

#: Frames a clip, and clips in the set, unless the caller asks for other numbers.
CLIP_LENGTH: Final = 4
CLIPS: Final = 800

_CASTS: Final = {(1, 0): "tom", (0, 1): "jerry", (0, 0): "tom_jerry_0", (1, 1): "tom_jerry_1"}
_CAST_SHARES: Final = (0.32, 0.24, 0.26, 0.18)
_DETAIL: Final = 2  # drawn this many times larger, then averaged down: smooth outlines
_MIN_SIDE: Final = 32

_INK: Final = (24, 20, 26)
_WHITE: Final = (246, 246, 242)
_PINK: Final = (240, 160, 164)
_CIRCLE: Final = [(math.cos(k * math.tau / 32), math.sin(k * math.tau / 32)) for k in range(32)]


def _any(rng: np.random.Generator, grey: float, vivid: float, dark: float, bright: float) -> _Colour:
    """A colour of any hue, its saturation from `grey` to `vivid` and its value from `dark` to `bright`, all 0 to 1."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(grey, vivid), rng.uniform(dark, bright))
    return tuple(round(255 * c) for c in rgb)


def _shade(colour: _Colour, factor: float) -> _Colour:
    return tuple(min(255, round(c * factor)) for c in colour)


class _Brush:
    """Draws outlined shapes in a figure's own coordinates: feet at (0, 0), y up, height 1, looking towards +x."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, unit: float, line: float, sign: int = 1) -> None:
        """Stand at (x, y) pixels; a length of 1 is `unit` pixels, outlines are `line` pixels; sign -1 looks left."""
        self.draw, self.x, self.y, self.unit, self.line, self.sign = draw, x, y, unit, line / unit, sign

    def at(self, x: float, y: float) -> "_Brush":
        """The same brush with (x, y) as its (0, 0)."""
        ((px, py),) = self._pixels([(x, y)])
        return _Brush(self.draw, px, py, self.unit, self.line * self.unit, self.sign)

    def _pixels(self, points: _Points) -> list[tuple[float, float]]:
        return [(self.x + self.sign * self.unit * px, self.y - self.unit * py) for px, py in points]

    def blob(self, x: float, y: float, rx: float, ry: float, fill: _Colour, turn: float = 0, line: float = 1) -> None:
        """An ellipse turned by `turn` radians; `line` scales the outline, 0 leaves it out."""
        cos, sin = math.cos(turn), math.sin(turn)
        for grow, colour in ((self.line * line, _INK), (0.0, fill))[0 if line else 1 :]:
            ring = [((rx + grow) * c, (ry + grow) * s) for c, s in _CIRCLE]
            self.draw.polygon(self._pixels([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in ring]), colour)

    def limb(self, points: _Points, thickness: float, fill: _Colour, line: float = 1) -> None:
        """A bent line with round ends: legs, arms, tails."""
        pixels = self._pixels(points)
        for grow, colour in ((self.line * line, _INK), (0.0, fill))[0 if line else 1 :]:
            radius = (thickness / 2 + grow) * self.unit
            self.draw.line(pixels, colour, max(1, round(2 * radius)))
            for px, py in pixels if radius > 1 else ():
                self.draw.ellipse((px - radius, py - radius, px + radius, py + radius), colour)

    def shape(self, points: _Points, fill: _Colour, line: float = 1) -> None:
        """A polygon."""
        if line:
            self.limb([*points, points[0]], 2 * self.line * line, _INK, line=0)
        self.draw.polygon(self._pixels(points), fill)

    def box(self, left: float, bottom: float, right: float, top: float, fill: _Colour, line: float = 1) -> None:
        """An upright rectangle."""
        self.shape([(left, bottom), (right, bottom), (right, top), (left, top)], fill, line)


@dataclass(frozen=True)
class _Coat:
    """An animal's colours."""

    fur: _Colour
    light: _Colour
    eye: _Colour = _WHITE


_TOM: Final = _Coat((88, 114, 172), _WHITE, (250, 228, 96))
_JERRY: Final = _Coat((186, 98, 34), (240, 200, 150))
_BLACK_CAT: Final = _Coat((46, 42, 48), (120, 112, 116), (150, 210, 110))
_GREY_MOUSE: Final = _Coat((150, 150, 146), (206, 204, 198))
_TAN_DOG: Final = _Coat((206, 168, 116), (244, 226, 196))
_BROWN_DOG: Final = _Coat((116, 80, 62), (226, 196, 160))
_DUCK: Final = _Coat((250, 214, 70), (244, 140, 40))


@dataclass(frozen=True)
class _Pose:
    """Where a figure is in its step (radians), whether its eyes are shut and whether it stands on its hind legs."""

    step: float
    blink: bool
    upright: bool


def _eye(brush: _Brush, x: float, y: float, rx: float, ry: float, coat: _Coat, pose: _Pose) -> None:
    brush.blob(x, y, rx, ry, coat.fur if pose.blink else coat.eye)
    if pose.blink:
        brush.limb([(x - rx, y), (x, y - ry * 0.3), (x + rx, y)], brush.line, _INK, line=0)
    else:
        brush.blob(x + rx * 0.3, y - ry * 0.15, rx * 0.45, ry * 0.6, _INK, line=0)


def _leg(brush: _Brush, x: float, top: float, step: float, thick: float, coat: _Coat) -> None:
    """A leg hung at (x, top) that swings with the step and ends in a foot on, or just above, the ground."""
    toe, lift = x + 0.4 * top * math.sin(step), 0.15 * top * max(0.0, math.cos(step))
    brush.limb([(x, top), (x / 2 + toe / 2 + 0.02, top / 2 + lift), (toe, thick / 2 + lift)], thick, coat.fur)
    brush.blob(toe + thick * 0.4, thick * 0.4 + lift, thick * 0.8, thick * 0.45, coat.light)


def _cat(brush: _Brush, coat: _Coat, pose: _Pose) -> None:
    swing, sway = math.sin(pose.step), 0.06 * math.sin(pose.step / 2)
    if pose.upright:
        brush.limb([(-0.1, 0.2), (-0.24, 0.17), (-0.33, 0.27), (-0.32 + sway, 0.42)], 0.06, coat.fur)
        brush.limb([(-0.32 + sway, 0.42), (-0.28 + sway, 0.5)], 0.06, coat.light)
        brush.limb([(0.05, 0.45), (0.2, 0.36 - 0.06 * swing), (0.27, 0.4 - 0.12 * swing)], 0.06, coat.fur)
        brush.blob(0.28, 0.41 - 0.12 * swing, 0.045, 0.045, coat.light)
        _leg(brush, 0.04, 0.22, pose.step + math.pi, 0.09, coat)
        brush.blob(0, 0.33, 0.14, 0.2, coat.fur, turn=-0.1)
        brush.blob(0.05, 0.31, 0.08, 0.14, coat.light, line=0)
        _leg(brush, -0.05, 0.22, pose.step, 0.09, coat)
        brush.limb([(-0.07, 0.45), (-0.17, 0.36 + 0.06 * swing), (-0.1, 0.28 + 0.1 * swing)], 0.06, coat.fur)
        brush.blob(-0.1, 0.27 + 0.1 * swing, 0.045, 0.045, coat.light)
    else:
        brush.limb([(-0.42, 0.42), (-0.56, 0.52), (-0.6 + sway, 0.7)], 0.07, coat.fur)
        brush.limb([(-0.6 + sway, 0.7), (-0.55 + sway, 0.8)], 0.07, coat.light)
        for x, turn in ((-0.3, 2.2), (0.2, 3.6)):
            _leg(brush, x, 0.3, pose.step + turn, 0.1, coat)
        brush.blob(-0.1, 0.4, 0.36, 0.16, coat.fur, turn=0.12)
        brush.blob(0, 0.33, 0.2, 0.07, coat.light, turn=0.12, line=0)
        for x, turn in ((-0.34, 0.0), (0.12, 1.4)):
            _leg(brush, x, 0.3, pose.step + turn, 0.1, coat)
    head = brush.at(0.02, 0.68) if pose.upright else brush.at(0.3, 0.66)
    for side in (-1, 1):  # ears, then the tufts of the cheeks
        head.shape([(side * 0.22, 0.06), (side * 0.2, 0.31), (side * 0.03, 0.18)], coat.fur)
        head.shape([(side * 0.18, 0.1), (side * 0.18, 0.25), (side * 0.09, 0.17)], _PINK, line=0)
        head.shape([(side * 0.15, 0.02), (side * 0.31, -0.1), (side * 0.12, -0.16)], coat.fur)
    head.blob(0, 0, 0.235, 0.195, coat.fur)
    head.blob(0.07, -0.1, 0.15, 0.085, coat.light, line=0)
    _eye(head, -0.03, 0.05, 0.07, 0.09, coat, pose)
    _eye(head, 0.13, 0.05, 0.06, 0.09, coat, pose)
    for side, tilt in ((-1, 0.03), (-1, -0.04), (1, 0.03), (1, -0.04)):
        head.limb([(0.08 + side * 0.08, -0.08), (0.08 + side * 0.27, -0.07 + tilt)], 0.004, _INK, line=0)
    head.limb([(0, -0.12), (0.06, -0.15), (0.15, -0.12)], head.line, _INK, line=0)
    head.blob(0.09, -0.045, 0.035, 0.025, _INK, line=0)


def _mouse(brush: _Brush, coat: _Coat, pose: _Pose) -> None:
    swing, sway = math.sin(pose.step), 0.08 * math.sin(pose.step / 2)
    lean = 0.0 if pose.upright else 0.14  # leans into its run
    chest = brush.at(lean, 0.36)
    brush.limb([(-0.1, 0.14), (-0.28, 0.1), (-0.4, 0.2), (-0.46 + sway, 0.36), (-0.4 + sway, 0.46)], 0.025, _PINK)
    chest.limb([(0, 0), (0.16, -0.06 - 0.05 * swing), (0.24, -0.1 * swing)], 0.055, coat.fur)
    _leg(brush, 0.05, 0.16, pose.step + math.pi, 0.07, coat)
    brush.blob(lean / 2, 0.28, 0.15, 0.19, coat.fur, turn=-2 * lean)
    brush.blob(lean / 2 + 0.05, 0.26, 0.09, 0.13, coat.light, turn=-2 * lean, line=0)
    _leg(brush, -0.05, 0.16, pose.step, 0.07, coat)
    chest.limb([(-0.08, 0), (-0.16, -0.08 + 0.05 * swing), (-0.1, -0.14 + 0.1 * swing)], 0.055, coat.fur)
    head = brush.at(0.02 + 1.2 * lean, 0.6)
    for side in (-1, 1):
        head.blob(side * 0.23, 0.2, 0.17, 0.18, coat.fur)
        head.blob(side * 0.23, 0.19, 0.11, 0.12, _PINK, line=0)
    head.blob(0, 0, 0.22, 0.2, coat.fur)
    head.blob(0.09, -0.08, 0.14, 0.1, coat.light, line=0)
    _eye(head, -0.01, 0.06, 0.06, 0.09, coat, pose)
    _eye(head, 0.13, 0.06, 0.055, 0.09, coat, pose)
    head.limb([(0.03, -0.12), (0.1, -0.14), (0.17, -0.11)], head.line, _INK, line=0)
    head.blob(0.17, -0.03, 0.04, 0.032, _INK, line=0)


def _dog(brush: _Brush, coat: _Coat, pose: _Pose) -> None:
    sway = 0.05 * math.sin(pose.step)
    brush.limb([(-0.34, 0.5), (-0.46, 0.62 + sway)], 0.05, coat.fur)
    for x, turn in ((-0.24, 2.2), (0.2, 3.6)):
        _leg(brush, x, 0.34, pose.step + turn, 0.1, coat)
    brush.blob(-0.06, 0.42, 0.34, 0.18, coat.fur, turn=0.2)
    for x, turn in ((-0.28, 0.0), (0.12, 1.4)):
        _leg(brush, x, 0.34, pose.step + turn, 0.1, coat)
    brush.limb([(0.08, 0.58), (0.26, 0.52)], 0.06, (200, 40, 40))
    brush.blob(0.2, 0.76, 0.2, 0.2, coat.fur)
    brush.blob(0.36, 0.67, 0.17, 0.11, coat.light)
    brush.blob(0.47, 0.73, 0.055, 0.045, _INK, line=0)
    brush.limb([(0.3, 0.62), (0.38, 0.6), (0.47, 0.63)], brush.line, _INK, line=0)
    _eye(brush, 0.2, 0.84, 0.05, 0.065, coat, pose)
    _eye(brush, 0.31, 0.84, 0.045, 0.065, coat, pose)
    brush.blob(0.03, 0.72, 0.08, 0.19, _shade(coat.fur, 0.6), turn=-0.2 + sway)


def _duckling(brush: _Brush, coat: _Coat, pose: _Pose) -> None:
    for x, turn in ((0.05, math.pi), (-0.06, 0.0)):
        _leg(brush, x, 0.16, pose.step + turn, 0.05, coat)
    brush.shape([(-0.2, 0.36), (-0.42, 0.5), (-0.16, 0.5)], coat.fur)
    brush.blob(-0.02, 0.35, 0.27, 0.22, coat.fur)
    brush.blob(-0.08, 0.36, 0.14, 0.1, _shade(coat.fur, 0.9), turn=0.3 + 0.3 * math.sin(pose.step))
    brush.blob(0.12, 0.74, 0.22, 0.22, coat.fur)
    brush.shape([(0.28, 0.78), (0.52, 0.7), (0.28, 0.64)], coat.light)
    brush.limb([(0.08, 0.95), (0.04, 1.02)], 0.03, coat.fur)
    _eye(brush, 0.16, 0.82, 0.055, 0.08, coat, pose)


# Backgrounds fill a picture of height 1 and width `wide`; the floor begins at `floor` above the lower edge.


def _room(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    wall, wood = _any(rng, 0.15, 0.6, 0.5, 0.95), _any(rng, 0.3, 0.7, 0.25, 0.7)
    boards, sofa = _any(rng, 0.2, 0.6, 0.35, 0.8), _any(rng, 0.3, 0.8, 0.3, 0.8)
    brush.box(0, floor, wide, 1, wall, line=0)
    pattern, pitch = rng.integers(3), rng.uniform(0.07, 0.16)
    for k in range(math.ceil(wide / pitch)):
        if pattern == 0:
            brush.box((k + 0.25) * pitch, floor, (k + 0.75) * pitch, 1, _shade(wall, 0.9), line=0)
        for row in range(math.ceil(1 / pitch)) if pattern == 1 else ():
            brush.blob((k + row % 2 / 2) * pitch, floor + row * pitch, pitch / 6, pitch / 6, _shade(wall, 1.15), line=0)
    brush.box(0, 0, wide, floor, boards, line=0)
    for k in range(4):
        brush.limb([(0, floor * k / 4), (wide, floor * k / 4)], 0.003, _shade(boards, 0.7), line=0)
    brush.box(0, floor, wide, floor + 0.04, _shade(wood, 1.3))
    door, picture, seat = (brush.at(wide / 4 * int(place), floor) for place in rng.permutation(4)[:3])
    door.box(0.08, 0, 0.36, 0.5, wood)
    door.box(0.13, 0.27, 0.31, 0.45, _shade(wood, 0.8), line=0.5)
    door.blob(0.32, 0.22, 0.014, 0.014, (230, 200, 80), line=0.5)
    picture.box(0.06, 0.25, 0.34, 0.45, (190, 150, 70))
    picture.box(0.09, 0.28, 0.31, 0.42, _any(rng, 0.2, 0.8, 0.4, 0.9), line=0.5)
    seat.box(0, -0.04, 0.5, 0.26, sofa)
    seat.box(0, -0.06, 0.5, 0.1, _shade(sofa, 1.15))
    for arm in (0, 0.5):
        seat.blob(arm, 0.04, 0.06, 0.11, _shade(sofa, 0.85))


def _kitchen(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    tile, dark, front = _any(rng, 0.05, 0.4, 0.7, 1), _any(rng, 0.2, 0.8, 0.3, 0.7), _any(rng, 0.2, 0.7, 0.4, 0.95)
    brush.box(0, 0, wide, 1, tile, line=0)
    pitch = rng.uniform(0.08, 0.14)
    for k in range(math.ceil(wide / pitch)):
        brush.limb([(k * pitch, floor), (k * pitch, 1)], 0.004, _shade(tile, 0.8), line=0)
        brush.limb([(0, floor + k * pitch), (wide, floor + k * pitch)], 0.004, _shade(tile, 0.8), line=0)
        for row in range(math.ceil(floor / pitch)):  # a chequered floor, seen aslant
            square = brush.at((2 * k + row % 2) * pitch, floor - row * pitch)
            square.shape([(0, 0), (pitch, 0), (0.6 * pitch, -pitch), (-0.4 * pitch, -pitch)], dark, line=0)
    units, cupboards = int(rng.integers(2, 5)), brush.at(rng.uniform(0, 0.4), floor)
    for k in range(units):
        cupboards.box(0.3 * k, 0, 0.3 * (k + 1), 0.3, front)
        cupboards.blob(0.3 * k + 0.25, 0.2, 0.012, 0.012, _WHITE, line=0.5)
    cupboards.box(-0.02, 0.3, 0.3 * units + 0.02, 0.34, _shade(front, 0.6))
    fridge = cupboards.at(0.3 * units + 0.1, 0)
    fridge.box(0, -0.02, 0.34, 0.62, _any(rng, 0, 0.4, 0.7, 1))
    fridge.limb([(0, 0.4), (0.34, 0.4)], 0.006, _INK, line=0)
    fridge.limb([(0.05, 0.44), (0.05, 0.54)], 0.015, (190, 190, 190), line=0.5)


def _garden(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    grass, fence, leaves = (110, 180, 70), _any(rng, 0, 0.5, 0.6, 1), _any(rng, 0.4, 0.8, 0.3, 0.8)
    brush.blob(rng.uniform(0, wide), 0.9, 0.09, 0.09, (255, 236, 120), line=0)
    for _ in range(3):
        cloud = brush.at(rng.uniform(0, wide), rng.uniform(0.75, 0.95))
        for k in range(3):
            cloud.blob(0.08 * k, 0.02 * (k % 2), 0.08, 0.045, _WHITE, line=0)
    for _ in range(3):
        hill = _shade(grass, rng.uniform(0.6, 0.9))
        brush.blob(rng.uniform(0, wide), floor, rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.3), hill, line=0.5)
    brush.box(0, 0, wide, floor, _shade(grass, rng.uniform(0.7, 1.15)), line=0)
    for k in range(math.ceil(wide / 0.13) if rng.random() < 0.5 else 0):
        brush.at(0.13 * k, floor).shape([(0, -0.03), (0.08, -0.03), (0.08, 0.2), (0.04, 0.26), (0, 0.2)], fence)
    for _ in range(rng.integers(1, 4)):
        tree = brush.at(rng.uniform(0, wide), floor)
        tree.box(-0.03, -0.05, 0.03, 0.35, (110, 72, 44))
        for x, y in ((-0.1, 0.38), (0.1, 0.38), (0, 0.48)):
            tree.blob(x, y, 0.14, 0.12, leaves)
    for _ in range(14):
        flower = _any(rng, 0.5, 0.9, 0.8, 1)
        brush.blob(rng.uniform(0, wide), rng.uniform(0, floor), 0.016, 0.016, flower, line=0.5)


def _street(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    for _ in range(30):
        brush.blob(rng.uniform(0, wide), rng.uniform(0.5, 1), 0.005, 0.005, _WHITE, line=0)
    brush.blob(rng.uniform(0, wide), 0.85, 0.1, 0.1, (250, 246, 200), line=0)
    x = -0.1
    while x < wide:
        columns, rows, wall = int(rng.integers(2, 5)), int(rng.integers(2, 5)), _any(rng, 0.2, 0.7, 0.15, 0.5)
        house = brush.at(x, floor)
        house.box(0, 0, 0.11 * columns + 0.05, 0.14 * rows + 0.04, wall)
        for column in range(columns):
            for row in range(rows):
                pane = (250, 220, 110) if rng.random() < 0.5 else _shade(wall, 0.6)
                left, low = 0.05 + 0.11 * column, 0.05 + 0.14 * row
                house.box(left, low, left + 0.06, low + 0.08, pane, line=0.5)
        x += 0.11 * columns + 0.05
    brush.box(0, 0, wide, floor, _any(rng, 0, 0.3, 0.25, 0.5), line=0)
    brush.box(0, floor - 0.05, wide, floor, (150, 146, 150))
    lamp = brush.at(rng.uniform(0, wide), floor)
    lamp.limb([(0, -0.03), (0, 0.5)], 0.02, (60, 66, 70))
    lamp.blob(0, 0.54, 0.05, 0.06, (255, 240, 160))


def _beach(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    sea, cloth = _shade((40, 140, 180), rng.uniform(0.6, 1.3)), _any(rng, 0.6, 1, 0.6, 1)
    brush.blob(rng.uniform(0, wide), floor + 0.35, 0.12, 0.12, (255, 220, 130), line=0)
    brush.box(0, floor, wide, floor + 0.22, sea, line=0)
    for _ in range(20):
        wave = brush.at(rng.uniform(0, wide), floor + rng.uniform(0.02, 0.2))
        wave.limb([(0, 0), (0.05, 0)], 0.006, _shade(sea, 1.3), line=0)
    brush.box(0, 0, wide, floor, _shade((232, 208, 150), rng.uniform(0.75, 1.05)), line=0)
    shade, palm = brush.at(rng.uniform(0.2, wide - 0.2), floor), brush.at(rng.uniform(0, wide), floor)
    shade.limb([(0, -0.08), (0, 0.45)], 0.015, (170, 130, 90))
    arc = [(0.3 * math.cos(k * math.pi / 6), 0.38 + 0.2 * math.sin(k * math.pi / 6)) for k in range(7)]
    for k in range(6):
        shade.shape([(0, 0.38), arc[k], arc[k + 1]], cloth if k % 2 else _WHITE)
    palm.limb([(0, -0.05), (0.04, 0.2), (0.02, 0.45)], 0.05, (140, 100, 60))
    for turn in (0, 0.8, 1.6, 2.4, 3.2):
        x, y = 0.02 + 0.12 * math.cos(turn), 0.46 + 0.08 * math.sin(turn)
        palm.blob(x, y, 0.13, 0.03, (60, 140, 60), turn=turn)


def _card(brush: _Brush, rng: np.random.Generator, wide: float, floor: float) -> None:
    one, two, rays = _any(rng, 0.3, 0.9, 0.4, 1), _any(rng, 0.3, 0.9, 0.4, 1), int(rng.integers(8, 16))
    brush.box(0, 0, wide, 1, one, line=0)
    centre = brush.at(wide * rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.6))
    rim = [(3 * math.cos(k * math.pi / rays), 3 * math.sin(k * math.pi / rays)) for k in range(2 * rays)]
    for k in range(0, 2 * rays, 2):
        centre.shape([(0, 0), rim[k], rim[k + 1]], two, line=0)
    for radius, colour in ((0.42, two), (0.34, _shade(one, 0.8)), (0.24, _shade(two, 1.2))):
        centre.blob(0, 0, radius, radius, colour)
    brush.box(0, 0, wide, floor * 0.5, _shade(one, 0.6))


_BACKGROUNDS: Final = (_room, _room, _kitchen, _garden, _street, _beach, _card)


def _prop(brush: _Brush, rng: np.random.Generator) -> None:
    """A thing in one of the characters' colours, or cheese, so that no colour alone tells who is there."""
    kind, owner = rng.integers(5), _TOM if rng.random() < 0.5 else _JERRY
    colour = _shade(owner.fur, rng.uniform(0.85, 1.15))
    if kind == 0:  # a cushion
        brush.blob(0, 0.3, 0.5, 0.28, colour, turn=0.15)
        brush.blob(0, 0.32, 0.06, 0.05, _shade(colour, 0.7), line=0)
    elif kind == 1:  # a vase
        brush.shape([(-0.12, 0.7), (-0.2, 1), (0.2, 1), (0.12, 0.7)], colour)
        brush.blob(0, 0.4, 0.32, 0.4, colour)
        brush.box(-0.3, 0.4, 0.3, 0.5, _WHITE, line=0.5)
    elif kind == 2:  # a crate
        brush.box(-0.5, 0, 0.5, 0.85, colour)
        for y in (0, 0.3, 0.6):
            brush.box(-0.42, y + 0.04, 0.42, y + 0.22, _shade(colour, 0.8), line=0.5)
    elif kind == 3:  # a ball
        brush.blob(0, 0.42, 0.42, 0.42, colour)
        brush.limb([(-0.4, 0.42), (0, 0.3), (0.4, 0.42)], 0.1, _WHITE, line=0)
    else:
        brush.shape([(-0.5, 0), (0.5, 0), (0.5, 0.35), (-0.3, 0.7)], (248, 206, 80))
        for x, y in ((-0.2, 0.3), (0.1, 0.14), (0.3, 0.3)):
            brush.blob(x, y, 0.08, 0.07, (214, 160, 50), line=0.5)


@dataclass(frozen=True)
class _Actor:
    """One animal of a clip: how it is drawn, and how tall it is and where it walks as shares of the picture."""

    draw: Callable[[_Brush, _Coat, _Pose], None]
    coat: _Coat
    height: float
    start: float
    stop: float
    ground: float
    upright: bool
    phase: float
    pace: float

    def pose(self, time: float) -> _Pose:
        """The pose at a time from 0, the clip's first frame, to 1, its last."""
        step = self.phase + self.pace * time
        return _Pose(step, blink=math.sin(1.3 * step + self.phase) > 0.93, upright=self.upright)

    def x(self, time: float) -> float:
        """The place across the picture, 0 to 1; outside that the animal is out of sight."""
        return self.start + (self.stop - self.start) * time

    def visible(self, time: float) -> bool:
        """Whether it is clearly in the picture; an animal that would only peep in is left out altogether."""
        return 0.1 <= self.x(time) <= 0.9


_OTHERS: Final = (
    ((_dog, _TAN_DOG, 0.6), (_dog, _BROWN_DOG, 0.6)),
    ((_duckling, _DUCK, 0.32),),
    ((_cat, _BLACK_CAT, 0.62),),
    ((_mouse, _GREY_MOUSE, 0.36),),
)


def _cast(rng: np.random.Generator) -> list[_Actor]:
    """Choose a clip's animals, far to near; the cat and the mouse are those in the coats of Tom and Jerry."""
    stars = list(_CASTS)[rng.choice(4, p=_CAST_SHARES)]
    mover = rng.integers(2) if rng.random() < 0.2 else -1  # this character goes out or, where it is not cast, comes in
    roles = []
    if rng.random() < 0.4:  # whoever the stars are, so that the other animals tell nothing about them
        kind = _OTHERS[rng.integers(len(_OTHERS))]
        roles.append((*kind[rng.integers(len(kind))], -2))
    for star, role in enumerate(((_cat, _TOM, 0.7), (_mouse, _JERRY, 0.47))):
        if stars[star] or mover == star:
            roles.append((*role, star))
    actors = []
    for slot, (draw, coat, height, star) in zip(rng.permutation(3), roles, strict=False):
        start = 0.22 + 0.28 * int(slot) + rng.uniform(-0.06, 0.06)
        stop = min(0.86, max(0.14, start + rng.uniform(-0.12, 0.12)))
        if star == mover:
            stop = -0.25 if start < 0.5 else 1.25
            start, stop = (start, stop) if stars[star] else (stop, start)
        upright = bool(rng.random() < 0.6)
        tall = height * rng.uniform(0.88, 1.12) * (0.85 if draw is _cat and not upright else 1)
        gait = rng.uniform(0.03, 0.14), upright, rng.uniform(0, math.tau), rng.uniform(1, 5)
        actors.append(_Actor(draw, coat, tall, start, stop, *gait))
    return actors


class _Clip:
    """One clip: its painted background, its animals, and the camera that looks at them."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        """Choose everything that stays the same from frame to frame; `size` is a frame's (height, width)."""
        self.size = size
        bars = rng.uniform(0.05, 0.11) if rng.random() < 0.4 else 0.0
        tall, wide = (1 - 2 * bars, 1.0) if rng.random() < 0.5 else (1.0, 1 - 2 * bars)
        self.height, self.width = round(size[0] * tall), round(size[1] * wide)  # the picture within the black bars
        self.actors = _cast(rng)
        zoom, pan = rng.uniform(1, 1.35), rng.random()
        self.zoom = zoom, min(1.35, max(1.0, zoom + rng.uniform(-0.15, 0.15)))
        self.pan = pan, min(1.0, max(0.0, pan + rng.uniform(-0.4, 0.4)))
        self.bush = (rng.random(), _any(rng, 0.3, 0.8, 0.2, 0.6)) if rng.random() < 0.1 else None
        self.backdrop = self._paint(rng)
        light, lift = rng.uniform(0.84, 1.08), rng.uniform(0, 20)
        gains = light * rng.uniform(0.94, 1.06, 3)
        self.grade = [round(min(255, lift + gain * v * (255 - lift) / 255)) for gain in gains for v in range(256)]

    def _paint(self, rng: np.random.Generator) -> Image.Image:
        """Paint a background somewhat larger than the picture, so that the camera has room to move."""
        w, h = round(1.2 * _DETAIL * self.width), round(1.2 * _DETAIL * self.height)
        paint = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
        day = paint is not _street
        high, low = (_any(rng, 0.1, 0.7, *((0.6, 1.0) if day else (0.1, 0.35))) for _ in range(2))
        image = ImageOps.colorize(Image.linear_gradient("L"), high, low).resize((w, h))
        draw, line, floor = ImageDraw.Draw(image), 0.006 * h, rng.uniform(0.25, 0.38)
        paint(_Brush(draw, 0, h, h, line), rng, w / h, floor)
        if rng.random() < 0.5:
            x, y = rng.uniform(0.1, 0.9) * w, (1 - rng.uniform(0.08, floor)) * h
            _prop(_Brush(draw, x, y, rng.uniform(0.12, 0.26) * h, line), rng)
        haze = Image.new("RGB", (w, h), _any(rng, 0, 0.25, *((0.8, 1.0) if day else (0.3, 0.5))))
        image = Image.blend(image, haze, 0.5)  # paler than the animals, as if in water colour
        return ImageOps.mirror(image) if rng.random() < 0.5 else image

    def labels(self, time: float) -> tuple[int, int]:
        """Whether the cat and the mouse are in the picture, each 0 or 1."""
        coats = [actor.coat for actor in self.actors if actor.visible(time)]
        return int(_TOM in coats), int(_JERRY in coats)

    def hard(self, time: float) -> bool:
        """Whether an animal could be taken for an absent character, or the bush hides part of a present one."""
        seen = {actor.coat: actor.x(time) for actor in self.actors if actor.visible(time)}
        alike = ((_BLACK_CAT, _TOM), (_GREY_MOUSE, _JERRY))
        hidden = self.bush and any(abs(seen.get(star, 9) - self.bush[0]) < 0.1 for star in (_TOM, _JERRY))
        return bool(hidden) or any(other in seen and star not in seen for other, star in alike)

    def frame(self, time: float) -> Image.Image:
        """Draw the frame at a time from 0, the clip's first frame, to 1, its last."""
        zoom, pan = (a + (b - a) * time for a, b in (self.zoom, self.pan))
        w, h = _DETAIL * self.width, _DETAIL * self.height
        view_w, view_h = self.backdrop.width / zoom, self.backdrop.height / zoom
        left, top = pan * (self.backdrop.width - view_w), 0.8 * (self.backdrop.height - view_h)
        image = self.backdrop.resize((w, h), Image.Resampling.BILINEAR, (left, top, left + view_w, top + view_h))
        draw = ImageDraw.Draw(image, "RGBA")  # blends the see-through shadows
        for actor in self.actors:
            if actor.visible(time):
                pose, unit = actor.pose(time), actor.height * h * zoom / self.zoom[0]
                x, y = actor.x(time) * w, (1 - actor.ground) * h
                brush = _Brush(draw, x, y, unit, 0.008 * h, -1 if actor.stop < actor.start else 1)
                brush.blob(0, 0, 0.3, 0.04, (0, 0, 0, 80), line=0)
                actor.draw(brush.at(0, 0.02 * abs(math.sin(pose.step))), actor.coat, pose)
        if self.bush:
            brush = _Brush(draw, self.bush[0] * w, h, h, 0.008 * h)
            for x, y in ((-0.1, 0.0), (0.12, 0.02), (0.0, 0.08)):
                brush.blob(x, y, 0.15, 0.13, self.bush[1])
        page = Image.new("RGB", (self.size[1], self.size[0]))
        corner = (self.size[1] - self.width) // 2, (self.size[0] - self.height) // 2
        page.paste(image.reduce(_DETAIL).point(self.grade), corner)
        return page


def draw_demo(
    root: Path,
    *,
    clips: int = CLIPS,
    clip_length: int = CLIP_LENGTH,
    size: tuple[int, int] = (144, 256),
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Draw a demo set in the layout of the Tom & Jerry frames on Kaggle.

    Writes `tom_and_jerry/tom_and_jerry/{tom,jerry,tom_jerry_0,tom_jerry_1}/frameN.jpg`, with N counting from 0 over
    all clips in order, so that clip k owns the frames from k * clip_length on; `ground_truth.csv` (filename, tom,
    jerry); and `challenges.csv` (folder, image_name), which names hard frames. A clip depends on the seed, its own
    number, the clip length and the size only: fewer clips are the beginning of the same set. The bytes are the same
    for the same versions of Pillow and numpy.

    Args:
        root: Folder to write to; made where missing.
        clips: Number of clips, at least 1.
        clip_length: Frames a clip, at least 1.
        size: Frame (height, width) in pixels, each at least 32.
        seed: Seed of all that is chosen at random, not negative.
        advance: Called with 1 after every clip, for a progress bar.

    Raises:
        ValueError: If a number is out of its range.
        FileExistsError: If `root` holds frames already, since old and new ones would mix.
    """
    if clips < 1 or clip_length < 1:
        raise ValueError(f"expected at least 1 clip of at least 1 frame, found {clips=}, {clip_length=}")
    if min(size) < _MIN_SIDE:
        raise ValueError(f"expected a size of at least {_MIN_SIDE} x {_MIN_SIDE} pixels, found {size[0]} x {size[1]}")
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, found {seed}")
    frames = root / "tom_and_jerry" / "tom_and_jerry"
    if frames.exists():
        raise FileExistsError(f"expected no frames yet, found {frames}")
    for folder in _CASTS.values():
        (frames / folder).mkdir(parents=True)
    truth: list[tuple[str, int, int]] = []
    challenges: list[tuple[str, str]] = []
    for index in range(clips):
        clip = _Clip(np.random.default_rng([seed, index]), size)
        for k in range(clip_length):
            time = k / max(1, clip_length - 1)
            labels, name = clip.labels(time), f"frame{len(truth)}.jpg"
            clip.frame(time).save(frames / _CASTS[labels] / name, quality=85)
            truth.append((name, *labels))
            if k == clip_length // 2 and clip.hard(time):
                challenges.append((_CASTS[labels], name))
        if advance is not None:
            advance(1)
    _write(root / "ground_truth.csv", [("filename", "tom", "jerry"), *truth])
    _write(root / "challenges.csv", [("folder", "image_name"), *challenges])


def _write(path: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
