"""``dabench sweep``: the runs of a grid that have no record yet, several at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench import registry
from dabench.cli import engines
from dabench.cli.dotted import AXES, dotted_options
from dabench.cli.output import say
from dabench.contract.signals import end_of
from dabench.errors import ConfigError, DabenchError
from dabench.store.store import Store

if TYPE_CHECKING:
    from dabench.cli.engines import Engine
    from dabench.config.settings import Settings
    from dabench.sweep.executor import Executor
    from dabench.sweep.grid import Grid
    from dabench.sweep.loop import Tally
    from dabench.sweep.plan import SweepPlan

_OWN = ("command", "help", "grid", "workers", "dry_run", "shard", "order", *engines.NAMES, *AXES)


def sweep(args: argparse.Namespace, rest: list[str]) -> int:
    """Run what has no record; return 0, or 2 (1 where it was a bug) if a run failed.

    Args:
        args: what the parser of ``sweep`` found.
        rest: arguments that it does not know (``--method.NAME VALUE``).

    Raises:
        DabenchError: a grid or an option that does not fit; a results folder that cannot be used.
    """
    dotted = dotted_options(rest, "sweep")
    given = {key: value for key, value in vars(args).items() if key not in _OWN} | dotted
    if args.status:
        return engines.say_status(given)
    engine = engines.read_engine(args)
    workers = engines.worker_count(args.workers, engine)

    from dabench.cli import sweep_view
    from dabench.config.options import merge
    from dabench.config.settings import read_settings
    from dabench.config.switches import check_switches
    from dabench.sweep.grid import shard
    from dabench.sweep.plan import in_order, make_plan

    settings = read_settings(given)
    grid = _grid(args, given, workers, engine)
    if engine is not None:
        grid = engine.place(grid)
    if args.shard is not None:
        grid = shard(grid, args.shard)
    store = Store(settings.results, curves=False)  # a plan needs none, and the index is quick
    check_switches(merge(given), grid.specs)
    if settings.save_model:
        _check_models(grid)
    if engine is None:
        check_networks_of(grid)
    plan = make_plan(
        grid.specs,
        store,
        force=settings.force,
        models=settings.save_model,
        target_tuned=settings.target_tuned,
        resources=grid.resources,
    )
    plan = in_order(plan, args.order)
    # who is not told how much a cluster holds guesses for one run at a time
    sweep_view.say_plan(grid, plan, 1 if engine and args.workers is None else workers)
    if args.dry_run:
        sweep_view.list_jobs(plan)
        return 0
    if not plan.jobs:
        return 0
    store.check_writable()
    return run_plan(plan, settings, workers, lambda tally: sweep_view.say_end(tally, given), engine)


def make_executor(settings: Settings, workers: int) -> Executor:
    """Return who makes the runs: processes on this machine."""
    from dabench.sweep.executors.local import LocalExecutor

    return LocalExecutor(settings, workers)


def _grid(
    args: argparse.Namespace, given: Mapping[str, Any], workers: int, engine: Engine | None
) -> Grid:
    from dabench.config.hardware import available_cores
    from dabench.sweep import grid

    part = {field: _names(f"--{option}", getattr(args, option)) for option, field in AXES.items()}
    # what is here says nothing of where an engine's runs will be
    here, over = engine is None, given_ones(given)
    usual = {"threads": engine.cpus if engine else max(1, available_cores() // workers)}
    if args.grid is not None:
        path = Path(args.grid)
        if args.grid in registry.METHODS and not path.exists():
            raise ConfigError(
                f"'{args.grid}' is no grid, but a method; lists have commas: --methods source,shot"
            )
        over.pop("seeds", None)
        for field, names in part.items():
            grid.known_names(field, names or [])
        return grid.choose(
            grid.expand(grid.read(path), path.name, usual, over, here), part, given["seeds"]
        )
    if part["method"] is None:
        raise ConfigError(
            "dabench sweep needs GRID.yaml or --methods A,B; docs/sweeps.md shows both"
        )
    axes = {field: names for field, names in part.items() if names is not None}
    return grid.expand(axes, "", usual, over, here)


def _check_models(grid: Grid) -> None:
    """Refuse runs that leave no model, before the first one starts.

    Raises:
        ConfigError: names the first.
    """
    from dabench.source_models.kept_model import check_keeps

    for spec in grid.specs:
        check_keeps(spec, registry.method(spec.method))


def check_networks_of(grid: Grid) -> None:
    """Refuse networks and weight files that there are not, before the first run starts.

    Raises:
        DabenchError: names the first, and in a file the run that has it.
    """
    from dabench.source_models import checking
    from dabench.sweep.plan import Job

    fields = (
        *("protocol", "backbone", "weights", "source_backbone", "source_weights"),
        *("source_model", "source_checkpoint", "dataset", "source"),
    )
    for spec in {tuple(getattr(s, n) for n in fields): s for s in grid.specs}.values():
        try:
            checking.check_network_names(spec)
        except DabenchError as error:
            if not grid.name:
                raise
            raise ConfigError(f"grid {grid.name} ({Job(spec, '').name}): {error}") from None


def _names(option: str, text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"{option} '{text}': expected names with commas between")
    return names


def given_ones(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the command line gives."""
    return {
        key: value for key, value in options.items() if value is not None and value is not False
    }


def run_plan(
    plan: SweepPlan,
    settings: Settings,
    workers: int,
    end: Callable[[Tally], int],
    engine: Engine | None = None,
) -> int:
    """Make the runs, and show them as they end; ``end`` says what became of them.

    Args:
        plan: what is to do.
        settings: folders and switches.
        workers: runs at a time.
        end: called when all are over.
        engine: of a cluster; None = processes of this machine.

    Returns:
        What ``end`` returns; 130 or 143 after an interruption.
    """
    from dabench.cli.sweep_view import ProgressView
    from dabench.sweep.loop import Tally, run_jobs

    make = engine.executor if engine else make_executor
    executor, tally = make(settings, workers), Tally()
    view = ProgressView(plan.jobs, min(workers, executor.slots), live=settings.progress)
    try:
        run_jobs(plan.jobs, executor, Store(settings.results), view, tally)
    except KeyboardInterrupt as stop:
        view.close()
        executor.close()
        how, code = end_of(stop)
        left = len(plan.jobs) - len(tally.done) - len(tally.failed)
        say(
            f"{how}: {len(tally.done)} done, {len(tally.failed)} failed, {left} left; nothing "
            "half-written; the same command goes on from here (--resume: streams in the middle)",
            error=True,
        )
        return code
    finally:
        view.close()
        executor.close()
    return end(tally)
