"""``--devices N`` from the command line: the processes of a run end with it, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

#: a process of three levels imports torch three times
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run on two devices, as a group of its own."""
    command = [sys.executable, "-m", "dabench", "run", "--method", "source", "--devices", "2"]
    command += ["--device", "cpu", "--threads", "2", "--json", "--no-progress", *words]
    command += ["--results", str(folder / "results"), "--cache-dir", str(folder / "cache")]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, start_new_session=True, stdout=pipe, stderr=pipe, text=True)


def members(group: int) -> list[str]:
    """Return the state letters of a group's processes that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(state)
    return found


def wait_for(condition: Any, seconds: float = 100.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


@pytest.mark.parametrize("protocol", ["sf-uda", "bb-uda"])
def test_a_run_from_the_command_line(tmp_path: Path, protocol: str) -> None:
    """In bb-uda the sealed process, a daemon, has the devices' processes for children."""
    run = start(tmp_path, "--protocol", protocol, "--source-epochs", "2")
    out, err = run.communicate(timeout=500)
    assert run.returncode == 0, err
    assert "distributed" not in err
    record = json.loads(Path(json.loads(out)["record"]).read_text())
    assert record["spec"]["devices"] == 2
    assert json.loads(out)["scores"]["accuracy"] > 0.3
    assert wait_for(lambda: not members(run.pid))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_processes_end_with_the_run(tmp_path: Path, number: int, code: int) -> None:
    run = start(tmp_path, "--protocol", "sf-uda", "--source-epochs", "500")
    assert wait_for(lambda: len(members(run.pid)) >= 4, 200)
    time.sleep(5)
    os.kill(run.pid, number)
    run.communicate(timeout=200)
    assert run.returncode == code
    assert wait_for(lambda: not members(run.pid))
