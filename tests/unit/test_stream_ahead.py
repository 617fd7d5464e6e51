"""Batches that are made ahead of the step: the same ones, in order, and no more than asked for."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench import registry
from dabench.config.settings import read_settings
from dabench.contract.access import Budget, Recorder
from dabench.contract.protocol import Run
from dabench.protocols.streams.ahead import ahead


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_results_come_in_order(count: int) -> None:
    assert list(ahead(lambda step: step * step, range(3, 9), count)) == [9, 16, 25, 36, 49, 64]
    assert list(ahead(lambda step: step, range(0), count)) == []


def test_no_more_than_so_many_wait() -> None:
    begun: list[int] = []
    turns = threading.Semaphore(0)

    def make(step: int) -> int:
        begun.append(step)
        turns.release()
        return step

    made = ahead(make, range(10), 2)
    assert next(made) == 0
    for _ in range(3):  # the first, and two ahead
        assert turns.acquire(timeout=10)
    assert sorted(begun) == [0, 1, 2]
    assert next(made) == 1
    assert turns.acquire(timeout=10)
    assert sorted(begun) == [0, 1, 2, 3]
    made.close()
    assert sorted(begun) == [0, 1, 2, 3]


def test_nothing_is_made_ahead_unless_asked_for() -> None:
    begun: list[int] = []
    made = ahead(lambda step: begun.append(step), range(5), 0)
    next(made)
    assert begun == [0]


def test_an_error_comes_where_its_result_would() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("picture 2 is damaged")
        return step

    made = ahead(make, range(5), 3)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="picture 2"):
        next(made)


def test_the_threads_end_with_the_stream() -> None:
    before = threading.active_count()
    made = ahead(lambda step: step, range(100), 2)
    next(made)
    assert before < threading.active_count() <= before + 2
    made.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("protocol", ["continual-tta", "online-seg"])
def test_a_stream_is_the_same_to_the_bit(bench: Callable[[str], Any], protocol: str) -> None:
    tried = bench(protocol)
    run = Run("source", Budget(1, tried.batch_size), 0, "cpu", Recorder(), progress=False)
    build = registry.method("tent")
    outcomes = [
        tried.protocol.run(build, tried.plan, tried.start, dataclasses.replace(run, prefetch=count))
        for count in (0, 2)
    ]
    one, two = (outcome.arrays for outcome in outcomes)
    assert set(one) == set(two)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert outcomes[0].scores == outcomes[1].scores


def test_a_cpu_makes_none_ahead_unless_told(tmp_path: Path) -> None:
    usual = read_settings({"results": str(tmp_path)})
    assert (usual.prefetch_on("cpu"), usual.prefetch_on("cuda")) == (0, 2)
    told = read_settings({"results": str(tmp_path), "prefetch": 0})
    assert told.prefetch_on("cuda:1") == 0
    assert read_settings({"results": str(tmp_path), "prefetch": 5}).prefetch_on("cpu") == 5
