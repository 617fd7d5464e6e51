"""``dabench leaderboard --html`` and ``dabench report``: pages that need no network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.cli.output import say, warn_of_damage
from dabench.errors import StoreError

if TYPE_CHECKING:
    from dabench.board.tables.card_figures import Figure
    from dabench.board.tables.cards import Card
    from dabench.store.records import Record

#: what is needed to draw pictures of a run's data
_FOLDERS = ("results", "data-root", "cache-dir")


def leaderboard_page(args: argparse.Namespace) -> int:
    """Write the leaderboard as one page.

    Args:
        args: what the parser of ``leaderboard`` found.

    Raises:
        DabenchError: no records, an unknown ``--against`` or ``--only``, a folder that cannot be
            written.
    """
    from dabench.board.page.build import write_leaderboard
    from dabench.board.page.page_records import read_page_records
    from dabench.registry.method_info import registered_info
    from dabench.store.garbage import collector_paused

    root, info = Path(args.results), registered_info()
    # a page of some columns is none of the cards
    cards = [] if args.only else _cards(root)
    with collector_paused():
        gathered = read_page_records(root, args.only, info)
        warn_of_damage(gathered.problems, strict=args.strict, more="; the page names them")
        if not gathered.records:
            chosen = f" whose column begins with '{args.only}'" if args.only else ""
            raise StoreError(f"no records in {root / 'records'}{chosen}; 'dabench run' makes them")
        _link_models(gathered.records, root, Path(args.html))
        path = write_leaderboard(gathered, Path(args.html), args.against, info, cards)
    megabytes = path.stat().st_size / 1e6
    say(f"page: {path} ({len(gathered.records)} runs, {megabytes:.1f} MB)")
    return 0


def _cards(root: Path) -> list[tuple[Card, Figure | None]]:
    """Return the reproduction cards of a results folder with our figures; it may have none."""
    from dabench.board.tables.cards import read_cards
    from dabench.cli.cards import measured

    folder = root / "cards"
    return measured(read_cards(folder), root) if any(folder.glob("*.yaml")) else []


def _link_models(records: list[Record], root: Path, page: Path) -> None:
    """Note with every run whose model was kept where that lies, as seen from a page's folder."""
    from dabench.store.files import kept_models, link

    kept = kept_models(root)
    for record in records:
        record.pop("model", None)  # a record has none of its own
        if record.get("run_id") in kept:
            record["model"] = link(kept[record["run_id"]], page)


def report(args: argparse.Namespace) -> int:
    """Write one run's report.

    Args:
        args: what the parser of ``report`` found.

    Raises:
        DabenchError: no such run, a damaged record, a file that cannot be written.
    """
    from dabench.board.page.render import write_page
    from dabench.board.page.report import report_page
    from dabench.board.tables.source_run import source_run
    from dabench.registry.method_info import registered_info
    from dabench.store.reading import load_readable
    from dabench.store.store import Store

    store = Store(Path(args.results))
    path = store.locate(args.run)
    record = load_readable(path)
    spec = record.get("spec") or {}
    folder = store.root / "runs" / str(record.get("run_id", "")).replace("/", "_") / "report"
    beside = Store(store.root, curves=False)
    others = [r for _, r in beside.all(spec.get("protocol", "*"), spec.get("dataset", "*"))]
    same = spec.get("method") == "source" and spec.get("init") == "source"
    base = None if same or record.get("failed") else source_run(others, record)
    _draw(args, record, folder)
    target = Path(args.html) if args.html else folder / "index.html"
    _link_models([record], store.root, target.parent)
    content = report_page(path, record, base, folder, registered_info())
    write_page(target, content)
    say(f"report: {target}")
    return 0


def _draw(args: argparse.Namespace, record: Record, folder: Path) -> None:
    """Make the pictures that were asked for; the report shows what lies in its folder."""
    from dabench.config.settings import read_settings

    settings = read_settings({name: vars(args)[name] for name in _FOLDERS} | {"no-progress": True})
    if args.features:
        from dabench.cli.report_pictures import draw_features

        say(f"features: {draw_features(record, settings, args.features)}")
    if args.animate is not None:
        from dabench.cli.report_pictures import animate

        out = Path(args.animate) if args.animate else folder / "stream.webp"
        say(f"animation: {animate(record, settings, out)}")
