"""Reproduction cards: a figure that somebody published, its set-up, and how dabench runs it.

One YAML file a card in ``results/cards/``. A card never holds a figure of ours: that is looked up
in the records (``card_figures``).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.options import OPTIONS
from dabench.config.yaml_file import read_mapping
from dabench.errors import ConfigError, did_you_mean, one_line
from dabench.registry.method_info import REGISTERED

#: metric of a card -> the score of a record, and whether it counts what is wrong
METRICS = {
    "error": ("accuracy", True),
    "accuracy": ("accuracy", False),
    "mean class accuracy": ("mean_class_accuracy", False),
    "HOS": ("HOS", False),
    "OS": ("OS", False),
    "mIoU": ("mIoU", False),
    "mIoU, mean over conditions": ("mIoU/mean-conditions", False),
}
#: what is said of a published set-up
SETUP = ("data", "checkpoint", "batch", "optimiser", "adaptation", "images", "order", "selection")
_SOURCE = ("paper", "place")
_NEEDED = ("method", "printed_as", "benchmark", "metric", "percent", "source", "setup", "run")
_OTHER = ("needs", "reason")
_RUN_ID = re.compile(r"[0-9a-f]{6,16}")
_NAMED: Mapping[str, Mapping[str, Any]] = {
    "method": registry.METHODS,
    "data set": registry.DATASETS,
}


@dataclass(frozen=True)
class Card:
    """A published figure.

    Attributes:
        name: of the file, without its ending.
        method: its name in dabench.
        printed_as: its name where the figure was published.
        benchmark: as the field calls it.
        metric: one of ``METRICS``.
        percent: the figure, 0 to 100.
        source: ``paper`` (who published it) and ``place`` (table, or file of a repository).
        setup: ``SETUP`` in words; "not stated" where it could not be read.
        run: options of ``dabench run`` by their long names, without ``method``; ``tasks`` in place
            of ``source`` and ``target`` for a mean over tasks (``amazon to dslr, amazon to
            webcam``), and ``records`` where run ids name what is looked up.
        needs: what a run needs that is not in this repository. ``method NAME`` and
            ``data set NAME`` are such needs as long as dabench does not know the name.
        reason: why our figure differs, or will; "" = nothing known.
    """

    name: str
    method: str
    printed_as: str
    benchmark: str
    metric: str
    percent: float
    source: Mapping[str, str]
    setup: Mapping[str, str]
    run: Mapping[str, str]
    needs: tuple[str, ...] = ()
    reason: str = ""

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Source and target of each task that the figure is a mean over."""
        if "tasks" not in self.run:
            return [(self.run.get("source", ""), self.run.get("target", ""))]
        return [(a, b) for a, _, b in (task.partition(" to ") for task in self._listed("tasks"))]

    @property
    def records(self) -> list[str]:
        """Run ids, or their beginnings, that the card names."""
        return self._listed("records")

    @property
    def commands(self) -> list[str]:
        """The command line of each task."""
        own = ("tasks", "records", "source", "target")
        others = {name: text for name, text in self.run.items() if name not in own}
        lines = []
        for source, target in self.tasks:
            ends = {"source": source, "target": target} if source else {}
            given = {"method": self.method, **ends, **others}
            words = [word for name, text in given.items() for word in (f"--{name}", text)]
            lines.append(shlex.join(["dabench", "run", *words]))
        return lines

    def missing(self) -> list[str]:
        """Return what a run still needs: names that dabench has come to know are left out."""
        return [need for need in self.needs if not _is_known(need)]

    def _listed(self, name: str) -> list[str]:
        return [part.strip() for part in self.run.get(name, "").split(",") if part.strip()]


