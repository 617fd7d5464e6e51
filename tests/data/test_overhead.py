"""The drawn set ``overhead``: the same for everybody, every class drawn, errors and cache."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.overhead import overhead
from dabench.datasets.overhead.overhead import CLASSES, PER_CLASS, Overhead
from dabench.errors import CacheError, ConfigError

FEW = 12


@pytest.fixture(scope="module")
def few() -> Labelled:
    return overhead.draw_all(FEW, 64)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, few: Labelled) -> list[int]:
    """Make the set small; return the list of sizes that are drawn from now on."""
    sizes: list[int] = []
    monkeypatch.setattr(overhead, "PER_CLASS", FEW)
    real = overhead.draw_all

    def spy(per_class: int, size: int) -> Labelled:
        sizes.append(size)
        return few if size == 64 else real(per_class, size)

    monkeypatch.setattr(overhead, "draw_all", spy)
    return sizes


def load(cache: Path, size: int = 64, source: str = "clear", target: str = "clear") -> DomainData:
    return Overhead().load(DataRequest(source, target, size, None, cache))


def check_whole(data: DomainData, per_class: int, size: int) -> None:
    count = per_class * len(CLASSES)
    labels, pictures = data.target_all.labels, data.target_all.images[np.arange(count)]
    assert len(data.target_all.images) == count
    assert (np.bincount(labels) == per_class).all()
    assert pictures.shape == (count, size, size, 3)
    assert len({picture.tobytes() for picture in pictures}) == count
    assert pictures.std(axis=(1, 2, 3)).min() > 3  # no picture is empty
    assert np.sum(np.diff(labels) != 0) > 0.8 * count  # sorted by class there are 9 changes
    assert abs(np.corrcoef(np.arange(count), labels)[0, 1]) < 4 / np.sqrt(count)


def test_what_is_handed_out(tmp_path: Path, drawn: list[int]) -> None:
    data = load(tmp_path)
    check_whole(data, FEW, 64)
    assert data.source_train is data.target_all
    assert (data.source_val, data.splits, data.flip) == (None, {}, True)
    assert data.classes == tuple(sorted(CLASSES))
    assert len(data.classes) == 10


@pytest.mark.slow
def test_whole_set(tmp_path: Path) -> None:
    start = time.process_time()
    data = load(tmp_path)
    assert time.process_time() - start < 60  # some seconds; generous for a slow machine
    assert PER_CLASS == 240
    check_whole(data, PER_CLASS, 64)


def test_colour_alone_does_not_tell_the_class() -> None:
    part = overhead.draw_all(30, 32)
    colour = np.asarray(part.images).reshape(len(part.labels), -1, 3).mean(axis=1)
    even = np.arange(len(colour)) % 2 == 0
    centres = np.stack([colour[even & (part.labels == c)].mean(axis=0) for c in range(10)])
    nearest = np.linalg.norm(colour[~even][:, None] - centres, axis=2).argmin(axis=1)
    assert np.mean(nearest == part.labels[~even]) < 0.45


def test_same_in_another_process(few: Labelled) -> None:
    code = (
        "from dabench.datasets.overhead.overhead import draw_all; "
        f"print(draw_all({FEW}, 64).digest)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.strip() == few.digest


@pytest.mark.parametrize("scene", CLASSES)
def test_a_picture_depends_on_its_number_alone(scene: str) -> None:
    one = overhead.draw(scene, 5, 32)
    np.testing.assert_array_equal(one, overhead.draw(scene, 5, 32))
    assert not np.array_equal(one, overhead.draw(scene, 6, 32))


def test_sizes_show_the_same_scenes(tmp_path: Path, drawn: list[int]) -> None:
    for size in (32, 128):
        data = load(tmp_path, size)
        assert data.target_all.images[np.arange(2)].shape == (2, size, size, 3)
    large = overhead.draw("runway", 3, 128).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    small = overhead.draw("runway", 3, 32)
    assert np.abs(large - small).mean() < 10  # noise and softness apart
    assert drawn == [32, 128]


@pytest.mark.parametrize("size", [0, 31, 129, 224])
def test_wrong_size(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match="choose 32 to 128"):
        load(tmp_path, size)


@pytest.mark.parametrize(("source", "target"), [("fog", "clear"), ("clear", "fog"), ("", "clear")])
def test_unknown_domain(tmp_path: Path, source: str, target: str) -> None:
    with pytest.raises(ConfigError, match="overhead has no domain"):
        load(tmp_path, source=source, target=target)


def test_drawn_once_then_read(tmp_path: Path, drawn: list[int], few: Labelled) -> None:
    first, second = load(tmp_path), load(tmp_path)
    assert drawn == [64]
    assert first.digest == second.digest
    assert first.target_all.digest == few.digest
    rows = np.arange(len(few.labels))
    np.testing.assert_array_equal(second.target_all.images[rows], few.images)
    np.testing.assert_array_equal(second.target_all.labels, few.labels)


def test_damaged_cache_is_drawn_again(tmp_path: Path, drawn: list[int], few: Labelled) -> None:
    load(tmp_path)
    (folder,) = (tmp_path / "images").iterdir()
    labels = np.load(folder / "labels.npy")
    np.save(folder / "labels.npy", labels[::-1])
    again = load(tmp_path).target_all
    np.testing.assert_array_equal(again.labels, few.labels)
    assert again.digest == few.digest
    (folder / "images.npy").write_bytes(b"")
    assert load(tmp_path).target_all.digest == few.digest
    assert drawn == [64, 64, 64]


def test_unwritable_cache(tmp_path: Path, drawn: list[int]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="--cache-dir"):
        load(tmp_path / "file")


def test_check_finds_nothing_to_mend() -> None:
    assert Overhead().check(None) == []
