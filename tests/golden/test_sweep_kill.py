"""A sweep that is killed five times ends with the table of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dabench.cli.main import main
from dabench.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
ROOT = Path(__file__).parents[2]
GRID = """
protocol: sf-uda
source-epochs: 1
epochs: 1
seeds: 0-2
device: cpu
threads: 1
blocks:
  - method: source
  - method: shot
    method.im_weight: [1.0, 0.5]
"""
RUNS = 9
KILLS = 5


def launch(folder: Path) -> subprocess.Popen[bytes]:
    """Start the sweep, with results and cache of its own, in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "grid.yaml").write_text(GRID)
    words = ["sweep", "grid.yaml", "--workers", "2", "--no-progress", "--cache-dir", "cache"]
    return subprocess.Popen(
        [sys.executable, "-m", "dabench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def records(folder: Path) -> dict[str, Any]:
    """Return the finished runs by id, without what they cost and the name of the file beside them.

    A worker outlives its killed sweep and ends its run, which the next sweep may have begun too:
    the second to write finds the name taken. What the file holds is compared by its checksum.
    """
    store = Store(folder / "results")
    found = {record["run_id"]: record for _, record in store.all()}
    assert not store.problems
    for record in found.values():
        for part in ("cost", "source_model", "checksum", "predictions"):
            record.pop(part)
    return found


def table(folder: Path) -> pd.DataFrame:
    """Return the leaderboard, without the columns of cost."""
    path = folder / "table.csv"
    assert main(["leaderboard", "--results", str(folder / "results"), "--csv", str(path)]) == 0
    frame = pd.read_csv(path)
    return frame[[name for name in frame if not re.search("second|memory", str(name))]]


def on_disk(folder: Path) -> int:
    """Return how many runs have a record by now."""
    return len(list((folder / "results").glob("records/**/*.json")))


def kill_after(folder: Path, more: int, rest: float) -> int:
    """Start the sweep, kill it ``rest`` seconds after ``more`` further records came."""
    process, goal = launch(folder), min(on_disk(folder) + more, RUNS)
    while on_disk(folder) < goal and process.poll() is None:
        time.sleep(0.05)
    time.sleep(rest)
    process.kill()
    process.wait()
    return len(records(folder))


def test_killed_five_times_at_random(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    start = time.monotonic()
    assert launch(calm).wait() == 0
    whole = time.monotonic() - start
    wanted = records(calm)
    assert len(wanted) == RUNS

    # Counted in records, not in seconds of the calm sweep: by the clock alone, a machine that got
    # busier meanwhile has every kill before the first record.
    draw = random.Random()
    seen = [
        kill_after(rough, more, draw.uniform(0, whole / RUNS))
        for more in draw.sample([0, 0, 1, 1, 2], KILLS)
    ]
    assert any(0 < count < RUNS for count in seen), f"no kill came in the middle: {seen}"
    assert launch(rough).wait() == 0
    assert records(rough) == wanted, f"after the kills there were {seen} runs"
    pd.testing.assert_frame_equal(table(rough), table(calm))
    assert not list((rough / "results").glob("records/**/*.failed.json"))
