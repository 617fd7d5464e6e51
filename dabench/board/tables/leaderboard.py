"""Records -> one table: a line for every method × column × metric (no torch).

A column is the protocol's side of a spec without the seed. For each seed all rows of a column must
agree in data, stream and source-model ids; a cell that does not is refused, and ``note`` says why.
A hole stays a hole, and ``remark`` says what is missing. docs/leaderboard.md explains every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dabench.board.tables.agreement import ids_of, machines_of
from dabench.board.tables.column import Column
from dabench.board.tables.lines import BEST, DIFFERENCE, LINE, MEANS, Lines, lines_of
from dabench.config.spec import OPTIONAL_FIELDS
from dabench.registry.method_info import REGISTERED, MethodInfo
from dabench.store.garbage import collector_paused
from dabench.store.identity import BUDGET, COLUMN_FIELDS, IDS, column_of, file_ids, shown_spec
from dabench.store.lean import head_of
from dabench.store.records import Record
from dabench.store.rows import options_text, row_of, varying_options

#: fields that another machine, or another day, may change though nothing else does
COSTS = (
    *("seconds", "adapt_seconds", "peak_memory_bytes", "images_forward", "images_backward"),
    *("parameters", "oracle_queries", "step_memory_bytes"),
)
#: of which the largest says what a run needs
PEAKS = frozenset({"peak_memory_bytes", "step_memory_bytes"})
#: of which a mean over several machines says nothing
TIMES = frozenset({"seconds", "adapt_seconds"})
#: fields that all lines of a row in a column share
_HEAD = (
    *("protocol", "dataset", "task", "split", "method", "variant", "version"),
    *("seeds", "reconstruction", "extras", *BUDGET, "protocol_options", "source_options"),
    *("column", "selection", "oracle", "target_tuned"),
    *("data_id", "stream_id", "source_id"),
    *("runs", "dabench", *COSTS),
)
_NUMBERS = frozenset(COSTS)
COLUMNS = ["protocol", "dataset", "task", "split", "metric", "method", "variant", "version"]
COLUMNS += [*MEANS, "n", "seeds", "reconstruction", "extras"]
COLUMNS += ["against", *DIFFERENCE, "verdict", "note", *BUDGET]
COLUMNS += ["protocol_options", "source_options", "column"]
COLUMNS += ["remark", "best_baseline", *BEST, "best_verdict", "gain", "selection", "oracle"]
COLUMNS += ["target_tuned", *(f"{name}_id" for name in IDS), "runs", "dabench", *COSTS]
_KEY = (*(name for name in COLUMN_FIELDS if name != "protocol_options"), *OPTIONAL_FIELDS)
#: digits of an id that the table shows
_SHOWN = 8


@collector_paused()
def table(
    records: Iterable[Record], against: str = "source", info: MethodInfo = REGISTERED
) -> pd.DataFrame:
    """Return the leaderboard in long form, one line a (row, column, metric).

    Args:
        records: of finished runs.
        against: the row to pair differences with: its label (``shot``, ``source+bn``), with its
            changed options where it has some (``dine fine_tune=0.5``).
        info: baselines, the upper bound and the metrics that rank.
    """
    heads: list[tuple[Any, ...]] = []
    lines: list[Lines] = []
    for found in sorted(_columns(list(records), info), key=_place):
        lines.append(lines_of(found, against, len(heads)))
        heads += _heads(found)
    return _frame(heads, lines).assign(against=against)[COLUMNS]


def _columns(records: Sequence[Record], info: MethodInfo) -> Iterable[Column]:
    varying = varying_options(records)
    columns: dict[str, Column] = {}
    keys: dict[tuple[Any, ...], str] = {}  # a digest costs more than this look-up
    places: dict[int, list[Record]] = {}  # by what records of the store share
    for record in records:
        head = head_of(record)
        if id(head) not in places:
            spec = record["spec"]
            files = file_ids(record["ids"]).values()
            parts = (*map(spec.get, _KEY), str(spec["protocol_options"]), *files)
            key = keys.get(parts) or keys.setdefault(parts, column_of(record))
            if key not in columns:
                columns[key] = Column(key, info=info)
            places[id(head)] = columns[key].runs[row_of(record, varying)]
        places[id(head)].append(record)
    return columns.values()


def _frame(heads: list[tuple[Any, ...]], lines: list[Lines]) -> pd.DataFrame:
    """Return the lines as a frame; numbers are floats, where a hole is NaN."""
    rows = pd.DataFrame(
        {
            name: np.array(values, dtype=np.float64 if name in _NUMBERS else object)
            for name, values in zip(_HEAD, _fields(heads), strict=True)
        }
    ).infer_objects()
    parts = ([found.fields[name] for found in lines] for name in LINE)
    own = {n: np.concatenate(p) if p else np.zeros(0) for n, p in zip(LINE, parts, strict=True)}
    place = np.concatenate([np.zeros(0, np.intp), *(found.rows for found in lines)])
    return rows.take(place).reset_index(drop=True).assign(**own)


def _fields(heads: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    return zip(*heads, strict=True) if heads else [()] * len(_HEAD)


def _place(found: Column) -> tuple[str, ...]:
    spec = next(iter(found.runs.values()))[0]["spec"]
    split = str(spec["protocol_options"].get("split", ""))
    return (spec["protocol"], spec["dataset"], _task(spec), split, found.key)


def _task(spec: Mapping[str, Any]) -> str:
    return f"{spec['source']}→{spec['target']}"


def _heads(found: Column) -> Iterator[tuple[Any, ...]]:
    """Yield the fields ``_HEAD`` of each row."""
    first = found.results[0].runs[0]
    spec = shown_spec(first)
    options = spec["protocol_options"]
    place = (spec["protocol"], spec["dataset"], _task(spec), str(options.get("split", "")))
    budget = (*(spec[name] for name in BUDGET), options_text(options))
    more = options_text(_source_options(first))
    for result in found.results:
        row, runs = result.row, result.runs
        ids = zip(*map(ids_of, runs), strict=True)
        kinds = list({id(head_of(run)): run for run in runs}.values())  # one of each head
        versions = [str(run.get("versions", {}).get("dabench", "?")) for run in kinds]
        yield (
            *(*place, row.label, row.variant, row.version),
            _distinct([str(run["spec"]["seed"]) for run in runs]),
            any([run.get("reconstruction", False) for run in kinds]),
            " ".join(sorted({name for run in kinds for name in run.get("extras", ())})),
            *(*budget, more, found.key, "last"),
            *(found.info.is_bound(row.method, kinds), result.target_tuned),
            *[_distinct([name[:_SHOWN] for name in part]) for part in ids],
            " ".join([str(run["run_id"]) for run in runs]),
            *(_distinct(versions), *_costs(runs)),
        )


def _source_options(run: Record) -> dict[str, Any]:
    """Return what is said of a source model, and how many of its outputs are kept if not all."""
    spec, about = shown_spec(run), run.get("source_model") or {}
    given = {n: spec[n] for n in OPTIONAL_FIELDS if spec.get(n) is not None}
    return given | ({"outputs": about["outputs"]} if about.get("outputs") else {})


def _distinct(values: Iterable[str]) -> str:
    """Return different values in the runs' order."""
    return " ".join(dict.fromkeys(values))


def _costs(runs: Sequence[Record]) -> list[float | None]:
    """Return the mean ``COSTS`` of a run (peak memory: the largest); a hole where one lacks it."""
    several = len(machines_of(runs)) > 1
    costs = [run.get("cost") or {} for run in runs]
    found: list[float | None] = []
    for name in COSTS:
        values = [cost[name] for cost in costs if cost.get(name) is not None]
        if len(values) < len(costs) or (several and name in TIMES):
            found.append(None)
        elif name in PEAKS:
            found.append(max(values))
        else:
            found.append(math.fsum(values) / len(values))
    return found
