"""What the board must be told of the registered names (it may not look into the registry)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _accuracy(protocol: str, dataset: str) -> str:
    return "accuracy"


@dataclass(frozen=True)
class Roster:
    """Names that mean something to a table.

    Attributes:
        aliases: name of a method -> method that it is a setting of; equal settings count once.
        baselines: methods that learn nothing from the target. A *baseline row* is one of them with
            no option changed, at any start (``source``, ``source+bn``, ``bn-adapt``).
        upper_bound: the method that is trained with target labels; it is never ranked.
        primary: (protocol, data set) -> the metric that ranks.
        task_options: options of protocols that pose another task of one table; others are another
            setting, and another table.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    baselines: frozenset[str] = frozenset({"source"})
    upper_bound: str = "target-supervised"
    primary: Callable[[str, str], str] = _accuracy
    task_options: frozenset[str] = frozenset({"split", "weather", "shifts", "conditions"})


#: what holds where nothing is told
PLAIN = Roster()
