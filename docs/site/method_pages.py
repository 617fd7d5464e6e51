"""A page for every method: what it is, what it needs, its options."""

from __future__ import annotations

import re
from typing import Any

import board_page
from docstrings import description
from markdown import cell, code, options, place, rst, slug, table

from dabench import registry
from dabench.errors import ConfigError
from dabench.registry import MethodEntry

#: of a row of docs/methods.md, after the name
_COLUMNS = ("what", "source", "kind", "protocols")


def pages(text: str) -> dict[str, str]:
    """Return the pages by name.

    Args:
        text: of docs/methods.md, whose tables say where each method comes from.
    """
    rows = {name: _row(text, name) for name in registry.METHODS}
    names = [f"{slug(name)}" for name in registry.METHODS]
    listed = table(
        ["method", "kind", "protocols", "what"],
        [
            [f"[`{name}`]({slug(name)}.md)", *_listed(rows[name]), cell(e.summary)]
            for name, e in registry.METHODS.items()
        ],
    )
    tree = "\n".join(["```{toctree}", ":hidden:", ":titlesonly:", "", *names, "```"])
    note = "Formulas, deviations and their reasons: [Notes on methods](../../methods.md)."
    found = {"methods/index": f"# Methods\n\n{note}\n\n{listed}\n\n{tree}"}
    for name, entry in registry.METHODS.items():
        found[f"methods/{slug(name)}"] = _page(name, entry, rows[name])
    return found


def _row(text: str, name: str) -> dict[str, str]:
    """Return what docs/methods.md says of a method; its links lead from the generated page.

    Raises:
        ConfigError: there is no such row.
    """
    match = re.search(rf"^\| `{re.escape(name)}` \|(.+)\|$", text, re.MULTILINE)
    if match is None:
        raise ConfigError(f"docs/methods.md has no row of `{name}`; add one")
    cells = [part.strip() for part in match[1].split(" | ")]
    moved = [re.sub(r"\]\((?=[\w-]+\.md)", "](../../", part) for part in cells]
    return dict(zip(_COLUMNS, moved, strict=False))


def _listed(row: dict[str, str]) -> tuple[str, str]:
    return row["kind"], row["protocols"]


def _served(entry: MethodEntry) -> str:
    return ", ".join(f"[`{name}`](../protocols/{name}.md)" for name in entry.protocols)


def _page(name: str, entry: MethodEntry, row: dict[str, str]) -> str:
    cls = registry.method(name)
    facts = [
        ["what", row["what"]],
        ["source", row["source"]],
        ["kind", row["kind"]],
        ["protocols", _served(entry)],
        ["results", _results(name)],
        ["requirements", "; ".join(_requirements(cls, entry))],
        ["default start", code(getattr(cls, "default_init", "source"))],
        ["version", code(cls.version)],
        ["file", place(cls)],
    ]
    run = f"```bash\ndabench run --method {name} --protocol {entry.protocols[0]}\n```"
    parts = [
        f"# `{name}`",
        f"{_sentence(entry.summary)}",
        table(["", ""], facts),
        run,
        "## Options",
        options(cls, "method"),
        "## Description",
        rst(description(cls)),
    ]
    return "\n\n".join(parts)


def _results(name: str) -> str:
    """Return links to a method's rows on the leaderboard page, by protocol."""
    found = []
    for protocol, named in board_page.rows().get(name, {}).items():
        links = [
            board_page.link("../../", f"<code>{row}</code>", protocol, row) for row in named
        ] or [board_page.link("../../", "with changed options", protocol)]
        found.append(f"`{protocol}`: {', '.join(links)}")
    return "on the leaderboard: " + "; ".join(found) if found else "none on record here"


def _sentence(text: str) -> str:
    return cell(text[0].upper() + text[1:] + ".")


def _requirements(cls: type[Any], entry: MethodEntry) -> list[str]:
    """Return what a method must be handed, from its class."""
    grants = cls.grant if isinstance(cls.grant, tuple) else (cls.grant,)
    found = ["the grant " + " or ".join(f"[`{g.__name__}`](../method-api.md)" for g in grants)]
    kinds = sorted(getattr(cls, "kinds", {"classification"}))
    found.append(f"data of {' or '.join(kinds)}")
    if cls.extras:
        extras = ", ".join(f"`{extra}`" for extra in sorted(cls.extras))
        found.append(f"the extras {extras} ([contracts](../../contracts.md))")
    if getattr(cls, "needs_probabilities", False):
        found.append("probabilities of a black box, not class names alone")
    if entry.frozen_trunk:
        found.append("a pretrained trunk ([protocols](../../protocols.md#the-linear-probe))")
    if not cls.trains:
        found.append("no training")
    if hasattr(cls, "answers") and "Online" in {g.__name__ for g in grants}:
        found.append(f"on streams it answers {cls.answers} its own update")
    return found
