"""One file of the store -> its record, checked (no torch)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from dabench.errors import StoreError, one_line
from dabench.store.checksum import fits, fits_text
from dabench.store.identity import run_digest
from dabench.store.records import SCHEMA, Record
from dabench.store.schema import first_fault

_AGAIN = "delete it and run again"
_FAILED = "a failed run under the name of a finished one; end its name in .failed.json"
_EDITED = f"edited by hand; restore the file, or {_AGAIN}"
_CURVES = b'\n "curves": ['


def load_record(path: Path, *, curves: bool = True) -> Record:
    """Read one record, with or without its ``curves``, wherever it lies.

    A record that was written without a checksum is read without one; a changed score is not
    noticed there.

    Raises:
        StoreError: missing, damaged, of another schema, with a value that no record has, or edited
            by hand; the message names the file and the first thing that is wrong.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_now) as file:
            raw = file.read() or b""
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    try:
        record = _parsed(raw if curves else _without_curves(raw))
    except (ValueError, RecursionError):
        raise StoreError(f"{path} is damaged (not JSON); {_AGAIN}") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}; {_AGAIN}")
    if not curves:
        record.pop("curves", None)
    fault = first_fault(record) or _state_fault(path, record)
    if not fault and not _is_intact(record, raw, curves=curves):
        fault = f"its checksum is not that of what it holds: {_EDITED}"
    if fault:
        raise StoreError(f"{path}: {one_line(fault)}")
    return record


def _open_now(path: str, flags: int) -> int:
    """Open a file; a pipe of that name would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _state_fault(path: Path, record: Record) -> str:
    """Return what is wrong with a finished run's id; a failed run may have none of its own."""
    if record.get("failed"):
        return "" if path.name.endswith(".failed.json") else _FAILED
    if run_digest(record["spec"], record["versions"], record["ids"]) != record["run_id"]:
        return f"its spec, versions and ids do not give its run id: {_EDITED}"
    return ""


def _is_intact(record: Record, raw: bytes, *, curves: bool) -> bool:
    if "checksum" not in record:
        return "curves_checksum" not in record
    start, end = _place_of_curves(raw)
    text = b"{%b\n}\n" % raw[start : end - 1] if curves else None
    return fits_text(record, _without_curves(raw), text) or fits(_parsed(raw))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON knows no {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _parsed(raw: bytes) -> Any:
    return _DECODER.decode(raw.decode())


def _without_curves(raw: bytes) -> bytes:
    start, end = _place_of_curves(raw)
    return raw[:start] + raw[end:]


def _place_of_curves(raw: bytes) -> tuple[int, int]:
    """Return where the curves begin and end with their comma; (0, 0) = ``Store`` wrote it not so.

    A line of a top-level key begins with one space, and no JSON string holds a line break: what is
    found here is no part of a name.
    """
    start = raw.find(_CURVES)
    end = start + len(_CURVES)
    if start >= 0 and raw[end : end + 1] != b"]":
        end = raw.find(b"]", end)
        while end > 0 and raw[end - 2 : end] != b"\n ":
            end = raw.find(b"]", end + 1)
    whole = start < 0 or end < 0 or raw[end + 1 : end + 3] != b",\n"
    return (0, 0) if whole else (start, end + 2)
