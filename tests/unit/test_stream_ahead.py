"""Batches that are made ahead of the step: the same ones, in order, and no more than asked for."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ahead_work import Untold, killed_at_two, noted
from torch import Tensor

from dabench import registry
from dabench.config.settings import read_settings
from dabench.contract.access import Budget, Recorder
from dabench.contract.protocol import Resume, Run
from dabench.contract.signals import Terminated, terminable
from dabench.errors import DataError
from dabench.protocols.online_seg import OnlineSegmentation
from dabench.protocols.streams.ahead import Ahead, _packed

#: by a name that no other process can import
here = functools.partial(lambda step: step * step)


@pytest.fixture
def started() -> Iterator[Callable[..., Ahead[Any]]]:
    made: list[Ahead[Any]] = []

    def start(*given: Any) -> Ahead[Any]:
        made.append(Ahead(*given))
        return made[-1]

    yield start
    for ahead in made:
        ahead.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


def gone(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("count", [0, 3])
def test_results_come_in_order_from_any_step_on(started: Any, tmp_path: Path, count: int) -> None:
    ahead = started(functools.partial(noted, tmp_path), 9, count)
    assert [ahead.get(step) for step in range(3, 9)] == [9, 16, 25, 36, 49, 64]
    makers = {(tmp_path / str(step)).read_text() for step in range(3, 9)}
    assert begun(tmp_path) == [3, 4, 5, 6, 7, 8]
    assert (str(os.getpid()) in makers) == (count == 0)
    assert len(makers) == max(1, min(count, 6))


def test_no_more_than_so_many_are_ahead(started: Any, tmp_path: Path) -> None:
    ahead = started(functools.partial(noted, tmp_path), 10, 2)
    assert ahead.get(0) == 0
    until(lambda: begun(tmp_path) == [0, 1, 2])
    assert ahead.get(1) == 1
    until(lambda: begun(tmp_path) == [0, 1, 2, 3])
    time.sleep(0.2)
    makers = {path.read_text() for path in tmp_path.iterdir()}
    ahead.close()
    ahead.close()
    assert begun(tmp_path) == [0, 1, 2, 3]
    assert all(gone(pid) for pid in makers)


def test_nothing_is_made_ahead_unless_asked_for(started: Any, tmp_path: Path) -> None:
    ahead = started(functools.partial(noted, tmp_path), 5, 0)
    ahead.get(0)
    assert begun(tmp_path) == [0]


def test_an_error_comes_where_its_result_would(started: Any) -> None:
    ahead = started("ab".__getitem__, 5, 3)
    assert [ahead.get(0), ahead.get(1)] == ["a", "b"]
    with pytest.raises(IndexError) as caught:
        ahead.get(2)
    assert "in the process that makes pictures ahead" in caught.value.__notes__[0]


def test_a_process_that_is_killed_is_named(started: Any) -> None:
    ahead = started(killed_at_two, 9, 2)
    assert [ahead.get(0), ahead.get(1)] == [0, 1]
    with pytest.raises(DataError, match=r"step 2: .* exit code -9 \(killed.*--prefetch 0"):
        ahead.get(2)


@pytest.mark.parametrize("make", [here, Untold()])
def test_what_cannot_be_handed_over_is_made_here(
    started: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = started(make, 5, 2)
    with caplog.at_level(logging.WARNING, "dabench"):
        assert [ahead.get(step) for step in range(5)] == [make(step) for step in range(5)]
    (told,) = caplog.messages
    assert "cannot be handed to another process" in told


def test_no_process_outlives_a_run_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from functools import partial; from pathlib import Path\n"
        "sys.path.append(sys.argv[2])\n"
        "from ahead_work import noted\n"
        "from dabench.protocols.streams.ahead import Ahead\n"
        "Ahead(partial(noted, Path(sys.argv[1])), 9, 2).get(0); time.sleep(60)"
    )
    # as people write them: to import it a second time would begin it a second time
    (tmp_path / "plain.py").write_text(script)
    (tmp_path / "made").mkdir()
    words = [sys.executable, "plain.py", "made", str(Path(__file__).parents[1])]
    process = subprocess.Popen(words, cwd=tmp_path)
    until(lambda: len(begun(tmp_path / "made")) == 3)
    makers = {path.read_text() for path in (tmp_path / "made").iterdir()}
    process.kill()
    process.wait()
    assert len(makers) == 2
    until(lambda: all(gone(pid) for pid in makers))


def test_a_memory_map_is_handed_over_as_its_place(tmp_path: Path) -> None:
    whole = np.arange(4 * 10_000, dtype=np.uint8).reshape(4, 10_000)
    np.save(tmp_path / "a.npy", whole)
    found = np.load(tmp_path / "a.npy", mmap_mode="r")
    for part, wanted in ((found, whole), (found[1:3], whole[1:3]), (found[2:, :7], whole[2:, :7])):
        packed = _packed(part)
        assert np.array_equal(pickle.loads(packed), wanted)
        assert len(packed) < 1_000


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


def test_an_interrupted_stream_goes_on_bit_for_bit(dense: Any, tmp_path: Path) -> None:
    class Interrupted(dense.LateLearner):  # type: ignore[name-defined,misc]
        def step(self, batch: Any) -> Tensor:
            if int(batch.index[0]) == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            found: Tensor = super().step(batch)
            return found

    protocol, path = OnlineSegmentation(schedule="cycle"), tmp_path / "checkpoint.pt"
    with pytest.raises(Terminated), terminable():
        dense.run(Interrupted, protocol, resume=Resume(path, "a", 1000, False), prefetch=2)
    more = {"resume": Resume(path, "a", 1000, True), "prefetch": 2}
    resumed = dense.run(dense.LateLearner, protocol, **more)
    whole = dense.run(dense.LateLearner, protocol)
    assert resumed.scores == whole.scores
    assert all(np.array_equal(resumed.arrays[name], whole.arrays[name]) for name in whole.arrays)


def test_a_cpu_makes_none_ahead_unless_told(tmp_path: Path) -> None:
    usual = read_settings({"results": str(tmp_path)})
    assert (usual.prefetch_on("cpu"), usual.prefetch_on("cuda")) == (0, 2)
    told = read_settings({"results": str(tmp_path), "prefetch": 0})
    assert told.prefetch_on("cuda:1") == 0
    assert read_settings({"results": str(tmp_path), "prefetch": 5}).prefetch_on("cpu") == 5
