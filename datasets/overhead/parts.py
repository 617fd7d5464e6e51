"""Things that several scenes of ``overhead`` share: trees, roofs, roads, cars, ponds, fields."""

from __future__ import annotations

import numpy as np

from dabench.datasets.overhead.canvas import Array, Canvas, box, boxes, turned
from dabench.datasets.overhead.palette import CARS, ROOFS, SOILS, WATERS


def meadow(c: Canvas) -> None:
    """Fill the picture with patches of grass, and of soil."""
    other = c.soil if c.chance(0.5) else c.vary(c.grass, 14, -8)
    c.ground(c.vary(c.grass), other, int(c.rng.integers(3, 9)))


def trees(c: Canvas, centres: Array, least: float = 2.5, most: float = 5.0) -> None:
    """Draw crowns with shadows and sunny sides at (N, 2) positions."""
    centres = c.in_view(centres)
    if not len(centres):
        return
    radii = c.rng.uniform(least, most, len(centres))
    c.cast_discs(centres, radii, 3.0)
    light = c.rng.normal(0, 9, len(centres))
    crowns = [c.crown] * len(centres)
    c.discs(centres, radii, c.shades(crowns, 4, light - 6))
    tops = centres + c.sunny(1.0)
    c.discs(tops, radii * 0.55, c.shades(crowns, 4, light + 12))


def houses(c: Canvas, centres: Array, angles: Array | float = 0.0) -> None:
    """Draw houses (two roof planes, a shadow) at (N, 2) positions, each turned by its angle."""
    if not len(centres):
        return
    sides = c.rng.uniform((11, 8), (17, 11), (len(centres), 2))
    walls = turned(boxes(centres, sides), angles)
    c.cast(walls, 4.0)
    roofs = c.picks(ROOFS, len(centres))
    c.shapes(walls, roofs)
    ridge = (walls[:, (0, 1)] + walls[:, (3, 2)]) / 2
    c.shapes(np.concatenate((walls[:, :2], ridge[:, ::-1]), axis=1), c.shades(roofs, 3, -24))


def cars(c: Canvas, centres: Array, angles: Array | float = 0.0, size: float = 1.0) -> None:
    """Draw cars at (N, 2) positions, each turned by its angle."""
    if not len(centres):
        return
    bodies = turned(box(centres, 5.5 * size, 2.8 * size), angles)
    c.cast(bodies, 0.8)
    c.shapes(bodies, c.picks(CARS, len(centres)))


def road(c: Canvas, path: Array, width: float = 8.0, traffic: float = 0.5) -> None:
    """Draw a road with verge, middle line and cars along (P, 2) points."""
    c.line(path, width + 3, c.vary(c.soil, 6))
    c.line(path, width, c.asphalt)
    if c.chance(0.6):
        c.line(path, 0.8, c.vary(c.asphalt, 4, 70))
    if c.chance(traffic):
        some = c.rng.integers(0, len(path) - 1, c.rng.integers(1, 4))
        step = path[some + 1] - path[some]
        middle = path[some] + step * c.rng.uniform(0, 1, (len(some), 1))
        side = step[:, ::-1] * (-1, 1) / np.linalg.norm(step, axis=1, keepdims=True)
        cars(c, middle + side * width / 4, np.arctan2(step[:, 1], step[:, 0]))


def straight(c: Canvas, past: float) -> Array:
    """Return a line through the picture that passes the centre at a distance."""
    angle = c.between(0, 2 * np.pi)
    along = np.array((np.cos(angle), np.sin(angle)))
    across = np.array((-along[1], along[0])) * past
    return np.stack([across + along * s for s in (-c.reach * 1.5, 0, c.reach * 1.5)])


def bend(c: Canvas, swing: float, waves: float, count: int = 24) -> Array:
    """Return (count, 2) points of a winding line along the first axis."""
    x = np.linspace(-1.1, 1.1, count) * c.reach
    phase = c.between(0, 2 * np.pi)
    y = swing * np.sin(x / c.reach * np.pi * waves + phase)
    y += swing * 0.3 * np.sin(x / c.reach * np.pi * waves * 2.3 + 2 * phase)
    return np.stack((x, y + c.between(-18, 18)), axis=1)


def blob(c: Canvas, centre: Array, radius: float, rough: float = 0.25) -> Array:
    """Return (1, 20, 2) corners of a rounded patch."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    wave = np.ones(len(angle))
    for k in (2, 3, 4):
        wave += rough * c.between(-1, 1) * np.cos(k * angle + c.between(0, 2 * np.pi)) / k
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    made: Array = (centre + ring * (radius * wave)[:, None])[None]
    return made


def fields(c: Canvas, least: float, ploughed: float) -> None:
    """Divide the picture into fields along the axes, some with rows of crops."""
    todo = [(-c.reach, -c.reach, c.reach, c.reach)]
    while todo:
        x0, y0, x1, y1 = todo.pop()
        wide, high = x1 - x0, y1 - y0
        if max(wide, high) > 2.2 * least or (max(wide, high) > least and c.chance(0.4)):
            cut = c.between(0.35, 0.65)
            if wide > high:
                todo += [(x0, y0, x0 + cut * wide, y1), (x0 + cut * wide, y0, x1, y1)]
            else:
                todo += [(x0, y0, x1, y0 + cut * high), (x0, y0 + cut * high, x1, y1)]
            continue
        fill = c.pick((c.grass, c.grass, c.soil, *SOILS[:3], (176, 164, 92), (70, 106, 52)), 10)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        c.shapes(box(middle, wide - 1.5, high - 1.5), fill)
        if c.chance(ploughed):
            gap, dark = c.between(3.5, 7), c.vary(fill, 3, c.between(-26, -12))
            rows = np.arange(y0 + 2, y1 - 2, gap)
            spots = np.stack((np.full(len(rows), middle[0]), rows), axis=1)
            c.shapes(box(spots, wide - 3, gap * 0.45), dark)


def surroundings(c: Canvas, amount: float = 1.0) -> None:
    """Draw what may lie anywhere: a pond, a road, trees, single houses."""
    if c.chance(0.2 * amount):
        c.shapes(blob(c, c.points(1)[0], c.between(8, 20)), c.pick(WATERS))
    if c.chance(0.35 * amount):
        road(c, straight(c, c.between(15, 60)), c.between(6, 9))
    if c.chance(0.35 * amount):
        houses(c, c.points(int(c.rng.integers(1, 5))), c.between(0, np.pi))
    trees(c, c.points(int(c.rng.integers(0, 26) * amount)))
