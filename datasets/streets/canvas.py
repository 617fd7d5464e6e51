"""What the frames of ``streets`` are drawn on: a pinhole camera and one plane for colour and class.

Lengths are metres along a street: x to the right of its middle line, y up, z ahead. The street may
bend: at a distance d its middle line lies ``bend * d**2`` to the right of where it points here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Spots = npt.NDArray[np.int32]  # columns and rows in OpenCV's fixed point
Pictures = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]

CLASSES = (
    *("road", "pavement", "building", "sky", "vegetation", "car"),
    *("person", "pole", "sign", "fence", "terrain"),
)
NUMBER = {name: i for i, name in enumerate(CLASSES)}
NEAR = 0.5  # metres ahead of the camera where everything is cut off
FAR = 130.0  # metres ahead where the street ends in a backdrop
_SHIFT = 4  # bits behind the point in OpenCV's coordinates
_ONE = 1 << _SHIFT


@dataclass(frozen=True)
class Camera:
    """Where a frame is taken from.

    Attributes:
        x, y, z: position in metres; y is the height above the road.
        focal: focal length in image widths.
        horizon: row of the horizon as a share of the image height.
        turn: column of the vanishing point beyond the middle, in image widths.
        bend: of the street ahead, 1/m.
    """

    x: float
    y: float
    z: float
    focal: float
    horizon: float
    turn: float
    bend: float


class Canvas:
    """A frame in the making, (H, W, 4) uint8: red, green, blue and the class of every pixel.

    A shape is drawn into all four channels at once, without antialiasing: classes end exactly
    where colours do.
    """

    def __init__(self, height: int, width: int, camera: Camera, haze: Colour) -> None:
        self.plane: Pictures = np.zeros((height, width, 4), dtype=np.uint8)
        self.height, self.width, self.camera = height, width, camera
        self.focal = camera.focal * width
        self.horizon = camera.horizon * height
        self.middle = (0.5 + camera.turn) * width
        self._haze = haze
        self._eye = np.array((camera.x, camera.y, camera.z))
        self._scale = np.array((self.focal, -self.focal)) * _ONE
        self._centre = (np.array((self.middle, self.horizon)) - 0.5) * _ONE  # pixel centres at .5

    def put(self, points: npt.ArrayLike) -> Spots:
        """Return (..., 3) places as (..., 2) columns and rows; what is behind is cut at NEAR."""
        seen = np.subtract(points, self._eye)
        ahead = np.maximum(seen[..., 2:], NEAR)
        if self.camera.bend:
            seen[..., :1] += self.camera.bend * ahead * ahead
        spots = seen[..., :2] / ahead
        spots *= self._scale
        spots += self._centre
        placed: Spots = np.rint(spots, out=spots).astype(np.int32, order="C")
        return placed

    def right_of(self, x: float, z: float) -> float:
        """Return how far to the right of the line of sight's plane a point lies, in metres."""
        ahead = max(z - self.camera.z, NEAR)
        return x - self.camera.x + self.camera.bend * ahead**2

    def metre(self, z: float) -> float:
        """Return the length of a metre at z, in pixels."""
        return self.focal / max(z - self.camera.z, NEAR)

    def misses(self, x: float, z: float, reach: float) -> bool:
        """Return whether what reaches ``reach`` metres around a point is beside the picture."""
        column = self.middle + self.right_of(x, z) * self.metre(z)
        return abs(column - self.width / 2) > self.width / 2 + reach * self.metre(z)

    def ink(self, colour: Colour, name: str, z: float, light: float = 1.0) -> list[float]:
        """Return four channels of a lit colour at z, faded by the haze."""
        clear = math.exp(min(self.camera.z - z, 0.0) / 320)
        red, green, blue = colour
        most, gain, far = 255 * clear, light * clear, 1 - clear
        return [
            min(red * gain, most) + far * self._haze[0],
            min(green * gain, most) + far * self._haze[1],
            min(blue * gain, most) + far * self._haze[2],
            NUMBER[name],
        ]

    def shapes(self, corners: npt.ArrayLike, ink: Sequence[float]) -> None:
        """Draw (N, P, 3) polygons that do not overlap each other, or one of (P, 3)."""
        fill(self.plane, self.put(corners), ink)

    def ellipses(self, places: npt.ArrayLike, axes: Array, inks: Sequence[Sequence[float]]) -> None:
        """Draw upright ellipses that face the camera.

        Args:
            places: (N, 3) centres.
            axes: (N, 2) half axes across and up, in metres.
            inks: one for each.
        """
        centres = np.asarray(places, dtype=np.float64)
        scale = _ONE * self.focal / np.maximum(centres[:, 2:] - self.camera.z, NEAR)
        middles = self.put(centres).tolist()
        radii = np.rint(axes * scale).astype(np.int32).tolist()
        for middle, radius, ink in zip(middles, radii, inks, strict=True):
            cv2.ellipse(self.plane, middle, radius, 0, 0, 360, ink, -1, cv2.LINE_8, _SHIFT)


def fill(plane: Pictures, outlines: Spots, ink: Sequence[float]) -> None:
    """Fill (N, P, 2) polygons that ``Canvas.put`` returned, or one of (P, 2)."""
    several = outlines[None] if outlines.ndim == 2 else outlines
    cv2.fillPoly(plane, list(several), ink, cv2.LINE_8, _SHIFT)


def upright(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Array:
    """Return (4, 3) corners of an upright wall from (x0, z0) to (x1, z1), lower edge first."""
    return np.array(((x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)))


def flat(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> Array:
    """Return (4, 3) corners of a level rectangle."""
    return np.array(((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)))


def panes(wall: Array, across: Array, up: Array) -> Array:
    """Return (N, 4, 3) parts of a (4, 3) wall.

    Args:
        wall: corners, lower edge first.
        across: (N, 2) first and last share of the way along the wall.
        up: (N, 2) the same for the way up.
    """
    u = across[:, (0, 1, 1, 0), None]
    v = up[:, (0, 0, 1, 1), None]
    low, high = wall[0] + u * (wall[1] - wall[0]), wall[3] + u * (wall[2] - wall[3])
    made: Array = low + v * (high - low)
    return made


def grid(
    columns: int, rows: int, wide: float, high: float, first: float = 0.0
) -> tuple[Array, Array]:
    """Return shares for ``panes``: columns x rows windows, each a share of its cell.

    ``first`` is the share of the wall below the lowest row.
    """
    left = (np.arange(columns) + (1 - wide) / 2) / columns
    low = first + (1 - first) * (np.arange(rows) + (1 - high) / 2) / rows
    u, v = (a.ravel() for a in np.meshgrid(left, low))
    return (
        np.stack((u, u + wide / columns), axis=1),
        np.stack((v, v + (1 - first) * high / rows), axis=1),
    )
