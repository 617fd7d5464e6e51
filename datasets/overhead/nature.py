"""Scenes of ``overhead`` that grew: bare soil, beach, farmland, forest, river."""

from __future__ import annotations

import numpy as np

from dabench.datasets.overhead.canvas import Canvas
from dabench.datasets.overhead.palette import ASPHALTS, SOILS, WHITE
from dabench.datasets.overhead.parts import bend, blob, fields, meadow, road, surroundings, trees


def bare_soil(c: Canvas) -> None:
    """Sand, stones and gullies; now and then a shrub or a track."""
    c.ground(c.vary(c.soil, 6, 8), c.pick(SOILS), int(c.rng.integers(3, 7)))
    c.image.paste(c.vary(c.soil, 4, c.between(-34, 34)), mask=c.patches(16).point(_third))
    if c.chance(0.5):
        dune, dark = c.between(7, 14), c.vary(c.soil, 3, -22)
        for y in np.arange(-c.reach, c.reach, dune):
            path = bend(c, c.between(1, 5), c.between(1, 3))
            path[:, 1] += y
            start = int(c.rng.integers(0, 12))
            c.line(path[start : start + int(c.rng.integers(6, 24))], c.between(0.8, 2.4), dark)
    else:
        for _ in range(int(c.rng.integers(1, 5))):
            course = c.between(0, 7) + np.cumsum(c.rng.normal(0, 0.35, 24))
            gully = np.cumsum(np.stack((np.cos(course), np.sin(course)), 1) * 5, axis=0)
            c.line(
                gully - gully.mean(0) + c.points(1, 40), c.between(0.8, 2.5), c.vary(c.soil, 4, -30)
            )
    if c.chance(0.3):
        c.line(bend(c, c.between(3, 20), 0.7), c.between(2.5, 5), c.vary(c.soil, 4, 22))
    trees(c, c.points(int(c.rng.integers(0, 22))), 1, 2.6)
    stones = c.points(int(c.rng.integers(0, 40)))
    c.discs(stones, c.rng.uniform(0.5, 1.6, len(stones)), c.vary(ASPHALTS[1], 10))


def _third(value: int) -> int:
    return value // 3


def beach(c: Canvas) -> None:
    """Sea, surf, a strip of sand and the land behind it."""
    meadow(c)
    surroundings(c, 1.2)
    shore = bend(c, c.between(3, 16), c.between(0.3, 1.2))
    shore[:, 1] += c.between(-14, 14)
    sand, deep = c.between(16, 38), c.vary(c.water, 6)
    for inland, colour in (
        (sand, c.pick(SOILS[1:3], 10)),
        (3, c.vary(c.soil, 5, -14)),
        (0, c.vary(WHITE, 8)),
        (-c.between(2, 4), c.vary(deep, 4, 26)),
        (-c.between(10, 22), deep),
    ):
        edge = shore - np.array((0, inland)) + c.rng.normal(0, 0.7, shore.shape)
        c.shapes(np.concatenate((edge, ((200, 200), (-200, 200)))), colour)
    for _ in range(int(c.rng.integers(0, 3))):
        swell = shore + np.array((0, c.between(6, 20)))
        c.line(swell[(start := int(c.rng.integers(0, 12))) : start + 9], 1.2, c.vary(deep, 4, 60))
    if c.chance(0.5):
        spots = shore[c.rng.integers(0, 24, 14)] - c.rng.uniform((0, 5), (3, sand - 2), (14, 2))
        c.discs(spots, np.full(14, 1.5), [c.pick((WHITE, (190, 60, 50), (60, 90, 160)))] * 14)


def farmland(c: Canvas) -> None:
    """Fields with rows of crops; sometimes round ones, hedges, a farm."""
    c.ground(c.vary(c.grass), c.soil)
    fields(c, c.between(30, 55), 0.75)
    if c.chance(0.2):
        spots = c.points(int(c.rng.integers(1, 3)), 50)
        c.discs(spots, c.rng.uniform(16, 26, len(spots)), c.vary(c.grass, 14))
    if c.chance(0.4):
        hedge = np.linspace(-c.reach, c.reach, 24)
        trees(
            c, np.stack((hedge, np.full(24, c.between(-40, 40))), 1) + c.rng.normal(0, 1, (24, 2))
        )
    surroundings(c, 0.6)


def forest(c: Canvas) -> None:
    """Crown beside crown, sometimes with a clearing or a track."""
    c.ground(c.vary(c.crown, 5, -14), c.vary(c.crown, 5, 4))
    place = c.points(int(c.rng.integers(230, 330)), c.reach * 0.85)
    if c.chance(0.35):
        c.shapes(hole := blob(c, c.points(1, 45)[0], c.between(14, 26)), c.vary(c.grass))
        place = place[np.linalg.norm(place - hole[0].mean(0), axis=1) > 18]
    if c.chance(0.35):
        c.line(path := bend(c, c.between(4, 20), c.between(0.4, 1)), 4.5, c.soil)
        away = np.linalg.norm(place[:, None] - path[None], axis=2).min(axis=1)
        place = place[away > 6]
    trees(c, place, 4, c.between(5.5, 8))


def river(c: Canvas) -> None:
    """A winding band of water with banks, sometimes under a bridge."""
    if c.chance(0.4):
        c.ground(c.vary(c.grass), c.soil)
        fields(c, 45, 0.4)
    else:
        meadow(c)
    surroundings(c, 0.7)
    path, wide = bend(c, c.between(8, 34), c.between(0.5, 1.5)), c.between(18, 42)
    c.line(path, wide + c.between(3, 9), c.vary(c.soil, 6, -10))
    c.line(path, wide, c.water)
    if c.chance(0.3):
        c.shapes(blob(c, path[int(c.rng.integers(8, 16))], wide / 5), c.pick((c.soil, c.grass)))
    normal = np.stack((np.gradient(path[:, 1]), -np.gradient(path[:, 0])), 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    for side in (-1, 1):
        rows = c.rng.integers(0, len(path), int(c.rng.integers(4, 22)))
        away = c.rng.uniform(wide / 2 + 4, wide / 2 + 16, (len(rows), 1))
        trees(c, path[rows] + side * normal[rows] * away, 3, 5.5)
    if c.chance(0.3):
        x = c.between(-30, 30)
        road(c, np.array(((x, -c.reach), (x, 0), (x, c.reach))), c.between(6, 10))
