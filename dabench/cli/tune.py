"""``dabench tune``: options chosen on development shifts, with as many trials for every method."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.cli import sweep
from dabench.cli.dotted import dotted_options
from dabench.cli.engines import worker_count
from dabench.cli.output import number, print_columns, say
from dabench.errors import ConfigError, shown
from dabench.store.store import Store

if TYPE_CHECKING:
    from dabench.sweep.loop import Tally
    from dabench.sweep.tuning import TuningGrid

_OWN = ("command", "help", "grid", "workers", "dry_run", "name")
#: options that are no part of the command in the file: they change no number
_ELSEWHERE = (
    *("results", "data-root", "cache-dir", "prefetch"),
    *("no-progress", "force", "resume", "debug"),
)


def tune(args: argparse.Namespace, rest: list[str]) -> int:
    """Run the trials that have no record, and write what was chosen; return the exit code.

    Args:
        args: what the parser of ``tune`` found.
        rest: arguments that it does not know (``--method.NAME VALUE``).

    Raises:
        DabenchError: a grid that does not fit or is not fair; a folder that cannot be used.
    """
    dotted = dotted_options(rest, "tune")
    given = {key: value for key, value in vars(args).items() if key not in _OWN} | dotted
    workers = worker_count(args.workers)
    from dabench.cli.sweep_view import list_jobs, say_time
    from dabench.config.hardware import available_cores
    from dabench.config.options import merge
    from dabench.config.settings import read_settings
    from dabench.config.switches import check_switches
    from dabench.sweep.plan import make_plan
    from dabench.sweep.tuning import read_tuning_grid

    settings = read_settings(given)
    usual = {"threads": max(1, available_cores() // workers)}
    over = sweep.given_ones(given)
    tuning = read_tuning_grid(Path(args.grid), usual, over)
    file = settings.results / "tuned" / f"{_name(args.name or tuning.path.stem)}.yaml"
    _check_free(file, tuning)
    check_switches(merge(given), tuning.grid.specs)
    sweep.check_networks_of(tuning.grid)
    # trials are no results: a folder of their own keeps them out of tables and ranks
    trials = replace(settings, results=file.parent / "trials")
    resources = tuning.grid.resources
    plan = make_plan(
        tuning.grid.specs, Store(trials.results), force=settings.force, resources=resources
    )
    _say_what(tuning, plan.done, len(plan.jobs))
    for problem in plan.problems:
        say(f"warning: {problem}", error=True)
    say_time(plan, workers)
    if args.dry_run:
        list_jobs(plan)
        return 0
    Store(settings.results).check_writable()
    file.parent.mkdir(exist_ok=True)
    words = ["dabench", "tune", args.grid]
    words += ["--name", args.name] if args.name else []
    words += [w for k, v in over.items() if k not in _ELSEWHERE for w in (f"--{k}", str(v))]

    def end(tally: Tally) -> int:
        places = {**given, "results": trials.results}
        return _end(tally, tuning, places, file, shlex.join(words))

    if not plan.jobs:
        from dabench.sweep.loop import Tally

        return end(Tally())
    return sweep.run_plan(plan, trials, workers, end)


def _name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,99}", text):
        raise ConfigError(f"--name {shown(text)}: expected a word of letters, digits, - and _")
    return text


def _check_free(file: Path, tuning: TuningGrid) -> None:
    """Refuse to overwrite what was chosen for another data set or network."""
    from dabench.config.tuned import network_of, read_tuned

    if not file.exists():
        return
    there, spec = read_tuned(file), tuning.spec
    same = there.dataset == spec.dataset and there.protocol == spec.protocol
    if not same or there.network != network_of(spec.to_dict(), there.files):
        said = " ".join(there.network.values())
        raise ConfigError(
            f"{file} is of {there.protocol} on {there.dataset} with {said}; give another --name"
        )


def _say_what(tuning: TuningGrid, done: int, left: int) -> None:
    methods = f"{len(tuning.trials)} methods with {tuning.count} trials each"
    say(f"{tuning.path.name}: {methods}, {len(tuning.grid.specs)} runs; {done} done, {left} to do")
    say(f"development: {', '.join(sorted(tuning.development))}")
    say(f"reported later: {', '.join(sorted(tuning.reported))}")


def _end(
    tally: Tally, tuning: TuningGrid, places: Mapping[str, Any], file: Path, command: str
) -> int:
    """Write the file where all trials are there; one that diverged is a trial without a score."""
    from dabench.cli.sweep_view import say_failed
    from dabench.sweep.tuned_file import spec_key, tuned_content, write_tuned

    if broken := [end for end in tally.failed if not end.diverged]:
        code = say_failed(broken, places)
        say(f"{len(broken)} trials failed; nothing is chosen before all are there", error=True)
        return code
    failed = {spec_key(end.job.spec): str(end.error) for end in tally.failed}
    spec = tuning.spec
    store = Store(places["results"])
    records = [record for _, record in store.all(spec.protocol, spec.dataset)]
    content = tuned_content(tuning, records, failed, command)
    write_tuned(file, content)
    _show(content)
    say(f"written: {file}; 'dabench run --tuned {file}' reads it")
    return 0


def _show(content: Mapping[str, Any]) -> None:
    """Print the choice of every method, and what a reader should doubt."""
    from dabench.store.rows import options_text
    from dabench.sweep.tuned_file import at_edge

    rows = [["method", "chosen", content["metric"], ""]]
    for label, found in content["methods"].items():
        edge = [f"{name} at the edge of the grid" for name in at_edge(found)]
        lost = sum(point["score"] is None for point in found["curve"])
        remarks = [*edge, *([f"{lost} without a score"] if lost else [])]
        chosen = options_text(found["options"]) or "the defaults"
        rows.append([label, chosen, number(found["score"]), "; ".join(remarks)])
    print_columns(rows)
