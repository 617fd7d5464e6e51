"""The embedded set ``overhead``: drawn land-use scenes as seen from above, nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from tqdm import tqdm

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.caching.drawn_cache import drawn_by, drawn_once
from dabench.datasets.digits.digits import labelled
from dabench.datasets.overhead import built, nature
from dabench.datasets.overhead.canvas import SIDE, Canvas
from dabench.errors import ConfigError, did_you_mean

DRAWING = "1"  # part of the cache folder's name: raise it whenever a picture changes
SEED = 2027
PER_CLASS = 240
LEAST = 32  # below this many pixels a side cars and tanks are no longer to be seen
SCENES: Mapping[str, Callable[[Canvas], None]] = {
    "bare-soil": nature.bare_soil,
    "beach": nature.beach,
    "farmland": nature.farmland,
    "forest": nature.forest,
    "housing": built.housing,
    "parking": built.parking,
    "river": nature.river,
    "roundabout": built.roundabout,
    "runway": built.runway,
    "tanks": built.tanks,
}
CLASSES = tuple(SCENES)
Pictures = npt.NDArray[np.uint8]


class Overhead:
    """Drawn scenes as seen from above, 2,400 images, 10 land-use classes, one domain.

    Domain:
        clear: 240 images a class: bare-soil, beach, farmland, forest, housing, parking, river,
            roundabout, runway, tanks. Each is drawn by a program with a turn, a scale, a season,
            soil and water colours, a sun, light, haze and sensor noise of its own; roads, trees,
            houses, ponds and fields occur in several classes. The same images for everybody
            (fixed seed; another version of Pillow or NumPy may draw another pixel, and the data
            digest then changes).

    Source and target are both ``clear``: the set is meant for protocols that make the shift
    themselves, by weather. ``--image-size`` may be 32 to 128: the drawing is 128 pixels a side and
    is reduced. Drawn in some seconds, then kept in the cache folder. Nothing is downloaded; the
    pictures come under dabench's own licence. Measured accuracies: see docs/datasets.md.
    """

    domains: ClassVar[tuple[str, ...]] = ("clear",)
    defaults: ClassVar[Mapping[str, Any]] = {
        "source": "clear",
        "target": "clear",
        "image_size": 64,
        "backbone": "small-cnn",
        "weights": "none",
        "epochs": 1,
        "source_epochs": 30,
        "freeze": 0,
        "batch_size": 64,
    }

    def load(self, request: DataRequest) -> DomainData:
        """Return the one domain, as source and as target.

        Raises:
            ConfigError: unknown domain, or an image size outside 32 to 128.
            CacheError: the cache folder cannot be written.
        """
        for name in (request.source, request.target):
            if name not in self.domains:
                raise ConfigError(
                    f"overhead has no domain '{name}'{did_you_mean(name, self.domains)}"
                )
        size = request.image_size
        if not LEAST <= size <= SIDE:
            raise ConfigError(
                f"--image-size {size}: overhead is drawn {SIDE} x {SIDE} and reduced; "
                f"choose {LEAST} to {SIDE}"
            )
        name = f"overhead-clear-{size}-{PER_CLASS}-{DRAWING}-{drawn_by()}"
        count = PER_CLASS * len(CLASSES)
        images = drawn_once(request.cache_dir, name, count, size, lambda: draw_all(PER_CLASS, size))
        return DomainData(
            dataset="overhead",
            source=request.source,
            target=request.target,
            classes=CLASSES,
            image_size=size,
            source_train=images,
            source_val=None,
            target_all=images,
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return no problem: nothing is read from a folder."""
        return []


def draw_all(per_class: int, size: int) -> Labelled:
    """Return ``per_class`` images of each scene, (size, size, 3) uint8, in content-hashed order."""
    todo = [(scene, i) for scene in CLASSES for i in range(per_class)]
    bar = tqdm(
        todo, desc="drawing overhead", unit="img", disable=len(todo) <= 500 or None, leave=False
    )
    images = np.stack([draw(scene, i, size) for scene, i in bar])
    return labelled(images, np.repeat(np.arange(len(CLASSES)), per_class))


def draw(scene: str, number: int, size: int) -> Pictures:
    """Return one (size, size, 3) uint8 picture; it depends on the three arguments only."""
    rng = np.random.default_rng((SEED, CLASSES.index(scene), number))
    canvas = Canvas(rng)
    SCENES[scene](canvas)
    small = canvas.image.resize((size, size), Image.Resampling.BOX)
    soft = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 1.2) * size / SIDE))
    return _sensor(np.asarray(soft, dtype=np.float32), rng)


def _sensor(pixels: npt.NDArray[np.float32], rng: np.random.Generator) -> Pictures:
    """Add the day's light (strength, hue, slope across the picture), haze and sensor noise."""
    size, single = len(pixels), np.float32
    slope = 1 + np.linspace(-0.5, 0.5, size, dtype=single) * single(rng.uniform(-0.2, 0.2))
    light = (rng.uniform(0.75, 1.2) * rng.normal(1, 0.025, 3)).astype(single)
    lit = pixels * slope[:, None, None] * light
    lit += single(rng.uniform(0, 0.12)) * (190 - lit)
    grain = rng.standard_normal((size, size, 3), dtype=single) * single(rng.uniform(1.5, 6))
    return np.clip(lit + grain, 0, 255).astype(np.uint8)
