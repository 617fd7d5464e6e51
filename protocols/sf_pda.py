"""Protocol ``sf-pda``: source-free adaptation when the target lacks classes of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract.data import ClassSplit, DomainData
from dabench.protocols.offline.source_free import SourceFreeProtocol
from dabench.protocols.offline.splits import SIDES, find_split, written_split


class SourceFreePartialSet(SourceFreeProtocol):
    """Source-free partial-set adaptation, ranked by accuracy over all images.

    The source model knows every class of the data set; the target shows those that a split calls
    known, and which they are no method is told.

    Args:
        split: name of the data set's class split (``dabench data info NAME`` lists them), whose
            known classes the target shows; or these written out (``a,b,c``), as
            --protocol.known a,b,c makes it. A set without splits: the classes that are there.
        held_out: share of the target per class that is never adapted on.
    """

    primary: ClassVar[str] = "accuracy"
    open_set: ClassVar[bool] = False
    shorthands: ClassVar[Mapping[str, str]] = {"known": SIDES["known"]}

    def __init__(
        self, *, split: str = "default", held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3
    ) -> None:
        super().__init__(held_out=held_out)
        self.split = split

    @classmethod
    def written_options(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``known`` as the split that it stands for.

        Raises:
            ConfigError: beside ``split``.
        """
        return written_split(given, tuple(cls.shorthands))

    def class_split(self, data: DomainData) -> ClassSplit:
        """Shared is what the split calls known and the target shows; the source has the rest."""
        shown = {data.classes[i] for i in np.unique(data.target_all.labels)}
        named: tuple[str, ...] = data.classes
        if self.split != "default" or "default" in data.splits:
            named = find_split(data, self.split, tuple(self.shorthands)).known
        known = tuple(name for name in named if name in shown)
        seen = (name for name in data.classes if name not in data.unseen)
        return ClassSplit(known, source_private=tuple(name for name in seen if name not in known))

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a target that shows all of the source's classes, or none."""
        reason = super().is_valid(data)
        if reason is not None:
            return reason
        split = self.class_split(data)
        if not split.known:
            return f"no image of the shared classes of split '{self.split}' in '{data.target}'"
        if not split.source_private:
            return (
                f"'{data.target}' shows every class of the source, so that nothing is partial; "
                "name fewer by --protocol.known, or use --protocol sf-uda"
            )
        return None
