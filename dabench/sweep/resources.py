"""What runs of a method need besides the usual: ``resources`` of a grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dabench import registry
from dabench.config.options import is_number
from dabench.errors import ConfigError, did_you_mean, shown

_MEMORY = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?(MB|GB)")
_UNITS = {"MB": 10**6, "GB": 10**9}
_FORM = "such as 'resources: {cotta: {gpus: 1, cpus: 4, memory: 16 GB}}'"


@dataclass(frozen=True)
class Resources:
    """What a run gets; None = what all runs get.

    Attributes:
        cpus: processor cores.
        gpus: 0.5 = two runs share one.
        memory: bytes of main memory.
    """

    cpus: int | None = None
    gpus: float | None = None
    memory: int | None = None


#: what all runs get
USUAL = Resources()


def read_resources(found: Any, place: str) -> dict[str, Resources]:
    """Read ``resources`` of a grid: what runs need, by the method's name.

    Args:
        found: as it stands in the file.
        place: the grid's name, for messages.

    Raises:
        ConfigError: another form, an unknown method or key, a value that does not fit.
    """
    head = f"{place}: resources" if place else "resources"
    if not isinstance(found, Mapping):
        raise ConfigError(f"{head}: expected methods with what they need, {_FORM}")
    try:
        names = {registry.name_of("method", str(name)): asked for name, asked in found.items()}
    except ConfigError as error:
        raise ConfigError(f"{head}: {error}") from None
    return {name: _read(asked, f"{head} of '{name}'") for name, asked in names.items()}


def _read(asked: Any, head: str) -> Resources:
    if not isinstance(asked, Mapping) or not asked:
        raise ConfigError(f"{head}: expected cpus, gpus or memory, {_FORM}")
    known = ("cpus", "gpus", "memory")
    asked = {key: value if key == "memory" else _number(value) for key, value in asked.items()}
    for key, value in asked.items():
        if key not in known:
            raise ConfigError(f"{head}: unknown key {shown(key)}{did_you_mean(str(key), known)}")
        if not _FITS[key](value):
            raise ConfigError(f"{head}: {key} {shown(value)}: expected {_EXPECTED[key]}")
    memory = asked.get("memory")
    if memory is not None:
        number, unit = _MEMORY.fullmatch(memory).groups()  # type: ignore[union-attr]
        memory = round(float(number) * _UNITS[unit])
    gpus = asked.get("gpus")
    return Resources(asked.get("cpus"), None if gpus is None else float(gpus), memory)


def _number(value: Any) -> Any:
    """Return text that is a number, as files hold it, as one; anything else as it is."""
    if not isinstance(value, str) or not is_number(value):
        return value
    return int(value) if is_number(value, whole=True) else float(value)


def _is_gpus(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= 1_000 and (value < 1 or value == int(value))


_FITS: dict[str, Callable[[Any], object]] = {
    "cpus": lambda value: type(value) is int and 0 < value <= 100_000,
    "gpus": _is_gpus,
    "memory": lambda value: isinstance(value, str) and _MEMORY.fullmatch(value),
}
_EXPECTED = {
    "cpus": "a whole number from 1",
    "gpus": "a whole number, or a part of 1",
    "memory": "text such as 16 GB or 500 MB",
}


def lacking(asked: Iterable[Resources], there: Resources) -> list[str]:
    """Return what all of them together ask for beyond what is there, in words."""
    runs, found = list(asked), []
    for name, unit, size in (("cpus", "CPUs", 1), ("gpus", "GPUs", 1), ("memory", "GB", 10**9)):
        total = sum(getattr(run, name) or 0 for run in runs)
        has = getattr(there, name) or 0
        if total > has:
            found.append(f"{total / size:g} {unit} of {has / size:.3g}")
    return found
