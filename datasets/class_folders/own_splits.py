"""Open-set splits of a user's own: ``splits.yaml`` beside the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.splits import comparable_name
from dabench.datasets.decoding.lists import read_yaml
from dabench.errors import DataError, did_you_mean, one_line, shown


def own_splits(path: Path, classes: Collection[str]) -> Mapping[str, ClassSplit]:
    """Return the splits that a file names; none where there is no file.

    Args:
        path: of a file with ``name: {known: [a, b], unknown: [c]}``.
        classes: names that there are; case, spaces, ``_`` and ``-`` do not count.

    Raises:
        DataError: the file is no such mapping, or names a class that is not there, or one twice.
    """
    if not path.exists():
        return {}
    found = read_yaml(path)
    form = f"{path}: expected lines like 'mine: {{known: [a, b], unknown: [c]}}'"
    if not isinstance(found, dict) or not found:
        raise DataError(f"{form}, found {shown(found)}")
    splits: dict[str, ClassSplit] = {}
    for name, sides in found.items():
        if not isinstance(sides, dict) or {*sides} != {"known", "unknown"}:
            raise DataError(f"{form}, found {shown({name: sides})}")
        known, unknown = (_named(sides[side], classes, f"{path}: {name}") for side in _SIDES)
        if both := sorted({*known} & {*unknown}):
            raise DataError(f"{path}: {one_line(name, 60)}: {both[0]} is known and unknown")
        splits[str(name)] = ClassSplit(known, unknown, own=True)
    return splits


def splits_between(
    path: Path, source: tuple[str, ...], target: tuple[str, ...]
) -> Mapping[str, ClassSplit]:
    """Return the splits of two domains: ``default``, and those that a file names.

    Args:
        path: of the file, which need not be there.
        source: classes that the source has.
        target: classes that the target has.

    Raises:
        DataError: as :func:`own_splits`.
    """
    own = dict(own_splits(path, {*source, *target}))
    private = tuple(name for name in target if name not in source)
    if private:
        found = {"default": ClassSplit(known=source, unknown=private)}
        shared = tuple(name for name in source if name in target)
        if 0 < len(shared) < len(source):
            alone = tuple(name for name in source if name not in target)
            found["opda"] = ClassSplit(shared, private, alone)
        return found | own
    # with fewer the known or the unknown side would be a single class
    if len(source) < 4 or source != target:
        return own
    half = (len(source) + 1) // 2
    return {"default": ClassSplit(known=source[:half], unknown=source[half:])} | own


_SIDES = ("known", "unknown")


def _named(values: Any, classes: Collection[str], where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise DataError(f"{where}: {shown(values)}: expected a list of one class or more")
    canonical = {comparable_name(name): name for name in classes}
    found: list[str] = []
    for value in values:
        name = canonical.get(comparable_name(str(value)))
        if name is None:
            raise DataError(
                f"{where}: there is no class '{one_line(value, 60)}'"
                f"{did_you_mean(str(value), classes)}"
            )
        if name in found:
            raise DataError(f"{where}: {name} stands there twice")
        found.append(name)
    return tuple(found)
