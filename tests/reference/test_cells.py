"""The statistics of whole columns against ``math.fsum`` and the same of one cell: equal bits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from dabench.board.statistics.cells import comparisons, exact_sum, gains, summaries
from dabench.board.statistics.seeds import compare, summarise

Floats = npt.NDArray[np.float64]
CELLS = 60


def equal(values: Floats, rng: np.random.Generator) -> Floats:
    return np.broadcast_to(values[:1], values.shape).copy()


def nearly_equal(values: Floats, rng: np.random.Generator) -> Floats:
    return np.full(values.shape, 1 / 3) + 1e-13 * rng.integers(-1, 2, values.shape)


def of_all_sizes(values: Floats, rng: np.random.Generator) -> Floats:
    return (values - 0.5) * 10.0 ** rng.integers(-30, 30, values.shape)


KINDS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "any": lambda values, rng: values,
    "short": lambda values, rng: np.round(values, 2),
    "equal": equal,
    "nearly-equal": nearly_equal,
    "of-all-sizes": of_all_sizes,
    "huge": lambda values, rng: values * 1e300,
}


def with_holes(kind: str, seeds: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    values = KINDS[kind](rng.random((seeds, CELLS)), rng)
    values[rng.random(values.shape) < 0.1] = math.nan
    return values


def by_seed(values: Floats) -> dict[int, float]:
    return {seed: value for seed, value in enumerate(values.tolist()) if not math.isnan(value)}


def without_none(values: object) -> list[object]:
    return [math.nan if value is None else value for value in values]  # type: ignore[attr-defined]


def gain(ours: Floats, source: Floats, bound: Floats, sign: float) -> float:
    seeds = sorted({*by_seed(ours)} & {*by_seed(source)} & {*by_seed(bound)})
    room = sign * math.fsum(float(bound[s] - source[s]) for s in seeds)
    won = sign * math.fsum(float(ours[s] - source[s]) for s in seeds)
    return won / room if room > 0 else math.nan


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_that_of_one_cell(kind: str, seeds: int) -> None:
    ours, theirs, bound = (with_holes(kind, seeds, seed) for seed in (0, 1, 2))
    sign = np.where(np.arange(CELLS) % 2, 1.0, -1.0)
    found, pairs = summaries(ours), comparisons(ours, theirs, sign)
    gained = gains(ours, theirs, bound, sign)
    for cell in range(CELLS):
        mine, its = by_seed(ours[:, cell]), by_seed(theirs[:, cell])
        if mine:
            expected = without_none(summarise(list(mine.values())))
            np.testing.assert_array_equal([part[cell] for part in found], expected)
        else:
            assert found.n[cell] == 0
            assert all(np.isnan(part[cell]) for part in found if part is not found.n)
        pair = compare(mine, its, higher_is_better=bool(sign[cell] > 0))
        if pair is None:
            assert pairs.verdict[cell] is None
            assert all(np.isnan(part[cell]) for part in pairs[:-1])
        else:
            numbers = without_none(pair[:-1])
            np.testing.assert_array_equal([part[cell] for part in pairs[:-1]], numbers)
            assert pairs.verdict[cell] == pair.verdict
        expected_gain = gain(ours[:, cell], theirs[:, cell], bound[:, cell], float(sign[cell]))
        np.testing.assert_array_equal(gained[cell], expected_gain)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_rounded_once(kind: str) -> None:
    values = with_holes(kind, 40, 3)
    expected = [math.fsum(by_seed(values[:, cell]).values()) for cell in range(CELLS)]
    assert exact_sum(values).tolist() == expected


def test_a_sum_that_no_addition_gets_right() -> None:
    values = np.array([[1.0], [2.0**-53], [2.0**-106], [-(2.0**-160)]])
    assert exact_sum(values).tolist() == [math.fsum(values[:, 0])] == [1 + 2.0**-52]
    assert exact_sum(np.zeros((0, 3))).tolist() == [0.0] * 3
