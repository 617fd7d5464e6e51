"""Protocol ``sf-osda``: source-free adaptation when the target also holds classes of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract.data import ClassSplit, DomainData
from dabench.contract.seeding import seed
from dabench.contract.types import IntArray
from dabench.errors import ConfigError
from dabench.protocols.offline.protocol import find_split
from dabench.protocols.offline.source_free import SourceFreeProtocol


class SourceFreeOpenSet(SourceFreeProtocol):
    """Source-free open-set adaptation, ranked by HOS.

    The source model knows K classes; the target holds those and private ones, which are all scored
    as one class "unknown" (OS*, UNK, HOS; see docs/comparability.md).

    Args:
        split: name of the data set's class split (``dabench data info NAME`` lists them), or one
            written out, known:unknown (``a,b,c:d,e``), as --protocol.known a,b,c and
            --protocol.unknown d,e make it.
        held_out: share of the target per class that is never adapted on.
        unknown_share: keep only as many private images as give them this share of the target;
            leave out to keep all.
    """

    primary: ClassVar[str] = "HOS"
    open_set: ClassVar[bool] = True

    def __init__(
        self,
        *,
        split: str = "default",
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
        unknown_share: Annotated[float, Field(ge=0, lt=1)] | None = None,
    ) -> None:
        super().__init__(held_out=held_out)
        self.split = split
        self.unknown_share = unknown_share

    @staticmethod
    def written_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``known`` and ``unknown`` as the split that they stand for.

        Raises:
            ConfigError: one without the other, or beside ``split``.
        """
        sides = ("known", "unknown")
        if not given.keys() & {*sides}:
            return given
        if not given.keys() >= {*sides} or "split" in given:
            raise ConfigError(
                "--protocol.known and --protocol.unknown go together, and without --protocol.split"
            )
        rest = {name: value for name, value in given.items() if name not in sides}
        known, unknown = (str(given[side]) for side in sides)
        return {**rest, "split": f"{known}:{unknown}"}

    def class_split(self, data: DomainData) -> ClassSplit:
        """Return the named split."""
        return find_split(data, self.split)

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a target without known or without private images."""
        reason = super().is_valid(data)
        if reason is not None:
            return reason
        split = self.class_split(data)
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
        if wanted == 0 or not np.any(self.plan(data, 1, 0).truth["adapt"] == len(split.known)):
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
