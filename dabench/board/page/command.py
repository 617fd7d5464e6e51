"""From a record back to the command that makes it: ``dabench run …``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dabench.config.options import as_argument
from dabench.config.spec import OPTIONAL_FIELDS
from dabench.store.records import Record

_FIRST = ("method", "protocol", "dataset", "source", "target")
_LAST = ("seed", "device", "threads")
_OPTIONS = ("method_options", "protocol_options")


def shared_command(record: Record) -> str:
    """Return the command of a record without what differs between runs of a cell.

    Of the method's options only those that differ from their defaults are named, where the record
    knows which; the defaults belong to the method's version, which the record names too.
    """
    spec = record["spec"]
    changed = record.get("variant")
    options = spec["method_options"] if changed is None else changed
    followed = _followed(spec)
    plain = [n for n in spec if n not in (*_FIRST, *_LAST, *_OPTIONS, *OPTIONAL_FIELDS, *followed)]
    arguments = ["dabench", "run"]
    for name in (*_FIRST, *plain, *OPTIONAL_FIELDS):
        if spec.get(name) is not None:
            arguments += [f"--{name.replace('_', '-')}", as_argument(spec[name])]
    arguments += _dotted("method", options) + _dotted("protocol", spec["protocol_options"])
    return shlex.join(arguments)


def _followed(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that follow from a source model of somebody else, and are refused by it."""
    if spec.get("source_model") is None:
        return ()
    # where it only answers, the method has a network of its own
    return ("source_epochs", *(("backbone", "weights") if spec["weights"] == "trained" else ()))


def run_arguments(record: Record) -> str:
    """Return the rest of the command but the seed: device and threads of this run."""
    return shlex.join(_given(record["spec"], ("device", "threads")))


def full_command(record: Record) -> str:
    """Return the whole command that makes this run again."""
    seed = shlex.join(_given(record["spec"], ("seed",)))
    return f"{shared_command(record)} {seed} {run_arguments(record)}"


def _given(spec: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [w for n in names if spec.get(n) is not None for w in (f"--{n}", as_argument(spec[n]))]


def _dotted(prefix: str, options: Mapping[str, Any]) -> list[str]:
    """Return ``--prefix.name value`` arguments; an unset option of a protocol is not named."""
    kept = {n: v for n, v in sorted(options.items()) if v is not None or prefix == "method"}
    return [word for n, v in kept.items() for word in (f"--{prefix}.{n}", as_argument(v))]
