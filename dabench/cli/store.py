"""``dabench store retire``: take records out of every table, and keep them."""

from __future__ import annotations

import argparse
from pathlib import Path

from dabench.cli.output import say, warn_of_damage
from dabench.errors import ConfigError

#: option -> the id of a record that it gives the beginning of
_IDS = {"data": "data", "stream": "stream", "source_model": "source"}


def add_options(store: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    add = store.add_argument
    store.epilog = (
        "Tables keep what they read in RESULTS/.index.sqlite; to rebuild it, delete it "
        "(docs/records.md)."
    )
    add("action", choices=("retire",))
    add("runs", metavar="RUN", nargs="*", help="run ids, their beginnings, or files")
    add("--data", metavar="DIGEST", help="all runs on these data ('dabench show' prints digests)")
    add("--stream", metavar="DIGEST", help="all runs of this stream")
    add("--source-model", metavar="ID", help="all runs from this source model")
    add("--threads", metavar="N", help="all runs with so many CPU threads")
    add("--protocol", metavar="NAME", help="of those only under this protocol")
    add("--dataset", metavar="NAME", help="of those only on this data set")
    add("--dry-run", action="store_true", help="say what would be moved, and move nothing")


def store(args: argparse.Namespace) -> int:
    """Move the records that are meant to ``records/superseded/``, and name each.

    Raises:
        ConfigError: nothing says which, or runs by name and by what they share at once.
        StoreError: nothing fits, several runs fit one name, or a file cannot be moved.
    """
    from dabench.store.retire import to_retire
    from dabench.store.store import Store

    ids = {name: getattr(args, option) for option, name in _IDS.items() if getattr(args, option)}
    threads = _threads(args.threads)
    if bool(args.runs) == (bool(ids) or threads is not None):
        raise ConfigError("dabench store retire: name runs, or what they share (--data DIGEST ...)")
    if args.runs and (args.protocol or args.dataset):
        raise ConfigError("--protocol and --dataset narrow --data, --threads ...; drop them")
    found = Store(Path(args.results), curves=False)
    place = (args.protocol or "*", args.dataset or "*")
    paths = to_retire(found, args.runs, place, ids, threads)
    warn_of_damage(found.problems, strict=False)
    for path in paths:
        if args.dry_run:
            say(f"would move {path}")
        else:
            moved = found.supersede(path)
            say(f"moved {path} to {moved}")
    said = "would be moved; nothing was" if args.dry_run else "moved; no table has them any more"
    say(f"{len(paths)} record{'s' if len(paths) != 1 else ''} {said}")
    return 0


def _threads(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit()):
        raise ConfigError(f"--threads {text}: expected a whole number")
    return None if text is None else int(text)
