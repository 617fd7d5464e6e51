"""``dabench store``: take records out of every table, and keep them; make the folder small."""

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
    add(
        "action",
        choices=("retire", "pack"),
        help="pack: curves beside the records, superseded ones in one file (docs/records.md)",
    )
    add("runs", metavar="RUN", nargs="*", help="run ids, their beginnings, or files")
    add("--data", metavar="DIGEST", help="all runs on these data ('dabench show' prints digests)")
    add("--stream", metavar="DIGEST", help="all runs of this stream")
    add("--source-model", metavar="ID", help="all runs from this source model")
    add("--threads", metavar="N", help="all runs with so many CPU threads")
    add("--protocol", metavar="NAME", help="of those only under this protocol")
    add("--dataset", metavar="NAME", help="of those only on this data set")
    add("--dry-run", action="store_true", help="say what would be moved, and move nothing")


def store(args: argparse.Namespace) -> int:
    """Move the records that are meant to ``records/superseded/``, and name each; or pack them.

    Raises:
        ConfigError: nothing says which, or runs by name and by what they share at once.
        StoreError: nothing fits, several runs fit one name, or a file cannot be moved.
    """
    from dabench.store.retire import to_retire
    from dabench.store.store import Store

    ids = {name: getattr(args, option) for option, name in _IDS.items() if getattr(args, option)}
    threads = _threads(args.threads)
    if args.action == "pack":
        if args.runs or ids or threads is not None or args.protocol or args.dataset:
            raise ConfigError(
                "dabench store pack packs the whole folder; name nothing but --results"
            )
        return _pack(Path(args.results), dry_run=args.dry_run)
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


def _pack(results: Path, *, dry_run: bool) -> int:
    """Say what was packed, and how much smaller the records are; what is wrong stays as it is."""
    from dabench.store.packing import pack

    before = _size(results / "records")
    found = pack(results, dry_run=dry_run)
    warn_of_damage(found.problems, strict=False)
    would = "would be " if dry_run else ""
    say(f"{found.rewritten} records {would}rewritten, their curves beside them")
    say(f"{found.archived} superseded files {would}moved to records/superseded.zip")
    if not dry_run:
        after = _size(results / "records")
        say(f"{results / 'records'}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")
    return 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _threads(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit()):
        raise ConfigError(f"--threads {text}: expected a whole number")
    return None if text is None else int(text)
