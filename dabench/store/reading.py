"""One file of the store -> its record (no torch)."""

from __future__ import annotations

import json
from pathlib import Path

from dabench.errors import StoreError
from dabench.store.records import SCHEMA, Record
from dabench.store.soundness import check_content


def load_record(path: Path, *, curves: bool = True) -> Record:
    """Read one record, with or without its ``curves``.

    Raises:
        StoreError: missing, damaged, or of another schema.
    """
    try:
        raw = path.read_bytes()
        record = json.loads(raw if curves else _without_curves(raw))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise StoreError(f"{path} is damaged (not JSON); delete it and run again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}; delete it and run again")
    if not curves:
        record.pop("curves", None)
    return record


def load_checked_record(path: Path) -> Record:
    """Read one record that may stand alone: a table would take it, or its run failed.

    Raises:
        StoreError: missing, damaged, of another schema, or edited by hand.
    """
    record = load_record(path)
    check_content(path, record)
    return record


def _without_curves(raw: bytes) -> bytes:
    """Cut the curves out of a record's text as ``Store`` writes it; other texts stay whole.

    A line of a top-level key begins with one space, and no JSON string holds a line break: what is
    found here is no part of a name.
    """
    start = raw.find(b'\n "curves": [\n')
    end = raw.find(b"]", start)
    while end > 0 and raw[end - 2 : end] != b"\n ":
        end = raw.find(b"]", end + 1)
    whole = start < 0 or end < 0 or raw[end + 1 : end + 3] != b",\n"
    return raw if whole else raw[:start] + raw[end + 2 :]
