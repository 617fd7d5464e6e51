"""Folders in the system's temporary folder: gone with their command, and with a killed one's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dabench.store import scratch


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="nobody can ask for a process elsewhere")
def test_what_a_killed_command_left_goes(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead = process.pid
    old = time.time() - 2 * scratch.STALE
    names = {
        "gone": f"dabench-sweep-{dead}-aaaa",
        "gone too": f"dabench-reproduce-{dead}-aaaa",
        "fresh": f"dabench-sweep-{dead}-bbbb",
        "a file in it is fresh": f"dabench-sweep-{dead}-cccc",
        "alive": f"dabench-sweep-{os.getpid()}-aaaa",
        "of init": "dabench-sweep-1-aaaa",
        "something else": f"dabench-notes-{dead}-aaaa",
        "no number": "dabench-sweep-aaaa",
    }
    for what, name in names.items():
        (place / name).mkdir()
        (place / name / "log").write_text("words")
        for path in (place / name / "log", place / name):
            if what != "fresh" and (what, path.name) != ("a file in it is fresh", "log"):
                os.utime(path, (old, old))
    with scratch.scratch_folder("sweep") as folder:
        assert Path(folder).name.startswith(f"dabench-sweep-{os.getpid()}-")
        left = {what for what, name in names.items() if (place / name).exists()}
        assert left == set(names) - {"gone", "gone too"}
    assert not Path(folder).exists()
