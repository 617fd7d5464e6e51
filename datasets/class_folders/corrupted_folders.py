"""The corruptions of ImageNet-C as published shifts: one folder of class folders each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dabench.contract.data import ImageArray
from dabench.datasets.caching.image_build import Entry
from dabench.datasets.caching.image_cache import load_images, name_hashed
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.folder_tree import few
from dabench.datasets.weather.groups import EXTRA, FAMILIES, LEVELS, published
from dabench.errors import DataError, did_you_mean

#: the fifteen corruptions of the tables by archive, and the four extra ones
CORRUPTIONS: Mapping[str, tuple[str, ...]] = {**FAMILIES, "extra": EXTRA}
_FILES = {published(kind): kind for kinds in CORRUPTIONS.values() for kind in kinds}
#: the target whose corruptions are shifts: ImageNet's validation pictures
STREAM = "val"


class NoClearPictures:
    """Stands for the clear pictures, which are no part of the set.

    Args:
        count: how many there would be.
        dataset: name for the message.
    """

    def __init__(self, count: int, dataset: str) -> None:
        self._count, self._dataset = count, dataset

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> np.ndarray:
        """Refuse.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"{self._dataset} holds no clear pictures, which this stream shows; use published "
            "corruptions (--protocol.shifts published-fog:5), or --dataset imagenet"
        )


@dataclass(frozen=True)
class CorruptedFolders:
    """The folders of the set, as ``PublishedShifts``: decoded when a stream asks for them.

    Attributes:
        spec: of the set.
        home: the folder that holds the corruptions.
        classes: names, in the order of the labels.
        size: side in pixels.
        cache_dir: where decoded pictures are kept.
    """

    spec: Spec
    home: Path
    classes: tuple[str, ...]
    size: int
    cache_dir: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the corruptions of which a severity is there."""
        there = {domain.partition("/")[0] for domain in self.spec.present(self.home)}
        return tuple(name for name, kind in _FILES.items() if kind in there)

    @cached_property
    def pictures(self) -> list[Entry]:
        """Files and labels of the first corruption that is there, in the order of all.

        Raises:
            DataError: there is none, or its classes are not those of the set.
        """
        present = self.spec.present(self.home)
        if not present:
            raise DataError(
                f"{self.spec.name}: no folder of a corruption in {self.home} ({self.spec.where})"
            )
        return self.entries(present[0])

    def entries(self, domain: str) -> list[Entry]:
        """Return a domain's files in name-hashed order, which is that of all corruptions.

        Raises:
            DataError: a domain that is missing, or whose classes are not those of the set.
        """
        found = self.spec.tree(self.home, domain)
        matched, problems = self.spec.match(self.classes, found.tree)
        if problems:
            raise DataError(
                f"{self.spec.name}: '{domain}': {'; '.join(problems)}; mend the folder "
                f"({self.spec.advice()})"
            )
        # a name without the corruption: a position is the same picture in all of them
        return name_hashed(
            Entry(f"{STREAM}/{name}/{path.name}", path, label)
            for label, name in enumerate(self.classes)
            for path in matched.get(name, ())
        )

    def open(self, name: str, severity: int) -> tuple[ImageArray, str]:
        """Return a corruption's pictures by the target's positions, and a digest of their files.

        Raises:
            DataError: no such corruption or severity, other pictures than in the first one, or one
                that cannot be decoded.
            CacheError: the cache cannot be written.
        """
        if name not in _FILES:
            raise DataError(f"{self.spec.name} has no '{name}'{did_you_mean(name, _FILES)}")
        if severity not in range(1, LEVELS + 1):
            raise DataError(
                f"{self.spec.name}: {name} has severities 1 to {LEVELS}, not {severity}"
            )
        domain = f"{_FILES[name]}/{severity}"
        own = self.entries(domain)
        if odd := {entry.name for entry in own} ^ {entry.name for entry in self.pictures}:
            first = self.spec.present(self.home)[0]
            raise DataError(
                f"{self.spec.name}: {domain} and {first} hold other pictures: {few(sorted(odd))} "
                f"is in one of them alone; unpack both again ({self.spec.where})"
            )
        found = load_images(
            *(self.spec.name, domain, own, self.size, self.cache_dir), crop=self.spec.crop
        )
        return found.images, found.digest
