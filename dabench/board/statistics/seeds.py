"""Means, intervals and paired verdicts over seeds (no torch).

Differences are paired by seed; a verdict needs at least five pairs and comes from the 95 %
t-interval of the differences. An interval without width carries none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from operator import mul
from typing import NamedTuple

from scipy import special

#: fewest pairs for a verdict
MIN_PAIRS = 5
#: the verdict where the seeds vary nothing
NO_SPREAD = "no spread: no verdict"
#: values that differ by less are equal: differences of equal floats are rounded
EQUAL = 1e-12
#: metrics (without their segment) where less is better
LOWER_IS_BETTER = frozenset(
    {
        *("FPR95", "ECE", "forgetting", "collapsed", "below_source", "share_below", "short"),
        *("recovery", "missed", "running_ECE"),
    }
)


class Summary(NamedTuple):
    """Mean and range over seeds; ``sd`` (ddof 1) and the 95 % t-interval are None for one seed."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    least: float
    most: float


class Comparison(NamedTuple):
    """Mean paired difference with its 95 % t-interval and what follows from it."""

    mean: float
    low: float | None
    high: float | None
    n: int
    verdict: str


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, sd and t-interval of at least one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(mean, None, None, None, n, mean, mean)
    away = [value - mean for value in values]
    sd = math.sqrt(math.fsum(map(mul, away, away)) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(mean, sd, mean - half, mean + half, n, min(values), max(values))


@cache
def t_quantile(freedom: int) -> float:
    """Return t with 95 % of Student's distribution within ± t: 4.30 for 2 degrees of freedom."""
    return float(special.stdtrit(freedom, 0.975))


def better_sign(metric: str) -> float:
    """Return 1 where more is better and -1 where less is; a segment's name changes nothing."""
    return -1.0 if metric.partition("/")[0] in LOWER_IS_BETTER else 1.0


def compare(
    ours: Mapping[int, float], theirs: Mapping[int, float], *, higher_is_better: bool = True
) -> Comparison | None:
    """Compare two rows by the seeds that both have; None if they share no seed.

    Args:
        ours: seed -> value of the row that is judged.
        theirs: seed -> value of the row that it is held against.
        higher_is_better: False turns the verdict (not the difference) round.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    found = summarise([ours[seed] - theirs[seed] for seed in seeds])
    varied = _varies([ours[seed] for seed in seeds])
    verdict = _verdict(found, 1.0 if higher_is_better else -1.0, varied)
    return Comparison(found.mean, found.low, found.high, found.n, verdict)


def _varies(values: Sequence[float]) -> bool:
    return max(values) - min(values) > EQUAL


def _verdict(found: Summary, sign: float, varied: bool) -> str:
    """Return what follows from differences; ``varied``: the values differ between seeds."""
    if found.n < MIN_PAIRS or found.low is None or found.high is None:
        return f"{found.n} pair{'s' * (found.n != 1)}: no verdict"
    if found.most - found.least <= EQUAL:
        # equal on every one of several different seeds is a finding, and no lack of seeds
        same = varied and abs(found.mean) <= EQUAL
        return "tie" if same else NO_SPREAD
    if found.low <= 0.0 <= found.high:
        return "tie"
    return "win" if sign * found.mean > 0 else "loss"
