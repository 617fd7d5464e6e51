"""Protocol ``sf-unida``: source-free adaptation when each domain has classes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dabench.contract.data import DomainData
from dabench.contract.network import Network
from dabench.contract.protocol import Build, Outcome, Plan, Run
from dabench.contract.types import Score
from dabench.metrics.discovery import h3_score, private_nmi
from dabench.networks.batchnorm import set_features
from dabench.protocols.offline.open_set import OpenSetTarget
from dabench.protocols.offline.protocol import SEGMENTS
from dabench.protocols.offline.source_free import SourceFreeProtocol
from dabench.protocols.offline.splits import SIDES


class SourceFreeUniversal(OpenSetTarget, SourceFreeProtocol):
    """Source-free universal ("open-partial") adaptation, ranked by HOS.

    As ``sf-osda``, and the source model also knows classes that the target lacks. OS* is the mean
    over the classes that occur; an image that is called one of the others is wrong. Of the private
    images it also scores whether their features tell their classes apart (NMI, H3).

    Args:
        split: name of the data set's class split (``dabench data info NAME`` lists them), or one
            written out, known:source_private:unknown (``a,b:c,d:e,f``), as --protocol.known a,b
            --protocol.source_private c,d and --protocol.unknown e,f make it.
        held_out: share of the target per class that is never adapted on.
        unknown_share: keep only as many private images as give them this share of the target;
            leave out to keep all.
    """

    version: ClassVar[str] = "2"
    sides: ClassVar[tuple[str, ...]] = tuple(SIDES)
    shorthands: ClassVar[Mapping[str, str]] = SIDES

    def __init__(
        self,
        *,
        split: str = "opda",
        held_out: Annotated[float, Field(ge=0, lt=0.9)] = 0.3,
        unknown_share: Annotated[float, Field(ge=0, lt=1)] | None = None,
    ) -> None:
        super().__init__(split=split, held_out=held_out, unknown_share=unknown_share)

    def plan(self, data: DomainData, batch_size: int, seed: int) -> Plan:
        """As in every offline protocol; the private images' classes are kept beside the truth."""
        plan = super().plan(data, batch_size, seed)
        rows = dict(zip(plan.parts, (rows for _, rows in plan.stream.segments), strict=True))
        found = {name: data.target_all.labels[part] for name, part in rows.items()}
        return replace(plan, private_classes=found)

    def run(self, build: Build, plan: Plan, source: Any, run: Run) -> Outcome:
        """Run, and score how well features tell the private classes apart."""
        outcome = super().run(build, plan, source, run)
        if isinstance(network := outcome.network, Network):
            for name in plan.parts:
                outcome.scores += _discovery(plan, name, outcome.scores, network, run.seed)
        return outcome


def _discovery(
    plan: Plan, name: str, scores: list[Score], network: Network, seed: int
) -> list[Score]:
    """Return NMI and H3 of one part."""
    segment = SEGMENTS[name]
    found = {s.metric: s for s in scores if s.segment == segment}
    hos, private = found["HOS"], plan.truth[name] == plan.task.num_classes
    features, _ = set_features(network, plan.parts[name])
    classes = plan.private_classes[name][private]
    nmi = private_nmi(features.cpu().numpy()[private], classes, seed)
    h3 = h3_score(found["OS*"].value, found["UNK"].value, nmi)
    return [
        replace(hos, metric="NMI", value=nmi, n=int(private.sum())),
        replace(hos, metric="H3", value=h3),
    ]
