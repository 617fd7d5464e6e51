"""Protocol ``sf-osda``: source-free adaptation when the target also holds classes of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dabench.protocols.offline.open_set import OpenSetTarget
from dabench.protocols.offline.source_free import SourceFreeProtocol


class SourceFreeOpenSet(OpenSetTarget, SourceFreeProtocol):
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

    def __init__(
        self,
        *,
        split: str = "default",
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
        unknown_share: Annotated[float, Field(ge=0, lt=1)] | None = None,
    ) -> None:
        super().__init__(split=split, held_out=held_out, unknown_share=unknown_share)
