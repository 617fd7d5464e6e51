"""What the ``sf-`` protocols share: everybody starts from a copy of one source model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar

from dabench.contract.access import Recorder, SourceFree
from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.network import Network
from dabench.contract.protocol import Plan, Run
from dabench.networks.batchnorm import reestimate_batchnorm
from dabench.protocols.offline.protocol import OfflineProtocol


class SourceFreeProtocol(OfflineProtocol):
    """Adapt on unlabelled target images with a copy of the source model."""

    grant: ClassVar[type] = SourceFree

    def make_grant(
        self, plan: Plan, source: Network, run: Run, recorder: Recorder, cost: Cost
    ) -> SourceFree:
        """Copy the source model; with ``--init bn-target`` re-estimate its BatchNorm statistics."""
        network = copy.deepcopy(source)
        network.cost = GrantedCost(cost)
        network.to(run.device)
        if run.init == "bn-target":
            images = (batch.images for batch in plan.parts["adapt"].survey(128))
            with cost.pause():
                reestimate_batchnorm(network, images)
        target = copy.copy(plan.parts["adapt"])
        task, budget = replace(plan.task), replace(run.budget)  # the engine's own are read later
        return SourceFree(task, target, network, budget, run.seed, recorder)
