"""Protocol ``sf-msda``: source-free adaptation from several source models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dabench.contract.access import Recorder
from dabench.contract.cost import Cost
from dabench.contract.data import DataRequest, DomainData
from dabench.contract.method import OfflineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import Build, Outcome, Plan, Run
from dabench.contract.types import Prediction, Score
from dabench.errors import ConfigError
from dabench.metrics import label_free
from dabench.metrics.predictions import gather
from dabench.networks.ensemble import Ensemble
from dabench.protocols.sf_uda import SourceFreeClosedSet

_SINGLE = (
    "there is one source; name several with commas between (--source a,b), or use --protocol sf-uda"
)


class SourceFreeMultiSource(SourceFreeClosedSet):
    """Source-free closed-set adaptation from several source models, ranked by accuracy.

    ``--source a,b`` names the sources; each has a model, and no method sees more than one of them.
    A method adapts each by itself and for the whole budget, and the mean of their probabilities
    answers, which papers call "-ens" (Ahmed et al., CVPR 2021), at the end and at every scored
    epoch. Scores of one model's answers stand beside it as ``accuracy/from-a``. Costs are those of
    all together.

    Args:
        held_out: share of the target per class that is never adapted on.
    """

    several_sources: ClassVar[bool] = True

    @staticmethod
    def load(load: Callable[[DataRequest], Any], request: DataRequest) -> Any:
        """Load the target with each of the sources that ``request`` names.

        Args:
            load: of the data set.
            request: its source may be several domains with commas between.

        Raises:
            ConfigError: a source twice, or sources whose classes are not the same.
            DabenchError: as the data set.
        """
        names = [name.strip() for name in request.source.split(",")]
        first, *more = (load(replace(request, source=name)) for name in names)
        names = [first.source, *(one.source for one in more)]
        if len({*names}) < len(names):
            raise ConfigError(f"--source {request.source}: a domain stands there twice")
        for one in more:
            if one.classes != first.classes:
                raise ConfigError(
                    f"--source {request.source}: '{one.source}' and '{first.source}' have other "
                    "classes; several sources need the same ones"
                )
        return replace(first, source=",".join(names), more=tuple(more)) if more else first

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """Refuse a single source before its data are read, too."""
        super().check_setting(init=init, batch_size=batch_size, source=source, target=target)
        if source and "," not in source:
            raise ConfigError(f"--source {source}: {_SINGLE}")

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse a single source, and all that a closed set refuses."""
        if not data.more:
            return f"'{data.source}': {_SINGLE}"
        for one in sources_of(data):
            if reason := super().is_valid(one):
                return reason
        return None

    def plan(self, data: DomainData, batch_size: int, seed: int) -> Plan:
        """One plan a source, over one target."""
        of_one = super().plan
        first, *more = [of_one(one, batch_size, seed) for one in sources_of(data)]
        return replace(first, more=tuple(more))

    def run(self, build: Build, plan: Plan, source: Any, run: Run) -> Outcome:
        """Adapt every source model, and score their mean.

        Args:
            build: makes the method, once for each source model.
            plan: of all sources.
            source: source models by the names of their domains.
            run: the circumstances.

        Raises:
            AccessError: the method needs something that this protocol does not grant.
        """
        members: list[OfflineMethod] = []
        found = Outcome(scores=[])
        spent: Counter[str] = Counter()
        on_the_way: dict[int, Tensor] = {}
        plans = (plan, *plan.more)
        for (name, network), own in zip(source.items(), plans, strict=True):
            named = replace(run, recorder=_Named(run.recorder, name))
            method, outcome, curve = self.adapt(build, own, network, named)
            members.append(method)
            for epoch, kept in curve.items():
                if (p := kept.probabilities) is not None:
                    on_the_way[epoch] = on_the_way[epoch] + p if epoch in on_the_way else p
            spent.update(outcome.cost)
            found.scores += _from(name, outcome.scores)
            found.curves += _from(name, outcome.curves)
            found.extras = outcome.extras
        for epoch, total in on_the_way.items():
            answer = _mean_answer(total / len(members))
            together = replace(gather([answer]), judged=label_free.scores([answer]))
            found.curves += self.points(plan, together, epoch)
        committee = _Committee(members)
        last = run.budget.epochs if members[0].trains else 0
        self.score(committee, plan, run, Cost(), last, found)
        found.cost = dict(spent)
        found.network = committee.adapted_network()
        return found


def sources_of(data: DomainData) -> list[DomainData]:
    """Return the data of each source by itself."""
    first = data.source.split(",")[0]
    return [replace(data, source=first, more=()), *data.more]


def _from(name: str, scores: list[Score]) -> list[Score]:
    """Return a member's scores over the adapt set under its name; no class's."""
    kept = (s for s in scores if s.segment == "all" and s.metric != "class_accuracy")
    return [replace(score, segment=f"from-{name}") for score in kept]


def _mean_answer(p: Tensor) -> Prediction:
    """Return the answer of (B, K) mean probabilities: their logarithm."""
    return Prediction(p.clamp_min(1e-10).log())


class _Named(Recorder):
    """Records under the name of a source."""

    def __init__(self, inner: Recorder, name: str) -> None:
        self._inner, self._name = inner, name

    def put(self, name: str, step: int, value: Any) -> None:
        """Record under both names."""
        self._inner.put(f"{self._name}/{name}", step, value)


class _Committee(OfflineMethod):
    """Fitted methods whose probabilities are averaged."""

    def __init__(self, members: list[OfflineMethod]) -> None:
        super().__init__()
        self.together = torch.nn.ModuleList(members)
        self.members, self.access = tuple(members), members[0].access

    def predict(self, images: Tensor) -> Prediction:
        """Return the logarithm of the mean probability."""
        answers = [member.predict(images.clone()).logits.softmax(1) for member in self.members]
        return _mean_answer(torch.stack(answers).mean(0))

    def adapted_network(self) -> Ensemble | None:
        """Return the members' networks together, where each has one."""
        networks = [member.adapted_network() for member in self.members]
        if not all(isinstance(network, Network) for network in networks):
            return None
        return Ensemble(networks, "probabilities")
