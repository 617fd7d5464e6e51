"""What ``bb-uda`` and ``bb-osda`` share: the source model only answers."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar, Literal

from dabench.contract.access import BlackBox, Recorder
from dabench.contract.confined import Confined
from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.data import DomainData
from dabench.contract.method import OfflineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import Build, Outcome, Plan, Remote, Run
from dabench.errors import AccessError, ConfigError
from dabench.protocols.common.granted import GrantedOracle
from dabench.protocols.offline.protocol import OfflineProtocol

#: of answers that name the best classes, and of rounded ones
TOP_K, DECIMALS = 3, 2


def _check_init(init: str) -> None:
    if init != "source":
        raise ConfigError(
            f"--init {init}: a black box has no BatchNorm to re-estimate; leave --init out"
        )


class BlackBoxProtocol(OfflineProtocol):
    """Unlabelled target images and answers of a source model.

    The target network is another one than the source model, and starts from ``--weights``.
    """

    grant: ClassVar[type] = BlackBox
    black_box: ClassVar[bool] = True

    #: options of every such protocol
    oracle: Literal["sealed", "http", "in-process"]
    answers: Literal["soft", "top-k", "hard", "rounded"]
    top_k: int
    decimals: int
    query_budget: int | None

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """Refuse another start, and options of answers of another form, too."""
        super().check_setting(init=init, batch_size=batch_size, source=source, target=target)
        _check_init(init)
        for option, usual, form in (("top_k", TOP_K, "top-k"), ("decimals", DECIMALS, "rounded")):
            if getattr(self, option) != usual and self.answers != form:
                raise ConfigError(
                    f"--protocol.{option} {getattr(self, option)}: belongs to --protocol.answers "
                    f"{form}, and here they are {self.answers}; drop one of the two"
                )

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse answers that name every class, too."""
        classes = len(data.model_classes or self.class_split(data).source)
        if self.answers == "top-k" and self.top_k >= classes:
            return (
                f"--protocol.top_k {self.top_k}: the source model has {classes} classes; choose "
                "fewer, or --protocol.answers soft"
            )
        return super().is_valid(data)

    def check(self, init: str, plan: Plan, method: type[OfflineMethod]) -> None:
        """Refuse what a black box cannot give; called before a source model is opened, too.

        Raises:
            ConfigError: ``--init bn-target``.
            AccessError: a budget that does not cover the adapt set, or answers that are of no use
                to the method.
        """
        _check_init(init)
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
            task=replace(plan.task),  # copies: the engine reads its own later
            target=copy.copy(plan.parts["adapt"]),
            oracle=GrantedOracle(source.oracle(cost)),
            new_network=Confined(new_network),
            cost=granted,
            budget=replace(run.budget),
            seed=run.seed,
            recorder=recorder,
        )
