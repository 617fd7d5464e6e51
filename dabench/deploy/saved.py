"""What an adaptation leaves behind: predictions.csv, and the folder as a whole."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dabench.deploy.offline import Adapted
from dabench.deploy.pictures import Pile
from dabench.errors import ConfigError

ANSWERS = "predictions.csv"
_COLUMNS = ("file", "class", "confidence", "unknown_score", "class_before", "confidence_before")


def check_free(out: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        ConfigError: there is something at ``out``.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: there is something already; name a folder that is not")


def write_all(out: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside ``out``, which then takes its place: half of it is never seen there.

    Raises:
        ConfigError: there is something at ``out``.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write(draft)
        draft.chmod(0o755)
        for path in draft.iterdir():  # safetensors' own are for their owner alone
            path.chmod(0o644)
        os.replace(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_predictions(path: Path, adapted: Adapted, pile: Pile) -> None:
    """Write a line a picture, by name; one that could not be read has its reason."""
    names = adapted.classes
    rows: dict[str, list[str]] = {}
    score = adapted.after.unknown_score
    for i, (name, label) in enumerate(zip(pile.names, adapted.labels, strict=True)):
        unknown = "" if score is None else f"{score[i]:.6g}"
        before = [names[adapted.before.known[i]], f"{adapted.before.confidence[i]:.6f}"]
        rows[name] = [label, f"{adapted.after.confidence[i]:.6f}", unknown, *before, ""]
    for name, reason in pile.unreadable.items():
        rows[name] = ["", "", "", "", "", reason]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "not_read"])
        for name in sorted(rows):
            writer.writerow([name, *rows[name]])
