"""What ``dabench leaderboard --ranks`` prints and draws: mean ranks and tests over tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dabench.board.statistics.rank_figure import rank_svg
from dabench.board.statistics.ranks import Ranking, describe_tasks, rankings
from dabench.board.statistics.tasks import TaskGrid, task_grid, task_tests
from dabench.cli.output import number, print_columns, say
from dabench.store.files import write_bytes_atomically

if TYPE_CHECKING:
    import pandas as pd

    from dabench.registry.method_info import MethodInfo

_FEW = "too few tasks"


def show_ranks(frame: pd.DataFrame, info: MethodInfo, against: str, folder: Path) -> None:
    """Print every protocol's ranks and tests, and write a picture of each ranking."""
    protocols = sorted(frame["protocol"].unique())
    second = [(name, info.second[name]) for name in protocols if name in info.second]
    for protocol, metric in sorted([*((name, "") for name in protocols), *second]):
        grid = task_grid(frame, info, protocol, metric=metric)
        found, *apart = rankings(grid)
        say()
        say(f"{protocol} · ranks over tasks" + (f", by {metric}" if metric else ""))
        _show_ranking(found)
        for other in apart:
            say("ranked apart, over the tasks of the rows that were left out:")
            _show_ranking(other)
        _show_tests(grid, against)
        name = "-".join(filter(None, ("ranks", protocol, metric.replace("/", "-"))))
        pictures = {f"{name}.svg": found} | {f"{name}-apart.svg": other for other in apart}
        for file, ranks in pictures.items():
            write_bytes_atomically(folder / file, rank_svg(ranks).encode())
            say(f"written: {folder / file}")
        if not apart:  # that of an earlier table
            (folder / f"{name}-apart.svg").unlink(missing_ok=True)


def _show_ranking(found: Ranking) -> None:
    if found.note:
        say(f"  {found.note}")
    else:
        rows = [["row", "mean rank"]]
        places = zip(found.rows, found.ranks, strict=True)
        rows += [[found.marked(row), f"{rank:.2f}"] for row, rank in places]
        print_columns(rows)
        say(f"critical difference {found.difference:.2f}, {describe_tasks(found.tasks)}")
    for row, reason in found.left_out.items():
        if not (found.note and reason.startswith(_FEW)):
            say(f"  not ranked: {row}: {reason}")


def _show_tests(grid: TaskGrid, against: str) -> None:
    tests = [["row", f"mean − {against}", "tasks", "p (Holm)", ""]]
    for test in task_tests(grid, against):
        p = number(test.p_holm)
        name, mean = test.row + grid.marks.get(test.row, ""), number(test.mean, signed=True)
        tests.append([name, mean, str(test.tasks), p, test.verdict])
    if any(row[3] != "-" for row in tests[1:]):
        print_columns(tests)
        say(f"signed ranks over {describe_tasks(grid.tasks)}")
