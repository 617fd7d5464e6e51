"""Whether a file is the record that it says it is (no torch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench.errors import StoreError
from dabench.store.identity import COLUMN_FIELDS, run_digest

_WORDS = ("protocol", "dataset", "source", "target", "method", "init")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_AGAIN = "delete it and run again"


def check_record(path: Path, record: Mapping[str, Any], seen: dict[str, Path]) -> None:
    """Refuse a record that cannot be trusted with a place in a table.

    Scores carry no checksum of their own: a changed score is not noticed here.

    Args:
        path: where it lies.
        record: what it holds.
        seen: run id -> file of the records before it; this one is added.

    Raises:
        StoreError: the first thing that is wrong, and what to do.
    """
    fault = _content_fault(record) or _name_fault(path, record)
    if fault:
        raise StoreError(f"{path}: {fault}")
    run_id = str(record["run_id"])
    if run_id in seen:
        raise StoreError(f"{path}: run {run_id} lies in {seen[run_id]} too; delete one of them")
    fault = _place_fault(path, record) or _identity_fault(record)
    if fault:
        raise StoreError(f"{path}: {fault}")
    seen[run_id] = path


def check_content(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a single record that a table would refuse wherever it lay; a failed run may pass.

    Raises:
        StoreError: the first thing that is wrong, and what to do.
    """
    fault = "" if record.get("failed") else _content_fault(record) or _identity_fault(record)
    if fault:
        raise StoreError(f"{path}: {fault}")


def _content_fault(record: Mapping[str, Any]) -> str:
    return _missing(record) or _score_fault(record.get("scores"))


def _missing(record: Mapping[str, Any]) -> str:
    if record.get("failed"):
        return "a failed run under the name of a finished one; end its name in .failed.json"
    if not isinstance(record.get("run_id"), str):
        return f"has no run_id; {_AGAIN}"
    spec = record.get("spec")
    if not isinstance(spec, Mapping):
        return f"has no spec; {_AGAIN}"
    absent = [
        name for name in (*COLUMN_FIELDS, *_WORDS, "seed", "method_options") if name not in spec
    ]
    if absent:
        return f"its spec lacks {', '.join(dict.fromkeys(absent))}; {_AGAIN}"
    kinds: list[tuple[str, type]] = [(name, str) for name in _WORDS]
    kinds += [("seed", int), ("method_options", Mapping), ("protocol_options", Mapping)]
    wrong = [name for name, kind in kinds if not isinstance(spec[name], kind)]
    return f"its spec has no usable {', '.join(wrong)}; {_AGAIN}" if wrong else ""


def _score_fault(scores: Any) -> str:
    if not isinstance(scores, list):
        return f"has no list of scores; {_AGAIN}"
    for row in scores:
        try:
            metric, value, segment = row["metric"], row["value"], row.get("segment", "all")
        except (TypeError, KeyError, AttributeError):
            return f"a score lacks its metric or value; {_AGAIN}"
        if not isinstance(metric, str) or not isinstance(segment, str):
            return f"a score's metric or segment is no name; {_AGAIN}"
        if value is not None and (not isinstance(value, float | int) or isinstance(value, bool)):
            return f"{metric} is {value!r:.40}, not a number; {_AGAIN}"
    return ""


def _name_fault(path: Path, record: Mapping[str, Any]) -> str:
    if path.stem != record["run_id"]:
        return f"holds run {record['run_id']!r:.60}; a file has its run's name: rename or delete it"
    return ""


def _place_fault(path: Path, record: Mapping[str, Any]) -> str:
    spec = record["spec"]
    if (path.parent.parent.name, path.parent.name) != (spec["protocol"], spec["dataset"]):
        right = f"{spec['protocol']}/{spec['dataset']}"
        return f"its spec says {right:.80}; move it to that folder, or {_AGAIN}"
    return ""


def _identity_fault(record: Mapping[str, Any]) -> str:
    """An id of another form is no digest, and promises nothing."""
    if not _DIGEST.fullmatch(record["run_id"]):
        return ""
    try:
        right = run_digest(record["spec"], record["versions"], record["ids"])
    except (KeyError, TypeError):
        return f"has no versions of method and protocol, or no ids; {_AGAIN}"
    if right != record["run_id"]:
        return (
            "its spec, versions and ids do not give its run id: edited by hand; restore the file, "
            f"or {_AGAIN}"
        )
    return ""
