"""What tables need to know of methods and metrics: baselines, the upper bound, ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dabench.registry.lookup import primary_metric
from dabench.registry.marks import ANSWERS_AFTER, TARGET_LABELS
from dabench.registry.methods import METHODS
from dabench.registry.protocols import PROTOCOLS

#: the mark of a row whose options were chosen by labels of a task that is reported
TARGET_TUNED = "target-tuned"


def _baselines() -> frozenset[str]:
    return frozenset(name for name, entry in METHODS.items() if entry.baseline)


def _second_metrics() -> dict[str, str]:
    return {name: e.second_metric for name, e in PROTOCOLS.items() if e.second_metric}


@dataclass(frozen=True)
class MethodInfo:
    """What a table needs to know of the methods by name, and of the metrics that rank.

    By default it is what is registered.

    Attributes:
        baselines: methods that learn nothing from the target. A *baseline row* is one of them with
            no option changed, at any start (``source``, ``source+bn``, ``bn-adapt``).
        upper_bound: the method that is trained with target labels; it is never ranked.
        primary: (protocol, data set) -> the metric that ranks.
        second: protocol -> a metric that rows are ranked by too, in ranks of their own.
        task_options: options of protocols that pose another task of one table; others are another
            setting, and another table.
    """

    baselines: frozenset[str] = field(default_factory=_baselines)
    upper_bound: str = "target-supervised"
    primary: Callable[[str, str], str] = primary_metric
    second: Mapping[str, str] = field(default_factory=_second_metrics)
    task_options: frozenset[str] = frozenset({"split", "weather", "shifts", "stream", "conditions"})

    def is_bound(self, method: str, runs: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether a row was trained with target labels, whatever it is called."""
        return method == self.upper_bound or any(
            TARGET_LABELS in (run.get("extras") or ()) for run in runs
        )


def row_marks(
    extras: Iterable[str], *, reconstruction: bool, bound: bool, target_tuned: bool
) -> list[str]:
    """Return what stands beside a row's name in every table.

    Args:
        extras: of its records.
        reconstruction: whether the paper's own code or text was not at hand.
        bound: whether it was trained with target labels.
        target_tuned: whether these chose its options.
    """
    found = ["reconstruction"] * reconstruction + ["upper bound"] * bound
    found += [TARGET_TUNED] * target_tuned
    named = {ANSWERS_AFTER: "answers after its update", "external": "external"}
    others = sorted({*extras} - {TARGET_LABELS})
    return found + [named.get(name, f"+{name}") for name in others]


#: what was registered when tables were first asked for
REGISTERED = MethodInfo()


def registered_info() -> MethodInfo:
    """Return baselines and ranking metrics of everything that is registered by now."""
    return MethodInfo()
