"""Protocol ``bb-osda``: black-box adaptation when the target also holds classes of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dabench.protocols.offline.black_box import DECIMALS, TOP_K, BlackBoxProtocol
from dabench.protocols.offline.open_set import OpenSetTarget


class BlackBoxOpenSet(OpenSetTarget, BlackBoxProtocol):
    """Black-box open-set adaptation, ranked by HOS.

    As ``bb-uda``, and what is private to the target is scored as in ``sf-osda``.

    Args:
        split: class split, as in ``sf-osda``: a name, or written out (``a,b,c:d,e``), as
            --protocol.known a,b,c and --protocol.unknown d,e make it.
        oracle: where the source model is, as in ``bb-uda``.
        answers: what it answers, as in ``bb-uda``.
        top_k: number of classes named in a top-k answer.
        decimals: of rounded answers.
        query_budget: most pictures that may be asked; leave out for no limit.
        unknown_share: keep only as many private images as give them this share of the target;
            leave out to keep all.
        held_out: share of the target per class that is never adapted on.
    """

    def __init__(
        self,
        *,
        split: str = "default",
        oracle: Literal["sealed", "http", "in-process"] = "sealed",
        answers: Literal["soft", "top-k", "hard", "rounded"] = "soft",
        top_k: Annotated[int, Field(ge=1)] = TOP_K,
        decimals: Annotated[int, Field(ge=0, le=10)] = DECIMALS,
        query_budget: Annotated[int, Field(ge=1)] | None = None,
        unknown_share: Annotated[float, Field(ge=0, lt=1)] | None = None,
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
    ) -> None:
        super().__init__(split=split, held_out=held_out, unknown_share=unknown_share)
        self.oracle, self.answers = oracle, answers
        self.top_k, self.decimals = top_k, decimals
        self.query_budget = query_budget
