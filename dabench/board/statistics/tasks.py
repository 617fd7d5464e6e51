"""Comparisons over tasks, seeds and source models averaged first, by the metric that ranks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dabench.board.statistics.seeds import better_sign
from dabench.registry.marks import ANSWERS_AFTER
from dabench.registry.method_info import TARGET_TUNED, MethodInfo, row_marks
from dabench.store.identity import task_of
from dabench.store.rows import newest_tasks, version_order

#: fewest tasks for a test or a rank
MIN_TASKS = 6
#: chance of at least one wrong verdict
LEVEL = 0.05
#: digits after which two scores count as equal
_EQUAL = 12
#: why a row is not ranked among those that answer before their update
ANSWERED_AFTER = "answers after its update"
_KINDS = ("oracle", "target_tuned", "reconstruction")
_FIELDS = ("method", "variant", "column", "metric", "mean", "version", "extras", *_KINDS)


@dataclass(frozen=True)
class TaskGrid:
    """One row a method, by column, of one protocol.

    Attributes:
        protocol: its name.
        values: row -> a column's key -> mean over seeds, turned so that more is better.
        left_out: row or method -> why it is not among them.
        marks: row -> what stands beside its name.
    """

    protocol: str
    values: dict[str, dict[str, float]]
    left_out: dict[str, str]
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """Keys of all tasks, in order."""
        return sorted({task_of(column) for own in self.values.values() for column in own})


@dataclass(frozen=True)
class TaskTest:
    """A row against another over the tasks that both have.

    Attributes:
        row: the row that is judged.
        tasks: number of shared tasks.
        mean: mean difference; None without a shared task.
        p: two-sided, exact; None where there are too few tasks.
        p_holm: corrected for all rows that were held against the same one.
        verdict: win, tie, loss, "too few tasks (n of 6)", or where nothing could have been a win or
            a loss "n tasks cannot tell m rows apart".
    """

    row: str
    tasks: int
    mean: float | None
    p: float | None
    p_holm: float | None
    verdict: str


def primary_lines(frame: pd.DataFrame, info: MethodInfo) -> pd.DataFrame:
    """Return the lines of the metric that ranks, each protocol and data set having its own."""
    kept = pd.Series(False, index=frame.index)
    for protocol, dataset in frame[["protocol", "dataset"]].drop_duplicates().to_numpy():
        here = (frame["protocol"] == protocol) & (frame["dataset"] == dataset)
        kept |= here & (frame["metric"] == info.primary(protocol, dataset))
    return frame[kept]


def task_grid(
    frame: pd.DataFrame,
    info: MethodInfo,
    protocol: str,
    metric: str | None = None,
) -> TaskGrid:
    """Return the scores by row and column.

    One row a method and start stands in it: the one without changed options, else the only one it
    has. The upper bound is left out, and so are target-tuned rows and those that answer a stream
    after their update: that is another setting.

    Args:
        frame: the leaderboard.
        info: baselines, the upper bound and the metrics that rank.
        protocol: whose columns hold the tasks.
        metric: what to compare by; leave out for the metric that ranks.
    """
    mine = frame[frame["protocol"] == protocol]
    lines = mine[mine["metric"] == metric] if metric else primary_lines(mine, info)
    values, left_out, marks = _by_row(lines)
    chosen, several = _one_a_method({name for name in values if name not in left_out})
    left_out |= several
    kept = {name: values[name] for name in chosen if name not in left_out}
    return TaskGrid(protocol, kept, left_out, marks)


def _by_row(
    lines: pd.DataFrame,
) -> tuple[dict[str, dict[str, float]], dict[str, str], dict[str, str]]:
    """Return scores by row and column, why a row is not ranked if so, and what marks its name.

    In a column the last version of the protocol counts, for another poses another task, and of a
    row in it the last version.
    """
    found = lines[[*_FIELDS]].to_dict("records")
    newest = newest_tasks((line["column"], line["version"]) for line in found)
    rows: dict[str, dict[str, dict[Hashable, Any]]] = {}
    for line in sorted(found, key=lambda line: version_order(line["version"])):
        if (line["column"], line["version"]) in newest:
            name = f"{line['method']} {line['variant']}".strip()
            rows.setdefault(name, {})[line["column"]] = line
    values: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    marks: dict[str, str] = {}
    for name, own in sorted(rows.items()):
        extras = {extra for line in own.values() for extra in line["extras"].split()}
        bound, tuned, rec = (any(line[kind] for line in own.values()) for kind in _KINDS)
        reasons = {"upper bound": bound, ANSWERED_AFTER: ANSWERS_AFTER in extras}
        reasons |= {TARGET_TUNED: tuned}
        if any(reasons.values()):
            left_out[name] = next(why for why, holds in reasons.items() if holds)
        words = row_marks(extras, reconstruction=rec, bound=bound, target_tuned=tuned)
        marks[name] = f" ({', '.join(words)})" if words else ""
        means = {column: better_sign(ln["metric"]) * ln["mean"] for column, ln in own.items()}
        values[name] = {column: mean for column, mean in means.items() if not math.isnan(mean)}
    return values, left_out, marks


def _one_a_method(names: set[str]) -> tuple[list[str], dict[str, str]]:
    by_label: dict[str, list[str]] = {}
    for name in sorted(names):
        by_label.setdefault(name.partition(" ")[0], []).append(name)
    chosen, left_out = [], {}
    for label, own in by_label.items():
        if label in own or len(own) == 1:
            chosen.append(label if label in own else own[0])
        else:
            left_out[label] = f"{len(own)} settings and none with the defaults"
    return chosen, left_out


def by_task(columns: Mapping[str, float]) -> dict[str, float]:
    """Return task -> mean over its columns, which are source models; tasks in order."""
    found: dict[str, list[float]] = {}
    for column in sorted(columns):
        found.setdefault(task_of(column), []).append(columns[column])
    return {task: math.fsum(own) / len(own) for task, own in found.items()}


def task_tests(grid: TaskGrid, against: str) -> list[TaskTest]:
    """Hold every row against one: Wilcoxon's signed-rank test over tasks, Holm's correction.

    Differences are taken by column, so that both rows had the same source models; each row is
    first averaged over the seeds that it has.

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006.
    """
    base = grid.values.get(against, {})
    found = []
    for name in sorted(set(grid.values) - {against}):
        ours = grid.values[name]
        shared = by_task({column: ours[column] - base[column] for column in {*ours} & {*base}})
        found.append((name, list(shared.values())))
    enough = [(name, differences) for name, differences in found if len(differences) >= MIN_TASKS]
    raw = {name: signed_rank(differences)[1] for name, differences in enough}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    # 2^(1 - n), all differences being of one sign, is the least p that there can be
    least = holm([2.0 ** (1 - len(differences)) for _, differences in enough])
    blind = {name for name, p in zip(raw, least, strict=True) if p >= LEVEL}
    tests = [_tested(name, diff, raw.get(name), corrected.get(name)) for name, diff in found]
    told = f"tasks cannot tell {len(raw) + 1} rows apart"
    return [replace(t, verdict=f"{t.tasks} {told}") if t.row in blind else t for t in tests]


def _tested(
    name: str, differences: Sequence[float], p: float | None, p_holm: float | None
) -> TaskTest:
    n = len(differences)
    mean = math.fsum(differences) / n if n else None
    if p_holm is None or mean is None:
        return TaskTest(name, n, mean, None, None, too_few_tasks(n))
    plus = signed_rank(differences)[0]
    verdict = "tie" if p_holm >= LEVEL else ("win" if plus > _rank_sum(differences) / 2 else "loss")
    return TaskTest(name, n, mean, p, p_holm, verdict)


def too_few_tasks(tasks: int) -> str:
    """Return the words that stand where tasks do not suffice."""
    return f"too few tasks ({tasks} of {MIN_TASKS})"


def signed_rank(differences: Sequence[float]) -> tuple[float, float]:
    """Return Wilcoxon's rank sum of the positive differences and its exact two-sided p-value.

    Zeros are dropped; equal sizes share their mean rank, and the distribution is that of all 2^n
    signs given these ranks, so that ties need no approximation.
    """
    ranks, positive = _ranks(differences)
    doubled = np.rint(2 * ranks).astype(int)  # mean ranks are halves
    chance = np.ones(1)
    for rank in doubled:
        longer = np.zeros(len(chance) + rank)
        longer[: len(chance)] += chance / 2
        longer[rank:] += chance / 2
        chance = longer
    at = int(doubled[positive].sum())
    p = 2 * min(float(chance[: at + 1].sum()), float(chance[at:].sum()))
    return at / 2, min(1.0, p)


def _ranks(differences: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    rounded = np.round(np.asarray(differences, dtype=np.float64), _EQUAL)
    kept = rounded[rounded != 0]
    return stats.rankdata(np.abs(kept)) if len(kept) else np.zeros(0), kept > 0


def _rank_sum(differences: Sequence[float]) -> float:
    return float(_ranks(differences)[0].sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down correction of p-values, in the given order.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[i]))
        corrected[i] = largest
    return corrected
