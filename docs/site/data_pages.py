"""One page with every data set, one with every metric."""

from __future__ import annotations

from typing import Any

from api_pages import automodule
from docstrings import description
from markdown import cell, code, place, rst, table

from dabench import registry
from dabench.board.page.texts import METRICS
from dabench.board.statistics.seeds import LOWER_IS_BETTER
from dabench.registry import DataEntry

#: where the metrics stand, in reading order
_METRICS = ("classification", "open_set", "discovery", "segmentation", "label_free")
#: so many domains are named
_SHOWN = 12


def pages() -> dict[str, str]:
    """Return the pages by name."""
    return {"data-sets": _data_sets(), "metrics": _metrics()}


def _data_sets() -> str:
    note = (
        "dabench downloads nothing: where one gets each set, and how its folder looks, is in "
        "[Notes on data sets](../datasets.md) and in `dabench data info NAME`."
    )
    rows = [
        [f"[`{name}`](#{_anchor(name)})", entry.kind, cell(entry.summary)]
        for name, entry in registry.DATASETS.items()
    ]
    parts = ["# Data sets", note, table(["data set", "task", "what"], rows)]
    for name, entry in registry.DATASETS.items():
        parts += _data_set(name, entry)
    return "\n\n".join(parts)


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _data_set(name: str, entry: DataEntry) -> list[str]:
    cls = registry.dataset(name)
    domains = [code(domain) for domain in cls.domains[:_SHOWN]]
    more = len(cls.domains) - len(domains)
    facts = [
        ["task", entry.kind],
        ["domains", ", ".join(domains) + (f", and {more} more" if more else "") or "your own"],
        ["defaults", _values(cls.defaults)],
    ]
    for protocol, given in getattr(cls, "protocol_defaults", {}).items():
        facts.append([f"under `{protocol}`", _values(given, "protocol.")])
    if entry.per_class:
        facts.append(["ranked by", "the mean of per-class accuracies where accuracy ranks"])
    facts.append(["file", place(cls)])
    return [f"## `{name}`", table(["", ""], facts), rst(description(cls))]


def _values(given: Any, prefix: str = "") -> str:
    pairs = {key.replace("_", "-") if not prefix else key: v for key, v in given.items()}
    return ", ".join(code(f"--{prefix}{key} {v}") for key, v in pairs.items() if v is not None)


def _metrics() -> str:
    rows = []
    for name, meaning in METRICS.items():
        less = name.partition("/")[0] in LOWER_IS_BETTER
        ranks = [p for p, entry in registry.PROTOCOLS.items() if entry.primary_metric == name]
        ranked = ", ".join(f"[`{p}`](protocols/{p}.md)" for p in ranks)
        rows.append([code(name), "less" if less else "more", ranked or "–", cell(meaning)])
    note = (
        "All are fractions unless a row says otherwise. `METRIC/SEGMENT` is the metric on a part "
        "(`held-out`, a condition, a domain); without a segment it is of the adapt set or the "
        "whole stream. Definitions and holes: [Comparability](../comparability.md#definitions); "
        "of streams: [Settings](../protocols.md#streams), [Named streams](../streams.md#scores)."
    )
    parts = ["# Metrics", note, table(["metric", "better", "ranks", "what"], rows)]
    parts += ["## As they are computed", *(automodule(f"dabench.metrics.{m}") for m in _METRICS)]
    return "\n\n".join(parts)
