"""From a record back to the words that make it: ``dabench run …``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dabench.store.records import OPTIONAL, Record

_FIRST = ("method", "protocol", "dataset", "source", "target")
_LAST = ("seed", "device", "threads")
_OPTIONS = ("method_options", "protocol_options")


def shared_words(record: Record) -> str:
    """Return the command of a record without what differs between runs of a cell.

    Of the method's options only those that differ from their defaults are named, where the record
    knows which; the defaults belong to the method's version, which the record names too.
    """
    spec = record["spec"]
    changed = record.get("variant")
    options = spec["method_options"] if changed is None else changed
    plain = [n for n in spec if n not in (*_FIRST, *_LAST, *_OPTIONS, *OPTIONAL)]
    words = ["dabench", "run"]
    for name in (*_FIRST, *plain, *OPTIONAL):
        if spec.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", _word(spec[name])]
    words += _dotted("method", options) + _dotted("protocol", spec["protocol_options"])
    return shlex.join(words)


def own_words(record: Record) -> str:
    """Return the rest of the command but the seed: device and threads of this run."""
    return shlex.join(_given(record["spec"], ("device", "threads")))


def command(record: Record) -> str:
    """Return the whole command that makes this run again."""
    seed = shlex.join(_given(record["spec"], ("seed",)))
    return f"{shared_words(record)} {seed} {own_words(record)}"


def _given(spec: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [w for n in names if spec.get(n) is not None for w in (f"--{n}", _word(spec[n]))]


def _dotted(prefix: str, options: Mapping[str, Any]) -> list[str]:
    """Return ``--prefix.name value`` words; an unset option of a protocol is not named."""
    kept = {n: v for n, v in sorted(options.items()) if v is not None or prefix == "method"}
    return [word for n, v in kept.items() for word in (f"--{prefix}.{n}", _word(v))]


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
