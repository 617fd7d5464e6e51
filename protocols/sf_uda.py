"""Protocol ``sf-uda``: source-free adaptation over the same classes in source and target."""

from __future__ import annotations

from typing import ClassVar

from dabench.contract.data import ClassSplit, DomainData
from dabench.protocols.offline.source_free import SourceFreeProtocol


class SourceFreeClosedSet(SourceFreeProtocol):
    """Source-free closed-set adaptation over all classes of the data set, ranked by accuracy.

    Args:
        held_out: share of the target per class that is never adapted on.
    """

    primary: ClassVar[str] = "accuracy"
    open_set: ClassVar[bool] = False

    def class_split(self, data: DomainData) -> ClassSplit:
        """All classes are known."""
        return ClassSplit(data.classes)
