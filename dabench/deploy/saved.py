"""What an adaptation leaves behind: predictions.csv, and the folder as a whole."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dabench.board.tables.csv_file import harmless
from dabench.deploy.adapted import Adapted
from dabench.deploy.pictures import Pile
from dabench.deploy.stream import CHECKPOINT
from dabench.errors import ConfigError, StoreError, reason_of
from dabench.store.files import locked

T = TypeVar("T")
ANSWERS = "predictions.csv"
_COLUMNS = ("file", "class", "confidence", "unknown_score", "class_before", "confidence_before")


def check_free(out: Path) -> None:
    """Refuse a folder that has something in it, or that cannot take the result.

    Raises:
        ConfigError: there is something at ``out``, a link that leads nowhere, or no right to write.
    """
    if _taken(out):
        raise ConfigError(
            f"--out {out}: there is something already; name a folder that is not there yet"
        )
    if out.exists() and not os.access(out, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: this folder cannot be written; mend its rights")


def _taken(out: Path) -> bool:
    """Return whether a place is neither free nor an empty folder."""
    if out.exists():
        return not out.is_dir() or any(out.iterdir())
    return out.is_symlink()


@contextlib.contextmanager
def workplace(out: Path) -> Iterator[tuple[Path, Path]]:
    """Hold the hidden folder beside ``out`` in which everything is made; yield both, in full.

    It stays where an interrupted stream can go on from it, and goes otherwise. Of two commands
    with one ``out`` the second waits.

    Raises:
        ConfigError: there is something at ``out``.
        StoreError: its parent cannot be written.
    """
    out = Path(os.path.abspath(out))
    check_free(out)
    work = out.with_name(f".{out.name}.adapt")
    with locked(work):
        try:
            check_free(out)
            yield out, work
        finally:
            if _taken(out) or not (work / CHECKPOINT).is_file():
                shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, out: Path, write: Callable[[Path], T]) -> T:
    """Fill a folder in ``work``, which then takes the place ``out``: half of it is never there.

    An empty folder that cannot be replaced (a mount point, a link) takes it file by file.

    Args:
        work: as :func:`workplace` gave it.
        out: likewise.
        write: fills an empty folder; what it returns is returned.

    Raises:
        StoreError: the place cannot take it; the message says where it lies instead.
    """
    draft = work / "result"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    found = write(draft)
    for path in draft.iterdir():  # safetensors' own are for their owner alone
        path.chmod(0o644)
    try:
        try:
            os.replace(draft, out)
        except OSError:
            if _taken(out) or not out.is_dir():
                raise
            for path in draft.iterdir():
                shutil.copy2(path, out / path.name)
    except OSError as error:
        rest = tempfile.mkdtemp(prefix=f"{out.name}.", dir=out.parent)
        os.replace(draft, rest)
        raise StoreError(
            f"{out}: cannot be filled ({reason_of(error)}); what was to stand there is whole in "
            f"{rest}"
        ) from error
    return found


def write_predictions(path: Path, adapted: Adapted, pile: Pile) -> None:
    """Write a line a picture, by name; one that could not be read has its reason.

    Names of files and classes are foreign text: none of them is a formula in a spreadsheet.
    """
    names = adapted.classes
    rows: dict[str, list[str]] = {}
    score = adapted.after.unknown_score
    for i, (name, label) in enumerate(zip(pile.names, adapted.labels, strict=True)):
        unknown = "" if score is None else f"{score[i]:.6g}"
        before = [harmless(names[adapted.before.known[i]]), f"{adapted.before.confidence[i]:.6f}"]
        rows[name] = [harmless(label), f"{adapted.after.confidence[i]:.6f}", unknown, *before, ""]
    for name, reason in pile.unreadable.items():
        rows[name] = ["", "", "", "", "", harmless(reason)]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "not_read"])
        for name in sorted(rows):
            writer.writerow([harmless(name), *rows[name]])
