"""What a run of a stream may ask of its source data: parts that are trained there, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.spec import RunSpec
from dabench.contract.network import Network
from dabench.contract.protocol import DensePlan, Plan, StreamPlan
from dabench.source_models.parts import SourceParts
from dabench.source_models.statistics import StatisticsMaker


@dataclass(frozen=True)
class Makers:
    """What makes them, where they are asked for; None = this protocol has none to give."""

    parts: SourceParts | None = None
    statistics: StatisticsMaker | None = None

    @property
    def spent(self) -> float:
        """Seconds that making them took: no part of a run's own."""
        return sum(made.spent for made in (self.parts, self.statistics) if made)

    def about(self, spec: RunSpec) -> Mapping[str, Any]:
        """Return what a record says of them, beside the source model."""
        found: dict[str, Any] = {}
        if self.parts and self.parts.about:
            # the source model itself may come from elsewhere
            trained_on = f"source images of {spec.dataset}/{spec.source}"
            found["parts"] = self.parts.about | {"trained_on": trained_on}
        if self.statistics and self.statistics.about:
            found["statistics"] = self.statistics.about
        return found


def open_makers(
    spec: RunSpec, plan: Plan | StreamPlan | DensePlan, source: Network, identity: str, cache: Path
) -> Makers:
    """Return the makers of a run.

    Args:
        spec: the run's.
        plan: its plan, with the source's images.
        source: the source model.
        identity: its id.
        cache: root of the caches.
    """
    if isinstance(plan, Plan):
        return Makers()
    own = plan.source.digest if spec.source_model is not None else ""
    # with the digest of a plug-in's code: two files may name their classes alike
    version = registry.version_of("method", spec.method, registry.method(spec.method))
    options, device = spec.method_options, spec.device
    parts = SourceParts(plan, source, identity, options, cache, device, version, own)
    if isinstance(plan, DensePlan):
        return Makers(parts)
    return Makers(parts, StatisticsMaker(plan, source, identity, cache, spec.device))
