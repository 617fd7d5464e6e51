"""What a record looks like, field by field (no torch; by hand, since tables read many thousands).

Whatever reads a record asks :func:`first_fault`, so that no table, command or page meets a value
that it does not expect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from operator import itemgetter
from typing import Any

from dabench.config.spec import UNRECORDED, RunSpec
from dabench.store.identity import IDS

_AGAIN = "delete it and run again"
_RUN_ID = re.compile(r"[0-9a-f]{16}")
_CHECKSUM = re.compile(r"[0-9a-f]{32}")
#: beyond it a number is no measurement; NaN and whole numbers that no float holds fail the test too
_MOST = 1e300
_DEEPEST = 8
_ROW_OF = itemgetter("metric", "value", "n", "segment", "at")
_USUAL = {"segment": "all", "at": 0}
_SIMPLE = frozenset({str, int, bool, type(None)})
_NUMBERS = frozenset({float, int, type(None)})
_PREDICTIONS = re.compile(r"([0-9a-f]{16})(\.\d+)?\.npz")
#: metrics that are shares, between 0 and 1; all others may be any number (``im``: nats)
SHARES = frozenset(
    {
        *("accuracy", "mean_class_accuracy", "class_accuracy", "running_accuracy", "forgetting"),
        *("OS", "OS*", "UNK", "HOS", "H3", "NMI", "OSCR", "AUROC", "AUROC-maxprob", "FPR95", "ECE"),
        *("mIoU", "class_iou", "running_mIoU", "pixel_accuracy", "unlabelled"),
        *("collapsed", "below_source", "short", "effective_classes", "running_ECE", "missed"),
        *("split_agreement", "split_auroc", "split_precision", "split_recall", "split_share"),
    }
)
#: sums of a million rounded terms may end so far outside
_ROUNDING = 1e-9


def first_fault(record: Mapping[str, Any]) -> str:
    """Return the first thing that is wrong with a record and what to do ("" = nothing).

    A record without ``curves`` is checked without them; that of a failed run (``failed``) needs
    neither scores nor ids.
    """
    failed = record.get("failed") is True
    fault = _fields_fault(record, _FIELDS, _ALWAYS if failed else _NEEDED, "")
    fault = fault or _fields_fault(record["spec"], _SPEC, _SPEC_NEEDED, "spec.")
    if not fault and not failed:
        fault = _absent(record["ids"], IDS, "ids")
        fault = fault or _absent(record["versions"], ("method", "protocol"), "versions")
    fault = fault or _marks_fault(record)
    fault = fault or next(filter(None, (rows_fault(record.get(n, ())) for n in _ROWS)), "")
    fault = fault or _repeated(record.get("scores", ()))
    return fault and f"{fault}; {_AGAIN}"


def _fields_fault(
    found: Mapping[str, Any],
    kinds: Mapping[str, tuple[str, Callable[[Any], bool]]],
    needed: Iterable[str],
    where: str,
) -> str:
    for name in needed:
        if name not in found:
            return f"it has no {where}{name}"
    for name, value in found.items():
        words, fits = kinds.get(name, _PLAIN)
        if not fits(value):
            return f"its {where}{name} is {value!r:.40}, not {words}"
    return ""


def _absent(found: Mapping[str, Any], names: Iterable[str], where: str) -> str:
    return next((f"its {where} lack {name}" for name in names if name not in found), "")


def _marks_fault(record: Mapping[str, Any]) -> str:
    """What a row shows of a run has to be true of its spec."""
    options = record["spec"]["method_options"]
    for name, value in record.get("variant", {}).items():
        if name not in options or options[name] != value:
            return f"its variant has {name}={value!r:.40}, and its spec has not"
    name = record.get("predictions")
    found = _PREDICTIONS.fullmatch(name) if name is not None else None
    if name is not None and (found is None or found[1] != record["run_id"]):
        return f"its predictions are in {name!r:.60}, which is no file of this run"
    if name is None and "predictions_checksum" in record:
        return "it has a predictions_checksum, and names no predictions"
    return ""


def _repeated(scores: Iterable[Mapping[str, Any]]) -> str:
    """Tables know one value by metric and segment: of two they would show either."""
    seen: set[tuple[str, str]] = set()
    for row in scores:
        key = row["metric"], row.get("segment", "all")
        if key in seen:
            return f"it has two scores of {key[0]:.40}/{key[1]:.40}"
        seen.add(key)
    return ""


def rows_fault(rows: Iterable[Any]) -> str:
    """Return what is wrong with scores or curves ("" = nothing)."""
    for row in rows:
        try:
            metric, value, n, segment, at = _ROW_OF(row if len(row) == 5 else {**_USUAL, **row})
        except (TypeError, KeyError):
            return "a score lacks its metric, value or n"
        if type(metric) is not str or type(segment) is not str or len(row) > 5:
            return f"a score has other keys, or no names: {row!r:.80}"
        if type(n) is not int or type(at) is not int:
            return f"the n or at of a score of {metric:.40} is no whole number"
        if type(value) is float and 0 <= value <= 1:
            continue
        if value is None:
            continue
        if type(value) not in (float, int) or not -_MOST < value < _MOST:
            return f"{metric:.40} is {value!r:.40}, not a number"
        if metric in SHARES and not -_ROUNDING <= value <= 1 + _ROUNDING:
            return f"{metric} is {value!r:.40}, not between 0 and 1"
    return ""


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_whole_or_all(value: Any) -> bool:
    return value == "all" or _is_whole(value)


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_list(value: Any) -> bool:
    return type(value) is list


def _are_texts(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= {str}


def _are_named_texts(value: Any) -> bool:
    return type(value) is dict and set(map(type, value.values())) <= {str}


def _are_named_numbers(value: Any) -> bool:
    if type(value) is not dict or not set(map(type, value.values())) <= _NUMBERS:
        return False
    return all([v is None or -_MOST < v < _MOST for v in value.values()])


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether it is a JSON value of finite numbers that is not too deep for anybody."""
    kind = type(value)
    if kind is float:
        return bool(-_MOST < value < _MOST)
    if kind in _SIMPLE:
        return True
    if depth == _DEEPEST:
        return False
    for item in value.values() if kind is dict else value:
        if type(item) not in _SIMPLE and not _is_plain(item, depth + 1):
            return False
    return True


