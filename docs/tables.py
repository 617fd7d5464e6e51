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
    stream     one line a row of a stream protocol: see ``stream_tables.py``
    rates      learning rates against gradient norms, and what collapses: see ``stream_tables.py``

``<!-- figure: KIND file=NAME ... -->`` names a picture of the records (``stream_figures.py``).
It is drawn with ``--figures`` only: its bytes differ from machine to machine.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import stream_figures
import stream_tables
from table_cells import UPPER_BOUND, Words, difference, markdown, number, reading_order, row_of

from dabench.board.statistics.stats import MIN_PAIRS
from dabench.board.tables.leaderboard import table
from dabench.store.records import Record, Store, column, load, score_map

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(r"<!-- figure: (\w+) ([^>]*?) -->")
MARK = re.compile(r"(<!-- table: (\w+) ([^>]*?) -->\n).*?(<!-- /table -->)", re.DOTALL)
SHARE = "unknown_share"
#: the one seed that stays where the other varies alone
FIXED_SEED = 5
#: words that shape a table; all others select
WORDS = frozenset(
    {"metrics", "against", "pairs", "row", "curves", "option", "values", "rows", "also"}
    | {"methods", "norms", "with", "common", "seeds", "reference", "file"}
)


class Tables:
    """Markdown tables over one set of records, and what is known of runs that failed."""

    def __init__(self, records: list[Record], failed: Sequence[Record] = ()) -> None:
        self.records, self.failed = records, list(failed)
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, words: Words, against: str = "source") -> pd.DataFrame:
        """Return the leaderboard's lines that ``words`` select; they must be of one column."""
        if against not in self._frames:
            self._frames[against] = table(self.records, against)
        found = self._frames[against]
        for name, value in {"source_options": "", **words}.items():
            if name in WORDS:
                continue
            if name in found.columns:
                found = found[found[name].astype(str) == value]
            else:
                token = rf"(?:^| ){re.escape(f'{name}={value}')}(?: |$)"
                found = found[found["protocol_options"].str.contains(token)]
        if found["column"].nunique() != 1:
            raise ValueError(f"{words}: {found['column'].nunique()} columns fit, expected one")
        return found

    def only(self, seeds: set[int]) -> Tables:
        """Return the tables of some seeds."""
        parts = (self.records, self.failed)
        return Tables(*([r for r in part if r["spec"]["seed"] in seeds] for part in parts))

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
        for row in sorted(first.index, key=reading_order):
            head = first.loc[row]
            values = frame[frame["row"] == row].set_index("metric")["mean"]
            extent = (
                number(head["sd"]) if judged else f"{number(head['min'])}–{number(head['max'])}"
            )
            name = f"`{row}`" + (" (reconstruction)" if head["reconstruction"] else "")
            name += " (upper bound)" if row == UPPER_BOUND else ""
            shown = [number(values.get(metric)) for metric in metrics]
            lines.append([name, str(head["n"]), shown[0], extent, *shown[1:], difference(head)])
        return markdown(lines)

    def pairs(self, words: Words) -> str:
        """Paired differences of named rows."""
        metrics = words["metrics"].split(",")
        lines = [["pair", *(f"{metric} difference" for metric in metrics)]]
        for pair in words["pairs"].split(","):
            ours, theirs = pair.replace("~", " ").split(":")
            frame = _named(self.frame(words, theirs))
            frame = frame[frame["row"] == ours].set_index("metric")
            shown = [difference(frame.loc[metric]) for metric in metrics]
            lines.append([f"`{ours}` − `{theirs}`", *shown])
        return markdown(lines)

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
            shown = [number(chosen["mean"].get(metric)) for metric in metrics]
            shown += [self._last(key, row, variant, name) for name in curves]
            name = f"`{variant}`" if variant else "defaults"
            lines.append([name, str(head["n"]), *shown, difference(head)])
        return markdown(lines)

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
                shown.append(f"{number(cell['mean'])} ± {number(cell['sd'])}")
            lines.append([f"`{row}`", *shown])
        return markdown(lines)

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
            if row_of(record) != (row, "") or spec["dataset"] != words["dataset"]:
                continue
            if any(str(spec["protocol_options"].get(n)) != words[n] for n in ("split", SHARE)):
                continue
            seeds = (spec["seed"], spec.get("source_seed", spec["seed"]))
            alone = "adaptation" if seeds[1] == FIXED_SEED else "source"
            kinds = ["both"] if "source_seed" not in spec else [alone]
            kinds = [*pools] if set(seeds) == {FIXED_SEED} else kinds
            for kind in kinds:
                pools[kind][seeds] = score_map(record)[metric] or 0.0
        lines = [["seeds that vary", "n", f"mean {metric}", "sd"]]
        for kind, found in pools.items():
            values = list(found.values())
            shown = [number(statistics.fmean(values)), number(statistics.stdev(values))]
            lines.append([kind, str(len(values)), *shown])
        return markdown(lines)

    def _last(self, key: str, row: str, variant: str, metric: str) -> str:
        """Mean over runs of a curve's last value."""
        found = []
        for record in self.records:
            if row_of(record) == (row, variant) and column(record["spec"]) == key:
                values = [line["value"] for line in record["curves"] if line["metric"] == metric]
                found += values[-1:]
        return number(statistics.fmean(found)) if found and None not in found else "–"


