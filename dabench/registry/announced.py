"""What installed packages announce by entry points: names and places, nothing imported."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dabench.registry.datasets import DATASETS
from dabench.registry.methods import METHODS
from dabench.registry.protocols import PROTOCOLS

#: kind -> its table, and the group of entry points
TABLES: dict[str, dict[str, Any]] = {
    "method": METHODS,
    "protocol": PROTOCOLS,
    "data set": DATASETS,
}
GROUPS = {"method": "methods", "protocol": "protocols", "data set": "datasets"}
#: the names that are dabench's own; plug-ins join the tables when they are loaded
OWN = {kind: frozenset(table) for kind, table in TABLES.items()}


@dataclass(frozen=True)
class Announced:
    """An entry point of an installed package, which nobody imported."""

    kind: str
    name: str
    target: str
    distribution: str


@functools.cache
def announced() -> tuple[Announced, ...]:
    """Return what installed packages announce, in the order of their names."""
    import importlib.metadata  # slow, and most commands name what is dabench's own

    found = []
    for kind, group in GROUPS.items():
        for point in importlib.metadata.entry_points(group=f"dabench.{group}"):
            dist = point.dist
            owner = f"{dist.name} {dist.version}" if dist else "an unknown package"
            found.append(Announced(kind, point.name, point.value, owner))
    return tuple(sorted(found, key=lambda a: (a.kind, a.name, a.distribution)))


def usable(kind: str) -> dict[str, Announced]:
    """Return the announced plug-ins of a kind that can be called by their names."""
    found: dict[str, Announced] = {}
    for one in announced():
        if one.kind == kind and _problem(one, found) is None:
            found[one.name] = one
    return found


def problems() -> list[str]:
    """Return a line for every announced plug-in that cannot be called by its name."""
    lines: list[str] = []
    kept: dict[str, dict[str, Announced]] = {}
    for one in announced():
        names = kept.setdefault(one.kind, {})
        why = _problem(one, names)
        if why is None:
            names[one.name] = one
        else:
            lines.append(f"{one.kind} '{one.name}' of {one.distribution}: {why}")
    return lines


def _problem(one: Announced, before: Mapping[str, Announced]) -> str | None:
    module, colon, attribute = one.target.partition(":")
    if not (colon and module and attribute.isidentifier()):
        return f"its entry point is '{one.target}', and not package.module:Class; mend the package"
    option = one.kind.replace(" ", "")
    if one.name in OWN[one.kind]:
        return f"dabench has its own; call it --{option} {one.target}"
    if one.name in before:
        other = before[one.name].distribution
        return f"{other} has one of that name; call it --{option} {one.target}"
    return None
