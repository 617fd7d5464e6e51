"""Means of figures of which some may be missing."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where one is missing, or where there is none."""
    return None if None in values else mean_of_known(values)


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
