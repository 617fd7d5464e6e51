"""Who plays which role in a stream, and in what order the images arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dabench.contract.data import DomainData
from dabench.contract.seeding import seed
from dabench.contract.types import IntArray
from dabench.errors import DataError

Order = Literal["random", "class-correlated"]
#: shares of source training, stream and held-out part where one domain plays all roles
SHARES = (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class Roles:
    """Positions by role; no image plays two."""

    source: IntArray | None
    stream: IntArray
    held_out: IntArray


def split_roles(data: DomainData) -> Roles:
    """Split the target per class, by position and the same for every seed.

    Where the data set gives the roles of its target these hold. Else one domain for source and
    target is split 40/40/20 into source training, stream and held-out
    part; a target of its own 80/20 into stream and held-out part.

    Raises:
        DataError: the data set's roles name an image twice, or one that is not there.
    """
    if data.roles is not None:
        shown, held = data.roles.stream, data.roles.held_out
        whole = np.arange(len(data.target_all.labels))
        if len(np.unique(both := np.concatenate([shown, held]))) < len(both):
            raise DataError(f"{data.dataset}: its roles name an image twice; no image plays two")
        if not np.isin(both, whole).all():
            raise DataError(f"{data.dataset}: its roles name images that the target has not")
        return Roles(None, shown, held)
    same = data.source == data.target
    shares = SHARES if same else (0.0, 0.8, 0.2)
    labels = data.target_all.labels
    rng = np.random.default_rng(seed(0, "target", "roles"))
    parts: list[list[IntArray]] = [[], [], []]
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        cuts = np.round(np.cumsum(shares)[:2] * len(rows)).astype(int)
        for part, drawn in zip(parts, np.split(rows, cuts), strict=True):
            part.append(drawn)
    source, stream, held = (np.sort(np.concatenate(part)).astype(np.int64) for part in parts)
    return Roles(source if same else None, stream, held)


def order_rows(
    rows: IntArray, labels: IntArray, order: Order, delta: float, value: int
) -> IntArray:
    """Put positions in the order of their arrival.

    Args:
        rows: (N,) positions.
        labels: classes of the whole domain.
        order: ``random``, or ``class-correlated``: every class spreads over ten spans of
            time in shares drawn from Dirichlet(``delta``): simpler than NOTE's order (Gong et al.
            2022, §4: as many spans as classes, quotas), which ``--protocol.stream correlated`` is.
        delta: concentration; smaller = more correlated.
        value: the seed.
    """
    rng = np.random.default_rng(value)
    if order == "random":
        return rng.permutation(rows)
    spans: list[list[IntArray]] = [[] for _ in range(10)]
    for c in np.unique(labels[rows]):
        own = rng.permutation(rows[labels[rows] == c])
        cuts = np.round(np.cumsum(rng.dirichlet(np.full(10, delta)))[:-1] * len(own)).astype(int)
        for span, drawn in zip(spans, np.split(own, cuts), strict=True):
            span.append(drawn)
    return np.concatenate([rng.permutation(np.concatenate(span)) for span in spans])
