"""The embedded set ``digits``: the printed domain is rendered once and then read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.digits import digits
from dabench.errors import DataError


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Replace the fonts by noise, of the right size, and count how often it is made."""
    calls: list[int] = []

    def render(*, per_class: int, held_out: bool, seed: int) -> Any:
        calls.append(per_class)
        rng = np.random.default_rng(seed)
        pictures = rng.integers(0, 255, (10 * per_class, 32, 32, 3), dtype=np.uint8)
        return pictures, np.repeat(np.arange(10), per_class)

    monkeypatch.setattr(digits, "render_domain", render)
    digits._printed.cache_clear()
    yield calls
    digits._printed.cache_clear()


def load(cache: Path) -> DomainData:
    """Load as another process would: nothing is remembered."""
    digits._printed.cache_clear()
    return digits.Digits().load(DataRequest("print", "handwritten", 32, None, cache))


def test_rendered_once_then_read(tmp_path: Path, rendered: list[int]) -> None:
    one, two = load(tmp_path), load(tmp_path)
    assert rendered == [600, 100]
    assert one.source_val is not None
    assert two.source_val is not None
    for a, b in ((one.source_train, two.source_train), (one.source_val, two.source_val)):
        assert a.digest == b.digest
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert one.source_train.digest != one.source_val.digest


def test_other_versions_do_not_read_it(
    tmp_path: Path, rendered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    monkeypatch.setattr(digits, "version", lambda name: "0.0")
    load(tmp_path)
    assert rendered == [600, 100] * 2


@pytest.mark.parametrize("content", [b"", b"PK half a file"])
def test_a_damaged_file_of_mnist_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mnist" / "mnist8k.npz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"mnist8k\.npz cannot be read"):
        digits._mnist(tmp_path)
    assert "cannot be read" in digits.Digits().check(tmp_path)[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"x_train": np.zeros((5, 28, 28), np.float32)},
        {"y_train": np.zeros(6, np.int64)},
        {"x_train": np.zeros((6, 28, 28), np.uint8), "y_test": np.zeros(4, np.int64)},
        {"y_test": np.array([0, 1, 10])},
        {"x_test": np.zeros((3, 32, 32), np.uint8)},
    ],
)
def test_pictures_and_labels_of_mnist_must_fit(tmp_path: Path, wrong: dict[str, Any]) -> None:
    whole = {
        "x_train": np.zeros((5, 28, 28), np.uint8),
        "y_train": np.arange(5),
        "x_test": np.ones((3, 28, 28), np.uint8),
        "y_test": np.arange(3),
    }
    path = tmp_path / "mnist" / "mnist8k.npz"
    path.parent.mkdir()
    np.savez(path, **whole)
    assert len(digits._mnist(tmp_path).labels) == 8
    assert digits.Digits().check(tmp_path) == []
    np.savez(path, **(whole | wrong))
    with pytest.raises(DataError, match=r"mnist8k.npz holds .* expected uint8"):
        digits._mnist(tmp_path)
    assert "expected uint8" in digits.Digits().check(tmp_path)[0]
