"""What a block is called: its whole title, the words that suffice in its tab, a column's head."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dabench.config.spec import OPTIONAL_FIELDS
from dabench.datasets.weather.groups import group_name
from dabench.store.identity import BUDGET

_BETWEEN = " · "
Task = tuple[str, str, str]
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Naming:
    """The names of a block: ``title`` stands alone, ``short`` among those of its protocol."""

    title: str
    short: str


def options(spec: Spec) -> dict[str, Any]:
    """Return the protocol's options that are set, and those of a source model of its own."""
    found = {n: v for n, v in spec["protocol_options"].items() if v is not None}
    return found | {n: spec[n] for n in OPTIONAL_FIELDS if spec.get(n) is not None}


def task_names(spec: Spec) -> Task:
    """Return data set, source and target."""
    return str(spec["dataset"]), str(spec["source"]), str(spec["target"])


def naming(specs: Sequence[Spec]) -> list[Naming]:
    """Name the blocks of one protocol: what all of them share is left out.

    A default has a name only where its task stands with another value beside it.
    """
    anywhere = _varying([options(spec) for spec in specs])
    by_task: dict[Task, list[Spec]] = defaultdict(list)
    for spec in specs:
        by_task[task_names(spec)].append(spec)
    here = {task: _varying([_all(spec) for spec in same]) for task, same in by_task.items()}
    told = {task: _telling(same, here[task]) for task, same in by_task.items()}
    tasks = sorted(by_task)
    return [
        Naming(
            _title(spec, sorted(anywhere | here[task]), here[task]),
            _short(spec, tasks, told[task]),
        )
        for spec, task in ((spec, task_names(spec)) for spec in specs)
    ]


def natural_order(text: str) -> list[tuple[Decimal, str]]:
    """Return what sorts ``r2`` before ``r10``, and ``0.25`` before ``0.5``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)  # every second one is a number
    return [(Decimal(p), "") if place % 2 else (Decimal(0), p) for place, p in enumerate(parts)]


def column_heads(titles: Iterable[str]) -> list[str]:
    """Return the heads of columns side by side: a beginning like the one before is left out."""
    found: list[str] = []
    before: list[str] = []
    for title in titles:
        parts = title.split(_BETWEEN)
        same = 0
        while same < min(len(parts) - 1, len(before)) and parts[same] == before[same]:
            same += 1
        found.append(_BETWEEN.join(parts[same:]))
        before = parts
    return found


def _all(spec: Spec) -> dict[str, Any]:
    return {name: spec.get(name) for name in BUDGET} | options(spec)


def _title(spec: Spec, names: Sequence[str], here: set[str]) -> str:
    dataset, source, target = task_names(spec)
    said = ((name, _said(spec, name)) for name in names)
    kept = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in said
        if value and (value != "default" or name in here)
    ]
    return _BETWEEN.join([dataset, _way(source, target), *kept])


def _short(spec: Spec, tasks: Sequence[Task], told: Sequence[str]) -> str:
    dataset, source, target = task_names(spec)
    own = [task for task in tasks if task[0] == dataset]
    parts = [dataset] if len(own) < len(tasks) else []
    if len({task[1] for task in own}) > 1:
        parts.append(_way(source, target))
    elif len(own) > 1:
        parts.append(target)
    parts += [_value(name, value) for name in told if (value := _said(spec, name))]
    return _BETWEEN.join(parts or [dataset, target])


def _way(source: str, target: str) -> str:
    return f"{source} → {target}" if source != target else source


def _said(spec: Spec, name: str) -> str:
    """Return the words for a value; a protocol's option that a record lacks had its default."""
    value = _all(spec).get(name)
    if value is None:
        return "" if name in (*BUDGET, *OPTIONAL_FIELDS) else "default"
    return group_name(str(value)) if name == "shifts" else str(value)


def _value(name: str, value: str) -> str:
    """Return a value that is understood without its table: a number or a default names itself."""
    bare = value != "default" and not re.fullmatch(r"[-+.\d]+|True|False", value)
    return value if bare else f"{name.replace('_', ' ')} {value}"


def _telling(specs: Sequence[Spec], varying: set[str]) -> list[str]:
    """Return as few names as part the specs, the protocol's options before budgets."""
    kept: list[str] = []
    for name in sorted(varying, key=lambda name: (name in BUDGET, name)):
        if _groups(specs, [*kept, name]) > _groups(specs, kept):
            kept.append(name)
    return kept


def _groups(specs: Sequence[Spec], names: Sequence[str]) -> int:
    return len({tuple(_said(spec, name) for name in names) for spec in specs})


def _varying(found: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for each in found for name in each}
    return {name for name in names if len({repr(each.get(name)) for each in found}) > 1}
