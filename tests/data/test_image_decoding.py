"""Pictures as people have them: depth, orientation; what is ambiguous is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dabench.datasets.decoding.images import decode
from dabench.errors import DataError

RAMP = np.linspace(0, 1, 32) * np.ones((32, 1))


def grey(path: Path) -> np.ndarray:
    picture, _ = decode(path, 32, "x")
    assert (picture == picture[..., :1]).all()
    return picture[..., 0]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("g.png", "<u2"), ("g.tif", "<u2"), ("big.tif", ">u2"), ("g.pgm", "<u2")],
)
def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path, name: str, dtype: str) -> None:
    values = np.rint(RAMP * 65535).astype("<u2")
    if dtype == ">u2":
        image = Image.frombytes("I;16B", (32, 32), values.astype(">u2").tobytes())
    else:
        image = Image.fromarray(values)
    image.save(tmp_path / name)
    found = grey(tmp_path / name)
    assert np.abs(found - RAMP * 255).max() <= 0.51
    assert len(np.unique(found)) == 32


def test_floats_in_the_unit_range_are_read_and_others_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "f.tif")
    assert np.abs(grey(tmp_path / "f.tif") - RAMP * 255).max() <= 0.51
    for name, values in {"wide": RAMP * 255, "nan": np.where(RAMP > 0.5, np.nan, RAMP)}.items():
        path = tmp_path / f"{name}.tif"
        Image.fromarray(values.astype(np.float32)).save(path)
        with pytest.raises(DataError, match=rf"{name}.tif.*outside \[0, 1\]"):
            decode(path, 32, "x")


def test_whole_numbers_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 65535).astype(np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match="32-bit whole numbers"):
        decode(tmp_path / "i.tif", 32, "x")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_viewers_show_them(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:16, :16] = 250  # a corner tells every turn and mirror from every other
    pixels[:16, 16:] = 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "o.png", exif=exif)
    turns = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }
    found, digest = decode(tmp_path / "o.png", 32, "x")
    np.testing.assert_array_equal(found, turns[orientation])
    plain = Image.fromarray(pixels)
    plain.save(tmp_path / "p.png")
    assert digest != decode(tmp_path / "p.png", 32, "x")[1]
