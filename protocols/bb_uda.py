"""Protocol ``bb-uda``: black-box adaptation; the source model only answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dabench.contract.data import ClassSplit, DomainData
from dabench.protocols.offline.black_box import DECIMALS, TOP_K, BlackBoxProtocol
from dabench.protocols.offline.splits import (
    SIDES,
    partial_split,
    why_not_partial,
    written_split,
)


class BlackBoxClosedSet(BlackBoxProtocol):
    """Black-box adaptation: unlabelled target images and answers of a source model.

    Ranked by accuracy (VisDA-C: by the mean of per-class accuracies). The target network is
    another one than the source model, and starts from ``--weights``.

    Args:
        oracle: where the source model is: in a process of its own (sealed), behind HTTP
            (--oracle-url), or in this process (in-process; for development: a method can find
            the weights).
        answers: what it answers: probabilities (soft), the best top_k of them with the rest spread
            evenly, the class alone (hard), or probabilities rounded to some decimals.
        top_k: number of classes named in a top-k answer.
        decimals: of rounded answers.
        query_budget: most pictures that may be asked; leave out for no limit.
        partial: the target holds only the first so many classes; 0 = all of them.
        split: the target shows the known classes of this split, as in ``sf-pda``: a name, or
            written out (``a,b,c``), as --protocol.known a,b,c makes it; leave out for a closed set.
        held_out: share of the target per class that is never adapted on; 0 = the literature's
            purely transductive setting.
    """

    later_options: ClassVar[frozenset[str]] = frozenset({"split"})
    primary: ClassVar[str] = "accuracy"
    open_set: ClassVar[bool] = False
    shorthands: ClassVar[Mapping[str, str]] = {"known": SIDES["known"]}

    def __init__(
        self,
        *,
        oracle: Literal["sealed", "http", "in-process"] = "sealed",
        answers: Literal["soft", "top-k", "hard", "rounded"] = "soft",
        top_k: Annotated[int, Field(ge=1)] = TOP_K,
        decimals: Annotated[int, Field(ge=0, le=10)] = DECIMALS,
        query_budget: Annotated[int, Field(ge=1)] | None = None,
        partial: Annotated[int, Field(ge=0)] = 0,
        split: str | None = None,
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
    ) -> None:
        super().__init__(held_out=held_out)
        self.oracle, self.answers = oracle, answers
        self.top_k, self.decimals = top_k, decimals
        self.query_budget, self.partial, self.split = query_budget, partial, split

    @classmethod
    def written_options(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``known`` as the split that it stands for.

        Raises:
            ConfigError: beside ``split``.
        """
        return written_split(given, tuple(cls.shorthands))

    def class_split(self, data: DomainData) -> ClassSplit:
        """All classes of the source; a partial target shows the first, or a split's known ones."""
        if self.split is not None:
            return partial_split(data, self.split)
        shown = self.partial or len(data.classes)
        return ClassSplit(data.classes[:shown], source_private=data.classes[shown:])

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a partial target that is none."""
        if self.partial and self.split is not None:
            return (
                f"--protocol.partial {self.partial} and a split both say what the target shows; "
                "give one of them"
            )
        if self.partial == 1:
            return (
                "--protocol.partial 1: one class alone leaves nothing to tell apart; give 2 or more"
            )
        if self.partial >= len(data.classes):
            return (
                f"--protocol.partial {self.partial}: the source has {len(data.classes)} classes; "
                "choose fewer, or 0 for all"
            )
        reason = super().is_valid(data)
        if reason is None and self.split is not None:
            return why_not_partial(data, self.split, self.class_split(data))
        return reason
