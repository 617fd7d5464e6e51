"""Class splits by name, or written out on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dabench.contract.data import ClassSplit, DomainData
from dabench.errors import ConfigError, did_you_mean

#: sides of a written split, in their order in its text; a closed one has the first alone
SIDES = {
    "known": "classes that both domains have, a,b; in place of split.",
    "source_private": "classes of the source alone, a,b; in place of split.",
    "unknown": "classes of the target alone, a,b; in place of split.",
}


def written_split(given: Mapping[str, Any], sides: tuple[str, ...]) -> Mapping[str, Any]:
    """Read options named like the sides of a split as the one ``split`` that they stand for.

    Args:
        given: options of a protocol.
        sides: names that go together; their classes are joined by colons.

    Raises:
        ConfigError: one without the others, or beside ``split``.
    """
    if not given.keys() & {*sides}:
        return given
    if not given.keys() >= {*sides} or "split" in given:
        names = [f"--protocol.{side}" for side in sides]
        together = f"{' and '.join(names)} go together, and" if len(names) > 1 else f"{names[0]} is"
        raise ConfigError(f"{together} without --protocol.split")
    rest = {name: value for name, value in given.items() if name not in sides}
    return {**rest, "split": ":".join(str(given[side]) for side in sides)}


def find_split(data: DomainData, name: str, sides: tuple[str, ...]) -> ClassSplit:
    """Return a class split by name, or one that is written out: ``a,b:c``.

    Args:
        data: the two domains.
        name: of a split, or its classes, side by side with colons between.
        sides: what the sides of a written split are, of ``SIDES``.

    Raises:
        ConfigError: no such split or class; names those that there are.
    """
    if name in data.splits:
        return data.splits[name]
    parts = name.split(":")
    if len(sides) == 1 and "," not in name and name not in data.classes:
        parts = []  # a name, and no list of one class
    if len(parts) != len(sides):
        if not data.splits:
            given = " and ".join(f"--protocol.{side} a,b" for side in sides)
            raise ConfigError(
                f"{data.dataset} has no class splits, and '{name}' is asked for: give {given}, or "
                "write splits.yaml beside the domains (docs/own-data.md)"
            )
        raise ConfigError(
            f"{data.dataset} has no class split '{name}'{did_you_mean(name, data.splits)}"
        )
    found = {side: _classes(data, text, side) for side, text in zip(sides, parts, strict=True)}
    for one, two in ((a, b) for i, a in enumerate(sides) for b in sides[i + 1 :]):
        both = sorted({*found[one]} & {*found[two]})
        if both:
            raise ConfigError(f"--protocol.{one} and --protocol.{two} both have {both[0]}")
    known, unknown, alone = (found.get(side, ()) for side in ("known", "unknown", "source_private"))
    return ClassSplit(known, unknown, alone)


def partial_split(data: DomainData, name: str) -> ClassSplit:
    """Return the classes that a partial target shows as known, the source's others as private.

    Args:
        data: the two domains.
        name: of a split, whose known classes the target shows, or these written out (``a,b,c``);
            ``default`` of a set without splits: the classes that are there.

    Raises:
        ConfigError: no such split or class.
    """
    shown = {data.classes[i] for i in np.unique(data.target_all.labels)}
    named: tuple[str, ...] = data.classes
    if name != "default" or "default" in data.splits:
        named = find_split(data, name, ("known",)).known
    known = tuple(one for one in named if one in shown)
    seen = (one for one in data.classes if one not in data.unseen)
    return ClassSplit(known, source_private=tuple(one for one in seen if one not in known))


def why_not_partial(data: DomainData, name: str, split: ClassSplit) -> str | None:
    """Return why a split by :func:`partial_split` makes no partial target, or None."""
    if not split.known:
        return f"no image of the shared classes of split '{name}' in '{data.target}'"
    if not split.source_private:
        return (
            f"'{data.target}' shows every class of the source, so that nothing is partial; "
            "name fewer by --protocol.known, or use a closed set (sf-uda; bb-uda without a split)"
        )
    return None


def _classes(data: DomainData, text: str, which: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--protocol.{which}: expected names of classes with commas between")
    for name in names:
        if name not in data.classes:
            near = did_you_mean(name, data.classes)
            raise ConfigError(f"--protocol.{which}: {data.dataset} has no class '{name}'{near}")
    return tuple(name for name in data.classes if name in names)