def committed() -> list[Record]:
    """Return the records that git knows (``git add`` new ones): runs of one's own are no page's."""
    known = _known()
    found = Store(ROOT / "results").all()
    return [record for path, record in found if path in known or not known]


def committed_failures() -> list[Record]:
    """Return the failed runs that git knows; they are ignored files, so ``git add --force``."""
    known = _known()
    found = sorted(Store(ROOT / "results").records.glob("*/*/*.failed.json"))
    return [load(path) for path in found if path in known or not known]


def _known() -> set[Path]:
    words = ["git", "-C", str(ROOT), "ls-files", "--", "results/records"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    return {ROOT / name for name in listed}


def fill(text: str, tables: Tables) -> str:
    """Return a page with its tables replaced."""
    kinds: dict[str, Callable[[Words], str]] = {
        "rows": tables.rows,
        "pairs": tables.pairs,
        "variants": tables.variants,
        "sweep": tables.sweep,
        "seeds": tables.seeds,
        "stream": partial(stream_tables.stream, tables),
        "rates": partial(stream_tables.rates, tables),
    }

    def replace(match: re.Match[str]) -> str:
        words = _words(match[3])
        return f"{match[1]}\n{kinds[match[2]](words)}\n\n{match[4]}"

    return MARK.sub(replace, text)


def draw(text: str, tables: Tables, folder: Path) -> list[str]:
    """Draw the figures that a page marks; return the names of their files."""
    kinds = {"stability": stream_figures.stability, "streams": stream_figures.streams}
    drawn = []
    for match in FIGURE.finditer(text):
        words = _words(match[2])
        kinds[match[1]](tables, words, folder / words["file"])
        drawn.append(words["file"])
    return drawn


def _words(text: str) -> Words:
    return dict(word.split("=", 1) for word in text.split())


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the whole name of a row: method and changed options."""
    return frame.assign(row=(frame["method"] + " " + frame["variant"]).str.strip())


def main(argv: list[str]) -> int:
    """Fill every page, or with ``--check`` name those that are out of date."""
    tables = Tables(committed(), committed_failures())
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = fill(old, tables)
        if new != old:
            stale.append(page.name)
            if "--check" not in argv:
                page.write_text(new, encoding="utf-8")
        if "--figures" in argv:
            for name in draw(old, tables, page.parent):
                print(f"drawn: {name}")
    if stale:
        print(("out of date: " if "--check" in argv else "filled: ") + ", ".join(stale))
    return int("--check" in argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
