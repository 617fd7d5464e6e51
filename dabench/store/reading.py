"""One file of the store -> its record, checked (no torch)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from dabench.errors import NewerError, StoreError, one_line
from dabench.store.archive import read_file
from dabench.store.arrays import check_arrays, read_curves
from dabench.store.checksum import fits, fits_text
from dabench.store.identity import run_digest
from dabench.store.records import SCHEMA, Record
from dabench.store.schema import first_fault, rows_fault

_AGAIN = "delete it and run again"
_FAILED = "a failed run under the name of a finished one; end its name in .failed.json"
_EDITED = f"edited by hand; restore the file, or {_AGAIN}"
_CURVES = b'\n "curves": ['


def load_record(path: Path, *, curves: bool = True, strict: bool = False) -> Record:
    """Read one record, with or without its ``curves``, wherever it lies.

    Curves come from the file beside it; older records hold them themselves. A record that was
    written without a checksum is read without one; a changed score is not noticed there.

    Args:
        path: of its own file.
        curves: False leaves the key out.
        strict: hold all that lies beside it against its checksum too.

    Raises:
        StoreError: missing, damaged, of another schema, with a value that no record has, or edited
            by hand; the message names the file and the first thing that is wrong.
    """
    raw = _content(path)
    while True:
        try:
            record = _record(path, raw, curves=curves)
            if strict:
                check_arrays(path, record)
            return record
        except StoreError:
            before, raw = raw, _content(path)
            if raw == before:  # else it was replaced meanwhile, and what lay beside it is gone
                raise


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def _record(path: Path, raw: bytes, *, curves: bool) -> Record:
    try:
        record = _parsed(raw if curves else _without_curves(raw))
    except (ValueError, RecursionError):
        raise StoreError(f"{path} is damaged (not JSON); {_AGAIN}") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerError(
            f"{path} was written by a newer dabench (schema {schema}; this one reads {SCHEMA}): "
            "update dabench, or give another --results"
        )
    if not isinstance(record, dict) or schema != SCHEMA:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}; {_AGAIN}")
    if not curves:
        record.pop("curves", None)
    fault = first_fault(record) or _state_fault(path, record)
    if not fault and not _is_intact(record, raw, curves=curves):
        fault = f"its checksum is not that of what it holds: {_EDITED}"
    if not fault and curves and "predictions_checksum" in record:
        record["curves"] = read_curves(path, record)
        fault = rows_fault(record["curves"])
    if fault:
        raise StoreError(f"{path}: {one_line(fault)}")
    return record


def load_readable(path: Path) -> Record:
    """Read a record as ``load_record`` does; without its curves where their file is lost.

    Raises:
        StoreError: its own file is damaged.
    """
    try:
        return load_record(path)
    except StoreError:
        record = load_record(path, curves=False)
        if "predictions_checksum" not in record:
            raise
        return record


def _state_fault(path: Path, record: Record) -> str:
    """Return what is wrong with a finished run's id; a failed run may have none of its own."""
    if record.get("failed"):
        return "" if path.name.endswith(".failed.json") else _FAILED
    if run_digest(record["spec"], record["versions"], record["ids"]) != record["run_id"]:
        return f"its spec, versions and ids do not give its run id: {_EDITED}"
    return ""


def _is_intact(record: Record, raw: bytes, *, curves: bool) -> bool:
    if "checksum" not in record:
        return not {"curves_checksum", "predictions_checksum"} & record.keys()
    start, end = _place_of_curves(raw)
    text = b"{%b\n}\n" % raw[start : end - 1] if curves and "curves_checksum" in record else None
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
