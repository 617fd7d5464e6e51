"""Protocol ``bb-uda``: black-box adaptation; the source model only answers."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dabench.contract.access import BlackBox, Recorder
from dabench.contract.confined import Confined
from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.data import ClassSplit, DomainData
from dabench.contract.method import OfflineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import Build, Outcome, Plan, Remote, Run
from dabench.contract.types import IntArray
from dabench.errors import AccessError, ConfigError
from dabench.protocols.common.granted import GrantedOracle
from dabench.protocols.offline.protocol import OfflineProtocol


class BlackBoxClosedSet(OfflineProtocol):
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
        held_out: share of the target per class that is never adapted on; 0 = the literature's
            purely transductive setting.
    """

    primary: ClassVar[str] = "accuracy"
    open_set: ClassVar[bool] = False
    grant: ClassVar[type] = BlackBox
    black_box: ClassVar[bool] = True

    def __init__(
        self,
        *,
        oracle: Literal["sealed", "http", "in-process"] = "sealed",
        answers: Literal["soft", "top-k", "hard", "rounded"] = "soft",
        top_k: Annotated[int, Field(ge=1)] = 3,
        decimals: Annotated[int, Field(ge=0, le=10)] = 2,
        query_budget: Annotated[int, Field(ge=1)] | None = None,
        partial: Annotated[int, Field(ge=0)] = 0,
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
    ) -> None:
        super().__init__(held_out=held_out)
        self.oracle, self.answers = oracle, answers
        self.top_k, self.decimals = top_k, decimals
        self.query_budget, self.partial = query_budget, partial

    def class_split(self, data: DomainData) -> ClassSplit:
        """All classes of the source are known."""
        return ClassSplit(data.classes, ())

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a partial target that is none."""
        if self.partial >= len(data.classes):
            return (
                f"--protocol.partial {self.partial}: the source has {len(data.classes)} classes; "
                "choose fewer, or 0 for all"
            )
        return super().is_valid(data)

    def choose_rows(self, rows: IntArray, truth: IntArray, num_known: int) -> IntArray:
        """Keep the first classes of a partial target."""
        return rows[truth[rows] < self.partial] if self.partial else rows

    def check(self, init: str, plan: Plan, method: type[OfflineMethod]) -> None:
        """Refuse what a black box cannot give; called before a source model is opened, too.

        Raises:
            ConfigError: ``--init bn-target``.
            AccessError: a budget that does not cover the adapt set, or answers that are of no use
                to the method.
        """
        if init != "source":
            raise ConfigError(
                f"--init {init}: a black box has no BatchNorm to re-estimate; leave --init out"
            )
        count = len(plan.parts["adapt"])
        if self.query_budget is not None and self.query_budget < count:
            raise AccessError(
                f"--protocol.query_budget {self.query_budget} does not cover the {count} images "
                f"of the adapt set; allow {count} or more"
            )
        if method.needs_probabilities and self.answers == "hard":
            raise AccessError(
                f"{method.__name__} needs probabilities, and --protocol.answers hard gives class "
                "names alone; choose soft, top-k or rounded"
            )

    def run(self, build: Build, plan: Plan, source: Remote, run: Run) -> Outcome:
        """Check the circumstances, then run.

        Raises:
            ConfigError, AccessError: as ``check``.
        """

        def checked() -> OfflineMethod:
            method = build()
            self.check(run.init, plan, type(method))
            return method

        return super().run(checked, plan, source, run)

    def make_grant(
        self, plan: Plan, source: Remote, run: Run, recorder: Recorder, cost: Cost
    ) -> BlackBox:
        """Open the oracle; every target network counts in one cost."""
        granted = GrantedCost(cost)
        make, device = source.new_network, run.device

        def new_network(seed: int) -> Network:
            network = make(seed)
            network.cost = granted
            return network.to(device)

        return BlackBox(
            task=plan.task,
            target=copy.copy(plan.parts["adapt"]),
            oracle=GrantedOracle(source.oracle(cost)),
            new_network=Confined(new_network),
            cost=granted,
            budget=run.budget,
            seed=run.seed,
            recorder=recorder,
        )
