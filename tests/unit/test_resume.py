"""What a killed stream goes on from; a real ``kill -9`` in mid-stream, and ``--resume``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dabench.contract.protocol import Resume
from dabench.errors import CacheError
from dabench.protocols.online_seg import OnlineSegmentation
from dabench.store.arrays import read_arrays
from dabench.store.reading import load_record

RUN = [
    *(sys.executable, "-m", "dabench", "run", "--method", "conda", "--dataset", "digits"),
    *("--source", "handwritten", "--target", "handwritten", "--protocol.weather", "fog"),
    *("--source-epochs", "2", "--batch-size", "16", "--checkpoint-every", "7", "--threads", "1"),
    *("--no-progress", "--method.per_class", "2"),
]


def command(results: Path, cache: Path, *more: str) -> list[str]:
    """Return a run's words."""
    return [*RUN, "--results", str(results), "--cache-dir", str(cache), *more]


def record(results: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Return the one record in a store, and its predictions."""
    (path,) = (results / "records" / "gradual-weather" / "digits").glob("*.json")
    return load_record(path), read_arrays(path.with_suffix(".npz"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGKILL, -9, ""), (signal.SIGTERM, 143, "the same command with --resume goes on")],
)
def test_a_killed_process_resumes_bit_for_bit(
    tmp_path: Path, number: int, code: int, said: str
) -> None:
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    subprocess.run(command(whole, cache), check=True, capture_output=True)
    process = subprocess.Popen(
        command(killed, cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not (found := list(killed.glob("runs/*/checkpoint.pt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert said in process.communicate()[1]
    assert process.returncode == code
    assert found[0].is_file()
    assert not list(killed.glob("records/**/*.json"))
    subprocess.run(command(killed, cache, "--resume"), check=True, capture_output=True)
    (one, its), (two, theirs) = record(killed), record(whole)
    assert one["run_id"] == two["run_id"]
    assert one["scores"] == two["scores"]
    assert one["curves"] == two["curves"]
    assert its.keys() == theirs.keys()
    assert all((its[key] == theirs[key]).all() for key in its)
    assert not found[0].exists()


@pytest.mark.slow
def test_a_killed_stream_of_frames_resumes_bit_for_bit(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "dense_stream.py"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    whole.mkdir()
    subprocess.run([sys.executable, script, whole], check=True, capture_output=True)
    process = subprocess.Popen([sys.executable, script, killed], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (found := list(killed.glob("checkpoint.pt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1)  # beyond the first segment
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert found[0].is_file()
    assert not (killed / "result.json").exists()
    resume = [sys.executable, script, killed, "--resume"]
    told = subprocess.run(resume, check=True, capture_output=True, text=True)
    assert told.stderr == ""
    one, two = (json.loads((f / "result.json").read_text()) for f in (killed, whole))
    assert one == two
    pictures = sorted(path.name for path in (whole / "report").iterdir())
    assert len(pictures) == 12
    for name in pictures:
        assert (killed / "report" / name).read_bytes() == (whole / "report" / name).read_bytes()


class Killed(Exception):
    """Stands for kill -9."""


CYCLE = OnlineSegmentation(schedule="cycle")


@pytest.fixture
def stream(dense: Any, tmp_path: Path) -> Any:
    """Return what runs along a stream of 27 frames, with a checkpoint every third."""

    def run(wanted: bool = False, every: int = 3) -> Any:
        where = Resume(tmp_path / "checkpoint.pt", "a", every, wanted)
        return dense.run(dense.Learner, CYCLE, resume=where)

    return run


@pytest.fixture(scope="module")
def whole(dense: Any) -> Any:
    """Return the outcome that nobody disturbed."""
    return dense.run(dense.Learner, CYCLE)


def same(one: Any, two: Any) -> bool:
    """Return whether two outcomes agree bit for bit."""
    arrays = all(np.array_equal(one.arrays[key], two.arrays[key]) for key in two.arrays)
    return arrays and one.scores == two.scores and one.curves == two.curves


def kill(patch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let ``os.replace`` or ``torch.save`` kill the process that calls it for the n-th time."""
    place: Any = os if name == "replace" else torch
    inner, calls = getattr(place, name), [0]

    def mortal(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return inner(*given)

    patch.setattr(place, name, mortal)


@pytest.mark.parametrize(("name", "call"), [("save", 9), ("save", 10), ("replace", 5)])
def test_a_run_killed_while_it_saves_goes_on_bit_for_bit(
    name: str, call: int, whole: Any, stream: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    """The fifth time: before the journal, before the state, and before the state is renamed."""
    with monkeypatch.context() as patch:
        kill(patch, name, call)
        with pytest.raises(Killed):
            stream()
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["progress"]["steps"] == 12
    ahead = (tmp_path / "checkpoint.journal").stat().st_size - kept["journal"]["bytes"]
    assert (ahead > 0) == (call != 9)
    torch.manual_seed(99)
    with monkeypatch.context() as patch:  # and once more, further on
        kill(patch, "replace", 3)
        with pytest.raises(Killed):
            stream(wanted=True, every=5)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["steps"] == 20
    assert same(stream(wanted=True), whole)


def test_a_run_afresh_leaves_no_state_without_its_journal(
    whole: Any, stream: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"of an earlier run")
    with monkeypatch.context() as patch:
        kill(patch, "replace", 1)
        with pytest.raises(Killed):
            stream()
    assert not (tmp_path / "checkpoint.pt").exists()
    assert same(stream(wanted=True), whole)


def test_a_checkpoint_writes_what_is_new(
    stream: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes: list[tuple[int, int]] = []
    replace = os.replace

    def noting(draft: Path, path: Path) -> None:
        replace(draft, path)
        sizes.append((path.stat().st_size, path.with_suffix(".journal").stat().st_size))

    monkeypatch.setattr(os, "replace", noting)
    stream()
    state, journal = np.array(sizes).T
    assert len(sizes) == 9
    assert state.max() - state.min() < 200  # it does not grow
    assert np.diff(journal).max() - np.diff(journal).min() < 200  # it grows in proportion


def damage(path: Path, fault: str) -> None:
    """Spoil a checkpoint."""
    journal = path.with_suffix(".journal")
    if fault == "no journal":
        journal.unlink()
    elif fault == "short journal":
        journal.write_bytes(journal.read_bytes()[:-1])
    elif fault == "changed journal":
        journal.write_bytes(journal.read_bytes()[:-1] + b"x")
    elif fault == "empty":
        path.write_bytes(b"")
    else:
        state = torch.load(path, weights_only=True)
        if fault == "too far":
            state["progress"]["steps"] = 1000
        elif fault in ("format", "torch"):
            state[fault] = 1
        else:
            del state[fault]
        torch.save(state, path)


FAULTS = (
    *("no journal", "short journal", "changed journal", "empty", "too far", "format", "torch"),
    *("journal", "rng", "cost", "progress", "method"),
)


def test_a_damaged_checkpoint_is_one_line(dense: Any, tmp_path: Path) -> None:
    dense.run(dense.Learner, CYCLE, resume=Resume(tmp_path / "whole/checkpoint.pt", "a", 9, False))
    for fault in FAULTS:
        folder = shutil.copytree(tmp_path / "whole", tmp_path / fault)
        damage(folder / "checkpoint.pt", fault)
        with pytest.raises(CacheError, match="start afresh without --resume") as error:
            dense.run(dense.Learner, CYCLE, resume=Resume(folder / "checkpoint.pt", "a", 9, True))
        assert "\n" not in str(error.value)
        assert str(folder / "checkpoint.") in str(error.value)
