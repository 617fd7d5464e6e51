"""CIFAR-10.1, MNIST, USPS and SVHN as published: tiny files in the exact layouts, bad cousins."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published as made
import pytest
from PIL import Image
from scipy.io import savemat

from dabench import registry
from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.arrays import digit_sets
from dabench.errors import ConfigError, DataError


def load(name: str, root: Path, source: str, target: str) -> DomainData:
    request = DataRequest(source, target, 32, root, root / "cache")
    found = registry.dataset(name)().load(request)
    assert isinstance(found, DomainData)
    return found


def by_content(images: Any, labels: Any) -> set[tuple[bytes, int]]:
    return {(p.tobytes(), int(n)) for p, n in zip(images, labels, strict=True)}


# -- CIFAR-10.1 ---------------------------------------------------------------------------------


@pytest.fixture
def new_test_set(tmp_path: Path) -> Path:
    """CIFAR-10, and CIFAR-10.1 sorted by class, as nothing forbids it to be."""
    made.write_cifar10(tmp_path)
    home = tmp_path / "CIFAR-10.1" / "datasets"
    home.mkdir(parents=True)
    np.save(home / "cifar10.1_v6_data.npy", made.pictures(30, 1))
    np.save(home / "cifar10.1_v6_labels.npy", np.sort(np.arange(30) % 10).astype(np.int32))
    return tmp_path


def test_cifar101_is_a_target_for_cifar10(new_test_set: Path) -> None:
    data = load("cifar10.1", new_test_set, "train", "v6")
    everything = np.arange(30)
    target = data.target_all
    assert by_content(target.images[everything], target.labels) == by_content(
        made.pictures(30, 1), np.sort(np.arange(30) % 10)
    )
    assert (np.diff(target.labels) < 0).any(), "a position must tell no class"
    assert len(data.source_train.labels) == 100
    assert data.source_val is not None
    clear = data.source_val  # CIFAR-10's own test images, and nothing of the target
    assert by_content(clear.images[np.arange(20)], clear.labels) == by_content(
        made.pictures(20, 9), made.labels(20, 9)
    )
    told = registry.dataset("cifar10.1")().check(new_test_set)
    assert any(line.startswith("optional: v6 has 30 images") for line in told)
    assert all(line.startswith("optional") for line in told)


def test_cifar101_names_what_is_wrong(new_test_set: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'v"):
        load("cifar10.1", new_test_set, "train", "v7")
    with pytest.raises(DataError, match=r"there is no .*v4_labels|there is no .*v4_data"):
        load("cifar10.1", new_test_set, "train", "v4")
    path = new_test_set / "CIFAR-10.1" / "datasets" / "cifar10.1_v6_labels.npy"
    np.save(path, np.zeros(29, np.int64))
    with pytest.raises(DataError, match=r"\(30, 32, 32, 3\); published is uint8 of \(29,"):
        load("cifar10.1", new_test_set, "train", "v6")


# -- digits -------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    return head + values.astype(np.uint8).tobytes()


def write_mnist(home: Path, form: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    parts = {"train": 20, "test": 10}
    grey = {part: made.pictures(n, n)[:, :28, :28, 0] for part, n in parts.items()}
    if form == "npz":
        arrays = {f"x_{part}": grey[part] for part in parts}
        arrays |= {f"y_{part}": made.labels(n, n) for part, n in parts.items()}
        np.savez(home / "mnist.npz", **arrays)
        return
    for part, start in (("train", "train"), ("test", "t10k")):
        files = {"images-idx3": grey[part], "labels-idx1": made.labels(parts[part], parts[part])}
        for name, values in files.items():
            raw = idx(values)
            end = ".gz" if form == "gz" else ""
            (home / f"{start}-{name}-ubyte{end}").write_bytes(gzip.compress(raw) if end else raw)


def write_usps(home: Path) -> None:
    home.mkdir(parents=True)
    for name, count in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        rows = np.random.default_rng(count).uniform(-1, 1, (count, 256))
        lines = [
            f"{label + 1} " + " ".join(f"{i + 1}:{v:.3f}" for i, v in enumerate(row))
            for label, row in zip(made.labels(count, 2), rows, strict=True)
        ]
        (home / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def write_svhn(home: Path) -> None:
    home.mkdir(parents=True)
    for part, count in (("train", 20), ("test", 10)):
        labels = made.labels(count, count)
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        shown = made.pictures(count, count).transpose(1, 2, 3, 0)
        savemat(home / f"{part}_32x32.mat", {"X": shown, "y": stored})


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    write_mnist(tmp_path / "mnist", "gz")
    write_usps(tmp_path / "usps")
    write_svhn(tmp_path / "svhn")
    return tmp_path


def test_all_layouts_of_mnist_hold_the_same(tmp_path: Path) -> None:
    found = []
    for form in ("gz", "raw", "npz"):
        write_mnist(tmp_path / form / "mnist" / ("raw" if form == "raw" else ""), form)
        found.append(load("digit-files", tmp_path / form, "mnist", "mnist"))
    assert len({data.source_train.digest for data in found}) == 1
    padded = np.pad(made.pictures(20, 20)[:, :28, :28, 0], ((0, 0), (2, 2), (2, 2)))
    train = found[0].source_train
    assert by_content(train.images[np.arange(20)][..., 0], train.labels) == by_content(
        padded, made.labels(20, 20)
    )


def test_three_domains_of_digits(digits: Path) -> None:
    data = load("digit-files", digits, "svhn", "usps")
    source = data.source_train
    assert by_content(source.images[np.arange(20)], source.labels) == by_content(
        made.pictures(20, 20), made.labels(20, 20)
    )
    assert data.source_val is not None
    assert len(data.source_val.labels) == 10
    shown = data.target_all.images[np.arange(20)]
    assert shown.shape == (20, 32, 32, 3)
    assert not shown[:, :2].any(), "padded"
    rows = np.random.default_rng(20).uniform(-1, 1, (20, 16, 16)).round(3)
    grey = [Image.fromarray(row) for row in ((rows + 1) / 2 * 255).astype(np.uint8)]
    large = [np.asarray(g.resize((28, 28), Image.Resampling.BICUBIC)) for g in grey]
    assert by_content(shown[:, 2:-2, 2:-2, 0], data.target_all.labels) == by_content(
        large, made.labels(20, 2)
    )
    assert not data.flip
    told = registry.dataset("digit-files")().check(digits)
    assert len(told) == 6
    assert all(line.startswith("optional") for line in told)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _replace(raw: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(raw)

    return change


def _mat(**arrays: np.ndarray) -> Callable[[Path], None]:
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return _replace(buffer.getvalue())


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("mnist/train-images-idx3-ubyte.gz", _cut, "cannot be read"),
        (
            "mnist/train-images-idx3-ubyte.gz",
            _replace(gzip.compress(idx(np.zeros((20, 28, 28)))[:-9])),
            "its head says",
        ),
        ("mnist/train-images-idx3-ubyte.gz", _replace(idx(np.zeros(20))), "no idx file"),
        ("mnist/train-labels-idx1-ubyte.gz", _replace(idx(np.zeros(19))), "20 pictures of"),
        ("mnist/train-labels-idx1-ubyte.gz", _replace(idx(np.full(20, 10))), "digits 0 to 9"),
        ("usps/usps.bz2", _replace(b"nothing of the kind"), "cannot be read"),
        ("svhn/train_32x32.mat", _cut, "cannot be read"),
        ("svhn/train_32x32.mat", _mat(y=np.zeros((20, 1))), "cannot be read"),
        (
            "svhn/train_32x32.mat",
            _mat(X=np.zeros((28, 28, 3, 20), np.uint8), y=np.ones((20, 1))),
            r"pictures of \(28, 28, 3\)",
        ),
        ("usps/usps.bz2", lambda path: path.unlink(), "expected usps.bz2"),
    ],
)
def test_bad_digit_files_are_told_in_one_line(
    digits: Path, file: str, change: Callable[[Path], None], told: str
) -> None:
    change(digits / file)
    domain = file.partition("/")[0]
    with pytest.raises(DataError, match=told) as caught:
        load("digit-files", digits, domain, domain)
    assert "\n" not in str(caught.value)
    assert any(domain in line for line in registry.dataset("digit-files")().check(digits))


def test_digits_of_public_size_must_be_the_public_ones(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(digit_sets.COUNTS["svhn"], "train", 20)
    with pytest.raises(DataError, match="MD5"):
        load("digit-files", digits, "svhn", "mnist")
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        load("digit-files", digits, "mnits", "svhn")
    (told,) = {
        line for line in registry.dataset("digit-files")().check(digits / "usps") if "none" in line
    }
    assert "none of mnist, usps, svhn" in told
