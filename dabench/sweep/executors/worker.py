"""One run, told nothing but its spec; and what a process of its own has to see to besides."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.signals import end_of, end_with_parent, terminable
from dabench.errors import DivergenceError, explain
from dabench.registry import primary_metric
from dabench.store.records import score_map


def run_in_worker(
    function: str, spec: RunSpec, settings: Settings, pipe: Connection, log: Path
) -> None:
    """Make a run and tell the parent: stages as they come, then how it ended.

    Args:
        function: ``module:name`` of what makes the run (``dabench.engine.run:execute``).
        spec: the run.
        settings: folders and switches.
        pipe: to the parent; messages are (kind, plain value).
        log: file that takes stdout and stderr.
    """
    try:
        with terminable():
            _detach(log)
            # the parent went away: nobody is left to tell, and the record is written
            with contextlib.suppress(BrokenPipeError):
                pipe.send(
                    ("ended", attempt(function, spec, settings, lambda *said: pipe.send(said)))
                )
    except KeyboardInterrupt as stop:
        sys.exit(end_of(stop)[1])
    finally:
        pipe.close()


def attempt(
    function: str, spec: RunSpec, settings: Settings, tell: Callable[[str, str], None]
) -> dict[str, Any]:
    """Make a run, and return how it ended: fields of ``Ended``.

    Args:
        function: ``module:name`` of what makes the run.
        spec: the run.
        settings: folders and switches.
        tell: is called with each stage and its identity.
    """
    try:
        found = resolve_name(function)(spec, settings, tell)
    except Exception as error:  # noqa: BLE001 - one run's failure, whatever it is, is reported
        text, bug = explain(error)
        diverged = isinstance(error, DivergenceError)
        told = traceback.format_exc()
        return {"error": text, "bug": bug, "diverged": diverged, "traceback": told}
    value = score_map(found.record).get(primary_metric(spec.protocol, spec.dataset))
    return {"run_id": found.run_id, "existed": found.existed, "value": value}


def _detach(log: Path) -> None:
    """Make this process quiet, deaf to Ctrl-C (which is the parent's), and mortal with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()
    from tqdm import tqdm

    # tqdm's own lock is a semaphore between processes, reported as leaked when this one is killed
    tqdm.set_lock(threading.RLock())
    end_with_parent()
