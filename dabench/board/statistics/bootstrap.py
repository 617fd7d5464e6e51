"""Paired bootstrap over samples, with the models as they are (no torch).

It says how far a difference would move with other images of the same kind, and nothing of other
seeds: every interval is labelled ``LABEL``. Images of an offline part are drawn one by one; the
steps of a stream in blocks of neighbours, because neighbours are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dabench.contract.types import FloatArray
from dabench.store.samples import SamplingUnits

LABEL = "fixed models"
#: draws at a time, so that memory stays small
_CHUNK = 50


@dataclass(frozen=True)
class Interval:
    """A percentile interval of a difference.

    Attributes:
        mean: the difference on the samples themselves, mean over seeds.
        low: its 2.5 % quantile over draws.
        high: its 97.5 % quantile.
        seeds: pairs of runs behind it.
        block: steps in a block, 1 = single samples.
    """

    mean: float
    low: float
    high: float
    seeds: int
    block: int

    @property
    def label(self) -> str:
        """What the interval is, in a few words."""
        blocks = f", blocks of {self.block} steps" if self.block > 1 else ""
        return f"{LABEL}, bootstrap over samples{blocks}"


def mismatch(ours: SamplingUnits, theirs: SamplingUnits) -> str:
    """Return why two runs cannot be paired sample by sample ("" = they can)."""
    if ours.counts.shape != theirs.counts.shape or not np.array_equal(ours.place, theirs.place):
        return "the runs did not see the same samples in the same order"
    return "" if np.array_equal(ours.truth, theirs.truth) else "the runs' true classes differ"


def bootstrap(
    pairs: Sequence[tuple[SamplingUnits, SamplingUnits]],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the mean difference of pairs of runs, one pair a seed.

    Where all pairs hold the same samples, each draw takes the same ones of all of them.

    Args:
        pairs: (ours, theirs), alike in their samples (``mismatch``); one or more.
        draws: bootstrap samples.
        seed: of the draws.
        level: share of the draws between ``low`` and ``high``.
    """
    shared = all(np.array_equal(ours.place, pairs[0][0].place) for ours, _ in pairs)
    total = np.zeros(draws)
    mean, block = 0.0, 1
    for number, (ours, theirs) in enumerate(pairs):
        block = block_length(len(ours.counts)) if ours.stream else 1
        generator = np.random.default_rng([seed, 0 if shared else number])
        drawn = _differences(generator, ours, theirs, draws, block)
        total += drawn / len(pairs)
        mean += float(_value(ours) - _value(theirs)) / len(pairs)
    low, high = np.quantile(total, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(pairs), block)


def block_length(steps: int) -> int:
    """Return the usual rate for blocks, the cube root of the steps, rounded up."""
    return max(1, math.ceil(round(math.cbrt(steps), 9)))


def _differences(
    generator: np.random.Generator,
    ours: SamplingUnits,
    theirs: SamplingUnits,
    draws: int,
    block: int,
) -> FloatArray:
    """Return (draws,) differences of the metric, each on other units."""
    both = [(u.measure, _in_blocks(u, block), u.counts.shape[1:]) for u in (ours, theirs)]
    found = []
    for start in range(0, draws, _CHUNK):
        weights = _weights(generator, len(ours.counts), min(_CHUNK, draws - start), block)
        left, right = (
            measure((weights @ counts).reshape(len(weights), *shape))
            for measure, counts, shape in both
        )
        found.append(left - right)
    return np.concatenate(found)


def _weights(generator: np.random.Generator, units: int, draws: int, block: int) -> FloatArray:
    """Return (draws, units): how often each unit, or the block that begins there, is drawn."""
    size = max(1, round(units / block))
    chosen = generator.integers(units, size=(draws, size)) + units * np.arange(draws)[:, None]
    found = np.bincount(chosen.ravel(), minlength=draws * units)
    return found.reshape(draws, units).astype(np.float64)


def _in_blocks(found: SamplingUnits, block: int) -> FloatArray:
    """Return (U, F) counts of the block that begins at each unit; the end goes on at the start."""
    counts = found.counts.reshape(len(found.counts), -1)
    if block == 1:
        return counts
    around = np.concatenate([counts, counts[: block - 1]]).cumsum(0)
    around = np.concatenate([np.zeros_like(counts[:1]), around])
    blocks: FloatArray = around[block:] - around[:-block]
    return blocks


def _value(found: SamplingUnits) -> float:
    return float(found.measure(found.counts.sum(0)[None])[0])
