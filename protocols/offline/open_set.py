"""Targets that hold classes of their own beside those of the source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dabench.contract.data import ClassSplit, DomainData
from dabench.contract.seeding import seed
from dabench.contract.types import IntArray
from dabench.protocols.offline.protocol import OfflineProtocol
from dabench.protocols.offline.splits import SIDES, find_split, written_split


class OpenSetTarget(OfflineProtocol):
    """Known classes and private ones, which are all scored as one class "unknown"."""

    primary: ClassVar[str] = "HOS"
    open_set: ClassVar[bool] = True
    #: sides of a split that is written out
    sides: ClassVar[tuple[str, ...]] = ("known", "unknown")
    shorthands: ClassVar[Mapping[str, str]] = {side: SIDES[side] for side in sides}

    def __init__(self, *, split: str, held_out: float, unknown_share: float | None) -> None:
        super().__init__(held_out=held_out)
        self.split = split
        self.unknown_share = unknown_share

    @classmethod
    def written_options(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``known`` and its like as the split that they stand for.

        Raises:
            ConfigError: one without the others, or beside ``split``.
        """
        return written_split(given, cls.sides)

    def class_split(self, data: DomainData) -> ClassSplit:
        """Return the named split."""
        return find_split(data, self.split, self.sides)

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a target without known or without private images."""
        reason = super().is_valid(data)
        if reason is not None:
            return reason
        split = self.class_split(data)
        if bool(split.source_private) != ("source_private" in self.sides):
            if split.source_private:
                return f"split '{self.split}' has classes of the source alone; use sf-unida"
            return f"split '{self.split}' has no classes of the source alone; use sf-osda"
        if len(split.source) < 2:
            return (
                f"split '{self.split}' leaves the source one class, '{split.source[0]}'; a model "
                "needs two or more to tell apart"
            )
        present = {data.classes[i] for i in np.unique(data.target_all.labels)}
        if not present & set(split.known):
            return f"no image of the known classes ({', '.join(split.known)}) in '{data.target}'"
        if not present & set(split.unknown):
            return (
                f"no image of the private classes ({', '.join(split.unknown)}) in '{data.target}': "
                "UNK and HOS would be holes; use --protocol sf-uda for a closed set"
            )
        return None if self.unknown_share is None else self._check_share(data, self.unknown_share)

    def _check_share(self, data: DomainData, share: float) -> str | None:
        """Return why the target cannot have this share of private images, or None."""
        split, name = self.class_split(data), f"--protocol.unknown_share {share:g}"
        names = np.array(data.classes)[data.target_all.labels]
        known, private = (int(np.isin(names, part).sum()) for part in (split.known, split.unknown))
        wanted = _private_beside(known, share)
        if wanted > private:
            most = math.floor(1e4 * private / (known + private)) / 1e4
            return (
                f"{name} takes {wanted} private images beside {known} known ones, and "
                f"'{data.target}' has {private}; give {most:g} or less, or leave it out to keep all"
            )
        if wanted == 0 or not np.any(self.plan(data, 1, 0).truth["adapt"] == len(split.source)):
            return (
                f"{name} comes to {wanted} private images beside {known} known ones, none of them "
                "to adapt on: UNK and HOS would be holes; give more"
            )
        return None

    def choose_rows(self, rows: IntArray, truth: IntArray, num_known: int) -> IntArray:
        """Thin the private images out to ``unknown_share`` of the whole."""
        if self.unknown_share is None:
            return rows
        private = rows[truth[rows] == num_known]
        known = rows[truth[rows] < num_known]
        wanted = _private_beside(len(known), self.unknown_share)
        rng = np.random.default_rng(seed(0, "target", "unknown-share"))
        kept = rng.permutation(private)[: min(wanted, len(private))]
        return np.sort(np.concatenate((known, kept)))


def _private_beside(known: int, share: float) -> int:
    """Return how many private images are ``share`` of all beside so many known ones."""
    return round(known * share / (1 - share))
