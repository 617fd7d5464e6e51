"""The checksum of a record: it shows an edited or damaged file, and is no signature (no torch).

It is taken of the text that the store writes: ``checksum`` covers everything but the curves, and
``predictions_checksum`` among it, which is of the file beside the record, where the curves lie.
Records that hold their curves themselves have ``curves_checksum`` for them, since tables read
records without.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_LAST = re.compile(rb',\n "checksum": "([0-9a-f]{32})"\n}\n\Z')
_LENGTH = 100


def text_of(record: Mapping[str, Any]) -> bytes:
    """Return a record's file: UTF-8, keys in their order; a lone surrogate is an escape."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with its checksums as its last keys; earlier ones are replaced."""
    rest = {k: v for k, v in record.items() if k not in ("checksum", "curves_checksum")}
    marks = {}
    if "predictions_checksum" not in rest:
        marks["curves_checksum"] = _digest(text_of({"curves": rest.get("curves", [])}))
    head = {k: v for k, v in rest.items() if k != "curves"} | marks
    return rest | marks | {"checksum": _digest(text_of(head))}


def fits_text(record: Mapping[str, Any], rest: bytes, curves: bytes | None) -> bool:
    """Return whether the checksums of a record are those of its file's text, as it stands.

    Args:
        record: what the file holds.
        rest: the file without its curves.
        curves: the curves as a file of their own; None = they are not to be checked.
    """
    last = _LAST.search(rest, max(0, len(rest) - _LENGTH))
    if last is None or _digest(rest[: last.start()] + b"\n}\n") != record["checksum"]:
        return False
    return curves is None or _digest(curves) == record.get("curves_checksum")


def fits(record: Mapping[str, Any]) -> bool:
    """Return whether the checksums of a whole record are right, however its file is laid out."""
    right = sealed(record)
    return all(right.get(name) == record.get(name) for name in ("checksum", "curves_checksum"))


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
