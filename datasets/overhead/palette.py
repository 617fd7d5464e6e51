"""Colours of the scenes of ``overhead``: (red, green, blue), 0 to 255."""

from __future__ import annotations

Colour = tuple[int, int, int]
WHITE: Colour = (226, 224, 216)

#: grass and tree crowns of five seasons
SEASONS: tuple[tuple[Colour, Colour], ...] = (
    ((94, 116, 62), (44, 72, 38)),
    ((148, 138, 90), (76, 88, 50)),
    ((116, 112, 66), (112, 86, 42)),
    ((112, 140, 72), (66, 102, 48)),
    ((122, 112, 92), (84, 76, 64)),
)
SOILS: tuple[Colour, ...] = (
    (142, 112, 82), (170, 138, 100), (190, 166, 126),
    (122, 98, 76), (162, 108, 80), (134, 128, 120),
)  # fmt: skip
WATERS: tuple[Colour, ...] = (
    (48, 76, 98),
    (62, 92, 92),
    (84, 96, 78),
    (40, 58, 70),
    (70, 120, 136),
)
ASPHALTS: tuple[Colour, ...] = ((72, 72, 76), (100, 98, 98), (132, 130, 126), (158, 154, 148))
ROOFS: tuple[Colour, ...] = (
    (158, 84, 64), (128, 72, 58), (112, 108, 106), (178, 172, 164), (84, 80, 84), (148, 122, 96),
)  # fmt: skip
CARS: tuple[Colour, ...] = (
    (232, 232, 232),
    (40, 42, 46),
    (150, 152, 156),
    (150, 44, 40),
    (48, 70, 120),
)
