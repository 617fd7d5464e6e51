"""Frost textures, made by rule.

The original overlays photographs, which are not ours to ship. These textures stand in for them:
*after* the original, not the same. They are clouds of a power-law spectrum and bundles of
needles along a few directions, in five looks whose mean colour, contrast and fall of the spectrum
(amplitude about 1/f) are like those of photographs of frosted panes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dabench.datasets.weather.kind import Pictures

#: the textures repeat after so many pixels
PERIOD = 640
#: CIFAR-C shrinks its photographs to a fifth
SHRINK = 5
#: directions of needles, how narrow each is, fall of the amplitude of the fields they follow
DIRECTIONS, SHARPNESS, NEEDLE_FALL = 5, 24.0, 1.4
#: width of a needle in deviations of its field
NEEDLE = 0.25


@dataclass(frozen=True)
class Look:
    """Mean colour and standard deviation (grey levels), share of needles, fall of the amplitude."""

    colour: tuple[float, float, float]
    contrast: float
    needles: float
    fall: float


LOOKS = (
    Look((80, 150, 168), 18, 0.5, 0.95),
    Look((202, 207, 214), 22, 0.6, 0.95),
    Look((196, 204, 216), 24, 0.8, 0.85),
    Look((140, 154, 166), 29, 0.8, 0.7),
    Look((112, 124, 136), 42, 0.7, 0.9),
)


@lru_cache(maxsize=2 * len(LOOKS))
def frost_texture(look: int, small: bool, down: int, right: int) -> Pictures:
    """Return texture number ``look`` (0–4), repeated; read-only uint8 (rows, columns, 3).

    Args:
        look: its number.
        small: shrunk to a fifth.
        down: how often it is repeated downwards.
        right: and to the right.
    """
    texture = _texture(look)
    if small:
        texture = texture[SHRINK // 2 :: SHRINK, SHRINK // 2 :: SHRINK]
    repeated = np.tile(texture, (down, right, 1))
    repeated.flags.writeable = False
    return repeated


@lru_cache(maxsize=len(LOOKS))
def _texture(number: int) -> Pictures:
    """Return one texture; its random numbers depend on its number alone."""
    look = LOOKS[number]
    rng = np.random.default_rng([number, PERIOD])
    frequency = np.fft.fftfreq(PERIOD)
    y, x = np.meshgrid(frequency, frequency[: PERIOD // 2 + 1], indexing="ij")
    distance = np.hypot(y, x)
    distance[0, 0] = 1.0  # the mean is taken off later
    amplitude = distance**-look.fall
    turn = rng.uniform(0, np.pi)
    ice = np.zeros((PERIOD, PERIOD))
    for turned in range(DIRECTIONS):
        across = np.abs(np.cos(np.arctan2(y, x) - turn - turned * np.pi / DIRECTIONS)) ** SHARPNESS
        # where a field changes its sign there is a needle; it fades with a second field
        needle = _field(across * distance**-NEEDLE_FALL, rng) / NEEDLE
        fading = _field(amplitude**2, rng)
        np.maximum(ice, fading / (1 + needle**2), out=ice)
    grey = (1 - look.needles) * _field(amplitude, rng) + look.needles * _standard(ice)
    grey = look.contrast * _standard(grey)
    return np.clip(grey[..., None] + look.colour, 0, 255).astype(np.uint8)


def _field(amplitude: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return white noise filtered to an amplitude spectrum, of mean 0 and deviation 1."""
    spectrum = rng.standard_normal((*amplitude.shape, 2)).view(np.complex128)[..., 0]
    return _standard(np.fft.irfft2(spectrum * amplitude, (PERIOD, PERIOD)))


def _standard(field: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((field - field.mean()) / field.std(), np.float64)
