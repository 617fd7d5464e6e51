"""Frames of ``streets``: a street seen from its camera, lit, blurred and with sensor noise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.streets.air import draw_air
from dabench.datasets.streets.canvas import CLASSES, FAR, NEAR, Canvas, Pictures
from dabench.datasets.streets.ground import draw_ground, draw_shadows
from dabench.datasets.streets.look import Look
from dabench.datasets.streets.looks import LOOKS
from dabench.datasets.streets.street import Street
from dabench.datasets.streets.world import make_street

SEED = 2029
#: roughness of what a class is made of, in grey levels
_ROUGH = dict(zip(CLASSES, (3, 3, 4, 0.5, 13, 1, 2, 1, 1, 5, 7), strict=True))


def width_of(height: int) -> int:
    """Return the width of frames, 4/3 of the height rounded to a multiple of 8."""
    return 8 * round(height / 6)


def draw_drive(look: str, number: int, frames: int, height: int) -> tuple[Pictures, Pictures]:
    """Return a drive along one street; it depends on the four arguments only.

    Args:
        look: name of the look.
        number: of the street; every number is another street.
        frames: F, how many frames are taken.
        height: H in pixels.

    Returns:
        (F, H, W, 3) images and (F, H, W) class indices, both uint8.
    """
    seed = (SEED, list(LOOKS).index(look), number)
    street = make_street(LOOKS[look], np.random.default_rng(seed))
    size = height, width_of(height)
    sensor = np.random.default_rng((*seed, 1))
    gain = sensor.uniform(0.75, 1.15) * sensor.normal(1, 0.03, 3)
    blur, grain = (sensor.uniform(*r) for r in (street.look.blur, street.look.grain))
    images, masks = np.empty((frames, *size, 3), np.uint8), np.empty((frames, *size), np.uint8)
    for i in range(frames):
        plane = draw_scene(street, i, *size)
        rng = np.random.default_rng((*seed, 2, i))
        images[i] = _expose(plane, street.look, rng, gain, blur * height / 96, grain)
        masks[i] = plane[..., 3]
    return images, masks


def draw_scene(street: Street, frame: int, height: int, width: int) -> Pictures:
    """Return (H, W, 4) uint8 before the sensor: red, green, blue, class."""
    c = Canvas(height, width, street.at(frame), street.look.haze)
    seen, shadows = [], []
    for thing in street.things:
        ahead = thing.speed * frame
        if not NEAR + 1 < thing.end + ahead - c.camera.z < FAR + 40:
            continue
        if thing.order + ahead - c.camera.z < FAR:
            seen.append((thing.order + ahead, ahead, thing))
        if thing.shadow is not None:
            shadows.append(thing.shadow + np.array((0, 0, ahead)))
    draw_air(c, street.air, street.look)
    draw_ground(c, street.ground, street.look)
    draw_shadows(c, shadows, street.contrast)
    for _, ahead, thing in sorted(seen, key=lambda entry: -entry[0]):
        thing.what.draw(c, ahead)
    return c.plane


def _expose(
    plane: Pictures,
    look: Look,
    rng: np.random.Generator,
    gain: npt.NDArray[np.float64],
    blur: float,
    grain: float,
) -> Pictures:
    """Add the roughness of materials, lens blur, vignette, the day's light and sensor noise."""
    height, width = plane.shape[:2]
    rough = np.array([_ROUGH[name] for name in CLASSES], np.float32)[plane[..., 3]]
    lit = plane[..., :3].astype(np.float32)
    lit += (rough * rng.standard_normal((height, width), dtype=np.float32))[..., None]
    lit = cv2.GaussianBlur(lit, (0, 0), blur)
    u, v = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    edge = 1 - look.vignette * (u**2 + v[:, None] ** 2)[..., None] / 2
    lit *= (edge * gain * np.array(look.light)).astype(np.float32)
    lit += rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(grain)
    exposed: Pictures = np.clip(lit, 0, 255).astype(np.uint8)
    return exposed
