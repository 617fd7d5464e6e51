"""What ``sf-osda`` and ``sf-uda`` share: everybody starts from a copy of one source model."""

from __future__ import annotations

import copy
from typing import ClassVar

from dabench.contract.access import Recorder, SourceFree
from dabench.contract.protocol import Plan, Run
from dabench.engine import nets
from dabench.protocols.offline import OfflineProtocol


class SourceFreeProtocol(OfflineProtocol):
    """Adapt on unlabelled target images with a copy of the source model."""

    grant: ClassVar[type] = SourceFree

    def hand_out(
        self, plan: Plan, source: nets.Network, run: Run, recorder: Recorder
    ) -> SourceFree:
        """Copy the source model; with ``--init bn-target`` re-estimate its BatchNorm statistics."""
        network = copy.deepcopy(source)
        network.cost = nets.Cost()
        network.to(run.device)
        if run.init == "bn-target":
            images = (batch.images.to(run.device) for batch in plan.parts["adapt"].survey(128))
            with network.cost.pause():
                nets.reestimate_batchnorm(network, images)
        target = plan.parts["adapt"]
        return SourceFree(plan.task, target, network, run.budget, run.seed, recorder)
