"""What a look of ``streets`` is: colours and measures that a street draws its own from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dabench.datasets.streets.canvas import Colour

Range = tuple[float, float]
Colours = tuple[Colour, ...]


class Dice:
    """Random choices from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def between(self, ends: Range) -> float:
        """Return a uniform number."""
        return float(self.rng.uniform(*ends))

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def colour(self, colours: Sequence[Colour], spread: float = 8.0) -> Colour:
        """Return one of the colours, varied: mostly in light, less in hue."""
        base = np.asarray(colours[self.whole(0, len(colours) - 1)])
        noise = spread * (self.rng.normal() + 0.4 * self.rng.normal(size=3))
        red, green, blue = np.clip(base + noise, 0, 255).tolist()
        return red, green, blue


@dataclass(frozen=True)
class Look:
    """Colours (red, green, blue) and ranges (metres unless said otherwise) of a look.

    Attributes:
        sky: above and at the horizon; haze: what distance fades into.
        clouds: share of the sky; cloud: its colour.
        cobbles: whether the road is paved with stones.
        lanes: in each direction; lane, kerb_room (for parked cars), path (pavement's width).
        line: colour of road marks.
        storeys: lowest and highest number; storey: height of one; front: width of a house.
        gap: chance of a yard between houses; roof: chance of a pitched roof.
        glass: colours of windows; shutters: whether windows stand upright between shutters.
        tall: chance that a tree is slender; lamp: height of a lamp post.
        camera: height; horizon: share of the image height; focal: image widths.
        light: gain of the three channels; contrast: depth of shadows, 0 to 1.
        grain: sensor noise in grey levels; blur: in pixels of a frame 96 high; vignette: 0 to 1.
    """

    name: str
    sky: tuple[Colour, Colour]
    haze: Colour
    clouds: Range
    cloud: Colour
    road: Colours
    cobbles: bool
    line: Colour
    pavement: Colours
    terrain: Colours
    walls: Colours
    roofs: Colours
    glass: Colours
    shutters: bool
    crowns: Colours
    trunk: Colour
    cars: Colours
    clothes: Colours
    post: Colours
    boards: Colours
    fences: Colours
    lanes: int
    lane: Range
    kerb_room: Range
    path: Range
    storeys: tuple[int, int]
    storey: Range
    front: Range
    gap: float
    roof: float
    tall: float
    lamp: Range
    camera: Range
    horizon: Range
    focal: Range
    light: Colour
    contrast: Range
    grain: Range
    blur: Range
    vignette: float