def read_cards(folder: Path) -> list[Card]:
    """Read all cards of a folder, in the order of their names.

    Raises:
        ConfigError: there is none, or one that is not sound; names the file and the first fault.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigError(
            f"{folder}: no cards there (*.yaml); they lie in results/cards of the repository: call "
            "it in the clone, or copy them there"
        )
    return [read_card(path) for path in paths]


def methods_without(cards: Iterable[Card]) -> list[str]:
    """Return the suite's methods of which none of the cards is; baselines and the bound need none.

    Args:
        cards: all that there are, in whatever order.
    """
    there = {card.method for card in cards} | {REGISTERED.upper_bound}
    return [
        name
        for name, entry in registry.METHODS.items()
        if name not in there and not entry.baseline and entry.target.startswith("dabench.")
    ]


def read_card(path: Path) -> Card:
    """Read and check one card.

    Raises:
        ConfigError: as :func:`read_cards`.
    """
    found = read_mapping(path, "card", "method: tent") or {}
    fault = _fault(found)
    if fault:
        raise ConfigError(f"card {path}: {one_line(fault, 400)}")
    own = {name: found[name] for name in _NEEDED}
    own |= {"percent": float(found["percent"]), "run": dict(found["run"])}
    return Card(
        path.stem, **own, needs=tuple(found.get("needs") or ()), reason=found.get("reason") or ""
    )


def _fault(found: Mapping[str, Any]) -> str:
    """Return the first thing that is wrong with a card, and what to do; "" = nothing."""
    texts = ("method", "printed_as", "benchmark", "metric", "percent", "reason")
    parts = {"source": _SOURCE, "setup": SETUP}
    fault = _names_fault("", found, _NEEDED, _OTHER)
    fault = fault or next((f"{n} is no text" for n in texts if not _is_text(found, n)), "")
    fault = fault or next(
        (f"{n} is no block" for n in ("run", *parts) if not _is_block(found[n])), ""
    )
    for name, keys in parts.items():
        fault = fault or _names_fault(f"{name}.", found[name], keys, ())
    needs = found.get("needs") or []
    if not fault and not (isinstance(needs, list) and all(isinstance(n, str) for n in needs)):
        fault = "needs is no list of texts"
    return fault or _names_known(found, needs) or _values_fault(found)


def _names_fault(
    where: str, found: Mapping[str, Any], needed: tuple[str, ...], other: tuple[str, ...]
) -> str:
    for name in needed:
        if not found.get(name):
            return f"{where}{name} is missing; a card needs it ('not stated' where it is so)"
    for name in found:
        if name not in (*needed, *other):
            return f"{where}{name} is no field of a card{did_you_mean(name, (*needed, *other))}"
    return ""


def _names_known(found: Mapping[str, Any], needs: list[str]) -> str:
    """Refuse a name that dabench does not know and that the card does not call a need."""
    method, run = found["method"], found["run"]
    protocol = run.get("protocol", "")
    if protocol not in registry.PROTOCOLS:
        return f"run.protocol: unknown '{protocol}'{did_you_mean(protocol, registry.PROTOCOLS)}"
    for kind, name in (("method", method), ("data set", run.get("dataset", ""))):
        if name not in _NAMED[kind] and f"{kind} {name}" not in needs:
            near = did_you_mean(name, _NAMED[kind])
            return f"unknown {kind} '{name}'{near}; or say so under needs: '{kind} {name}'"
    known = (*(name for name in OPTIONS if name != "method"), "tasks", "records")
    for name in run:
        if name not in known and not name.startswith(("method.", "protocol.")):
            return f"run.{name} is no option of 'dabench run'{did_you_mean(name, known)}"
    return ""


def _values_fault(found: Mapping[str, Any]) -> str:
    if found["metric"] not in METRICS:
        return f"metric '{found['metric']}'{did_you_mean(found['metric'], METRICS)}"
    try:
        percent = float(found["percent"])
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        return f"percent '{found['percent']}' is not in 0 to 100"
    for name in str(found["run"].get("records", "")).split(","):
        if name.strip() and not _RUN_ID.fullmatch(name.strip()):
            return f"run.records: '{name.strip()}' is no run id (or six digits of one and more)"
    return ""


def _is_text(found: Mapping[str, Any], name: str) -> bool:
    return isinstance(found.get(name, "") or "", str)


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _is_known(need: str) -> bool:
    return any(
        need.removeprefix(f"{kind} ") in known
        for kind, known in _NAMED.items()
        if need.startswith(f"{kind} ")
    )
