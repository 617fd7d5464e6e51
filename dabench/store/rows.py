"""What makes a table's row: runs that differ only in their seed (and machine)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dabench.config.options import row_label
from dabench.store.records import Record


@dataclass(frozen=True)
class Row:
    """A method at one start, with its changed options, in one version."""

    method: str
    init: str
    variant: str
    version: str

    @property
    def label(self) -> str:
        """The method's name, with ``+bn`` where BatchNorm was re-estimated on the target."""
        return row_label(self.method, self.init)

    @property
    def name(self) -> str:
        """The label, and where options differ from the defaults ``option=value``."""
        return f"{self.label} {self.variant}".strip()

    @property
    def protocol_version(self) -> str:
        """The version of its protocol: one of another version poses another task."""
        return "".join(self.version.split("/")[1:2])

    def other_version(self, other: Row) -> str:
        """Say why no difference is paired with another row: ``protocol``, ``start`` ("" = it is).

        A protocol of another version poses another task. Versions of two different starts are not
        told apart, for they are no versions of one thing.
        """
        ours, theirs = (row.version.split("/")[1:] for row in (self, other))
        if ours[:1] != theirs[:1]:
            return "protocol"
        return "start" if self.init == other.init and ours != theirs else ""

    @property
    def is_baseline(self) -> bool:
        """Whether this is the plain source model, whose ids the others must have."""
        return self.name == "source"


def version_order(text: str) -> tuple[int, ...]:
    """Return what sorts versions (method/protocol, and /start) from the oldest to the newest."""
    return tuple(
        # not isdigit: a superscript is a digit, and no number
        int(part) if part.isascii() and part.isdecimal() and len(part) < 19 else -1
        for part in text.split("/")
    )


def newest_tasks(lines: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return, of (column, version), those under the newest version of the column's protocol.

    Another one posed another task: its rows are no competitors of the others.
    """
    found = {*lines}
    newest: dict[str, tuple[int, ...]] = {}
    for column, version in found:
        newest[column] = max(newest.get(column, ()), version_order(version)[1:2])
    return {(c, version) for c, version in found if version_order(version)[1:2] == newest[c]}


def reference_of(row: Row, standing: Iterable[Row]) -> Row | None:
    """Return the newest of some rows that a row's differences may be paired with.

    Args:
        row: the one that is judged.
        standing: versions of the row that it is held against; refused ones left out.
    """
    fitting = [other for other in standing if not row.other_version(other)]
    return max(fitting, key=lambda other: version_order(other.version), default=None)


def varying_options(records: Sequence[Record]) -> dict[str, set[str]]:
    """Return, a method, the options with several values (for records that name no variant)."""
    if all(record.get("variant") is not None for record in records):
        return {}
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for name, value in record["spec"]["method_options"].items():
            seen[record["spec"]["method"], name].add(json.dumps(value, sort_keys=True))
    varying: dict[str, set[str]] = defaultdict(set)
    for (method, name), values in seen.items():
        if len(values) > 1:
            varying[method].add(name)
    return varying


def row_of(record: Record, varying: Mapping[str, set[str]] | None = None) -> Row:
    """Return the row that a record belongs to.

    Args:
        record: a run's record.
        varying: what ``varying_options`` found; for records without ``variant``.
    """
    spec = record["spec"]
    shown = record.get("variant")
    if shown is None:
        names = (varying or {}).get(spec["method"], set())
        shown = {k: v for k, v in spec["method_options"].items() if k in names}
    return Row(spec["method"], spec["init"], options_text(shown), version_of(record))


def version_of(record: Record) -> str:
    """Return the versions of a record's method and protocol, and of its start where it has one."""
    versions = record.get("versions", {})
    parts = [versions.get("method", "?"), versions.get("protocol", "?")]
    parts += [versions["init"]] if "init" in versions else []
    return "/".join(map(str, parts))


def options_text(options: Mapping[str, Any]) -> str:
    """Return ``name=value`` for each option, by name."""
    return " ".join(f"{name}={options[name]}" for name in sorted(options))


def least_changed_variants(rows: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return, of (label, variant), those with the fewest changed options of their label.

    They stand for their method where one row must: the best of its variants would be a choice by
    the target's labels.
    """
    lengths = {row: len(row[1].split()) for row in rows}
    fewest: dict[str, int] = {}
    for (label, _), length in lengths.items():
        fewest[label] = min(fewest.get(label, length), length)
    return {row for row, length in lengths.items() if length == fewest[row[0]]}
