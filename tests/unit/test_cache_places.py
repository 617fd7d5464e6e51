"""Pictures of two data roots are never taken for each other, however alike their files look."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from dabench.datasets.caching.frame_build import FrameBuild
from dabench.datasets.caching.image_build import Entry
from dabench.datasets.caching.image_cache import load_images
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.datasets.frame_folders.frame_files import Pair


def two_roots(folder: Path) -> list[Path]:
    """Write pictures of other content under equal names, sizes and times."""
    for name, grey in (("one", 10), ("two", 200)):
        for part in ("images", "masks"):
            place = folder / name / part / "x.bmp"
            place.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), (grey,) * 3).save(place)
            os.utime(place, (1, 1))
    return [folder / "one", folder / "two"]


def test_equal_names_sizes_and_times(tmp_path: Path) -> None:
    found = []
    for root in two_roots(tmp_path):
        entries = [Entry("d/c/x.bmp", root / "images/x.bmp", 0)]
        found.append(load_images("toy", "d", entries, 8, tmp_path / "cache"))
    one, two = (int(part.images[np.array([0])].mean()) for part in found)
    assert (one, two) == (10, 200)
    assert found[0].digest != found[1].digest


def test_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    one, two = two_roots(tmp_path)
    link, keys = tmp_path / "data", []
    for root in (one, two, one):
        link.unlink(missing_ok=True)
        link.symlink_to(root)
        ids = MaskIds("toy", {0: "c"})
        pair = Pair("x.bmp", link / "images/x.bmp", link / "masks/x.bmp", ids)
        keys.append(FrameBuild("toy", "d", [pair], ("c",), (8, 8)).key())
    assert keys[0] == keys[2] != keys[1]
