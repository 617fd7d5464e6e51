"""Training a method on a pile of images: what source-free and black-box methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dabench.contract.access import Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Plan, Run
from dabench.contract.seeding import seed as seed_of
from dabench.contract.seeding import seeded, torch_as_it_was
from dabench.contract.stream import Stream
from dabench.contract.types import Task
from dabench.deploy.adapted import Adapted, AdaptedModel
from dabench.engine.fit import adapt, predict_all
from dabench.metrics.predictions import Predictions


def plan_of(task: Task, target: Unlabelled, run: Run) -> Plan:
    """Return what a protocol is told of a pile: there is neither a source nor a truth."""
    stream = Stream((), run.budget.batch_size, run.seed)
    return Plan(task, None, None, {"adapt": target}, {}, stream)  # type: ignore[arg-type]


def fitted(
    method: OfflineMethod,
    plan: Plan,
    run: Run,
    before: Predictions,
    cost: Cost,
    grants: Callable[[Cost], Any],
) -> Adapted:
    """Train a method, as a protocol does it, and say what it answers.

    Args:
        method: as it was built.
        plan: the pile.
        run: the circumstances.
        before: what the model said.
        cost: of the run.
        grants: makes what the method is handed.
    """
    target, grant = plan.parts["adapt"], grants(cost)
    with seeded(seed_of(run.seed, "adaptation")), torch_as_it_was():  # as a protocol does it
        _, seconds = adapt(method, grant, target, cost, run)
        after = predict_all(method, target, run.device, cost, judge=True)
    spent = {"images_forward": float(cost.forward), "images_backward": float(cost.backward)}
    spent |= {"adapt_seconds": seconds}
    names = plan.task.classes
    return Adapted(AdaptedModel(method), names, before, after, spent, method.adapted_network())
