"""A tuning grid: trials of every method on development shifts, as many for one as for another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.conditions import SHIFT_OPTIONS, conditions, shared_conditions
from dabench.config.options import row_label
from dabench.config.signature import signature_options, validate_options
from dabench.config.spec import RunSpec, changed_options, protocol_defaults
from dabench.config.tuned import NETWORK_FIELDS
from dabench.errors import ConfigError, shown
from dabench.store.rows import options_text
from dabench.sweep import grid

#: what all trials share, since a file of chosen options is for one of each
_SETTING = ("protocol", "dataset", *NETWORK_FIELDS)
_EXAMPLE = "expected one name at the top of the grid, such as"


@dataclass(frozen=True)
class Trial:
    """One setting of a method's options.

    Attributes:
        method: label of the row, with ``+bn`` for that start.
        options: those that are not the defaults.
        specs: its runs, in the order of the tasks.
    """

    method: str
    options: dict[str, Any]
    specs: tuple[RunSpec, ...]

    @property
    def name(self) -> str:
        """Method and options as a person reads them."""
        return f"{self.method} {options_text(self.options)}".strip()


@dataclass(frozen=True)
class TuningGrid:
    """What is tried.

    Attributes:
        path: of the grid's file.
        grid: all runs.
        trials: label of a method -> its trials in the grid's order; equally many for each.
        development: what the trials show, as ``conditions`` names it.
        reported: what the chosen options are for; nothing of it is shown.
    """

    path: Path
    grid: grid.Grid
    trials: Mapping[str, Sequence[Trial]]
    development: frozenset[str]
    reported: frozenset[str]

    @property
    def spec(self) -> RunSpec:
        """A run; what a file of chosen options is for is equal in all."""
        return self.grid.specs[0]

    @property
    def count(self) -> int:
        """How many trials every method has."""
        return len(next(iter(self.trials.values())))


def read_tuning_grid(path: Path, usual: grid.Options, over: grid.Options) -> TuningGrid:
    """Read a tuning grid, and check that it is a fair one.

    Args:
        path: of the file.
        usual: options where the grid and the command line give none.
        over: options of the command line, laid over every block.

    Raises:
        ConfigError: as for every grid; several data sets or networks; more trials for one method
            than for another, or on other tasks; shifts that are also reported.
    """
    tree = grid.read(path)
    shifts, reported = tree.pop("shifts", None), tree.pop("reported", None)
    names = {n: over.get(n, tree.get(n)) for n in ("protocol", "dataset")}
    for name, value in names.items():
        if not isinstance(value, str):
            raise ConfigError(f"grid {path.name}: {name}: {_EXAMPLE} '{name}: ...'")
    protocol = registry.name_of("protocol", names["protocol"])
    dataset = registry.name_of("data set", names["dataset"])
    shown_by = _development(protocol, dataset, shifts, path.name)
    if shifts is not None and (twice := next((n for n in shown_by if _names(tree, n)), None)):
        raise ConfigError(
            f"grid {path.name}: shifts and {twice} say the same thing; leave one of them out"
        )
    tree = {**shown_by, **tree}
    found = grid.expand(tree, path.name, usual, over)
    _check_setting(found)
    trials = _trials(found)
    _check_counts(trials, path.name)
    shown_ones = frozenset().union(*(conditions(spec.to_dict()) for spec in found.specs))
    later, seeds = _reported(reported, found.specs[0], path)
    if both := shared_conditions(shown_ones, later):
        raise ConfigError(
            f"grid {path.name}: it would tune on {', '.join(both)}, which is reported; choose "
            "other shifts or tasks, or name what is reported: 'reported: OTHER.yaml'"
        )
    if same := sorted(seeds & {spec.seed for spec in found.specs}):
        raise ConfigError(
            f"grid {path.name}: seed {same[0]} is that of a run in {reported}, too; choose options "
            "on other seeds than those that are reported"
        )
    return TuningGrid(path, found, trials, shown_ones, later)


def _development(protocol: str, dataset: str, shifts: Any, name: str) -> dict[str, Any]:
    """Return the option that shows the development shifts (none for offline protocols)."""
    found = registry.protocol(protocol)
    own = {option.name for option in signature_options(found)}
    option = next((name for name in SHIFT_OPTIONS if name in own), None)
    if shifts is None:
        if option != "shifts":
            return {}
        files = "published-" in str(protocol_defaults(protocol, registry.dataset(dataset)))
        return {f"protocol.{option}": "published-extra" if files else "c-extra"}
    if option is None:
        raise ConfigError(
            f"grid {name}: shifts: {protocol} has no stream; name development tasks: "
            "'source: ...' and 'target: ...'"
        )
    listed = shifts if isinstance(shifts, list) else [shifts]
    if not listed or not all(isinstance(item, str) for item in listed):
        raise ConfigError(f"grid {name}: shifts {shown(shifts)}: expected names such as c-extra")
    # a stream of one kind of weather is a task; of several shifts one stream is made
    return {f"protocol.{option}": listed if option == "weather" else ",".join(listed)}


def _names(tree: Any, option: str) -> bool:
    """Whether a grid or a block of it gives an option; what is no grid is refused later."""
    if not isinstance(tree, Mapping):
        return False
    blocks = tree.get("blocks")
    inner = blocks if isinstance(blocks, list) else []
    return option in tree or any(_names(block, option) for block in inner)


def _check_setting(found: grid.Grid) -> None:
    for name in _SETTING:
        values = {str(getattr(spec, name)) for spec in found.specs}
        if len(values) > 1:
            raise ConfigError(
                f"grid {found.name}: {name}: {', '.join(sorted(values))}: options are chosen for "
                "one data set and one network; split the grid"
            )


def _trials(found: grid.Grid) -> dict[str, list[Trial]]:
    """Sort the runs by method and options; every trial is to run on the same tasks and seeds."""
    runs: dict[str, dict[str, dict[str, RunSpec]]] = {}
    tasks: dict[str, None] = {}
    for spec in found.specs:
        task = json.dumps(task_of(spec), sort_keys=True)
        tasks[task] = None
        key = json.dumps(spec.method_options, sort_keys=True)
        runs.setdefault(row_label(spec.method, spec.init), {}).setdefault(key, {})[task] = spec
    trials: dict[str, list[Trial]] = {}
    for label, by_options in runs.items():
        firsts = [next(iter(specs.values())) for specs in by_options.values()]
        # an option that a trial leaves at its default is named too where others change it
        names = {name for spec in firsts for name in changed_options(spec)}
        for first, specs in zip(firsts, by_options.values(), strict=True):
            options = {n: v for n, v in first.method_options.items() if n in names}
            trial = Trial(label, options, tuple(specs[task] for task in tasks if task in specs))
            if len(specs) < len(tasks):
                _check_threads(found, trial)
                raise ConfigError(
                    f"grid {found.name}: {trial.name} runs on {len(specs)} of {len(tasks)} tasks "
                    "and seeds; give every trial all of them"
                )
            trials.setdefault(label, []).append(trial)
    return trials


def _check_threads(found: grid.Grid, trial: Trial) -> None:
    """Refuse trials that differ in threads alone, as the cores of ``resources`` may have it."""
    tasks = {json.dumps({**task_of(spec), "threads": 0}, sort_keys=True) for spec in found.specs}
    if len(tasks) == len(trial.specs):
        threads = ", ".join(map(str, sorted({spec.threads for spec in found.specs})))
        raise ConfigError(
            f"grid {found.name}: its trials run with {threads} threads, which decide numbers; give "
            "'threads: N', the same for all of them"
        )


def task_of(spec: RunSpec) -> dict[str, Any]:
    """Return what of a spec is the same for all methods."""
    return {
        name: value
        for name, value in spec.to_dict().items()
        if name not in ("method", "method_options", "init")
    }


def _check_counts(trials: Mapping[str, Sequence[Trial]], name: str) -> None:
    counts = {label: len(found) for label, found in trials.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{label} {count}" for label, count in counts.items())
        raise ConfigError(
            f"grid {name}: every method is to have as many trials as the others; here they have: "
            f"{said}"
        )


def _reported(given: Any, spec: RunSpec, path: Path) -> tuple[frozenset[str], frozenset[int]]:
    """Return what will be reported: of a grid, with its seeds, or else what the protocol shows."""
    if given is None:
        found, data = registry.protocol(spec.protocol), registry.dataset(spec.dataset)
        # as for a run that names no option: a name of a task has those that a spec has
        options = validate_options(found, {**protocol_defaults(spec.protocol, data)}, "protocol")
        task = {n: v for n, v in getattr(data, "defaults", {}).items() if n in ("source", "target")}
        if not task and not options.keys() & set(SHIFT_OPTIONS):
            # a data set without a usual task: nobody knows what is reported
            return frozenset(), frozenset()
        shown_ones = conditions({**spec.to_dict(), **task, "protocol_options": options})
        return shown_ones, frozenset()
    if not isinstance(given, str):
        raise ConfigError(f"grid {path.name}: reported {shown(given)}: expected a grid's file")
    other = path.parent / given
    tree = _without_tuned(grid.read(other))
    later = grid.expand(tree, other.name, {}, {"device": "cpu"}).specs
    shown_ones = frozenset[str]().union(*(conditions(s.to_dict()) for s in later))
    return shown_ones, frozenset(s.seed for s in later)


def _without_tuned(tree: Any) -> Any:
    """Leave out of a grid's blocks what the file names that is about to be made."""
    if isinstance(tree, Mapping):
        return {key: _without_tuned(value) for key, value in tree.items() if key != "tuned"}
    return [_without_tuned(item) for item in tree] if isinstance(tree, list) else tree
