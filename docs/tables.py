"""Fill the tables of README.md and docs/ from ``results/records``: ``python docs/tables.py``.

A page marks a table by ``<!-- table: KIND name=value ... -->`` and ``<!-- /table -->``; everything
between them is replaced. ``--check`` writes nothing and exits with 1 where a page is out of date.

Other ``name=value`` select lines of the leaderboard by a column, or by an option of the protocol
(``-``: one that the column does not name). Only trained source models are looked at, unless
``source_options=any``.
Kinds:
    rows       one line a row: ``metrics=HOS,OS*`` (the first gets its spread), ``against=ROW``,
               ``also=ROW,ROW`` for rows with changed options (``dine~fine_tune=0.5``)
    pairs      paired differences: ``pairs=usd:shot,usd+bn:source+bn``, ``metrics=HOS``
    variants   one row's ablations: ``row=ROW``, ``metrics=``, ``curves=`` (last value a run)
    sweep      rows against values of a protocol option: ``option=NAME``, ``values=``, ``rows=``
    seeds      spread of ``row=ROW`` when source and adaptation seed vary together and alone
    stream     one line a row of a stream protocol: see ``stream_tables.py``
    passes     images passed for each of the stream, a line a row: see ``stream_tables.py``
    rates      learning rates against gradient norms, and what collapses: see ``rate_tables.py``
    unstable   the same grid, with the evidence a rate: see ``rate_tables.py``
    unitta     accuracy over the 24 streams of UniTTA: see ``unitta_table.py``
    best       the best method of every protocol against ``source``: see ``best_table.py``

``<!-- figure: KIND file=NAME ... -->`` names a picture of the records (``stream_figures.py``, and
``front_figure.py``: that of README.md). It is drawn with ``--figures`` only: its bytes differ from
machine to machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import best_table
import front_figure
import rate_tables
import stream_figures
import stream_tables
import unitta_table
from record_tables import Tables
from table_cells import Params

from dabench.store.reading import load_record
from dabench.store.records import Record
from dabench.store.store import Store

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(r"<!-- figure: (\w+) ([^>]*?)-->")
MARK = re.compile(r"(<!-- table: (\w+) ([^>]*?)-->\n).*?(<!-- /table -->)", re.DOTALL)


def committed() -> list[Record]:
    """Return the records that git knows (``git add`` new ones): runs of one's own are no page's."""
    known = _known()
    found = Store(ROOT / "results").all()
    return [record for path, record in found if path in known or not known]


def committed_failures() -> list[Record]:
    """Return the failed runs that git knows; they are ignored files, so ``git add --force``."""
    known = _known()
    found = sorted(Store(ROOT / "results").records.glob("*/*/*.failed.json"))
    return [load_record(path) for path in found if path in known or not known]


def _known() -> set[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", "results/records"]
    listed = subprocess.run(
        command, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return {ROOT / name for name in listed}


def fill(text: str, tables: Tables) -> str:
    """Return a page with its tables replaced."""
    kinds: dict[str, Callable[[Params], str]] = {
        "rows": tables.rows,
        "pairs": tables.pairs,
        "variants": tables.variants,
        "sweep": tables.sweep,
        "seeds": tables.seeds,
        "stream": partial(stream_tables.stream, tables),
        "passes": partial(stream_tables.passes, tables),
        "rates": partial(rate_tables.rates, tables),
        "unstable": partial(rate_tables.unstable, tables),
        "unitta": lambda params: unitta_table.unitta(tables.lines(), params),
        "best": partial(best_table.best, tables),
    }

    def replace(match: re.Match[str]) -> str:
        params = _params(match[3])
        return f"{match[1]}\n{kinds[match[2]](params)}\n\n{match[4]}"

    return MARK.sub(replace, text)


def draw(text: str, tables: Tables, folder: Path) -> list[str]:
    """Draw the figures that a page marks; return the names of their files."""
    kinds = {
        "stability": stream_figures.stability,
        "streams": stream_figures.streams,
        "visits": stream_figures.visits,
        "front": front_figure.front,
    }
    drawn = []
    for match in FIGURE.finditer(text):
        params = _params(match[2])
        kinds[match[1]](tables, params, folder / params["file"])
        drawn.append(params["file"])
    return drawn


def _params(text: str) -> Params:
    return dict(part.split("=", 1) for part in text.split())


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
