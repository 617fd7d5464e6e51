"""Wide tables as CSV, Markdown and LaTeX (no torch)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from dabench.board.tables.csv_file import harmless
from dabench.board.tables.wide import Cell, WideRow, WideTable
from dabench.errors import one_line

#: characters that LaTeX reads as commands -> what prints them
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"→": r"$\rightarrow$", "–": "--", "±": r"$\pm$"},
    **{"<": r"\textless{}", ">": r"\textgreater{}"},
}
_HOLE = "–"


def to_csv(table: WideTable) -> str:
    """Return mean and sd of each task as fractions at full precision; holes are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [name for task in table.tasks for name in (task, f"{task} sd", f"{task} n")]
    titles = [harmless(one_line(head)) for head in heads]
    writer.writerow(["method", "reconstruction", "oracle", *titles, "average"])
    for row in table.rows:
        values: list[float | None] = []
        for cell in row.cells:
            values += [cell.mean, cell.sd, cell.n] if cell else [None] * 3
        line = [harmless(one_line(row.name)), row.reconstruction, row.oracle, *values, row.average]
        writer.writerow(line)
    return text.getvalue()


def to_markdown(table: WideTable) -> str:
    """Return a Markdown table in per cent: mean ± sd, the best in bold, notes below."""

    def shown(cell: Cell | None, mark: str) -> str:
        text = _number(cell)
        return (f"**{text}**" if cell and cell.best else text) + mark

    lines, notes = _body(table, _markdown, shown)
    title = f"**{table.metric}** in %, `{table.protocol}` on `{table.dataset}` "
    title += f"({_markdown(table.budget)}): mean ± sd over seeds."
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    rule = "|" + " --- |" * len(lines[0])
    tail = ["", " · ".join(map(_markdown, notes)), ""] if notes else [""]
    return "\n".join([title, "", head, rule, *body, *tail])


def to_latex(table: WideTable) -> str:
    """Return a LaTeX table for the package booktabs, in per cent, the best in bold."""

    def shown(cell: Cell | None, mark: str) -> str:
        text = _number(cell)
        text = rf"\textbf{{{_latex(text)}}}" if cell and cell.best else _latex(text)
        return text + (f"$^{{{mark.strip('()')}}}$" if mark else "")

    lines, notes = _body(table, _latex, shown)
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    caption = f"{table.metric} in % on {table.dataset}, {table.protocol} ({table.budget}): "
    caption += "mean ± sd over seeds."
    return "\n".join(
        [
            r"\begin{table}",
            rf"  \caption{{{' '.join([_latex(caption), *map(_latex, notes)])}}}",
            rf"  \begin{{tabular}}{{l{'c' * (len(lines[0]) - 1)}}}",
            r"    \toprule",
            f"    {head}",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _body(
    table: WideTable, escape: Callable[[str], str], shown: Callable[[Cell | None, str], str]
) -> tuple[list[list[str]], list[str]]:
    """Return head and lines, and the notes that marks in them stand for."""
    averaged = any(row.average is not None for row in table.rows)
    lines = [["method", *map(escape, table.tasks), *(["average"] if averaged else [])]]
    remarks: dict[str, str] = {}
    for row in table.rows:
        cells = []
        for cell in row.cells:
            mark = ""
            if cell and cell.remark:
                mark = f"({remarks.setdefault(cell.remark, str(len(remarks) + 1))})"
            cells.append(shown(cell, mark))
        if averaged:
            cells.append(escape(_HOLE) if row.average is None else f"{100 * row.average:.1f}")
        lines.append([escape(_name(row)), *map(str, cells)])
    return lines, [f"({mark}) {remark}" for remark, mark in remarks.items()]


def _name(row: WideRow) -> str:
    return row.name + (f" ({', '.join(row.marks)})" if row.marks else "")


def _number(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return _HOLE
    return f"{100 * cell.mean:.1f}" + ("" if cell.sd is None else f" ± {100 * cell.sd:.1f}")


def _markdown(text: str) -> str:
    """Return text that Markdown shows as it is, within a cell too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", one_line(text))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))
