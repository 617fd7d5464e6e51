"""Scenes of ``overhead`` that were built: housing, parking, roundabout, runway, tanks."""

from __future__ import annotations

import numpy as np

from dabench.datasets.overhead.canvas import Array, Canvas, box
from dabench.datasets.overhead.palette import WHITE
from dabench.datasets.overhead.parts import cars, houses, meadow, road, surroundings, trees


def housing(c: Canvas) -> None:
    """Rows of houses along streets, with gardens."""
    meadow(c)
    gap, step = c.between(30, 40), c.between(15, 20)
    rows = []
    for y in np.arange(-2 * gap, 3 * gap, gap) - c.between(0, gap):
        road(c, np.array(((-c.reach, y), (0, y), (c.reach, y))), c.between(6, 8), 0.8)
        x = np.arange(-c.reach, c.reach, step) + c.between(0, step)
        for side in (-1, 1):
            kept = x[c.rng.random(len(x)) < 0.92]
            rows.append(np.stack((kept, np.full(len(kept), y + side * gap * 0.3)), 1))
    if c.chance(0.5):
        x0 = c.between(-40, 40)
        road(c, np.array(((x0, -c.reach), (x0, 0), (x0, c.reach))), 8)
    spots = c.in_view(np.concatenate(rows))
    houses(c, spots + c.rng.normal(0, 0.9, spots.shape), c.rng.normal(0, 0.06, len(spots)))
    trees(c, c.points(int(c.rng.integers(5, 40))), 2, 4.2)


def parking(c: Canvas) -> None:
    """Rows of parked cars on asphalt, between buildings and trees."""
    meadow(c)
    surroundings(c, 0.6)
    size, wide, high = c.between(1.0, 1.3), c.between(90, 150), c.between(70, 130)
    c.shapes(box((0, 0), wide, high), c.asphalt)
    lane, bay, full = 20 * size, 4.4 * size, c.between(0.45, 0.95)
    first = np.arange(-high / 2 + 5 * size, high / 2 - 10 * size, lane)
    x, y = np.arange(-wide / 2 + 4, wide / 2 - 4, bay), np.sort(np.append(first, first + 7 * size))
    marks = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    c.shapes(box(marks - (bay / 2, 0), 0.6, 6 * size), c.vary(c.asphalt, 4, 60))
    kept = marks[c.rng.random(len(marks)) < full]
    cars(c, kept, np.pi / 2 + c.rng.normal(0, 0.04, len(kept)), size)
    if c.chance(0.4):
        hall = box((c.between(-40, 40), c.between(50, 70)), c.between(40, 80), 34)
        c.cast(hall, 6)
        c.shapes(hall, c.vary((176, 172, 168), 14))
    trees(c, c.points(int(c.rng.integers(0, 14))), 2, 4)


def roundabout(c: Canvas) -> None:
    """A ring of road with an island, and arms that lead away."""
    meadow(c)
    surroundings(c, 0.8)
    centre, radius, wide = c.points(1, 12), c.between(20, 34), c.between(9, 13)
    arms = np.arange(n := int(c.rng.integers(3, 6))) * 2 * np.pi / n + c.rng.normal(0, 0.15, n)
    ways = np.stack((np.cos(arms), np.sin(arms)), 1)
    for way in ways:
        path = np.stack([centre[0] + way * s for s in (radius, radius + 30, radius + 110)])
        road(c, path, wide * c.between(0.85, 1.0), 0.7)
    c.discs(centre, np.array([radius + wide / 2 + 1.5]), c.vary(c.soil, 6))
    c.discs(centre, np.array([radius + wide / 2]), c.asphalt)
    c.discs(centre, np.array([radius - wide / 2]), c.vary(WHITE, 6, -20))
    c.discs(centre, np.array([radius - wide / 2 - 1]), c.vary(c.pick((c.grass, c.grass, c.soil))))
    spin = c.rng.uniform(0, 2 * np.pi, int(c.rng.integers(0, 6)))
    ring = np.stack((np.cos(spin), np.sin(spin)), 1)
    cars(c, centre + ring * radius, spin + np.pi / 2)
    if c.chance(0.6):
        trees(c, centre + c.points(int(c.rng.integers(1, 7)), radius * 0.4), 2.5, 4.5)
    if c.chance(0.5):
        away = c.points(12)
        houses(c, away[np.linalg.norm(away - centre, axis=1) > radius + 22], c.between(0, 3))


