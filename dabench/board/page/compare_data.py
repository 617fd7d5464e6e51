"""The figures by seed from which the page compares any two rows, in lean form.

::

    {"t": [0, 12.706, …],
     "protocols": {NAME: {"rows": [name, …], "main": 9, "pair": [ours, theirs], "tasks": [
         {"block": anchor, "task": 0, "rows": [number of a row, …], "values": "…", "less": 1,
          "apart": [[row, row], …]}, …]}, …}}

``t`` are quantiles of Student's t by the number of pairs − 1, ``main`` says how many rows are no
ablations, ``pair`` which a comparison begins with: the best one. ``task`` numbers tasks:
blocks of one differ in the source model alone. ``less`` stands where less is better, and ``apart``
where two rows are of other versions of the protocol or of their start, and are not paired.
``values`` are 64-bit floats (rows, seeds) in base64, little-endian: every digit counts where an
interval ends at zero. NaN is a hole, infinity a seed without a run.
"""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from dabench.board.page.blocks import Block
from dabench.board.page.lines import Line
from dabench.board.page.overview import Overview
from dabench.board.page.tabs import Tab
from dabench.board.statistics.seeds import better_sign, t_quantile
from dabench.store.identity import task_of
from dabench.store.records import score_map
from dabench.store.rows import version_order


def compare_data(tabs: Sequence[Tab], against: str, *, ablations: bool) -> dict[str, Any]:
    """Return what the page compares rows by.

    Args:
        tabs: those of the page.
        against: the row that a comparison begins with.
        ablations: keep rows with changed options too.
    """
    protocols = {tab.protocol: _protocol(tab, against, ablations) for tab in tabs}
    most = max((len(_seeds(block.lines)) for tab in tabs for block in tab.blocks), default=1)
    quantiles = [0.0, *(t_quantile(freedom) for freedom in range(1, most))]
    return {"t": quantiles, "protocols": protocols}


def _protocol(tab: Tab, against: str, ablations: bool) -> dict[str, Any]:
    kept = [(block, _lines(block, ablations)) for block in tab.blocks]
    known = {name for _, lines in kept for name in lines}
    names = [s.line.name for s in tab.overview.standings if s.line.name in known]
    main = len(names)
    names += sorted(known - set(names))
    numbers = {name: number for number, name in enumerate(names)}
    theirs = numbers.get(against, 0)
    methods = [name for name in _best_first(tab.overview) if numbers.get(name, theirs) != theirs]
    ours = numbers[methods[0]] if methods else None
    pair = [ours if ours is not None else int(theirs == 0 and len(names) > 1), theirs]
    places = {key: n for n, key in enumerate(sorted({task_of(block.key) for block in tab.blocks}))}
    tasks = [
        {"task": places[task_of(block.key)], **_task(block, lines, numbers)}
        for block, lines in kept
        if len(lines) > 1
    ]
    return {"rows": names, "main": main, "pair": pair, "tasks": tasks}


def _best_first(over: Overview) -> list[str]:
    """Return the methods by rank, or else by tasks and their mean difference over these.

    A mean over few tasks may owe its height to which tasks they are.
    """
    found = [s for s in over.standings if s.line.kind == "method" and not s.line.aside]
    if not over.figures:
        found.sort(key=lambda s: (-s.shared, math.inf if s.mean is None else -s.mean))
    return [s.line.name for s in found]


def _lines(block: Block, ablations: bool) -> dict[str, Line]:
    """Return the rows that stand in a block, by name; of several versions the newest."""
    lines = sorted(block.lines, key=lambda line: version_order(line.row.version))
    newest = {line.name: line for line in lines if line.main or ablations}
    return {name: line for name, line in newest.items() if not line.note}


def _task(block: Block, lines: Mapping[str, Line], numbers: Mapping[str, int]) -> dict[str, Any]:
    seeds = {seed: place for place, seed in enumerate(_seeds(lines.values()))}
    values = np.full((len(lines), len(seeds)), np.inf, dtype="<f8")
    for row, line in enumerate(lines.values()):
        for run in line.runs:
            value = score_map(run).get(block.metric)
            values[row, seeds[run["spec"]["seed"]]] = math.nan if value is None else value
    kinds: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, line in lines.items():
        kinds[line.row.init, *line.row.version.split("/")[1:]].append(name)
    apart = [
        [numbers[a], numbers[b]]
        for ours, theirs in combinations(kinds.values(), 2)
        if lines[ours[0]].row.other_version(lines[theirs[0]].row)
        for a, b in product(ours, theirs)
    ]
    return {
        "block": block.anchor,
        "rows": [numbers[name] for name in lines],
        "values": base64.b64encode(values.tobytes()).decode(),
        **({"less": 1} if better_sign(block.metric) < 0 else {}),
        **({"apart": apart} if apart else {}),
    }


def _seeds(lines: Iterable[Line]) -> list[int]:
    return sorted({run["spec"]["seed"] for line in lines for run in line.runs})
