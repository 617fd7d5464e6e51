"""Classes of a user's own masks: ``classes.yaml`` beside the frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench.datasets.decoding.lists import read_yaml
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.errors import DataError, shown

FORM = (
    "'classes: {road: 0, car: [1, 2]}' and, if you like, 'ignore: [255]' (numbers 0 to 255 in grey "
    "or palette masks), or colours like '#804080' in their place"
)
_COLOUR, _NUMBER = re.compile(r"#[0-9a-fA-F]{6}"), re.compile("0|[1-9][0-9]{0,2}")


def read_classes(place: Path) -> tuple[tuple[str, ...], MaskIds]:
    """Return the names of the classes in the file's order, and what masks hold.

    Args:
        place: a YAML file with ``classes`` (name -> a number or a colour, or several) and,
            optionally, ``ignore`` (those of pixels without a class). All are numbers, or all are
            colours.

    Raises:
        DataError: no such file, or one of another form; a number or colour that two have.
    """
    if not place.is_file():
        raise DataError(f"there is no file {place}; expected {FORM}")
    found = read_yaml(place)
    if not isinstance(found, dict) or not found.get("classes") or {*found} - {"classes", "ignore"}:
        raise DataError(f"{place}: expected {FORM}; found {shown(found)}")
    classes = found["classes"]
    if not isinstance(classes, dict) or not 2 <= len(classes) <= 254:
        raise DataError(f"{place}: expected 2 to 254 classes: {FORM}; found {shown(classes)}")
    owner: dict[int, str | None] = {}
    kinds: set[bool] = set()
    for name, value in (*classes.items(), (None, found.get("ignore", []))):
        marks = value if isinstance(value, list) else [value]
        if name is not None and not marks:
            raise DataError(f"{place}: class '{name}' has no number; expected {FORM}")
        for mark in marks:
            key = _read(place, mark)
            kinds.add(mark.startswith("#"))
            if key in owner:
                both = f"{owner[key] or 'ignore'} and {name or 'ignore'}"
                raise DataError(f"{place}: {shown(mark)} stands for {both}; give it to one of them")
            owner[key] = None if name is None else str(name)
    if len(kinds) > 1:
        raise DataError(f"{place}: numbers and colours are mixed; give one kind: {FORM}")
    return tuple(map(str, classes)), _ids(place, owner, colours=kinds == {True})


def _read(place: Path, mark: Any) -> int:
    if isinstance(mark, str) and _COLOUR.fullmatch(mark):
        return int(mark[1:], 16)
    if isinstance(mark, str) and _NUMBER.fullmatch(mark) and int(mark) <= 255:
        return int(mark)
    raise DataError(f"{place}: found {shown(mark)}; expected {FORM}")


def _ids(place: Path, owner: Mapping[int, str | None], colours: bool) -> MaskIds:
    if not colours:
        layout = f"one 8-bit channel, grey or palette, of the numbers in {place.name}"
        return MaskIds(layout, owner, "indexed")
    names = dict(enumerate(owner.values()))
    if len(names) > 256:
        raise DataError(f"{place}: {len(names)} colours; expected at most 256")
    places = {colour: number for number, colour in enumerate(owner)}
    return MaskIds(f"an RGB image in the colours of {place.name}", names, "colours", places)
