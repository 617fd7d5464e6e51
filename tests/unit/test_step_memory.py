"""The peak of memory of a stream's steps, without what came before them."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from dabench.engine import stream
from dabench.engine.setup.environment import resource_usage
from dabench.engine.stream import StepMemory

MANY = 192 * 2**20


def touch(size: int) -> None:
    """Hold so many bytes for a moment; they go back to the system."""
    with mmap.mmap(-1, size) as held:
        ctypes.memset((ctypes.c_char * size).from_buffer(held), 1, size)


@pytest.fixture
def memory() -> StepMemory:
    found = StepMemory("cpu")
    found.start()
    if not found.known:
        pytest.skip("this system resets no peak")
    return found


def test_what_came_before_is_forgotten_and_what_comes_counts(memory: StepMemory) -> None:
    touch(MANY)
    high = memory.cost()["step_memory_bytes"]
    memory.start()
    low = memory.cost()["step_memory_bytes"]
    assert high - low > 0.75 * MANY
    touch(MANY)
    assert memory.cost()["step_memory_bytes"] - low > 0.75 * MANY


def test_a_run_still_reports_its_whole_peak(memory: StepMemory) -> None:
    touch(MANY)
    before = resource_usage(1.0, "cpu")["peak_memory_bytes"]
    memory.start()
    assert memory.cost()["step_memory_bytes"] < before - 0.5 * MANY
    assert resource_usage(1.0, "cpu")["peak_memory_bytes"] >= before


def test_nothing_is_said_where_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert StepMemory("cpu").cost() == {}  # not started
    other = StepMemory("mps")
    other.start()
    assert other.cost() == {}
    monkeypatch.setattr(stream, "_CLEAR", tmp_path / "none" / "clear_refs")
    refused = StepMemory("cpu")
    refused.start()
    assert refused.cost() == {}


def test_a_reset_that_did_not_happen_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system may take the number and do nothing: then the peak is not the steps'."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t 900000 kB\nVmRSS:\t 300000 kB\n")
    monkeypatch.setattr(stream, "_CLEAR", tmp_path / "clear_refs")
    monkeypatch.setattr(stream, "_STATUS", status)
    found = StepMemory("cpu")
    found.start()
    assert found.cost() == {}
    status.write_text("Name:\tpython\nVmHWM:\t 300100 kB\nVmRSS:\t 300000 kB\n")
    found.start()
    assert found.cost() == {"step_memory_bytes": 300100 * 1024.0}
