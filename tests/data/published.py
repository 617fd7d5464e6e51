"""Tiny files in the exact layouts of published sets, for the tests beside this file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, Any]
STANDARD = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class Python2(pickle._Pickler):
    """Writes as Python 2 did: bytes as strings, NumPy under its old name."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, obj: bytes) -> None:
        head = b"U" + bytes([len(obj)]) if len(obj) < 256 else b"T" + len(obj).to_bytes(4, "little")
        self.write(head + obj)
        self.memoize(obj)

    def save_str(self, obj: str) -> None:
        self.save_bytes(obj.encode("latin1"))

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


def write_python2(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2(file, protocol=2).dump(value)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))


def pictures(count: int, seed: int) -> Array:
    """Return (count, 32, 32, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def labels(count: int, seed: int, classes: int = 10) -> Array:
    """Return every class equally often, shuffled."""
    return np.random.default_rng(seed).permutation(np.arange(count) % classes)


def planes(images: Array) -> Array:
    """Return pictures as the authors store them: 3072 values, colour after colour."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def write_cifar10(root: Path, test: int = 20) -> tuple[Array, Array]:
    """Write ``cifar-10-batches-py``; return the test pictures and labels."""
    home = root / "cifar-10-batches-py"
    for i in range(1, 6):
        data, own = planes(pictures(20, i)), [int(n) for n in labels(20, i)]
        write_python2(home / f"data_batch_{i}", {"data": data, "labels": own, "batch_label": "x"})
    shown, own = pictures(test, 9), labels(test, 9)
    write_python2(home / "test_batch", {"data": planes(shown), "labels": [int(n) for n in own]})
    write_python2(home / "batches.meta", {"label_names": TEN, "num_vis": 3072})
    return shown, own


def write_cifar10_c(root: Path, test: int = 20, files: tuple[str, ...] = STANDARD + EXTRA) -> Array:
    """Write ``cifar-10-batches-py`` and ``CIFAR-10-C``; return the test labels."""
    _, own = write_cifar10(root, test)
    home = root / "CIFAR-10-C"
    home.mkdir()
    for number, name in enumerate(files):
        np.save(home / f"{name}.npy", pictures(5 * test, 100 + number))
    np.save(home / "labels.npy", np.tile(own, 5))
    return own
