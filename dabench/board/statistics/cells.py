"""``seeds`` for all cells of a column at once: the same numbers to the last digit (no torch).

Arrays have the seeds on their first axis, in one order; NaN is a seed that a cell lacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dabench.board.statistics.seeds import EQUAL, MIN_PAIRS, NO_SPREAD, t_quantile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Texts = npt.NDArray[np.object_]


class Summaries(NamedTuple):
    """Mean and range over seeds; ``sd`` and the interval are NaN below two seeds, all for none."""

    mean: Floats
    sd: Floats
    low: Floats
    high: Floats
    n: Ints
    least: Floats
    most: Floats


class Comparisons(NamedTuple):
    """Mean paired differences with their intervals; without a pair NaN, and None as verdict."""

    mean: Floats
    low: Floats
    high: Floats
    n: Floats
    verdict: Texts


def exact_sum(values: Floats) -> Floats:
    """Return sums over the first axis, rounded once, as ``math.fsum`` does; NaN adds nothing.

    Every addition keeps what it rounds away (Knuth's two-sum). Where these parts add up without
    rounding, one addition gives the rounded sum; the few other cells are left to ``math.fsum``.
    """
    known = np.where(np.isnan(values), 0.0, values)
    total, low = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    rounded = np.zeros(values.shape[1:], dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for value in known:
            total, lost = _two_sum(total, value)
            low, twice = _two_sum(low, lost)
            rounded |= twice != 0  # NaN, of an infinite sum, too
        result: Floats = np.asarray(total + low)
    for place in map(tuple, np.argwhere(rounded)):
        result[place] = math.fsum(known[(slice(None), *place)].tolist())
    return result


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def summaries(values: Floats) -> Summaries:
    """Return ``seeds.summarise`` of every cell of (S, …) values, of S seeds."""
    there = ~np.isnan(values)
    n = there.sum(0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = exact_sum(values) / n
        away = values - mean
        sd = np.where(n > 1, np.sqrt(exact_sum(away * away) / (n - 1)), np.nan)
        half = _quantiles(len(values))[n] * sd / np.sqrt(n)
    none = n == 0
    least = np.where(there, values, np.inf).min(0, initial=np.inf)
    most = np.where(there, values, -np.inf).max(0, initial=-np.inf)
    least, most = (np.where(none, np.nan, ends) for ends in (least, most))
    return Summaries(mean, sd, mean - half, mean + half, n, least, most)


def _quantiles(most: int) -> Floats:
    """Return t by the number of seeds; NaN below two."""
    return np.array([np.nan, np.nan, *(t_quantile(n) for n in range(1, most))])


def comparisons(ours: Floats, theirs: Floats, sign: Floats) -> Comparisons:
    """Return ``seeds.compare`` of every cell.

    Args:
        ours: (S, …) of the rows that are judged.
        theirs: of the rows that they are held against; shapes broadcast.
        sign: (…): 1 where more is better, −1 where less is.
    """
    away = ours - theirs
    found = summaries(away)
    shared = np.where(np.isnan(away), np.nan, ours)
    spread = _spread(shared)
    verdict = _verdicts(found, np.broadcast_to(sign, found.n.shape), spread > EQUAL)
    n = np.where(found.n > 0, found.n, np.nan)
    return Comparisons(found.mean, found.low, found.high, n, verdict)


def _spread(values: Floats) -> Floats:
    there = ~np.isnan(values)
    most = np.where(there, values, -np.inf).max(0, initial=-np.inf)
    least = np.where(there, values, np.inf).min(0, initial=np.inf)
    return np.asarray(most - least)


def _verdicts(found: Summaries, sign: Floats, varied: npt.NDArray[np.bool_]) -> Texts:
    few = [None, "1 pair: no verdict", *(f"{n} pairs: no verdict" for n in range(2, MIN_PAIRS))]
    by_count: Sequence[Any] = [*few, *[None] * max(0, int(found.n.max(initial=0)))]
    verdict = np.array(by_count, dtype=object)[found.n]
    enough = found.n >= MIN_PAIRS
    flat = enough & (found.most - found.least <= EQUAL)
    within = (found.low <= 0.0) & (found.high >= 0.0)
    better = sign * found.mean > 0
    verdict[enough & better] = "win"
    verdict[enough & ~better] = "loss"
    verdict[enough & within] = "tie"
    verdict[flat] = NO_SPREAD
    verdict[flat & varied & (np.abs(found.mean) <= EQUAL)] = "tie"
    return verdict


def gains(ours: Floats, source: Floats, bound: Floats, sign: Floats) -> Floats:
    """Return (ours − source) / (bound − source) of every cell, means over the seeds that all have.

    0 = the source model, 1 = the upper bound. A hole where no seed is shared, or where the bound is
    not better than the source.

    Args:
        ours: (S, …) of the rows that are judged.
        source: of the source model; shapes broadcast.
        bound: of the upper bound.
        sign: (…): −1 where less is better.
    """
    shared = ~(np.isnan(ours) | np.isnan(source) | np.isnan(bound))
    room = sign * exact_sum(np.where(shared, bound - source, np.nan))
    won = sign * exact_sum(np.where(shared, ours - source, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(room > 0, won / room, np.nan))
