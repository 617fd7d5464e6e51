"""A function in a process a device, by Lightning Fabric's DDP: started, listened to, ended."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.queues import SimpleQueue

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from dabench.contract.signals import end_with_parent
from dabench.errors import ConfigError, DabenchError, TrainingError

#: what says in the environment where processes meet, which other programs set, too
_MEETING = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE")


def launch(function: Callable[[Fabric], None], kind: str, devices: int) -> None:
    """Call a function in a spawned process for each device, and leave none behind.

    Args:
        function: importable, or a partial of such; all that it holds can be pickled.
        kind: ``cuda`` or ``cpu``.
        devices: how many.

    Raises:
        ConfigError: called in a notebook.
        DabenchError: whatever the function raised first, on any device.
        TrainingError: a process was killed.
    """
    with _meeting_place():
        _run(_fabric(kind, devices), function, devices)


def _run(fabric: Fabric, function: Callable[[Fabric], None], devices: int) -> None:
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    others, here = set(multiprocessing.active_children()), multiprocessing.current_process()
    # a sealed source model is made in a daemon, which may have no children otherwise
    daemon, here.daemon = here.daemon, False
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        # not as arguments of ``launch``, which looks for networks in them and takes no frozen class
        fabric.launch(partial(_call, function=function, errors=errors))
    except (ProcessRaisedException, ProcessExitedException) as error:
        if not errors.empty():
            raise errors.get() from None
        if isinstance(error, ProcessRaisedException):
            raise
        raise TrainingError(
            f"training on {devices} devices: {error}; what it printed stands above (memory may "
            "have run out; a script of yours needs \"if __name__ == '__main__':\")"
        ) from error
    finally:
        here.daemon = daemon
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
            child.join()


def _call(
    fabric: Fabric, function: Callable[[Fabric], None], errors: SimpleQueue[Exception]
) -> None:
    """Run in a process; what is raised first counts: it ends the others' connections."""
    try:
        function(fabric)
    except torch.OutOfMemoryError as error:
        errors.put(MemoryError(str(error)))
        raise
    except Exception as error:
        known = isinstance(error, DabenchError | MemoryError)
        errors.put(error if known else RuntimeError(traceback.format_exc()[-4_000:]))
        raise


class _Spawned(DDPStrategy):
    """DDP in processes that are quiet, and that end with the one that started them."""

    def setup_environment(self) -> None:
        os.dup2(2, 1)  # with --json the parent's stdout is for its JSON alone
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent()
        super().setup_environment()


def _fabric(kind: str, devices: int) -> Fabric:
    # named, or a scheduler's variables would be taken for the processes that there are
    here = LightningEnvironment()
    try:
        return Fabric(
            accelerator=kind,
            devices=devices,
            strategy=_Spawned(start_method="spawn"),
            plugins=[here],
        )
    except RuntimeError as error:  # a notebook, whose programs Lightning spawns no processes for
        raise ConfigError(f"--devices {devices}: {error}; use 'dabench run' in a shell") from error


@contextlib.contextmanager
def _meeting_place() -> Iterator[None]:
    """Let the processes meet on a free port of this machine, whatever the environment says."""
    before = {name: os.environ.pop(name) for name in _MEETING if name in os.environ}
    try:
        yield
    finally:
        for name in _MEETING:
            os.environ.pop(name, None)
        os.environ.update(before)
