"""Curves of a record as columns: what lies in the file beside it, and back (no torch)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
#: what the names of a curve's columns begin with; no prediction is called so
PREFIX = "curves."
_NAMES, _ROWS, _VALUES = (PREFIX + name for name in ("names", "rows", "values"))


def to_columns(curves: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return curves as three columns; nothing where they would not come back to the last digit.

    Args:
        curves: rows of a record, without NaN.

    Returns:
        ``curves.names``: JSON of (metric, segment) pairs as bytes; ``curves.rows``: (3, N) the
        pair's number, n and at; ``curves.values``: (N,) 64-bit floats, NaN = a hole.
    """
    try:
        pairs = [(row["metric"], row["segment"]) for row in curves]
        number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
        whole = [[number[pair] for pair in pairs], *([row[k] for row in curves] for k in _WHOLE)]
        values = [np.nan if row["value"] is None else row["value"] for row in curves]
        found: dict[str, npt.NDArray[Any]] = {
            _NAMES: np.frombuffer(json.dumps(list(number)).encode(), np.uint8),
            _ROWS: np.array(whole, np.int64),
            _VALUES: np.array(values, np.float64),
        }
    except (KeyError, TypeError, ValueError, OverflowError):  # rows of somebody else
        return {}
    if found[_ROWS].size and np.abs(found[_ROWS]).max() < 2**31:
        found[_ROWS] = found[_ROWS].astype(np.int32)
    same = json.dumps(from_columns(found)) == json.dumps(list(curves))
    return found if curves and same else {}


def from_columns(arrays: Arrays) -> list[dict[str, Any]]:
    """Return the curves of a file as rows; none where it holds none.

    Raises:
        KeyError, TypeError, ValueError: columns that ``to_columns`` has not made.
    """
    if _NAMES not in arrays:
        return []
    names = json.loads(arrays[_NAMES].tobytes())
    places, *whole = arrays[_ROWS].tolist()
    columns = zip(places, arrays[_VALUES].tolist(), *whole, strict=True)
    return [
        {
            "metric": names[place][0],
            "value": None if value != value else value,
            "n": n,
            "segment": names[place][1],
            "at": at,
        }
        for place, value, n, at in columns
    ]


_WHOLE = ("n", "at")
