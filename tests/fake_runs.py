"""Stands in for ``engine.run:execute`` on the nodes of a cluster: the seed says what happens.

Without torch, and in a module of its own, which a fresh process finds on PYTHONPATH.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec, resolve
from dabench.errors import TrainingError
from dabench.store.identity import run_digest, versions_of
from dabench.store.store import Store
from dabench.sweep.plan import Job, make_plan

BAD, KILLED, NODE_GONE, WAITS = 6, 7, 8, 9
FUNCTION = "fake_runs:execute"
PRELOAD = ("dabench.sweep.executors.worker",)


class Silent:
    """Watches and says nothing."""

    def started(self, job: Job) -> None: ...
    def ended(self, end: Any) -> None: ...
    def tick(self) -> None: ...


def jobs_of(seeds: str, results: Path) -> tuple[Job, ...]:
    """Return the jobs that have no record."""
    words = {"method": "source", "protocol": "sf-osda", "device": "cpu", "threads": 1}
    specs = resolve(words | {"seeds": seeds, "source-seed": 0})
    (results.parent / "versions.json").write_text(json.dumps(versions_of(specs[0])))
    return make_plan(specs, Store(results)).jobs


def execute(spec: RunSpec, settings: Settings, notify: Callable[[str, str], None]) -> Any:
    """Write a record, or do what the seed stands for."""
    # to ask the method's class for its version would import torch
    home = Path(os.environ.get("FAKE_RUNS", settings.results.parent))
    versions = json.loads((home / "versions.json").read_text())
    parts = {"spec": spec.to_dict(), "versions": versions}
    parts["ids"] = {"data": "d", "stream": "t", "source": "s"}
    run_id = run_digest(*parts.values())
    notify("data", "d")
    notify("run", run_id)
    ray = sys.modules.get("ray")
    node = ray.get_runtime_context().get_node_id() if ray else ""
    (home / f"seen-{spec.seed}-{os.getpid()}").write_text(node)
    sys.stdout.write(f"seed {spec.seed}\n")
    sys.stdout.flush()
    if spec.seed == BAD:
        raise TrainingError("loss is nan")
    if spec.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.seed == NODE_GONE and not list(home.glob("node-*")):
        parent = multiprocessing.parent_process()
        assert parent is not None
        assert parent.pid is not None
        (home / "node-gone").touch()
        os.kill(parent.pid, signal.SIGKILL)
        time.sleep(600)
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    while spec.seed == WAITS and not (home / "go").exists():
        time.sleep(0.05)
    score = {"metric": "HOS", "value": 0.25, "n": 4, "segment": "all", "at": 0}
    record = {"run_id": run_id, **parts, "scores": [score], "cost": {"seconds": 1.0}}
    path = Store(settings.results).write(record)
    return SimpleNamespace(run_id=run_id, path=path, record=record, existed=False)
