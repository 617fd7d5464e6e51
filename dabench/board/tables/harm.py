"""Do no harm: in what share of a dense stream's conditions a row lies below an unadapted one.

Computed from the scores of records, seed by seed, so that old records have it too (no torch).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dabench.store.rows import Row

#: what a row must not lie below: the model as it came, and its BatchNorm statistics alone
REFERENCES = ("source", "bn-adapt")
#: the metric's name, with ``/source`` or ``/bn-adapt`` behind it
SHARE_BELOW = "share_below"
MARK, _SCORE = "below_source/", "mIoU/"
#: segments of the mark that are a timing of the whole stream, not a condition
_TIMINGS = frozenset({"before", "after"})
#: metric -> seed -> value
Values = Mapping[str, Mapping[int, float]]


def conditions(metrics: Iterable[str]) -> list[str]:
    """Return the conditions of a dense stream among a row's metrics; none elsewhere."""
    known = set(metrics)
    names = (name.removeprefix(MARK) for name in sorted(known) if name.startswith(MARK))
    return [n for n in names if "/" not in n and n not in _TIMINGS and _SCORE + n in known]


def share_below(ours: Values, theirs: Values) -> dict[int, float]:
    """Return, by seed, the share of conditions in which our mIoU is below theirs.

    Seeds that one of the two lacks are left out; one in which a condition has a hole is NaN.
    """
    names = [_SCORE + name for name in conditions(ours)]
    if not names:
        return {}
    pairs = [(ours.get(name, {}), theirs.get(name, {})) for name in names]
    whole = set.intersection(*({*mine} & {*its} for mine, its in pairs))
    if not whole:
        return {}
    shared = set.intersection(*(set().union(*values.values()) for values in (ours, theirs)))
    return {
        seed: sum(mine[seed] < its[seed] for mine, its in pairs) / len(pairs)
        if seed in whole
        else math.nan
        for seed in sorted(shared)
    }


def reference_rows(rows: Mapping[Row, Values]) -> dict[str, Row]:
    """Return, of each of ``REFERENCES``, the row that others are held against.

    Of several settings it is one with most seeds, and of these the one with the best mean over
    conditions: chosen on the reported figures, which favours the reference.
    """
    found: dict[str, Row] = {}
    for name in REFERENCES:
        ranked = {row: _rank(values) for row, values in rows.items() if row.label == name}
        known = {row: rank for row, rank in ranked.items() if rank[0]}
        if known:
            found[name] = max(known, key=known.__getitem__)
    return found


def harm_metrics(rows: Mapping[Row, Values]) -> dict[Row, dict[str, dict[int, float]]]:
    """Return ``share_below/source`` and ``share_below/bn-adapt`` of every row that has them.

    Args:
        rows: metric -> seed -> value of the rows of one column that stand; refused ones are empty.
    """
    found: dict[Row, dict[str, dict[int, float]]] = {row: {} for row in rows}
    references: dict[tuple[str, ...], dict[str, Row]] = {}
    for row, values in rows.items():
        kind = (row.init, *row.version.split("/")[1:])  # of which all have the same references
        if kind not in references:
            fitting = {r: own for r, own in rows.items() if not row.other_version(r)}
            references[kind] = reference_rows(fitting)
        for name, reference in references[kind].items():
            shares = share_below(values, rows[reference]) if row != reference else {}
            if shares:
                found[row][f"{SHARE_BELOW}/{name}"] = shares
    return found


def _rank(values: Values) -> tuple[int, float]:
    """Return the number of seeds and the mean mIoU over conditions and seeds; 0, 0 for none."""
    parts = [values.get(_SCORE + name, {}) for name in conditions(values)]
    found = [value for part in parts for value in part.values()]
    return (max(map(len, parts)), sum(found) / len(found)) if found else (0, 0.0)
