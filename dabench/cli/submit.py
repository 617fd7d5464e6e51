"""``dabench submit``: check records that are to be offered, and write what a pull request needs."""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.cli.output import EXIT_DIFFERENT, print_columns, say
from dabench.config.options import FLAGS, OPTIONS
from dabench.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from dabench.board.submission import Submission
    from dabench.store.store import Store

TEXT = "PULL_REQUEST.md"
#: how many problems are named one by one
_NAMED = 20
_OF_REPRODUCE = ("data-root", "cache-dir", "oracle-url")
#: folders of a results folder in which no record of a finished run lies
_NO_RECORDS = {"superseded", "runs", "slurm", "tuned"}


def add_options(submit: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    add = submit.add_argument
    text = "run ids, their beginnings, records' files, or folders of records"
    add("records", metavar="RECORDS", nargs="+", help=text)
    text = "folder of the results that they are to join; default ./results"
    add("--results", default="results", help=text)
    text = "a folder that is not there yet; default ./submission"
    add("--out", default="submission", metavar="DIR", help=text)
    add("--reproduce", action="store_true", help="run one of them, chosen at random, once more")
    for name in _OF_REPRODUCE:
        add(f"--{name}", dest=name, help=f"with --reproduce: {OPTIONS[name][2]}")
    add("--no-progress", dest="no-progress", action="store_true", help=FLAGS["no-progress"])


def submit(args: argparse.Namespace) -> int:
    """Check the records; write them, and the text of a pull request, into a new folder.

    Returns:
        0, or 1 where the run that was made again came out otherwise (the folder is written).

    Raises:
        ConfigError: the folder is there already.
        StoreError: no such record, or one that no table would take.
    """
    from dabench.board.submission import examine, pull_request
    from dabench.registry.method_info import registered_info
    from dabench.store.arrays import SHARED, file_beside, shared_by
    from dabench.store.files import write_bytes_atomically
    from dabench.store.store import Store

    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"--out {out} is there already; remove it, or choose another folder")
    store = Store(Path(args.results), curves=False, index=False)
    found = examine(_files(args.records, store), store, registered_info())
    _refuse(found)
    same, told = _reproduced(args, found) if args.reproduce else (True, [])
    for path, record in found.runs:
        folder = out / "records" / record["spec"]["protocol"] / record["spec"]["dataset"]
        _copy(path, folder)
        if record.get("predictions"):
            _copy(beside := file_beside(path, record), folder)
            if shared := shared_by(beside):
                _copy(shared, out / "records" / SHARED)
    write_bytes_atomically(out / TEXT, pull_request(found, told).encode())
    for remark in found.remarks:
        say(f"note: {remark}", error=True)
    count = len(found.runs)
    say(f"{count} record{'s are' if count > 1 else ' is'} sound: {out / 'records'}")
    say("next, in a clone of dabench:")
    print_columns(
        [
            [f"  cp -r {out / 'records'} results/", "join the others"],
            ["  git add results", "tables are made of the records that git tracks"],
            ["  dabench leaderboard --csv results/leaderboard/leaderboard.csv.gz", "all rows"],
            ["  python docs/tables.py", "the tables of README.md and docs"],
            ["  dabench cards --markdown docs/reproduction.md", "what others published"],
            ["  git add results docs README.md", ""],
            ["", f"open a pull request with the text of {out / TEXT}"],
        ]
    )
    return 0 if same else EXIT_DIFFERENT


def _copy(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)


def _files(names: list[str], store: Store) -> list[Path]:
    """Return the files that are meant, each once.

    Raises:
        StoreError: nothing is there of that name, or several runs fit it.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            # a results folder holds more: trials of 'dabench tune', tickets of a cluster
            folder = path / "records" if (path / "records").is_dir() else path
            below = sorted(folder.rglob("*.json"))
            inside = [p for p in below if _is_record(p.relative_to(folder))]
            if not inside:
                raise StoreError(f"{path}: no record in this folder or below")
            found += inside
        else:
            found.append(store.locate(name))
    return list({path.resolve(): path for path in found}.values())


def _is_record(path: Path) -> bool:
    """Whether a file below a folder is a finished run's, by its name and place."""
    return not path.name.endswith(".failed.json") and not _NO_RECORDS & {*path.parts}


def _refuse(found: Submission) -> None:
    """Name what is wrong, and stop.

    Raises:
        StoreError: something is.
    """
    for problem in found.problems[:_NAMED]:
        say(f"error: {problem}", error=True)
    if found.problems:
        count = len(found.problems)
        raise StoreError(f"{count} problem{'s' * (count != 1)}; nothing was written")


def _reproduced(args: argparse.Namespace, found: Submission) -> tuple[bool, list[str]]:
    """Run one record again; return whether it is the same, and what to say of it."""
    from dabench.cli.reproduce import run_again, verdict

    path, record = random.choice(found.runs)
    given = {name: getattr(args, name) for name in (*_OF_REPRODUCE, "no-progress")}
    compared, then = run_again(str(path), given)
    text = verdict(compared, then)
    say(text)
    return compared.identical, [f"run {record['run_id']}: {text}"]
