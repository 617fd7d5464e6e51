"""Fill the tables of README.md and docs/ from ``results/records``: ``python docs/tables.py``.

A page marks a table by ``<!-- table: KIND name=value ... -->`` and ``<!-- /table -->``; everything
between them is replaced. ``--check`` writes nothing and exits with 1 where a page is out of date.

Other ``name=value`` select lines of the leaderboard by a column, or by an option of the protocol.
Kinds:
    rows       one line a row: ``metrics=HOS,OS*`` (the first gets its spread), ``against=ROW``,
               ``also=ROW,ROW`` for rows with changed options (``dine~fine_tune=0.5``)
    pairs      paired differences: ``pairs=usd:shot,usd+bn:source+bn``, ``metrics=HOS``
    variants   one row's ablations: ``row=ROW``, ``metrics=``, ``curves=`` (last value a run)
    sweep      rows against values of a protocol option: ``option=NAME``, ``values=``, ``rows=``
    seeds      spread of ``row=ROW`` when source and adaptation seed vary together and alone
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from dabench.board.leaderboard import table
from dabench.board.records import Record, Store, column, score_map
from dabench.board.stats import MIN_PAIRS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"(<!-- table: (\w+) ([^>]*?) -->\n).*?(<!-- /table -->)", re.DOTALL)
UPPER_BOUND = "target-supervised"
SHARE = "unknown_share"
#: the one seed that stays where the other varies alone
FIXED_SEED = 5
#: words that shape a table; all others select
WORDS = frozenset(
    {"metrics", "against", "pairs", "row", "curves", "option", "values", "rows", "also"}
)
Words = dict[str, str]


class Tables:
    """Markdown tables over one set of records."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, words: Words, against: str = "source") -> pd.DataFrame:
        """Return the leaderboard's lines that ``words`` select; they must be of one column."""
        if against not in self._frames:
            self._frames[against] = table(self.records, against)
        found = self._frames[against]
        for name, value in {"source_options": "", **words}.items():
            if name in found.columns:
                found = found[found[name].astype(str) == value]
            elif name not in WORDS:
                token = rf"(?:^| ){re.escape(f'{name}={value}')}(?: |$)"
                found = found[found["protocol_options"].str.contains(token)]
        if found["column"].nunique() != 1:
            raise ValueError(f"{words}: {found['column'].nunique()} columns fit, expected one")
        return found

    def rows(self, words: Words) -> str:
        """One line a row, ordered as read: baselines, methods, upper bound."""
        metrics, against = words["metrics"].split(","), words.get("against", "source")
        frame = _named(self.frame(words, against))
        also = [name.replace("~", " ") for name in words.get("also", "").split(",")]
        frame = frame[(frame["variant"] == "") | frame["row"].isin(also)]
        first = frame[frame["metric"] == metrics[0]].set_index("row")
        judged = int(first["n"].max()) >= MIN_PAIRS
        spread = "sd" if judged else "range"
        lines = [["row", "n", metrics[0], spread, *metrics[1:], f"{metrics[0]} − `{against}`"]]
        for row in sorted(first.index, key=_reading_order):
            head = first.loc[row]
            values = frame[frame["row"] == row].set_index("metric")["mean"]
            extent = _f(head["sd"]) if judged else f"{_f(head['min'])}–{_f(head['max'])}"
            name = f"`{row}`" + (" (reconstruction)" if head["reconstruction"] else "")
            name += " (upper bound)" if row == UPPER_BOUND else ""
            shown = [_f(values.get(metric)) for metric in metrics]
            lines.append([name, str(head["n"]), shown[0], extent, *shown[1:], _difference(head)])
        return _markdown(lines)

    def pairs(self, words: Words) -> str:
        """Paired differences of named rows."""
        metrics = words["metrics"].split(",")
        lines = [["pair", *(f"{metric} difference" for metric in metrics)]]
        for pair in words["pairs"].split(","):
            ours, theirs = pair.replace("~", " ").split(":")
            frame = _named(self.frame(words, theirs))
            frame = frame[frame["row"] == ours].set_index("metric")
            shown = [_difference(frame.loc[metric]) for metric in metrics]
            lines.append([f"`{ours}` − `{theirs}`", *shown])
        return _markdown(lines)

    def variants(self, words: Words) -> str:
        """Ablations: each variant of a row, paired with its defaults."""
        metrics, row = words["metrics"].split(","), words["row"]
        curves = [name for name in words.get("curves", "").split(",") if name]
        frame = self.frame(words, row)
        frame = frame[frame["method"] == row]
        key = frame["column"].iloc[0]
        titles = [name.replace("_", " ") for name in curves]
        lines = [[f"`{row}` with", "n", *metrics, *titles, f"{metrics[0]} − defaults"]]
        for variant in sorted(frame["variant"].unique()):
            chosen = frame[frame["variant"] == variant].set_index("metric")
            head = chosen.loc[metrics[0]]
            shown = [_f(chosen["mean"].get(metric)) for metric in metrics]
            shown += [self._last(key, row, variant, name) for name in curves]
            name = f"`{variant}`" if variant else "defaults"
            lines.append([name, str(head["n"]), *shown, _difference(head)])
        return _markdown(lines)

    def sweep(self, words: Words) -> str:
        """Mean of one metric: a line a row, a column a value of a protocol option."""
        metric, rows, values = (
            words["metrics"],
            words["rows"].split(","),
            words["values"].split(","),
        )
        frames = [self.frame({**words, words["option"]: value}) for value in values]
        lines = [[f"{metric} at {words['option']}", *values]]
        for row in rows:
            shown = []
            for frame in frames:
                fitting = frame[(frame["method"] == row) & (frame["variant"] == "")]
                cell = fitting[fitting["metric"] == metric].iloc[0]
                shown.append(f"{_f(cell['mean'])} ± {_f(cell['sd'])}")
            lines.append([f"`{row}`", *shown])
        return _markdown(lines)

    def seeds(self, words: Words) -> str:
        """Standard deviation when both seeds vary, the adaptation's alone, the source's alone."""
        metric, row = words["metrics"], words["row"]
        pools: dict[str, dict[tuple[int, int], float]] = {
            "both": {},
            "adaptation": {},
            "source": {},
        }
        for record in self.records:
            spec = record["spec"]
            if _row_of(record) != (row, "") or spec["dataset"] != words["dataset"]:
                continue
            if any(str(spec["protocol_options"].get(n)) != words[n] for n in ("split", SHARE)):
                continue
            seeds = (spec["seed"], spec.get("source_seed", spec["seed"]))
            alone = "adaptation" if seeds[1] == FIXED_SEED else "source"
            kinds = ("both",) if "source_seed" not in spec else (alone,)
            kinds = ("both", "adaptation", "source") if set(seeds) == {FIXED_SEED} else kinds
            for kind in kinds:
                pools[kind][seeds] = score_map(record)[metric] or 0.0
        lines = [["seeds that vary", "n", f"mean {metric}", "sd"]]
        for kind, found in pools.items():
            values = list(found.values())
            shown = [_f(statistics.fmean(values)), _f(statistics.stdev(values))]
            lines.append([kind, str(len(values)), *shown])
        return _markdown(lines)

    def _last(self, key: str, row: str, variant: str, metric: str) -> str:
        """Mean over runs of a curve's last value."""
        found = []
        for record in self.records:
            if _row_of(record) == (row, variant) and column(record["spec"]) == key:
                values = [line["value"] for line in record["curves"] if line["metric"] == metric]
                found += values[-1:]
        return _f(statistics.fmean(found)) if found and None not in found else "–"


