"""Options of the commands that make many runs: ``dabench sweep`` and ``dabench tune``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from dabench.cli import engines
from dabench.cli.dotted import AXES, SWEPT, TUNED
from dabench.config.options import FLAGS, OPTIONS


def add_sweep_options(sweep: argparse.ArgumentParser) -> None:
    """Add what ``dabench sweep`` knows."""
    sweep.add_argument("grid", metavar="GRID.yaml", nargs="?", help="docs/sweeps.md has its form")
    for name in AXES:
        text = f"{name} with commas between; with a grid: only its runs with these"
        sweep.add_argument(f"--{name}", dest=name, metavar="A,B", help=text)
    only = {"seeds": "; with a grid: only its runs with these"}
    _add_many_runs(
        sweep, SWEPT, ("force", "resume", "save-model", "target-tuned", "no-progress"), only
    )
    engines.add_options(sweep)
    text = "what begins first: as the grid stands (default), or by the time of earlier runs"
    sweep.add_argument(
        "--order", choices=("grid", "cheapest", "longest"), default="grid", help=text
    )
    text = "the K-th of N parts of the runs: equal commands but for K share the grid's work"
    sweep.add_argument("--shard", metavar="K/N", help=text)
    sweep.epilog = (
        "Options are those of 'run', laid over the grid's: --epochs 2, --method.lr 1e-3. "
        "A run that has a record is not run again; the same command goes on after an interruption."
    )


def add_tune_options(tune: argparse.ArgumentParser) -> None:
    """Add what ``dabench tune`` knows."""
    tune.add_argument("grid", metavar="GRID.yaml", help="docs/tuning.md has its form")
    text = "of the file RESULTS/tuned/NAME.yaml; default that of the grid"
    tune.add_argument("--name", metavar="NAME", help=text)
    _add_many_runs(tune, TUNED, ("force", "resume", "no-progress"), {})
    tune.epilog = (
        "Options are those of 'run', laid over the grid's. A trial that has a record is not run "
        "again; the same command goes on after an interruption."
    )


def _add_many_runs(
    parser: argparse.ArgumentParser,
    names: Iterable[str],
    flags: Iterable[str],
    more: dict[str, str],
) -> None:
    """Add what all commands of many runs know; ``more`` ends the help of an option."""
    for name in names:
        text = OPTIONS[name][2].replace("default all that are available", "default cores / workers")
        kind = name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", dest=name, metavar=kind, help=text + more.get(name, ""))
    parser.add_argument("--workers", metavar="N", help="runs at a time; default 1")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs and how long they take"
    )
    for name in flags:
        parser.add_argument(f"--{name}", dest=name, action="store_true", help=FLAGS[name])
