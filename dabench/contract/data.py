"""What a data set hands to a protocol: labelled images of two domains, and class splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from dabench.contract.types import IntArray


class ImageArray(Protocol):
    """Anything that answers positions with uint8 pictures: an array, a memory map, a decoder."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]:
        """Return (B, H, W, 3) uint8 for B positions."""
        ...


@dataclass(frozen=True)
class Labelled:
    """Images with their classes, in an order that says nothing about the classes.

    Attributes:
        images: N pictures, (H, W, 3) uint8 each.
        labels: (N,) int64 indices into ``DomainData.classes``.
        digest: SHA-256 over the content and its order.
    """

    images: ImageArray
    labels: IntArray
    digest: str


@dataclass(frozen=True)
class ClassSplit:
    """Class *names* of an open-set split; classes in neither list are dropped."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class DomainData:
    """A source domain and a target domain over one list of classes.

    ``source_val`` is used to report the source model's accuracy; when it is None the
    recipe holds a part of ``source_train`` out. ``splits`` always has ``"default"`` where
    the set has an open-set convention. ``flip`` says whether a mirrored image keeps its class.
    """

    dataset: str
    source: str
    target: str
    classes: tuple[str, ...]
    image_size: int
    source_train: Labelled
    source_val: Labelled | None
    target_all: Labelled
    splits: Mapping[str, ClassSplit] = field(default_factory=dict)
    flip: bool = True

    @property
    def digest(self) -> str:
        """One digest for everything above."""
        val = self.source_val.digest if self.source_val else "-"
        names = (self.dataset, self.source, self.target, *self.classes, str(self.image_size))
        parts = (*names, self.source_train.digest, val, self.target_all.digest)
        return hashlib.sha256("|".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class DataRequest:
    """What the engine asks of a data set."""

    source: str
    target: str
    image_size: int
    data_root: Path | None
    cache_dir: Path


class DataSet(Protocol):
    """The contract of a file in ``datasets/``: one class with these members.

    ``defaults`` fills in options that the user left out: ``source``, ``target``,
    ``image_size``, ``backbone``, ``weights``, ``epochs``, ``source_epochs``, ``freeze``.
    """

    domains: ClassVar[tuple[str, ...]]
    defaults: ClassVar[Mapping[str, Any]]

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains; a ``DataError`` says what is missing and where to get it."""
        ...

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each (empty = complete)."""
        ...
