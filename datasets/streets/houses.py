"""What lines the streets of ``streets``: houses with windows and roofs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dabench.datasets.streets.canvas import Array, Canvas, Colour, grid, panes, upright
from dabench.datasets.streets.look import Dice, Look

_Part = tuple[Array, Colour]  # shapes of one colour
_ALL = np.array(((0.0, 1.0),))


@dataclass(frozen=True)
class House:
    """A house at one side of the street.

    Attributes:
        side: -1 left, 1 right.
        x: distance of its front from the middle line.
        z0, z1: near and far end.
        deep: depth away from the street.
        storeys, storey: number and height of its floors.
        wall, roof, shop: colours; glass: colours of dark and of bright windows.
        ridge: height of a pitched roof above the eaves; 0 = flat.
        window: (2,) share of its cell that a window fills, across and up.
        pitch: distance between windows.
        bright: (512,) whether a window is a bright one.
        lights: brightness of the front that looks at the street.
        shutters: colour of shutters, or None.
    """

    side: int
    x: float
    z0: float
    z1: float
    deep: float
    storeys: int
    storey: float
    wall: Colour
    roof: Colour
    shop: Colour
    glass: tuple[Colour, Colour]
    ridge: float
    window: tuple[float, float]
    pitch: float
    bright: npt.NDArray[np.bool_]
    lights: float
    shutters: Colour | None

    @property
    def high(self) -> float:
        """Height of the eaves."""
        return self.storeys * self.storey + 0.6

    @property
    def front(self) -> float:
        """Where the front stands, x."""
        return self.side * self.x

    @property
    def back(self) -> float:
        """Where the house ends, x."""
        return self.side * (self.x + self.deep)

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw the wall at the street and the one at the near end; nothing moves (``ahead``)."""
        if self.ridge:
            self._roof(c)
        if self.z0 > c.camera.z:
            self._wall(c, self._gable, 0.78)
        if any(c.right_of(self.front, z) * self.side > 0 for z in (self.z0, self.z1)):
            self._wall(c, self._facade, self.lights)

    @cached_property
    def _gable(self) -> list[_Part]:
        wall = upright(self.front, self.back, -0.1, self.high, self.z0, self.z0)
        return self._parts(wall, self.deep, 0.0)

    @cached_property
    def _facade(self) -> list[_Part]:
        wall = upright(self.front, self.front, -0.1, self.high, self.z0, self.z1)
        return self._parts(wall, self.z1 - self.z0, self.storey / self.high)

    def _parts(self, wall: Array, long: float, first: float) -> list[_Part]:
        """Return the wall and what is on it; ``first``: share of its height that shops take."""
        parts: list[_Part] = [(wall, self.wall)]
        rows = self.storeys - bool(first)
        if rows:
            across, up = grid(max(1, round(long / self.pitch)), rows, *self.window, first)
            if self.shutters is not None:
                wider = (across[:, 1] - across[:, 0])[:, None] * np.array((-0.45, 0.45))
                parts.append((panes(wall, across + wider, up), self.shutters))
            each, bright = panes(wall, across, up), np.resize(self.bright, len(across))
            chosen = (each[~bright], each[bright])
            parts += [(c, g) for c, g in zip(chosen, self.glass, strict=True) if len(c)]
        if first:
            across, _ = grid(max(1, round(long / 4)), 1, 0.72, 1.0)
            up = np.broadcast_to((0.0, 0.85 * first), across.shape)
            parts.append((panes(wall, across, up), self.shop))
        parts.append((panes(wall, _ALL, np.array(((0.975, 1.0),))), self.roof))
        return parts

    def _wall(self, c: Canvas, parts: list[_Part], light: float) -> None:
        near = c.metre((max(self.z0, c.camera.z) + self.z1) / 2) * self.storey > 5
        for corners, colour in parts if near else parts[:1]:
            c.shapes(corners, c.ink(colour, "building", self.z0, light))

    def _roof(self, c: Canvas) -> None:
        middle, top = (self.front + self.back) / 2, self.high + self.ridge
        eaves = self.front - self.side * 0.4
        slope = ((eaves, self.high - 0.2, self.z0), (eaves, self.high - 0.2, self.z1))
        ink = c.ink(self.roof, "building", self.z0, self.lights)
        c.shapes(np.array((*slope, (middle, top, self.z1), (middle, top, self.z0))), ink)
        ends = ((self.front, self.high), (self.back, self.high), (middle, top))
        gable = np.array([(x, y, self.z0) for x, y in ends])
        c.shapes(gable, c.ink(self.wall, "building", self.z0, 0.72))


def make_house(
    dice: Dice, look: Look, side: int, x: float, ends: tuple[float, float], sun: int
) -> House:
    """Draw lots for a house between two z; ``sun``: the side from which it shines."""
    glass = look.glass[:2]
    narrow = (dice.between((0.32, 0.45)), dice.between((0.5, 0.62)))
    plain = (dice.between((0.45, 0.7)), dice.between((0.42, 0.6)))
    window = narrow if look.shutters else (0.96, 0.45) if dice.chance(0.35) else plain
    lit = 1.0 if side != sun else 0.66
    return House(
        *(side, x + (dice.between((0, 0.6)) if dice.chance(0.4) else 0.0), *ends),
        deep=dice.between((8, 14)),
        storeys=dice.whole(*look.storeys),
        storey=dice.between(look.storey),
        wall=dice.colour(look.walls, 9),
        roof=dice.colour(look.roofs, 8),
        shop=dice.colour((*glass, *look.boards[:1]) if dice.chance(0.2) else glass),
        glass=(dice.colour(glass, 6), dice.colour(look.glass[1:], 8)),
        ridge=dice.between((1.6, 3.2)) if dice.chance(look.roof) else 0.0,
        window=window,
        pitch=dice.between((2.0, 3.4)),
        bright=dice.rng.random(512) < 0.25,
        lights=lit * dice.between((0.94, 1.06)),
        shutters=dice.colour((*look.boards[-1:], *look.roofs)) if look.shutters else None,
    )
