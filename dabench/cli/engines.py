"""``dabench sweep --executor``: options of the engines of clusters, and what they mean for runs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dabench.cli.output import print_columns, say
from dabench.config.options import is_number
from dabench.errors import ConfigError, one_line, shown

if TYPE_CHECKING:
    from dabench.config.settings import Settings
    from dabench.config.spec import RunSpec
    from dabench.sweep.executor import Executor
    from dabench.sweep.grid import Grid

#: option -> the engines that know it, its default, help
_OPTIONS: dict[str, tuple[tuple[str, ...], str | None, str]] = {
    "address": (("ray",), "auto", "of the cluster: auto (that of this machine) or HOST:PORT"),
    "gpus-per-run": (("ray",), "0", "GPUs of a run; 0.5: two runs share one"),
    "cpus-per-run": (("ray", "slurm"), "1", "processor cores of a run, and its --threads"),
    "chunk": (("slurm",), "1", "runs that one task of an array makes, one after the other"),
    "partition": (("slurm",), None, "partition of the jobs; default the cluster's"),
    "time": (("slurm",), "60", "time limit of a task, as sbatch takes it: 90, 4:00:00, 1-00"),
    "gres": (("slurm",), None, "what a task needs besides, as sbatch takes it: gpu:1"),
}
#: what argparse calls them
NAMES = ("executor", "status", *(name.replace("-", "_") for name in _OPTIONS))
MOST_WORKERS = 1_024
_MODULES = {"ray": "ray", "slurm": "submitit"}
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class Engine:
    """The engine of a cluster, and what is asked of it.

    Attributes:
        kind: ray or slurm.
        options: those of the engine, by name.
        cpus: cores of a run.
        gpu: whether runs get one.
        workers: runs at a time where ``--workers`` is not given.
    """

    kind: str
    options: Mapping[str, str]
    cpus: int
    gpu: bool
    workers: int

    def place(self, grid: Grid) -> Grid:
        """Return the runs of a grid, whose devices are as they were given, on what they will find.

        Raises:
            ConfigError: they will have no such device.
        """
        specs: dict[str, RunSpec] = {}
        for given in grid.specs:
            spec = replace(given, device=self._device(grid, given))
            specs.setdefault(json.dumps(spec.to_dict(), sort_keys=True), spec)  # auto and cuda
        repeated = grid.repeated + len(grid.specs) - len(specs)
        return replace(grid, specs=tuple(specs.values()), repeated=repeated)

    def _device(self, grid: Grid, spec: RunSpec) -> str:
        gpu, head = self._has_gpu(grid, spec.method), f"grid {grid.name}: " if grid.name else ""
        if spec.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"{head}--device {shown(spec.device)}: runs on a cluster have auto, cpu or cuda"
            )
        if spec.device == "cuda" and not gpu:
            raise ConfigError(
                f"{head}--device cuda: ask for GPUs, too: --gres gpu:1, --gpus-per-run 1"
            )
        return spec.device if spec.device != "auto" else "cuda" if gpu else "cpu"

    def _has_gpu(self, grid: Grid, method: str) -> bool:
        asked = grid.resources.get(method)
        return self.gpu if asked is None or asked.gpus is None else asked.gpus > 0

    def executor(self, settings: Settings, workers: int) -> Executor:
        """Return who makes the runs.

        Raises:
            ConfigError: the engine cannot be reached.
        """
        options = self.options
        if self.kind == "ray":
            from dabench.sweep.executors import ray

            gpus = _gpus(options["gpus-per-run"])
            return ray.RayExecutor(
                settings, ray.Request(options["address"], self.cpus, gpus, workers)
            )
        from dabench.sweep.executors.chunk import Request
        from dabench.sweep.executors.slurm import SlurmExecutor

        if shutil.which("sbatch") is None:
            raise ConfigError(
                "--executor slurm: there is no sbatch on this machine; give the command on a "
                "login node of the cluster, or use --executor local"
            )
        request = Request(
            _whole("chunk", options["chunk"]),
            _minutes(options["time"]),
            self.cpus,
            options.get("partition"),
            options.get("gres"),
            workers,
        )
        return SlurmExecutor(settings, request)


def add_options(sweep: argparse.ArgumentParser) -> None:
    """Add the options of engines to ``dabench sweep``."""
    kinds = ("local", *_MODULES)
    text = "who makes the runs: processes of this machine (default), or a cluster's engine"
    sweep.add_argument("--executor", choices=kinds, default="local", help=text)
    for name, (engines, default, text) in _OPTIONS.items():
        ending = f"; default {default}" if default else ""
        kind = name.upper().replace("-", "_")
        sweep.add_argument(
            f"--{name}", metavar=kind, help=f"with {' or '.join(engines)}: {text}{ending}"
        )
    text = "say what runs of --executor slurm are queued, running, done and failed"
    sweep.add_argument("--status", action="store_true", help=text)


def read_engine(args: argparse.Namespace) -> Engine | None:
    """Return the engine that the command line asks for; None for processes of this machine.

    Raises:
        ConfigError: an option of another engine, a value that does not fit, an extra that is not
            installed.
    """
    kind = args.executor
    options = {name: getattr(args, name.replace("-", "_")) for name in _OPTIONS}
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if kind not in _OPTIONS[name][0]:
            raise ConfigError(f"--{name} is for --executor {' or '.join(_OPTIONS[name][0])}")
    if kind == "local":
        return None
    if importlib.util.find_spec(_MODULES[kind]) is None:
        raise ConfigError(
            f"--executor {kind} needs {_MODULES[kind]}; pip install 'dabench[{kind}]'"
        )
    defaults = {n: d for n, (kinds, d, _) in _OPTIONS.items() if kind in kinds and d is not None}
    options = {**defaults, **options}
    cpus = _whole("cpus-per-run", options["cpus-per-run"])
    if kind == "ray":
        return Engine(kind, options, cpus, _gpus(options["gpus-per-run"]) > 0, MOST_WORKERS)
    _whole("chunk", options["chunk"])
    _minutes(options["time"])
    return Engine(kind, options, cpus, "gpu" in options.get("gres", ""), 256)


def worker_count(text: str | None, engine: Engine | None = None) -> int:
    """Read ``--workers``; where it is not given, one process here, or what an engine may hold.

    Raises:
        ConfigError: no whole number in its range.
    """
    if text is None:
        return engine.workers if engine else 1
    if not (is_number(text, whole=True) and 0 < int(text) <= MOST_WORKERS):
        raise ConfigError(
            f"--workers {one_line(text, 60)}: expected a whole number from 1 to {MOST_WORKERS}"
        )
    return int(text)


def say_status(given: Mapping[str, Any]) -> int:
    """Print where the runs of array jobs stand, and where the output of each lies."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("--status needs submitit; pip install 'dabench[slurm]'")

    from dabench.config.settings import read_settings
    from dabench.sweep.executors.status import run_states

    states = run_states(read_settings(given).results)
    kinds = ("queued", "running", "done", "failed")
    counts = [f"{sum(state.kind == kind for state in states)} {kind}" for kind in kinds]
    say(", ".join(counts))
    print_columns(
        [
            [state.kind, state.name, f"job {state.job}", str(state.log or "")]
            for state in states
            if state.kind != "done"
        ]
    )
    return 0


def _whole(name: str, text: str) -> int:
    if not (is_number(text, whole=True) and 0 < int(text) <= 100_000):
        raise ConfigError(f"--{name} {shown(text)}: expected a whole number from 1")
    return int(text)


def _gpus(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}|0?\.\d{1,4}", text):
        raise ConfigError(f"--gpus-per-run {shown(text)}: expected a whole number, or a part of 1")
    return float(text)


def _minutes(text: str) -> int:
    """Read a time as sbatch does: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ConfigError(f"--time {shown(text)}: expected minutes, H:MM:SS or D-HH")
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1] is not None:
        seconds = 86_400 * days + 3_600 * first + 60 * second + third
    elif found[4] is not None:
        seconds = 3_600 * first + 60 * second + third
    else:
        seconds = 60 * first + second
    if seconds <= 0:
        raise ConfigError(f"--time {shown(text)}: expected more than nothing")
    return -(-seconds // 60)
