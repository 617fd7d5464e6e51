"""Frames of several domains behind each other, as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dabench.contract.data import Frames
from dabench.contract.types import IntArray


class _Pixels(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]: ...


class Joined:
    """Arrays of one shape of picture behind each other; each stays where it is."""

    def __init__(self, parts: Sequence[_Pixels]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]:
        """Return what lies at some positions."""
        index = np.asarray(index)
        owner = np.searchsorted(self.ends, index, side="right")
        found: npt.NDArray[np.uint8] | None = None
        for number in np.unique(owner):
            mine = owner == number
            begin = self.ends[number] - len(self.parts[number])
            pixels = self.parts[number][index[mine] - begin]
            if found is None:
                found = np.empty((len(index), *pixels.shape[1:]), dtype=np.uint8)
            found[mine] = pixels
        return self.parts[0][index] if found is None else found


def join_frames(parts: Sequence[Frames]) -> Frames:
    """Return the frames of several domains as one; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    digest = hashlib.sha256("|".join(part.digest for part in parts).encode()).hexdigest()
    images, masks = (Joined([p.images for p in parts]), Joined([p.masks for p in parts]))
    return Frames(images, masks, digest)
