"""The drawn set ``streets``: the same for everybody, classes, masks, disjoint drives, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dabench.contract.data import DataRequest, DenseData
from dabench.datasets.streets import streets
from dabench.datasets.streets.cache import Drawn
from dabench.datasets.streets.canvas import CLASSES, NUMBER, Camera, Canvas, flat, upright
from dabench.datasets.streets.frames import draw_drive, width_of
from dabench.datasets.streets.looks import LOOKS
from dabench.datasets.streets.streets import PARTS, Streets, draw_part
from dabench.errors import CacheError, ConfigError

SMALL = 48
FEW = {"train": range(2), "val": range(16, 17), "target": range(20, 22)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, range, int]]:
    """Make the set small; return the list of what is drawn from now on."""
    calls: list[tuple[str, range, int]] = []
    monkeypatch.setattr(streets, "PARTS", FEW)
    monkeypatch.setattr(streets, "LENGTH", 3)
    real = streets.draw_part

    def spy(look: str, numbers: range, height: int) -> Drawn:
        calls.append((look, numbers, height))
        return real(look, numbers, height)

    monkeypatch.setattr(streets, "draw_part", spy)
    return calls


def load(
    cache: Path, source: str = "avenue", target: str = "oldtown", size: int = SMALL
) -> DenseData:
    return Streets().load(DataRequest(source, target, size, None, cache))


@pytest.mark.parametrize("target", ["oldtown", "avenue"])
def test_what_is_handed_out(
    tmp_path: Path, drawn: list[tuple[str, range, int]], target: str
) -> None:
    data = load(tmp_path, target=target)
    assert (data.kind, data.classes, data.subsets, data.flip) == (
        *("segmentation", CLASSES, {}, True),
    )
    assert (data.image_size, data.width) == (SMALL, 64)
    everything = set()
    for frames, count in ((data.source_train, 6), (data.source_val, 3), (data.target_all, 6)):
        rows = np.arange(count)
        images, masks = frames.images[rows], frames.masks[rows]
        assert (len(frames.images), len(frames.masks)) == (count, count)
        assert images.shape == (count, SMALL, 64, 3)
        assert masks.shape == (count, SMALL, 64)
        assert (images.dtype, masks.dtype) == (np.uint8, np.uint8)
        assert masks.max() < len(CLASSES)
        everything |= {image.tobytes() for image in images}
    assert len(everything) == 15  # no frame twice, in no two parts
    assert len({data.source_train.digest, data.source_val.digest, data.target_all.digest}) == 3


def test_parts_share_no_street() -> None:
    numbers = [number for part in PARTS.values() for number in part]
    assert len(numbers) == len(set(numbers)) == 36
    assert [len(part) * streets.LENGTH for part in PARTS.values()] == [160, 40, 160]


def test_the_target_does_not_depend_on_the_source(
    tmp_path: Path, drawn: list[tuple[str, range, int]]
) -> None:
    one, other = load(tmp_path), load(tmp_path, "oldtown", "oldtown")
    assert one.target_all.digest == other.target_all.digest
    assert one.source_train.digest != other.source_train.digest
    assert one.digest != other.digest


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("part", PARTS)
def test_every_class_occurs(look: str, part: str) -> None:
    drives = [draw_drive(look, number, 1, SMALL)[1] for number in PARTS[part]]
    share = np.bincount(np.concatenate(drives).ravel(), minlength=len(CLASSES))
    assert len(share) == len(CLASSES)
    assert share.min() > 2e-4 * share.sum()
    assert share.max() < 0.6 * share.sum()


def test_same_in_another_process() -> None:
    code = (
        "import hashlib; from dabench.datasets.streets.streets import draw_part;"
        f"x, y = draw_part('oldtown', range(3, 5), {SMALL});"
        "print(hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", code]
    done = [
        subprocess.run(run, capture_output=True, text=True, check=True, env={**env, "LANG": lang})
        for lang in ("C", "en")
    ]
    assert done[0].stdout == done[1].stdout
    assert len(done[0].stdout.strip()) == 64


@pytest.mark.parametrize("look", LOOKS)
def test_a_drive_depends_on_its_number_alone(look: str) -> None:
    images, masks = draw_drive(look, 5, 3, SMALL)
    longer, shorter = draw_drive(look, 5, 4, SMALL), draw_part(look, range(5, 6), SMALL)
    np.testing.assert_array_equal(images, longer[0][:3])
    np.testing.assert_array_equal(masks, shorter[1][:3])
    assert (masks != draw_drive(look, 6, 3, SMALL)[1]).mean() > 0.1


def test_frames_follow_each_other() -> None:
    near, far = [], []
    for number in range(4):
        masks = draw_drive("avenue", number, 10, SMALL)[1]
        near.append((masks[1:] != masks[:-1]).mean())
        far.append((masks[9] != masks[0]).mean())
    assert 0 < np.mean(near) < np.mean(far)


@pytest.mark.parametrize("look", LOOKS)
def test_colours_change_where_classes_do(look: str) -> None:
    """Moving a mask by some pixels must make the classes' colours less uniform."""
    inside, moved = [], []
    for number in range(6):
        images, masks = draw_drive(look, number, 1, 96)
        pixels, classes = images[0].astype(float), masks[0]
        inside.append(_spread(pixels, classes))
        moved.append(_spread(pixels, np.roll(classes, 3, axis=1)))
    assert np.mean(inside) < 0.9 * np.mean(moved)


