"""Fixtures: trees of tiny JPEGs in the layouts of the real sets."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Maker = Callable[..., Path]


def jpeg(text: str, side: int = 20) -> bytes:
    """Return a JPEG whose pixels depend on ``text`` only."""
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side + 4, side)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def make_tree(tmp_path: Path) -> Maker:
    """Return ``make(folders, classes, per_class)``, which fills and returns a data root."""

    def make(folders: Iterable[str], classes: Iterable[str], per_class: int = 2) -> Path:
        root = tmp_path / "data"
        names = list(classes)
        for folder in folders:
            for name in names:
                (root / folder / name).mkdir(parents=True)
                for i in range(per_class):
                    path = root / folder / name / f"frame_{i:04d}.jpg"
                    path.write_bytes(jpeg(f"{folder}/{name}/{i}"))
        return root

    return make