def committed() -> list[Record]:
    """Return the records that git knows (``git add`` new ones): runs of one's own are no page's."""
    words = ["git", "-C", str(ROOT), "ls-files", "--", "results/records"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    known = {ROOT / name for name in listed}
    found = Store(ROOT / "results").all()
    return [record for path, record in found if path in known or not known]


def fill(text: str, tables: Tables) -> str:
    """Return a page with its tables replaced."""
    kinds: dict[str, Callable[[Words], str]] = {
        "rows": tables.rows,
        "pairs": tables.pairs,
        "variants": tables.variants,
        "sweep": tables.sweep,
        "seeds": tables.seeds,
    }

    def replace(match: re.Match[str]) -> str:
        words = dict(word.split("=", 1) for word in match[3].split())
        return f"{match[1]}\n{kinds[match[2]](words)}\n\n{match[4]}"

    return MARK.sub(replace, text)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the whole name of a row: method and changed options."""
    return frame.assign(row=(frame["method"] + " " + frame["variant"]).str.strip())


def _row_of(record: Record) -> tuple[str, str]:
    """Return a record's row and variant as the leaderboard names them."""
    spec, options = record["spec"], record["variant"]
    text = " ".join(f"{name}={options[name]}" for name in sorted(options))
    return spec["method"] + ("+bn" if spec["init"] == "bn-target" else ""), text


def _reading_order(row: str) -> tuple[int, str]:
    plain = row.partition(" ")[0].removesuffix("+bn")
    return ({"source": 0, UPPER_BOUND: 2}.get(plain, 1), row)


def _f(value: float | None, sign: str = "") -> str:
    return "–" if value is None or pd.isna(value) else f"{value:{sign}.3f}"


def _difference(line: pd.Series[object]) -> str:
    if pd.isna(line["diff_mean"]):
        return "–"
    mean = _f(line["diff_mean"], "+")
    if line["diff_n"] < MIN_PAIRS:
        return mean
    return f"{mean} [{_f(line['diff_low'], '+')}, {_f(line['diff_high'], '+')}] {line['verdict']}"


def _markdown(lines: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def main(argv: list[str]) -> int:
    """Fill every page, or with ``--check`` name those that are out of date."""
    tables = Tables(committed())
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = fill(old, tables)
        if new != old:
            stale.append(page.name)
            if "--check" not in argv:
                page.write_text(new, encoding="utf-8")
    if stale:
        print(("out of date: " if "--check" in argv else "filled: ") + ", ".join(stale))
    return int("--check" in argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
