"""Grids: the options of ``dabench run`` in which a list is an axis -> full specs.

A grid is a mapping of options, with further mappings under ``blocks`` that are laid over it, and
so on. A block without blocks gives the product of its lists.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.options import FLAGS, OPTIONS, parse_seeds
from dabench.config.own_model import check_one_name
from dabench.config.spec import RunSpec, resolve
from dabench.errors import ConfigError, DabenchError, did_you_mean, shown
from dabench.sweep.resources import Resources, read_resources

#: options that decide no number: they belong to the command, not to a grid
_OF_ONE_RUN = ("checkpoint-every", "prefetch")
_NOT_IN_GRIDS = {*FLAGS, "results", "data-root", "cache-dir", "oracle-url", *_OF_ONE_RUN}
_KNOWN = [*(name for name in OPTIONS if name not in _NOT_IN_GRIDS), "blocks"]
_SEEDS = ("seed", "seeds")
#: a sweep of more is refused: all its runs are held in memory and checked before the first starts
MOST_RUNS = 100_000
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """The runs of a grid.

    Attributes:
        name: of the file; empty for one of the command line's options.
        budget: the label that the file gives itself, such as "smoke"; it reaches no record.
        specs: one a run, each once.
        repeated: how many further times runs were listed.
        resources: what runs of a method need; like the budget it reaches no record.
    """

    name: str
    budget: str | None
    specs: tuple[RunSpec, ...]
    repeated: int = 0
    resources: Mapping[str, Resources] = field(default_factory=dict)


def read(path: Path) -> dict[str, Any]:
    """Read a grid file.

    Raises:
        ConfigError: missing, not YAML, or no mapping.
    """
    from dabench.config.yaml_file import read_mapping

    example = "method: [source, shot]"
    found = read_mapping(path, "grid", example)
    if found is None:
        raise ConfigError(f"grid {path}: it is empty; expected lines like '{example}'")
    return found


def expand(tree: Options, name: str, usual: Options, over: Options, here: bool = True) -> Grid:
    """Return the runs of a grid.

    Args:
        tree: the grid.
        name: of its file, for messages.
        usual: options where the grid and the command line give none.
        over: options of the command line, laid over every block.
        here: as in ``resolve``.

    Raises:
        ConfigError: an unknown key or name, an empty axis, a combination that does not fit; the
            message names the block.
    """
    top = dict(tree)
    budget = top.pop("budget", None)
    where = f"grid {name}" if name else ""
    if budget is not None and not isinstance(budget, str):
        raise ConfigError(f"{where}: budget {shown(budget)}: expected a word such as smoke")
    resources = read_resources(top.pop("resources"), where) if "resources" in top else {}
    found: dict[str, RunSpec] = {}
    models: dict[str, registry.Plugin] = {}
    count = 0
    for place, options in _leaves(top, {}, where, ""):
        for spec in _product(options, place, usual, over, resources, here):
            count += 1
            if count > MOST_RUNS:
                raise ConfigError(
                    f"{place or 'the options'}: more than {MOST_RUNS} runs in one sweep; split it"
                )
            check_one_name(spec.plugins, models, place or "the options")
            found.setdefault(json.dumps(spec.to_dict(), sort_keys=True), spec)
    if not found:
        raise ConfigError(
            f"{where or 'the options'}: source and target are the same in every run, and a domain "
            "is never its own target; give another one"
        )
    return Grid(name, budget, tuple(found.values()), count - len(found), resources)


def choose(grid: Grid, part: Mapping[str, Sequence[str] | None], seeds: Any = None) -> Grid:
    """Return the runs of a grid with one of the given names and seeds (None = all).

    Args:
        grid: all runs.
        part: "method", "protocol" or "dataset" -> names.
        seeds: ``0-2`` or ``0,1``.

    Raises:
        ConfigError: an unknown name, one that the grid lacks, or no run is left.
    """
    kept = list(grid.specs)
    for axis, names in part.items():
        if names is not None:
            wanted_names = known_names(axis, names)
            there = {getattr(spec, axis) for spec in grid.specs}
            if lacking := [name for name in wanted_names if name not in there]:
                raise ConfigError(f"--{axis}s: not in grid {grid.name}: {', '.join(lacking)}")
            kept = [spec for spec in kept if getattr(spec, axis) in wanted_names]
    if seeds is not None:
        wanted = parse_seeds(seeds)
        kept = [spec for spec in kept if spec.seed in wanted]
    if not kept:
        given = [f"--{axis}s {','.join(names)}" for axis, names in part.items() if names]
        given += [] if seeds is None else [f"--seeds {seeds}"]
        raise ConfigError(f"grid {grid.name}: no run with {' '.join(given)}; leave one of them out")
    return replace(grid, specs=tuple(kept))


def shard(grid: Grid, text: str) -> Grid:
    """Return the part ``k/n`` of a grid: every n-th of its runs, from the k-th on.

    All parts together are the grid, no two share a run, and records change nothing.

    Raises:
        ConfigError: no such part, or there are fewer runs than parts.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise ConfigError(f"--shard {shown(text)}: expected K/N with K from 1 to N, such as 1/4")
    first, parts = int(found[1]), int(found[2])
    if parts > len(grid.specs):
        raise ConfigError(
            f"--shard {text}: the grid has {len(grid.specs)} runs; ask for fewer parts"
        )
    return replace(grid, specs=grid.specs[first - 1 :: parts])


