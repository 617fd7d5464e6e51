"""Bad cousins of segmentation sets: each error names the file, what was found, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dabench.contract.data import DataRequest
from dabench.datasets.decoding.images import decode, decode_sized
from dabench.datasets.decoding.masks import decode_mask
from dabench.datasets.frame_folders.camvid import CamVid
from dabench.datasets.frame_folders.dense_ids import (
    CAMVID_11,
    CAMVID_IDS,
    GTA5_IDS,
    SYNTHIA_16,
    SYNTHIA_IDS,
)
from dabench.errors import DataError

SHAPE = (16, 24)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data root with two good frames in every split of CamVid."""
    for split in ("train", "val", "test"):
        for i in range(2):
            for folder, mode in ((split, "RGB"), (f"{split}annot", "L")):
                path = tmp_path / "camvid" / folder / f"f{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (24, 16)).save(path)
    return tmp_path


@pytest.fixture
def mask(root: Path) -> Path:
    """Return the mask that a test spoils."""
    return root / "camvid" / "testannot" / "f1.png"


def refused(root: Path, *words: str) -> None:
    """Check that load and check both say it."""
    with pytest.raises(DataError) as error:
        CamVid().load(DataRequest("day", "day", 16, root, root / "cache"))
    lines = CamVid().check(root)
    for word in words:
        assert word in str(error.value)
        assert any(word in line for line in lines if not line.startswith("optional"))


def test_label_values_outside_the_map(root: Path, mask: Path) -> None:
    numbers = np.zeros((16, 24), np.uint8)
    numbers[3, 5], numbers[4, 5] = 12, 200
    Image.fromarray(numbers).save(mask)
    words = "outside the map: 12, 200; expected", "11 = no class", "replace the file"
    refused(root, str(mask), *words)


def test_a_single_bad_pixel_is_found_at_full_size(tmp_path: Path) -> None:
    numbers = np.zeros((512, 512), np.uint8)
    numbers[301, 7] = 77
    Image.fromarray(numbers).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="outside the map: 77;"):
        decode_mask(tmp_path / "m.png", (8, 8), CAMVID_IDS, CAMVID_IDS.table(CAMVID_11), "camvid")


def test_image_and_mask_of_different_size(root: Path, mask: Path) -> None:
    Image.new("L", (12, 8)).save(mask)
    refused(root, str(mask), "f1.png is 24 x 16 pixels", "12 x 8", "remove both")


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("P", "a palette image"),
        ("RGB", "an 8-bit RGB image (colours, not ids)"),
        ("RGBA", "an 8-bit RGBA image"),
        ("I;16", "one 16-bit grey channel"),
        ("1", "a black-and-white image"),
        ("LA", "an image of mode LA"),
    ],
)
def test_another_kind_of_mask(mode: str, found: str, root: Path, mask: Path) -> None:
    Image.new(mode, (24, 16)).save(mask)
    refused(root, str(mask), found, "expected one 8-bit grey channel of class ids 0-10")


def test_colours_where_a_palette_would_do(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.new("RGB", (24, 16)).save(path)
    with pytest.raises(DataError, match=r"8-bit RGB image.*expected a PNG with one 8-bit channel"):
        decode_mask(path, SHAPE, GTA5_IDS, np.zeros(256, np.uint8), "gta5")


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((16, 24, 3), np.uint8), "8-bit values in 3 channel"),
        (np.zeros((16, 24), np.uint16), "16-bit values in 1 channel"),
        (np.full((16, 24, 3), 300, np.uint16), "outside the map: 300;"),
        (np.full((16, 24, 3), 23, np.uint16), "outside the map: 23;"),
    ],
)
def test_bad_synthia_masks(pixels: Any, found: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    cv2.imwrite(str(path), pixels)
    with pytest.raises(DataError, match=found) as error:
        decode_mask(path, SHAPE, SYNTHIA_IDS, SYNTHIA_IDS.table(SYNTHIA_16), "synthia")
    assert "GT/LABELS; not GT/COLOR" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_broken_mask(content: bytes, root: Path, mask: Path) -> None:
    mask.write_bytes(content)
    refused(root, f"cannot decode mask {mask}", "replace the file")
    with pytest.raises(DataError, match="cannot decode mask"):
        decode_mask(mask, SHAPE, SYNTHIA_IDS, np.zeros(256, np.uint8), "synthia")


def test_a_broken_image(root: Path) -> None:
    path = root / "camvid" / "test" / "f0.png"
    path.write_bytes(path.read_bytes()[:40])
    refused(root, f"cannot decode {path}")


def test_an_image_without_a_mask(root: Path, mask: Path) -> None:
    mask.unlink()
    words = "1 of 2 images in", "have no mask", str(mask), "add the masks or remove the images"
    refused(root, *words, str(root / "camvid" / "test" / "f1.png"))


def test_an_empty_folder(root: Path) -> None:
    for path in (root / "camvid").rglob("*.png"):
        path.unlink()
    expected = "train/*.* with masks trainannot/*.png, or train/images/*.*"
    refused(root, "domain 'day': no images in", str(root / "camvid"), expected)


def test_an_empty_split(root: Path) -> None:
    for path in (root / "camvid" / "val").iterdir():
        path.unlink()
    refused(root, "no frames", "source_val", "val/*.*")


def test_other_files_beside_the_images(root: Path) -> None:
    for name in (".hidden.png", "Thumbs.db", "list.txt"):
        (root / "camvid" / "test" / name).write_bytes(b"")
    data = CamVid().load(DataRequest("day", "day", 16, root, root / "cache"))
    assert len(data.target_all.masks) == 2


def test_pictures_are_reduced_as_everywhere(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "i.png"
    Image.fromarray(pixels).save(path)
    square, digest = decode(path, 16, "toy")
    assert (decode_sized(path, (16, 16), "toy")[0] == square).all()
    wide, same, size = decode_sized(path, (15, 20), "toy")
    assert (wide.shape, same, size) == ((15, 20, 3), digest, (60, 80))
    # a fourth of each side: the mean colour stays, single pixels go
    assert np.abs(wide.mean((0, 1)) - pixels.mean((0, 1))).max() < 3
    assert wide.std() < 0.5 * pixels.std()
