"""A real ``kill -9`` in mid-stream, and ``--resume`` through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

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
    with np.load(path.with_suffix(".npz")) as arrays:
        return json.loads(path.read_text()), dict(arrays)


@pytest.mark.slow
def test_a_killed_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    subprocess.run(command(whole, cache), check=True, capture_output=True)
    process = subprocess.Popen(
        command(killed, cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not (found := list(killed.glob("runs/*/checkpoint.pt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
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
