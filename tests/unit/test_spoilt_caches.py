"""Whole runs on a cache that was damaged: what is damaged is named, and the scores are the same."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dabench.config.settings import Settings
from dabench.config.spec import resolve
from dabench.engine.run import RunResult, execute

Make = Callable[[], RunResult]
SHARED = {"device": "cpu", "threads": 1, "seeds": "0", "source-epochs": 1, "epochs": 1}


def noise(*words: object) -> np.ndarray:
    rng = np.random.default_rng([len(str(word)) + ord(str(word)[-1]) for word in words])
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def pictures(root: Path) -> None:
    """Two domains of three classes, whose pictures differ in colour."""
    for domain in ("one", "two"):
        for number, name in enumerate("abc"):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for i in range(8):
                pixels = noise(domain, name, i)
                pixels[..., number] |= 128
                Image.fromarray(pixels).save(folder / f"{i}.png")


def frames(root: Path) -> None:
    """CamVid's layout: three frames a split, of which the upper half is road."""
    for split in ("train", "val", "test"):
        for i in range(3):
            for folder, pixels in (
                (split, noise(split, i)),
                (f"{split}annot", np.repeat(np.arange(20, dtype=np.uint8) // 2 % 12, 30)),
            ):
                path = root / "CamVid" / folder / f"Seq_f{i:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.reshape(20, 30, -1).squeeze()).save(path)


def maker(folder: Path, fill: Callable[[Path], None], options: dict[str, Any]) -> Make:
    """Return a function that makes a run from the start, whatever records there are."""
    fill(folder / "data")
    where = Settings(
        folder / "results", folder / "data", folder / "cache", force=True, progress=False
    )
    (spec,) = resolve(SHARED | options)
    return lambda: execute(dataclasses.replace(spec), where)


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Make, RunResult]:
    folder = tmp_path_factory.mktemp("classified")
    options = {
        **{"method": "pseudo-label", "protocol": "bb-uda", "dataset": "image-folder"},
        **{"source": "one", "target": "two", "image-size": 32, "batch-size": 4},
        **{"backbone": "small-cnn", "weights": "none", "protocol.oracle": "in-process"},
    }
    make = maker(folder, pictures, options)
    return folder / "cache", make, make()


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Make, RunResult]:
    folder = tmp_path_factory.mktemp("segmented")
    options = {
        **{"method": "transadapt", "protocol": "online-seg", "dataset": "camvid"},
        **{"image-size": 32, "backbone": "small-seg", "weights": "none"},
        **{"method.head_steps": 10, "method.module_steps": 10},
    }
    make = maker(folder, frames, options)
    return folder / "cache", make, make()


def blank(path: Path) -> None:
    """Blank the second half of an array, which remains one."""
    array = np.load(path, mmap_mode="r+")
    array[len(array) // 2 :] = 0
    array.flush()


def halve(path: Path) -> None:
    """Halve the first tensor of a file, which remains one of the same kind."""
    saved = torch.load(path, weights_only=True)
    next(iter(saved["state_dict"].values())).mul_(0.5)
    torch.save(saved, path)


def turn(path: Path) -> None:
    """Let every stored answer be that of another picture."""
    file = sqlite3.connect(path)
    rows = file.execute("SELECT digest, answer FROM answers ORDER BY digest").fetchall()
    for (digest, _), (_, answer) in zip(rows, [*rows[1:], rows[0]], strict=True):
        file.execute("UPDATE answers SET answer = ? WHERE digest = ?", (answer, digest))
    file.commit()
    file.close()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def one_bit(path: Path) -> None:
    """Turn one bit in the middle; the file's time stays."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def check(
    made: tuple[Path, Make, RunResult],
    pattern: str,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Harm every file that fits, run again: named, made again, the same run with its scores."""
    cache, make, first = made
    paths = sorted(cache.glob(pattern))
    assert paths
    for path in paths:
        harm(path)
    again = make()
    for path in paths:
        assert str(path if path.suffix != ".npy" else path.parent) in caplog.text
    assert (again.run_id, again.record["ids"]) == (first.run_id, first.record["ids"])
    assert again.record["scores"] == first.record["scores"]
    caplog.clear()
    make()
    assert "cannot be used" not in caplog.text
    assert "damaged" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("images/*/images.npy", blank),
        ("images/*/images.npy", one_bit),
        ("images/*/labels.npy", blank),
        ("sources/*/model.pt", halve),
        ("sources/*/model.pt", one_bit),
        ("sources/*/model.pt", empty),
        ("answers/*.sqlite3", turn),
        ("answers/*.sqlite3", lambda path: path.write_bytes(b"no database" * 100)),
    ],
)
def test_pictures_sources_and_answers(
    classified: tuple[Path, Make, RunResult],
    pattern: str,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    check(classified, pattern, harm, caplog)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("frames/*/images.npy", blank),
        ("frames/*/masks.npy", blank),
        ("sources/*/model.pt", halve),
        ("sources/*/parts.pt", halve),
        ("sources/*/parts.pt", empty),
    ],
)
def test_frames_and_source_parts(
    segmented: tuple[Path, Make, RunResult],
    pattern: str,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    check(segmented, pattern, harm, caplog)