def known_names(field: str, names: Sequence[str]) -> list[str]:
    """Return the names under which tables know methods, protocols or data sets.

    Raises:
        ConfigError: the registry lacks one, and it is no class that can be imported.
    """
    kind = "data set" if field == "dataset" else field
    return [registry.name_of(kind, name) for name in names]


def _leaves(
    tree: Any, above: Options, where: str, number: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and options of every block without blocks, those of its parents filled in."""
    place = f"{where}, block {number}" if number else where
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{place}: expected options such as 'method: [source, shot]'")
    own = {key: value for key, value in tree.items() if key != "blocks"}
    for key, value in own.items():
        _check(key, value, place)
    kept = {k: v for k, v in above.items() if not (k in _SEEDS and own.keys() & set(_SEEDS))}
    options = {**kept, **own}
    blocks = tree.get("blocks")
    if "blocks" not in tree:
        yield place, options
        return
    if not isinstance(blocks, list) or not blocks:
        raise ConfigError(f"{place}: blocks: expected a list of one block or more")
    for index, block in enumerate(blocks, start=1):
        yield from _leaves(block, options, where, f"{number}.{index}" if number else str(index))


def _check(key: Any, value: Any, place: str) -> None:
    before = f"{place}: " if place else ""
    if key == "json":
        raise ConfigError(f"{before}json is for the output of one run; leave it out")
    if key in _NOT_IN_GRIDS:
        raise ConfigError(f"{before}{key} decides no number; give it to the command: --{key}")
    if key not in _KNOWN and not re.match(r"(method|protocol)\.\w", str(key)):
        near = did_you_mean(str(key), _KNOWN)
        raise ConfigError(f"{before}unknown key {shown(key)}{near}")
    if value == []:
        raise ConfigError(f"{before}{key} is an empty list; give it values, or leave it out")
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, list | dict) for item in items):
        raise ConfigError(
            f"{before}{key}: expected a value or a list of values, got {shown(value)}"
        )


def _product(
    options: Options,
    place: str,
    usual: Options,
    over: Options,
    resources: Mapping[str, Resources],
    here: bool,
) -> Iterator[RunSpec]:
    """Yield the specs of one block: the product of its lists, seeds last."""
    seeds = {key: options[key] for key in ("seeds",) if key in options}
    fixed = {key: value for key, value in options.items() if key not in seeds and key not in over}
    lists = {key: value for key, value in fixed.items() if isinstance(value, list)}
    if over.keys() & set(_SEEDS):
        seeds = {}
        lists, fixed = ({k: v for k, v in m.items() if k != "seed"} for m in (lists, fixed))
    # what the command line gives in place of a side leaves the square a square
    square = all(isinstance(options.get(side), list) for side in ("source", "target"))
    for values in itertools.product(*lists.values()):
        point = dict(zip(lists, values, strict=True))
        ends = {**fixed, **point, **over}
        if square and ends["source"] == ends["target"]:
            continue  # a square of domains has a diagonal that is no task
        plain = {key: _plain(key, value) for key, value in {**fixed, **point}.items()}
        try:
            own = _threads(plain.get("method"), resources)
            yield from resolve({**usual, **own, **plain, **seeds, **over}, here=here)
        except DabenchError as error:
            several = {k: v for k, v in point.items() if len(lists[k]) > 1}
            at = ", ".join(f"{key}={value}" for key, value in several.items())
            head = f"{place} ({at})" if place and at else place or at
            raise ConfigError(f"{head}: {error}" if head else str(error)) from None


def _threads(method: Any, resources: Mapping[str, Resources]) -> dict[str, int]:
    """Return the usual threads of a method's runs where its resources name cores."""
    if not resources or method is None:
        return {}
    asked = resources.get(registry.name_of("method", str(method)))
    return {"threads": asked.cpus} if asked and asked.cpus else {}


def _plain(key: str, value: Any) -> Any:
    """Null is a value for an option of a method or a protocol, and not "not given"."""
    return "none" if value is None and "." in key else value
