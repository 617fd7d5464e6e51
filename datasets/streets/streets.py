"""The embedded set ``streets``: drawn driving scenes with a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from dabench.contract.data import DataRequest, DenseData, Frames
from dabench.datasets.caching.drawn_cache import drawn_by
from dabench.datasets.streets.cache import Drawn, cached_frames
from dabench.datasets.streets.canvas import CLASSES
from dabench.datasets.streets.frames import draw_drive, width_of
from dabench.datasets.streets.looks import LOOKS
from dabench.errors import ConfigError, did_you_mean

DRAWING = "1"  # part of the cache folder's name: raise it whenever a picture changes
LEAST, MOST = 48, 1024  # pixels high: below it signs and people are gone
LENGTH = 10  # frames of a drive
#: numbers of the streets of each part: no street is in two of them
PARTS: Mapping[str, range] = {
    "train": range(16),
    "val": range(16, 20),
    "target": range(20, 36),
}


class Streets:
    """Drawn driving scenes, 96 x 128, 11 classes, two looks, short drives in temporal order.

    Domains:
        avenue: a city of tall blocks at noon: asphalt with white marks, grey and brick walls,
            green trees, a car's camera.
        oldtown: low plastered houses with pitched roofs in warmer light: cobbles with yellow
            marks, reddish pavement, autumn and slender trees, other cars, signs and clothes; a
            higher camera with a wider lens and more noise.

    Classes: road, pavement, building, sky, vegetation, car, person, pole, sign, fence, terrain.
    Every pixel has one; masks are exact, because colour and class are drawn with the same shapes.

    Each look has 36 streets, every one with a drive of 10 frames: 16 streets for source training,
    4 for source validation, 16 for the target, so that a source and a target of the same look
    share no street. ``--image-size`` is the height, 48 to 1024; the width is 4/3 of it, rounded
    to a multiple of 8. The same frames for everybody (fixed seed; another version of OpenCV or
    NumPy may draw another pixel, and the data digest then changes). Drawn in some seconds, then
    kept in the cache folder. Nothing is downloaded; the pictures come under dabench's own licence.
    Measured figures: see docs/datasets.md.
    """

    domains: ClassVar[tuple[str, ...]] = tuple(LOOKS)
    defaults: ClassVar[Mapping[str, Any]] = {
        "source": "avenue",
        "target": "avenue",
        "image_size": 96,
        "backbone": "small-seg",
        "weights": "none",
        "epochs": 1,
        "source_epochs": 30,
        "freeze": 0,
        "batch_size": 1,
    }

    def load(self, request: DataRequest) -> DenseData:
        """Return source training, source validation and target frames, in the order of drives.

        Raises:
            ConfigError: unknown domain, or an image size outside 48 to 1024.
            CacheError: the cache folder cannot be written.
        """
        for name in (request.source, request.target):
            if name not in self.domains:
                raise ConfigError(
                    f"streets has no domain '{name}'{did_you_mean(name, self.domains)}"
                )
        height = request.image_size
        if not LEAST <= height <= MOST:
            raise ConfigError(
                f"--image-size {height}: streets is drawn {LEAST} to {MOST} pixels high; "
                f"choose {LEAST} to {MOST}"
            )
        train, val, target = (
            _part(look, part, height, request.cache_dir)
            for look, part in zip(
                (request.source, request.source, request.target), PARTS, strict=True
            )
        )
        return DenseData(
            dataset="streets",
            source=request.source,
            target=request.target,
            classes=CLASSES,
            image_size=height,
            width=width_of(height),
            source_train=train,
            source_val=val,
            target_all=target,
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return no problem: nothing is read from a folder."""
        return []


def _part(look: str, part: str, height: int, cache_dir: Path) -> Frames:
    numbers = PARTS[part]
    shape = len(numbers) * LENGTH, height, width_of(height)
    name = f"streets-{look}-{part}-{height}-{shape[0]}-{DRAWING}-{drawn_by()}"
    return cached_frames(cache_dir, name, shape, lambda: draw_part(look, numbers, height))


def draw_part(look: str, numbers: range, height: int) -> Drawn:
    """Return the frames of some streets, drive after drive: images and masks."""
    desc, few = f"drawing streets ({look})", len(numbers) < 5
    bar = tqdm(numbers, desc=desc, unit="drive", disable=few or None, leave=False)
    drives = [draw_drive(look, number, LENGTH, height) for number in bar]
    images, masks = zip(*drives, strict=True)
    return np.concatenate(images), np.concatenate(masks)