def _are_options(value: Any) -> bool:
    return type(value) is dict and _is_plain(value)


def _is_run_id(value: Any) -> bool:
    return type(value) is str and _RUN_ID.fullmatch(value) is not None


def _is_checksum(value: Any) -> bool:
    return type(value) is str and _CHECKSUM.fullmatch(value) is not None


def _is_text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


def _are_plugins(value: Any) -> bool:
    named = type(value) is list and all(map(_are_named_texts, value))
    return named and all("kind" in plugin and "name" in plugin for plugin in value)


_PLAIN = ("a plain value", _is_plain)
_OPTIONS = ("an object of plain values", _are_options)
_ROWS = ("scores", "curves")
_CHECKSUMS = ("checksum", "curves_checksum", "predictions_checksum")
_FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "run_id": ("16 hexadecimal digits", _is_run_id),
    "spec": ("an object", _is_object),
    "ids": ("an object of texts", _are_named_texts),
    "versions": ("an object of texts", _are_named_texts),
    "variant": _OPTIONS,
    "environment": _OPTIONS,
    "tuned": ("an object of texts", _are_named_texts),
    "source_model": _OPTIONS,
    "cost": ("an object of numbers", _are_named_numbers),
    "extras": ("a list of texts", _are_texts),
    "plugins": ("a list of objects of texts with kind and name", _are_plugins),
    **dict.fromkeys(("reconstruction", "target_tuned", "failed"), ("true or false", _is_flag)),
    **dict.fromkeys(_ROWS, ("a list", _is_list)),
    "predictions": ("a file's name", _is_text_or_none),
    "traceback": ("a text", _is_text),
    **dict.fromkeys(_CHECKSUMS, ("32 hexadecimal digits", _is_checksum)),
}
_ALWAYS = ("run_id", "spec")
_NEEDED = (*_ALWAYS, "ids", "versions", "scores")
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", _is_text),
    "int": ("a whole number from 0 on", _is_whole),
    "int | Literal['all']": ("a whole number from 0 on, or 'all'", _is_whole_or_all),
    "dict[str, Any]": _OPTIONS,
}
#: as ``RunSpec`` declares them
_SPEC = {
    field.name: _KINDS[str(field.type).removesuffix(" | None")]
    for field in fields(RunSpec)
    if field.name not in UNRECORDED
}
_SPEC_NEEDED = tuple(field.name for field in fields(RunSpec) if field.default is MISSING)