def runway(c: Canvas) -> None:
    """A broad strip with markings, often a taxiway beside it and aeroplanes."""
    meadow(c)
    surroundings(c, 0.5)
    y, wide, far = c.between(-22, 22), c.between(17, 26), c.reach * 2.4
    paint = c.vary(WHITE)
    if c.chance(0.65):
        side = y + (1 if y < 0 else -1) * c.between(26, 44)
        c.shapes(box((0, side), far, c.between(7, 11)), c.vary(c.asphalt, 5, 10))
        links = np.array([(x, (y + side) / 2) for x in c.rng.uniform(-60, 60, 2)])
        c.shapes(box(links, 8, abs(side - y)), c.vary(c.asphalt, 5, 10))
    end = c.between(-75, -25) if c.chance(0.45) else -far / 2
    c.shapes(box(((end + far / 2) / 2, y), far / 2 - end, wide), c.asphalt)
    for edge in (-1, 1):
        c.shapes(box(((end + far / 2) / 2, y + edge * wide * 0.43), far / 2 - end, 0.9), paint)
    dashes = np.arange(end + 26, far / 2, c.between(11, 16))
    c.shapes(box(np.stack((dashes, np.full(len(dashes), y)), 1), 6.5, 1.3), paint)
    keys = np.linspace(-0.36, 0.36, 8) * wide
    c.shapes(box(np.stack((np.full(8, end + 9), y + keys), 1), 10, wide * 0.05), paint)
    if c.chance(0.4):
        _plane(c, np.array((c.between(-40, 40), y)), c.between(0.8, 1.2))


def _plane(c: Canvas, at: Array, size: float) -> None:
    parts = np.concatenate(
        (
            box((0, 0), 20, 2.8),
            ((((3, 0), (-4, -10), (-6.5, -10), (-3, 0))),),
            ((((3, 0), (-4, 10), (-6.5, 10), (-3, 0))),),
            box((-8.5, 0), 2.5, 8),
        )
    )
    c.cast(parts * size + at, 1.5)
    c.shapes(parts * size + at, c.vary(WHITE, 6))


def tanks(c: Canvas) -> None:
    """Round storage tanks in rows, with pipes and walls around them."""
    meadow(c)
    surroundings(c, 0.6)
    floor = c.pick((c.soil, c.asphalt, c.grass, (168, 164, 156)))
    c.shapes(box(c.points(1, 10), c.between(90, 150), c.between(90, 150)), floor)
    gap = c.between(26, 48)
    radius = gap * c.between(0.3, 0.4)
    axis = np.arange(-2, 3) * gap + c.between(-gap / 2, gap / 2)
    spots = np.stack(np.meshgrid(axis, axis + c.between(-9, 9)), -1).reshape(-1, 2)
    spots = spots[c.rng.random(len(spots)) < c.between(0.5, 1)]
    if len(spots) < 4:
        spots = np.array(((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))) * gap
    pipe = c.vary((150, 150, 150), 14)
    for x in axis[1:4] + gap / 2:
        c.line(((x, -c.reach), (x, c.reach)), 1.3, pipe)
        c.line(((-c.reach, x), (c.reach, x)), 1.3, pipe)
    radii = radius * c.rng.uniform(0.85, 1.05, len(spots))
    c.cast_discs(spots, radii, c.between(4, 8))
    paint = c.pick(((222, 222, 218), (196, 196, 190), (160, 164, 166), (170, 140, 112)))
    c.discs(spots, radii, c.shades([paint] * len(spots), 4, -30))
    c.discs(spots, radii - 1.3, c.shades([paint] * len(spots), 4))
    if c.chance(0.5):  # floating roofs lie deeper: the rim throws a shadow inside
        c.discs(spots + c.sunny(1.5), radii - 3.5, c.shades([paint] * len(spots), 4, -16))
