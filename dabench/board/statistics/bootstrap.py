"""Paired bootstrap over samples, with the models as they are (no torch).

It says how far a difference would move with other images of the same kind, and nothing of other
seeds: every interval is labelled ``LABEL``. An image is drawn with all its showings, under each
seed and at every visit of a stream: more showings are no more images. Where all seeds have one and
the same order, and every image once, the steps of a stream are drawn in blocks of neighbours, which
are alike; of frames that come again, blocks of neighbouring frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dabench.contract.types import FloatArray, IntArray
from dabench.store.samples import Measure, SamplingUnits

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
        drawn: what was drawn: ``samples``, ``blocks of 9 steps``.
    """

    mean: float
    low: float
    high: float
    seeds: int
    drawn: str

    @property
    def label(self) -> str:
        """What the interval is, in a few words."""
        return f"{LABEL}, bootstrap over {self.drawn}"


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

    Each draw takes the same images, or steps, of all pairs.

    Args:
        pairs: (ours, theirs), alike in their samples (``mismatch``); one or more.
        draws: bootstrap samples.
        seed: of the draws.
        level: share of the draws between ``low`` and ``high``.
    """
    runs = [run for pair in pairs for run in pair]
    counts, block, drawn = _to_draw(runs)
    values = [
        _values(np.random.default_rng(seed), own, run.measure, draws, block)
        for own, run in zip(counts, runs, strict=True)
    ]
    gaps = np.mean(
        [ours - theirs for ours, theirs in zip(values[::2], values[1::2], strict=True)], axis=0
    )
    mean = float(np.mean([_value(ours) - _value(theirs) for ours, theirs in pairs]))
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(pairs), drawn)


def _to_draw(runs: Sequence[SamplingUnits]) -> tuple[list[FloatArray], int, str]:
    """Return the (U, …) counts of each run, alike in what U are, how many make a block, and a name.

    Steps of a stream where time is the same in all runs, else images with all their showings.
    """
    first = runs[0]
    steps = [run.steps for run in runs if run.steps is not None]
    one_order = all(np.array_equal(run.place, first.place) for run in runs)
    if len(steps) == len(runs) and one_order and len(first.images) == len(first.place):
        block = block_length(len(steps[0]))
        return steps, block, f"blocks of {block} steps" if block > 1 else "samples"
    images = np.unique(np.concatenate([run.images for run in runs]))
    block = block_length(len(images)) if first.frames else 1
    drawn = f"blocks of {block} frames" if block > 1 else "samples"
    return [_placed(run, images) for run in runs], block, drawn


def block_length(steps: int) -> int:
    """Return the usual rate for blocks, the cube root of the steps, rounded up."""
    return max(1, math.ceil(round(math.cbrt(steps), 9)))


def _placed(run: SamplingUnits, images: IntArray) -> FloatArray:
    """Return the (V, …) counts of V images, 0 for those that a run has not seen."""
    counts = np.zeros((len(images), *run.counts.shape[1:]))
    counts[np.searchsorted(images, run.images)] = run.counts
    return counts


def _values(
    generator: np.random.Generator, counts: FloatArray, measure: Measure, draws: int, block: int
) -> FloatArray:
    """Return (draws,) values of the metric, each on other ones of the (U, …) counts."""
    sums, found = _in_blocks(counts, block), []
    for start in range(0, draws, _CHUNK):
        weights = _weights(generator, len(counts), min(_CHUNK, draws - start), block)
        found.append(measure((weights @ sums).reshape(len(weights), *counts.shape[1:])))
    return np.concatenate(found)


def _weights(generator: np.random.Generator, units: int, draws: int, block: int) -> FloatArray:
    """Return (draws, units): how often each unit, or the block that begins there, is drawn."""
    size = max(1, round(units / block))
    chosen = generator.integers(units, size=(draws, size)) + units * np.arange(draws)[:, None]
    found = np.bincount(chosen.ravel(), minlength=draws * units)
    return found.reshape(draws, units).astype(np.float64)


def _in_blocks(counts: FloatArray, block: int) -> FloatArray:
    """Return (U, F) counts of the block that begins at each unit; the end goes on at the start."""
    counts = counts.reshape(len(counts), -1)
    if block == 1:
        return counts
    around = np.concatenate([counts, counts[: block - 1]]).cumsum(0)
    around = np.concatenate([np.zeros_like(counts[:1]), around])
    blocks: FloatArray = around[block:] - around[:-block]
    return blocks


def _value(found: SamplingUnits) -> float:
    return float(found.measure(found.counts.sum(0)[None])[0])
