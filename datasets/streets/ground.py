"""The ground of ``streets``: road, marks, pavement, verges, their texture and shadows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.streets.canvas import (
    FAR,
    NEAR,
    NUMBER,
    Array,
    Canvas,
    Colour,
    Pictures,
    fill,
    flat,
)
from dabench.datasets.streets.look import Look

_STEPS = np.geomspace(NEAR, FAR, 18)
_TILE, _FINE = 128, 16  # pixels a side of a texture tile, and pixels a metre


@dataclass(frozen=True)
class Ground:
    """The measures and colours of a street's ground.

    Attributes:
        half: half the road's width in metres, parked cars included.
        lane: width of a lane.
        path: width of each pavement.
        verge: width of the grass between road and pavement; 0 = none.
        road, pavement, terrain: colours.
        crossing: z of a side street's near edge, or None.
        side: width of the side street.
    """

    half: float
    lane: float
    path: float
    verge: float
    road: Colour
    pavement: Colour
    terrain: Colour
    crossing: float | None
    side: float

    @property
    def fronts(self) -> float:
        """Distance of the houses' fronts from the street's middle line."""
        return self.half + self.verge + self.path

    def crosses(self, z0: float, z1: float) -> bool:
        """Return whether a stretch touches the side street or its zebra stripes."""
        return (
            self.crossing is not None and z1 > self.crossing - 5 and z0 < self.crossing + self.side
        )


def draw_ground(c: Canvas, g: Ground, look: Look) -> None:
    """Draw everything that lies flat, with its texture."""
    c.plane[max(0, int(c.horizon)) :] = np.array(c.ink(g.terrain, "terrain", c.camera.z + 20))
    _strip(c, -g.fronts, g.fronts, g.pavement, "pavement")
    if g.verge:
        for side in (-1, 1):
            ends = sorted((side * g.half, side * (g.half + g.verge)))
            _strip(c, ends[0], ends[1], g.terrain, "terrain")
    _strip(c, -g.half - 0.18, g.half + 0.18, _lit(g.pavement, 0.8), "pavement")  # the kerb
    _strip(c, -g.half, g.half, g.road, "road")
    if g.crossing is not None:
        here = flat(-70, 70, g.crossing, g.crossing + g.side)
        c.shapes(here, c.ink(g.road, "road", g.crossing))
    _marks(c, g, look)
    _texture(c, look)


def _lit(colour: Colour, light: float) -> Colour:
    return colour[0] * light, colour[1] * light, colour[2] * light


def _strip(c: Canvas, x0: float, x1: float, colour: Colour, name: str) -> None:
    """Fill the ground between two distances from the middle line, as far as one can see."""
    z = c.camera.z + _STEPS
    edges = [np.stack((np.full_like(z, x), 0 * z, z), axis=1) for x in (x0, x1)]
    c.shapes(np.concatenate((edges[0], edges[1][::-1])), c.ink(colour, name, c.camera.z + 15))


def _marks(c: Canvas, g: Ground, look: Look) -> None:
    """Draw dashes between lanes, a middle line and zebra stripes."""
    ink = c.ink(look.line, "road", c.camera.z + 15)
    first = np.floor(c.camera.z / 9) * 9
    dashes = [z for z in first + 9 * np.arange(9) if not g.crosses(z, z + 3.5)]
    for i in range(1 - look.lanes, look.lanes):
        middle = i == 0 and look.lanes > 1  # a double line without gaps
        for shift in (-0.16, 0.16) if middle else (0.0,):
            x, long = i * g.lane + shift, 9.0 if middle else 3.2
            if dashes:
                c.shapes(np.stack([flat(x - 0.08, x + 0.08, z, z + long) for z in dashes]), ink)
    if g.crossing is not None:
        stripes = np.arange(-g.half + 0.4, g.half - 0.4, 1.0)
        z = g.crossing - 4
        zebra = np.stack([flat(x, x + 0.5, z, z + 2.8) for x in stripes])
        if z > c.camera.z - 2:
            c.shapes(zebra, ink)


def _texture(c: Canvas, look: Look) -> None:
    """Lay tiles on road, pavement and terrain, in perspective."""
    top = int(np.ceil(c.horizon + 0.02 * c.height))
    if top >= c.height:
        return
    part = c.plane[top:]
    ahead = c.focal * c.camera.y / (np.arange(top, c.height) + 0.5 - c.horizon)[:, None]
    x = (np.arange(c.width) + 0.5 - c.middle) * ahead / c.focal + c.camera.x
    x = x - c.camera.bend * ahead**2
    across = (x * _FINE).astype(np.int64) % _TILE
    along = ((ahead + c.camera.z) * _FINE).astype(np.int64) % _TILE
    grain = tiles(look.cobbles)[_layer(part[..., 3]), along, across]
    depth = grain * np.minimum(1, 7 / ahead)
    part[..., :3] = np.clip(part[..., :3] * (1 + depth[..., None]), 0, 255).astype(np.uint8)


def _layer(classes: Pictures) -> npt.NDArray[np.intp]:
    """Return which tile a class of the ground wears."""
    which = np.zeros(256, dtype=np.intp)
    which[NUMBER["pavement"]], which[NUMBER["terrain"]] = 1, 2
    found: npt.NDArray[np.intp] = which[classes]
    return found


@lru_cache(maxsize=2)
def tiles(cobbles: bool) -> npt.NDArray[np.float32]:
    """Return (3, T, T) relative brightness of road, pavement and terrain; tiles repeat."""
    rng = np.random.default_rng(int(cobbles))
    coarse, fine = _noise(rng, 8), _noise(rng, 64)
    road = 0.05 * coarse + 0.05 * fine
    slabs = 0.04 * fine - 0.16 * _joints(16, 1)
    if cobbles:
        road = 0.08 * _noise(rng, 32) + 0.05 * fine - 0.22 * _joints(8, 1, stagger=True)
        slabs = 0.06 * fine - 0.22 * _joints(8, 1, stagger=True)
    grass = 0.12 * _noise(rng, 16) + 0.14 * fine
    return np.stack((road, slabs, grass)).astype(np.float32)


def _noise(rng: np.random.Generator, cells: int) -> Array:
    """Return (T, T) smooth noise of unit spread."""
    values = rng.standard_normal((cells, cells))
    large: Array = cv2.resize(values, (_TILE, _TILE), interpolation=cv2.INTER_LINEAR)
    return large


def _joints(step: int, width: int, stagger: bool = False) -> Array:
    """Return (T, T) with ones on the joints of a pavement."""
    rows, columns = np.mgrid[:_TILE, :_TILE]
    moved = columns + (rows // step % 2) * (step // 2 if stagger else 0)
    made: Array = ((rows % step < width) | (moved % step < width)).astype(np.float64)
    return made


def draw_shadows(c: Canvas, outlines: list[Array], depth: float) -> None:
    """Darken the ground under (4, 3) outlines, by a share; blue a little less."""
    top = max(0, int(c.horizon) + 1)
    mask = np.zeros((c.height, c.width), dtype=np.uint8)
    for outline in c.put(np.stack(outlines)) if outlines else ():
        fill(mask, outline, [255])
    below = mask[top:] > 0
    part = c.plane[top:]
    part[below, :3] = part[below, :3] * np.array((1 - depth, 1 - depth, 1 - 0.8 * depth))
