"""A page for every protocol: what it grants, what ranks, its options; and the named streams."""

from __future__ import annotations

import math

from docstrings import description
from markdown import cell, code, options, place, rst, slug, table

from dabench import registry
from dabench.board.page.texts import METRICS, protocol_summary
from dabench.protocols.streams.named.catalogue import STREAMS, Knob
from dabench.registry import ProtocolEntry


def pages() -> dict[str, str]:
    """Return the pages by name."""
    rows = [
        [f"[`{name}`]({name}.md)", code(entry.primary_metric), cell(entry.summary)]
        for name, entry in registry.PROTOCOLS.items()
    ]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *registry.PROTOCOLS, "```"])
    note = "Classes, splits, roles and scores: [Settings](../../protocols.md)."
    listed = table(["protocol", "ranked by", "what"], rows)
    found = {"protocols/index": f"# Protocols\n\n{note}\n\n{listed}\n\n{tree}"}
    for name, entry in registry.PROTOCOLS.items():
        found[f"protocols/{name}"] = _page(name, entry)
    return {**found, "streams": _streams()}


def _page(name: str, entry: ProtocolEntry) -> str:
    cls = registry.protocol(name)
    serving = [n for n, method in registry.METHODS.items() if name in method.protocols]
    extras = ", ".join(f"`{extra}`" for extra in sorted(getattr(cls, "grants", ())))
    ranked = f"`{entry.primary_metric}`: {cell(METRICS[entry.primary_metric])}"
    if entry.second_metric:
        ranked += f"; over tasks by `{entry.second_metric}` as well"
    facts = [
        ["grant", f"[`{cls.grant.__name__}`](../method-api.md)"],
        ["extras", extras or "–"],
        ["task", cls.kind],
        ["ranked by", ranked],
        ["default data set", f"[`{entry.default_dataset}`](../data-sets.md)"],
        ["methods", ", ".join(f"[`{n}`](../methods/{slug(n)}.md)" for n in serving)],
        ["version", code(cls.version)],
        ["file", place(cls)],
    ]
    parts = [
        f"# `{name}`",
        f"{cell(entry.summary[0].upper() + entry.summary[1:])}. {protocol_summary(name)}",
        table(["", ""], facts),
        "## Options",
        options(cls, "protocol"),
        "## Description",
        rst(description(cls)),
    ]
    return "\n\n".join(parts)


def _streams() -> str:
    rows = []
    for name, entry in STREAMS.items():
        knobs = "; ".join(f"`{key}` {_knob(knob)}" for key, knob in entry.knobs.items())
        served = ", ".join(f"[`{p}`](protocols/{p}.md)" for p in entry.protocols)
        batch = "" if entry.batch is None else f"; `--batch-size {entry.batch}`"
        rows.append([f"`{name}`", served, knobs or "–", cell(entry.summary) + batch])
    note = "Given as `--protocol.stream NAME:option=value,…`; how each is made: [Named streams]"
    head = f"# Streams\n\n{note}(../streams.md).\n\n"
    return head + table(["stream", "protocols", "options", "what"], rows)


def _knob(knob: Knob) -> str:
    """Return an option's default and what it may be."""
    if knob.choices:
        return f"= {knob.default} ({' or '.join(knob.choices)})"
    default = "∞" if knob.default == math.inf else f"{knob.default:,}"
    return f"= {default} (from {knob.low:g})"
