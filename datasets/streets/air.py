"""Sky, clouds and what closes a street of ``streets`` in the distance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.streets.canvas import FAR, NUMBER, Canvas, Colour, upright
from dabench.datasets.streets.look import Dice, Look


@dataclass(frozen=True)
class Air:
    """A street's sky and its far end.

    Attributes:
        field: (5, 9) float32, heights of the cloud cover.
        cover: share of the sky under clouds.
        pale: share by which the sky is washed out towards the haze.
        sun: column of the bright part of the sky, in image widths.
        skyline: (x0, x1, height, class, colour) of what stands in the distance.
    """

    field: npt.NDArray[np.float32]
    cover: float
    pale: float
    sun: float
    skyline: tuple[tuple[float, float, float, str, Colour], ...]


def make_air(dice: Dice, look: Look) -> Air:
    """Draw lots for a sky."""
    skyline, x = [], -170.0
    while x < 170:
        wide = dice.between((8, 30))
        green = dice.chance(0.45)
        colours = look.crowns if green else look.walls
        high = dice.between((3, 9)) if green else dice.between((4, 4.5 * look.storeys[1]))
        name = "vegetation" if green else "building"
        skyline.append((x, x + wide + 2, high, name, dice.colour(colours)))
        x += wide
    field = dice.rng.random((5, 9), dtype=np.float32)
    lots = dice.between(look.clouds), dice.between((0.0, 0.7)), dice.between((0.0, 1.0))
    return Air(field, *lots, tuple(skyline))


def draw_air(c: Canvas, air: Air, look: Look) -> None:
    """Fill the canvas with the sky, and draw what closes the street."""
    high = max(1, min(c.height, int(np.ceil(c.horizon)) + 1))
    c.plane[..., 3] = NUMBER["sky"]
    rows = np.linspace(0, 1, high, dtype=np.float32)[:, None, None]
    top, low, haze = (np.array(colour, dtype=np.float32) for colour in (*look.sky, look.haze))
    top, low = (colour + air.pale * (haze - colour) for colour in (top, low))
    glow = np.abs(np.arange(c.width, dtype=np.float32) / c.width - air.sun)[:, None]
    sky = (top + (low - top) * rows) * (1.08 - 0.16 * glow)
    cover = cv2.resize(air.field, (c.width, high), interpolation=cv2.INTER_CUBIC)
    cover = np.clip((cover + air.cover - 0.95) * 4, 0, 1)[..., None] * (1 - 0.4 * rows)
    white = np.array(look.cloud, dtype=np.float32)
    c.plane[:high, :, :3] = np.clip(sky + (white - sky) * cover, 0, 255)
    far = c.camera.z + FAR
    for x0, x1, top_y, name, colour in air.skyline:
        wall = upright(x0, x1, -1, top_y, far, far)
        c.shapes(wall, c.ink(colour, name, far))
