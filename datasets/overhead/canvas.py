"""What the scenes of ``overhead`` are drawn on: a turned canvas with a light and colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dabench.datasets.overhead.palette import ASPHALTS, SEASONS, SOILS, WATERS, Colour

SIDE = 128  # pixels of the canvas; reduced afterwards, so that edges become smooth
HALF = SIDE / 2
NIGHT: Colour = (16, 18, 30)  # what shadows are made of
Array = npt.NDArray[np.float64]


class Canvas:
    """A picture in the making; lengths are canvas pixels at zoom 1, (0, 0) is its centre.

    Every canvas has a turn, a zoom, a season, a soil, a water, an asphalt and a sun of its own.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.image = Image.new("RGB", (SIDE, SIDE))
        self._pen = ImageDraw.Draw(self.image)
        self.zoom = float(rng.uniform(0.85, 1.3))
        self.reach = 95 / self.zoom  # beyond this distance from the centre nothing is seen
        angle, sun = rng.uniform(0, 2 * np.pi, 2)
        self._turn = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
        self._sun = np.array((np.cos(sun), np.sin(sun))) * rng.uniform(0.3, 1.2)
        self._shade = int(rng.uniform(70, 150))
        self.grass, self.crown = SEASONS[rng.integers(len(SEASONS))]
        self.soil, self.water = self.pick(SOILS), self.pick(WATERS)
        self.asphalt = self.pick(ASPHALTS)

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """Return a uniform number."""
        return float(self.rng.uniform(low, high))

    def pick(self, colours: Sequence[Colour], spread: float = 8.0) -> Colour:
        """Return one of the colours, varied."""
        return self.picks(colours, 1, spread)[0]

    def vary(self, colour: Colour, spread: float = 8.0, light: float = 0.0) -> Colour:
        """Return a colour made lighter by ``light``, and varied: mostly in light, less in hue."""
        return self.shades([colour], spread, light)[0]

    def shades(
        self, colours: npt.ArrayLike, spread: float = 8.0, light: npt.ArrayLike = 0.0
    ) -> list[Colour]:
        """Return (N, 3) colours, each made lighter by ``light`` and varied."""
        plain = np.asarray(colours, dtype=np.float64)
        shift = np.asarray(light) + spread * self.rng.normal(size=len(plain))
        mixed = plain + shift[:, None] + self.rng.normal(0, spread * 0.35, plain.shape)
        return [(r, g, b) for r, g, b in mixed.clip(0, 255).astype(int).tolist()]

    def picks(self, colours: Sequence[Colour], count: int, spread: float = 8.0) -> list[Colour]:
        """Return ``count`` of the colours, each varied."""
        return self.shades(np.array(colours)[self.rng.integers(len(colours), size=count)], spread)

    def in_view(self, points: Array) -> Array:
        """Return those of (N, 2) positions that lie on the picture or near its edge."""
        placed = self.put(points)
        kept: Array = points[((placed > -12) & (placed < SIDE + 12)).all(axis=1)]
        return kept

    def points(self, count: int, reach: float | None = None) -> Array:
        """Return (count, 2) positions anywhere in view, or within ``reach`` of the centre."""
        reach = self.reach if reach is None else reach
        return self.rng.uniform(-reach, reach, (count, 2))

    def put(self, points: npt.ArrayLike) -> Array:
        """Return (..., 2) lengths as positions on the picture."""
        placed: Array = np.asarray(points, dtype=np.float64) @ self._turn * self.zoom + HALF
        return placed

    def ground(self, one: Colour, other: Colour, cells: int = 6) -> None:
        """Fill the picture with two colours that run into each other."""
        mask = self.patches(cells)
        fill = [Image.new("RGB", (SIDE, SIDE), colour) for colour in (one, other)]
        self.image.paste(Image.composite(fill[0], fill[1], mask))

    def patches(self, cells: int) -> Image.Image:
        """Return a smooth random mask with about ``cells`` patches a side."""
        coarse = self.rng.integers(0, 256, (cells, cells), dtype=np.uint8)
        return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    def shapes(self, corners: npt.ArrayLike, colours: Iterable[Colour] | Colour) -> None:
        """Draw (N, P, 2) polygons, or one of (P, 2)."""
        flat = self.put(corners)
        flat = flat[None] if flat.ndim == 2 else flat
        each = [colours] * len(flat) if isinstance(colours, tuple) else colours
        seen = ((flat.max(1) > 0) & (flat.min(1) < SIDE)).all(1).tolist()
        outlines = flat.reshape(len(flat), -1).tolist()
        for outline, colour, visible in zip(outlines, each, seen, strict=True):
            if visible:
                self._pen.polygon(outline, fill=colour)

    def discs(self, centres: Array, radii: Array, colours: Iterable[Colour] | Colour) -> None:
        """Draw (N, 2) discs with (N,) radii."""
        each = [colours] * len(centres) if isinstance(colours, tuple) else colours
        for outline, colour in zip(self._boxes(centres, radii).tolist(), each, strict=True):
            self._pen.ellipse(outline, fill=colour)

    def line(self, points: npt.ArrayLike, width: float, colour: Colour) -> None:
        """Draw a line through (P, 2) points."""
        flat = self.put(points).ravel().tolist()
        self._pen.line(flat, fill=colour, width=max(1, round(width * self.zoom)), joint="curve")

    def cast(self, corners: Array, height: float) -> None:
        """Darken where (N, P, 2) polygons of a height throw their shadow."""
        flat, mask = self.put(corners), Image.new("L", (SIDE, SIDE))
        pen, offset = ImageDraw.Draw(mask), self._sun * height * self.zoom
        for share in (0.5, 1.0):
            for outline in (flat + share * offset).reshape(len(flat), -1).tolist():
                pen.polygon(outline, fill=self._shade)
        self.image.paste(NIGHT, mask=mask)

    def cast_discs(self, centres: Array, radii: Array, height: float) -> None:
        """Darken where (N, 2) discs with (N,) radii, at a height, throw their shadow."""
        mask = Image.new("L", (SIDE, SIDE))
        pen, offset = ImageDraw.Draw(mask), self._sun * height * self.zoom
        for outline in (self._boxes(centres, radii) + np.tile(offset, 2)).tolist():
            pen.ellipse(outline, fill=self._shade)
        self.image.paste(NIGHT, mask=mask)

    def sunny(self, length: float) -> Array:
        """Return a step towards the sun, in lengths."""
        step: Array = self._turn @ -self._sun * length / np.linalg.norm(self._sun)
        return step

    def _boxes(self, centres: Array, radii: Array) -> Array:
        middle, reach = self.put(centres), radii[:, None] * self.zoom
        return np.hstack((middle - reach, middle + reach))


def box(centres: npt.ArrayLike, length: float, width: float) -> Array:
    """Return (N, 4, 2) corners of boxes along the axes, from (N, 2) centres."""
    return boxes(centres, np.array((length, width)))


def boxes(centres: npt.ArrayLike, sides: Array) -> Array:
    """Return (N, 4, 2) corners of boxes with (N, 2) or (2,) lengths and widths."""
    middle = np.atleast_2d(np.asarray(centres, dtype=np.float64))
    corners = np.array(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)))
    made: Array = middle[:, None] + corners * np.atleast_2d(sides)[:, None]
    return made


def turned(corners: Array, angles: Array | float) -> Array:
    """Return (N, P, 2) shapes, each turned about its own centre by its angle (radians)."""
    angle = np.broadcast_to(angles, len(corners))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack((np.stack((cos, sin), -1), np.stack((-sin, cos), -1)), -2)
    middle = corners.mean(axis=1, keepdims=True)
    made: Array = (corners - middle) @ turn + middle
    return made
