"""The 24 streams of UniTTA in one table, for ``tables.py``.

Kind ``unitta``, with what selects the leaderboard's lines (``dataset=overhead``): a line a row, its
accuracy over the four streams of every way in which classes and domains come, over all, and on how
many it is below ``source``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pandas as pd
from record_tables import line_marks, marked, named
from table_cells import Params, markdown, number

#: letter of a stream's name -> how classes (the first letter) and domains (the third) come
CLASSES: Mapping[str, str] = {"i": "shuffled", "n": "in bursts"}
DOMAINS: Mapping[str, str] = {"i": "mixed", "n": "in bursts", "1": "one by one"}
_STREAM = r"stream=unitta-(?P<classes>.)(?P<shares>.)(?P<domains>.)"
#: of two rows whose accuracies differ by less neither is above the other
_EQUAL = 1e-12


def unitta(lines: pd.DataFrame, params: Params) -> str:
    """Return the table, the best mean first.

    Args:
        lines: of the leaderboard.
        params: column of it -> the value that counts.

    Raises:
        ValueError: a row lacks a stream, or there is no ``source``.
    """
    found = lines[lines["metric"] == "accuracy"]
    for name, value in params.items():
        found = found[found[name].astype(str) == value]
    found = found.join(found["protocol_options"].str.extract(_STREAM)).dropna(subset=["classes"])
    found = named(found)
    by_stream = found.pivot(index="row", columns="protocol_options", values="mean")
    if by_stream.isna().any(axis=None) or "source" not in by_stream.index:
        raise ValueError(f"{params}: every row, and 'source', needs all streams")
    below = (by_stream < by_stream.loc["source"] - _EQUAL).sum(axis=1)
    ways = found.pivot_table(index="row", columns=["classes", "domains"], values="mean")
    lasting = found.groupby("row").first()
    heads = [f"classes {CLASSES[a]}, domains {DOMAINS[b]}" for a, b in product(CLASSES, DOMAINS)]
    table = [["row", *heads, f"all {by_stream.shape[1]}", "below `source` on"]]
    means = by_stream.mean(axis=1).sort_values(ascending=False, kind="stable")
    for row, mean in means.items():
        shown = [number(ways.loc[row, way]) for way in product(CLASSES, DOMAINS)]
        table.append(
            [marked(str(row), line_marks(lasting.loc[row])), *shown, number(mean), str(below[row])]
        )
    return markdown(table)
