"""The runs behind each cell, as the JSON that a page's dialogs read.

::

    {"detail": true, "texts": ["c5dc8bd3d2be", …],
     "cells": [{"title", "where", "key", "note", "n", "command": [part, …],
                "spec": [[name, value], …], "metrics": [name, …],
                "runs": [{"id", "seed", "own", "ids": [id, …], "commit", "cost": […],
                          "scores": […], "model": link, if any}, …]}, …]}

What cells have in common stands once, among the texts: parts of a command (joined by `` --``),
names and values of a spec, metrics, ids and commits are numbers of texts. A cell has a
``"remark"`` too, where there is one.
Above ``page_records.DETAIL`` runs a cell is only ``{"title", "where", "key", "note", "n", "ids"}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dabench.board.page.blocks import Block
from dabench.board.page.command import run_arguments, shared_command
from dabench.board.page.lines import Line
from dabench.board.page.page_records import COSTS
from dabench.config.options import as_argument
from dabench.store.identity import IDS
from dabench.store.records import Record, score_map

#: run ids that a cell lists where there is no room for the runs
FEW_IDS = 3
#: what parts of a command are joined by
_PART = " --"


def page_data(blocks: Iterable[Block], *, detail: bool) -> dict[str, Any]:
    """Return the data of all cells, by number."""
    texts: dict[str, int] = {}

    def once(text: str) -> int:
        return texts.setdefault(text, len(texts))

    cells: dict[int, dict[str, Any]] = {}
    for block in blocks:
        for line in block.lines:
            cells[line.number] = _cell(block, line, once, detail=detail)
    return {"detail": detail, "cells": [cells[i] for i in sorted(cells)], "texts": list(texts)}


def to_json(data: Any) -> str:
    """Return JSON that no parser of HTML takes for markup; it is ASCII."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def flat_spec(spec: Mapping[str, Any]) -> list[list[str]]:
    """Return a spec as (name, value) pairs of text; options stand by their dotted names."""
    found = []
    for name, value in spec.items():
        if isinstance(value, Mapping):
            prefix = name.removesuffix("_options")
            found += [[f"{prefix}.{n}", as_argument(v)] for n, v in sorted(value.items())]
        else:
            found.append([name.replace("_", "-"), as_argument(value)])
    return found


def _cell(block: Block, line: Line, once: Callable[[str], int], *, detail: bool) -> dict[str, Any]:
    head = {"title": line.name, "where": block.title, "note": line.note, "n": len(line.runs)}
    head |= {"remark": line.remark} if line.remark else {}
    runs = sorted(line.runs, key=lambda run: (run["spec"]["seed"], run["run_id"]))
    if not detail:
        return head | {"key": block.key, "ids": [run["run_id"] for run in runs[:FEW_IDS]]}
    same = {n: v for n, v in runs[0]["spec"].items() if all(r["spec"].get(n) == v for r in runs)}
    same.pop("seed", None)
    maps = [score_map(run) for run in runs]
    metrics = list(dict.fromkeys(name for found in maps for name in found))
    shown = [[_rounded(found.get(name)) for name in metrics] for found in maps]
    return head | {
        "key": block.key,
        "version": line.row.version,
        "command": [*map(once, shared_command(runs[0]).split(_PART))],
        "spec": [[*map(once, pair)] for pair in flat_spec(same)],
        "metrics": [*map(once, metrics)],
        "runs": [_run(run, row, once) for run, row in zip(runs, shown, strict=True)],
    }


def _run(run: Record, scores: Sequence[float | None], once: Callable[[str], int]) -> dict[str, Any]:
    return {
        "id": run["run_id"],
        "seed": run["spec"]["seed"],
        "own": run_arguments(run),
        "ids": [once(str(run["ids"].get(name, ""))) for name in IDS],
        "commit": once(run["commit"]),
        "cost": [round(run["cost"][name], 1) if name in run["cost"] else None for name in COSTS],
        "scores": scores,
        **({"model": run["model"]} if "model" in run else {}),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
