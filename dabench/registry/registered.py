"""The registered names as the board needs them."""

from __future__ import annotations

from dabench import registry
from dabench.board.roster import Roster


def registered() -> Roster:
    """Return aliases, baselines and ranking metrics of everything that is registered."""
    methods = registry.METHODS
    return Roster(
        aliases={name: e.alias_of for name, e in methods.items() if e.alias_of is not None},
        baselines=frozenset(name for name, entry in methods.items() if entry.baseline),
        primary=registry.primary_metric,
    )
