"""Some rows of labelled images, without copying a picture."""

from __future__ import annotations

import hashlib

import numpy as np

from dabench.contract.data import Labelled
from dabench.contract.types import IntArray


def select_rows(data: Labelled, rows: IntArray) -> Labelled:
    """Return some rows of labelled images, without copying a picture; the digest names them."""
    sha = hashlib.sha256(data.digest.encode())
    sha.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return Labelled(RowView(data, rows), data.labels[rows], sha.hexdigest())


class RowView:
    """A view of some rows of an image array, without copying it."""

    def __init__(self, data: Labelled, rows: IntArray) -> None:
        self._images, self._rows = data.images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: IntArray) -> np.ndarray:
        return self._images[self._rows[index]]