def _spread(pixels: np.ndarray, classes: np.ndarray) -> float:
    """Return the mean step of colour between neighbours of one class."""
    step = np.abs(np.diff(pixels, axis=1)).mean(axis=2)
    return float(step[classes[:, 1:] == classes[:, :-1]].mean())


def test_colour_and_class_are_one_shape() -> None:
    c = Canvas(60, 80, Camera(0, 1.5, 0, 0.9, 0.5, 0, 0.001), (0, 0, 0))
    c.shapes(upright(-1, 1, 0, 2, 8, 8), (200, 100, 50, NUMBER["car"]))
    c.shapes(flat(-3, -2, 4, 20), (10, 220, 60, NUMBER["terrain"]))
    c.ellipses([(2, 1, 9)], np.array(((0.7, 0.4),)), [(90, 80, 230, NUMBER["sign"])])
    colours = {tuple(pixel) for pixel in c.plane.reshape(-1, 4).tolist()}
    assert colours == {
        *((0, 0, 0, 0), (200, 100, 50, NUMBER["car"])),
        *((10, 220, 60, NUMBER["terrain"]), (90, 80, 230, NUMBER["sign"])),
    }


def test_the_camera_projects_as_a_pinhole() -> None:
    c = Canvas(60, 80, Camera(0.5, 1.5, 2.0, 0.9, 0.5, 0, 0), (0, 0, 0))
    ahead = 0.9 * 80 / 10  # pixels a metre, ten metres ahead
    expected = np.array((40 + ahead * 1.0, 30 + ahead * 1.5)) - 0.5
    np.testing.assert_allclose(c.put((1.5, 0.0, 12.0)) / 16, expected, atol=0.04)


def test_sizes_show_the_same_scenes() -> None:
    small, large = draw_drive("avenue", 2, 1, 48)[1][0], draw_drive("avenue", 2, 1, 96)[1][0]
    assert (large[::2, ::2] == small).mean() > 0.85


@pytest.mark.parametrize(("height", "width"), [(48, 64), (50, 64), (96, 128), (100, 136)])
def test_width(height: int, width: int) -> None:
    assert width_of(height) == width
    assert draw_drive("oldtown", 0, 1, height)[0].shape == (1, height, width, 3)


@pytest.mark.parametrize("size", [0, 47, 1025])
def test_wrong_size(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match="choose 48 to 1024"):
        load(tmp_path, size=size)


@pytest.mark.parametrize(("source", "target"), [("noon", "avenue"), ("avenue", "old"), ("", "")])
def test_unknown_domain(tmp_path: Path, source: str, target: str) -> None:
    with pytest.raises(ConfigError, match="streets has no domain"):
        load(tmp_path, source, target)


def test_drawn_once_then_read(tmp_path: Path, drawn: list[tuple[str, range, int]]) -> None:
    first = load(tmp_path)
    assert [(look, numbers) for look, numbers, _ in drawn] == [
        *(("avenue", FEW["train"]), ("avenue", FEW["val"]), ("oldtown", FEW["target"])),
    ]
    second = load(tmp_path)
    assert len(drawn) == 3
    assert first.digest == second.digest
    rows = np.array((5, 0))
    made = draw_drive("oldtown", 21, 3, SMALL)
    np.testing.assert_array_equal(second.target_all.images[rows][0], made[0][2])
    np.testing.assert_array_equal(second.target_all.masks[rows][0], made[1][2])


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "meta.json"])
def test_damaged_cache_is_drawn_again(
    tmp_path: Path, drawn: list[tuple[str, range, int]], name: str
) -> None:
    digest = load(tmp_path).digest
    (folder,) = (tmp_path / "images").glob("streets-oldtown-target-*")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    for harmed in (content, b""):
        (folder / name).write_bytes(harmed)
        assert load(tmp_path).digest == digest
    assert len(drawn) == 5


def test_unwritable_cache(tmp_path: Path, drawn: list[tuple[str, range, int]]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="--cache-dir"):
        load(tmp_path / "file")


def test_check_finds_nothing_to_mend() -> None:
    assert Streets().check(None) == []
