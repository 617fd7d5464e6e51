"""A street of ``streets``: the things that stand on it, and the camera's drive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dabench.datasets.streets.air import Air
from dabench.datasets.streets.canvas import Array, Camera, Canvas, flat
from dabench.datasets.streets.ground import Ground
from dabench.datasets.streets.look import Look

Box = tuple[float, float, float, float]  # x0, x1, z0, z1


class Drawable(Protocol):
    """Anything that draws itself, ``ahead`` metres farther along the street than it began."""

    def draw(self, c: Canvas, ahead: float) -> None: ...


@dataclass(frozen=True)
class Thing:
    """Something on the street.

    Attributes:
        what: draws itself.
        order: the z by which it is sorted: farther things are drawn first.
        end: its far end; behind the camera it is not drawn.
        speed: metres from frame to frame.
        shadow: (P, 3) outline on the ground, or None.
    """

    what: Drawable
    order: float
    end: float
    speed: float = 0.0
    shadow: Array | None = None


@dataclass
class Street:
    """A street with its light, its air and its drive."""

    look: Look
    ground: Ground
    air: Air
    camera: Camera
    speed: float
    sun: int
    slant: float
    contrast: float
    things: list[Thing] = field(default_factory=list)

    def at(self, frame: int) -> Camera:
        """Return the camera of a frame; it sways a little."""
        c, sway = self.camera, 0.15 * np.sin(0.9 * frame + self.slant)
        z = c.z + self.speed * frame
        turn = c.turn + 0.012 * np.sin(0.7 * frame)
        horizon = c.horizon + 0.006 * np.sin(1.9 * frame)
        return Camera(c.x + sway, c.y, z, c.focal, horizon, turn, c.bend)

    def add(
        self, what: Drawable, z: float, end: float, *, speed: float = 0.0, box: Box | None = None
    ) -> None:
        """Put something on the street; ``box`` (x0, x1, z0, z1) is what shades the ground."""
        self.things.append(Thing(what, z, end, speed, None if box is None else flat(*box)))
