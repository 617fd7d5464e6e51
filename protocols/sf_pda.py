"""Protocol ``sf-pda``: source-free adaptation when the target lacks classes of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dabench.contract.data import ClassSplit, DomainData
from dabench.protocols.offline.source_free import SourceFreeProtocol
from dabench.protocols.offline.splits import (
    SIDES,
    partial_split,
    why_not_partial,
    written_split,
)


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
        return partial_split(data, self.split)

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a target that shows all of the source's classes, or none."""
        reason = super().is_valid(data)
        if reason is not None:
            return reason
        return why_not_partial(data, self.split, self.class_split(data))
