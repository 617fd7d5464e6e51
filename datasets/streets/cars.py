"""Cars of ``streets``: boxes with a cabin, windows, wheels and lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dabench.datasets.streets.canvas import NEAR, Array, Canvas, Colour, panes, upright
from dabench.datasets.streets.look import Dice, Look

_TYRE: Colour = (28, 28, 30)
_PANE: Colour = (52, 62, 74)
_NEAR = 0.86  # light on the near end
_RING = np.linspace(0, 2 * np.pi, 9)[:-1]
# shares of a wall, across and up
_GLASS = np.array(((0.07, 0.93),)), np.array(((0.12, 0.86),))
_LAMPS = np.array(((0.03, 0.2), (0.8, 0.97))), np.array(((0.55, 0.82),) * 2)
_PLATE = np.array(((0.36, 0.64),)), np.array(((0.3, 0.5),))
_TYRES = np.array(((0.02, 0.16), (0.84, 0.98)))


@dataclass(frozen=True)
class Car:
    """A car along the street.

    Attributes:
        x: its middle; z: its near end; wide, high, long: metres.
        cabin: near and far end of the cabin as shares of the length.
        colour: of the body; away: whether it shows its back.
        sun: the side that the sun shines on, -1 or 1.
    """

    x: float
    z: float
    wide: float
    high: float
    long: float
    cabin: tuple[float, float]
    colour: Colour
    away: bool
    sun: int

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw it ``ahead`` metres farther along the street."""
        z0 = self.z + ahead
        z1, belt = z0 + self.long, 0.56 * self.high
        if z1 - c.camera.z < NEAR or c.misses(self.x, z1, self.wide):
            return
        half, large = self.wide / 2, c.metre(z0) > 6
        self._wheels(c, z0, large)
        body = _Box(self.x - half, self.x + half, 0.22, belt, z0, z1)
        self._faces(c, body, False, large)
        ends = (z0 + self.cabin[0] * self.long, z0 + self.cabin[1] * self.long)
        cabin = _Box(self.x - half + 0.05, self.x + half - 0.05, belt, self.high, *ends, 0.14, 0.35)
        self._faces(c, cabin, True, large)
        if large:
            self._lights(c, body.near(), z0)

    def _faces(self, c: Canvas, box: _Box, windows: bool, large: bool) -> None:
        """Draw what is seen of a box: roof, the side towards the camera, the near end."""
        if c.camera.y > box.y1 and (large or windows):
            c.shapes(box.top(), c.ink(self.colour, "car", box.z0, 1.12))
        walls = [(box.near(), _NEAR)]
        for side, x in ((-1, box.x0), (1, box.x1)):
            if c.right_of(x, box.z0) * side < 0:
                walls.insert(0, (box.flank(side), 1.0 if side == self.sun else 0.72))
        for wall, light in walls:
            c.shapes(wall, c.ink(self.colour, "car", box.z0, light))
            if windows and (large or light == _NEAR):
                c.shapes(panes(wall, *_GLASS), c.ink(_PANE, "car", box.z0, light))

    def _wheels(self, c: Canvas, z0: float, large: bool) -> None:
        """Draw what is below the body: tyres, and the sill of the flank that is seen."""
        ink, half = c.ink(_TYRE, "car", z0), self.wide / 2
        low = upright(self.x - half, self.x + half, 0.1, 0.25, z0, z0)
        c.shapes(low, ink)
        if not large:
            return
        low[:, 1] = (0, 0, 0.4, 0.4)
        c.shapes(panes(low, _TYRES, np.array(((0.0, 1.0),) * 2)), ink)
        x = self.x - half if c.right_of(self.x, z0) > 0 else self.x + half
        c.shapes(upright(x, x, 0.1, 0.3, z0 + 0.2, z0 + self.long), ink)
        rings = np.empty((2, 8, 3))
        rings[..., 0], rings[..., 1] = x, 0.31 + 0.31 * np.sin(_RING)
        rings[..., 2] = z0 + self.long * np.array(((0.19,), (0.8,))) + 0.33 * np.cos(_RING)
        c.shapes(rings, ink)

    def _lights(self, c: Canvas, wall: Array, z: float) -> None:
        """Draw lamps and a number plate on the near end."""
        lamp = (206.0, 30.0, 26.0) if self.away else (250.0, 246.0, 222.0)
        c.shapes(panes(wall, *_LAMPS), c.ink(lamp, "car", z))
        c.shapes(panes(wall, *_PLATE), c.ink((214, 212, 200), "car", z))


@dataclass(frozen=True)
class _Box:
    """A box along the street; its top may be narrower (``lean``) and shorter (``rake``)."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float
    lean: float = 0.0
    rake: float = 0.0

    def near(self) -> Array:
        low = ((self.x0, self.y0, self.z0), (self.x1, self.y0, self.z0))
        return np.array((*low, *self._roof()[1::-1]))

    def flank(self, side: int) -> Array:
        x, corners = (self.x0, (3, 0)) if side < 0 else (self.x1, (2, 1))
        roof = self._roof()
        low = ((x, self.y0, self.z0), (x, self.y0, self.z1))
        return np.array((*low, roof[corners[0]], roof[corners[1]]))

    def top(self) -> Array:
        return np.array(self._roof())

    def _roof(self) -> tuple[tuple[float, float, float], ...]:
        x0, x1 = self.x0 + self.lean, self.x1 - self.lean
        z0, z1 = self.z0 + self.rake, self.z1 - self.rake
        return (x0, self.y1, z0), (x1, self.y1, z0), (x1, self.y1, z1), (x0, self.y1, z1)


def make_car(dice: Dice, look: Look, x: float, z: float, away: bool, sun: int) -> Car:
    """Draw lots for a small car, a saloon or a van."""
    kind = dice.whole(0, 3)
    wide = dice.between((1.65, 1.9))
    if kind == 0:  # a van
        size, cabin = (dice.between((1.9, 2.3)), dice.between((4.6, 5.4))), (0.02, 0.8)
    elif kind == 1:  # a saloon
        size, cabin = (dice.between((1.38, 1.5)), dice.between((4.3, 4.8))), (0.16, 0.74)
    else:
        size, cabin = (dice.between((1.42, 1.6)), dice.between((3.6, 4.2))), (0.03, 0.72)
    if not away:
        cabin = (1 - cabin[1], 1 - cabin[0])
    return Car(x, z, wide, *size, cabin, dice.colour(look.cars), away, sun)
