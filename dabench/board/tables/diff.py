"""Why two runs are comparable, or not, in words (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dabench.board.tables.agreement import ids_of
from dabench.config.spec import OPTIONAL_FIELDS
from dabench.store.identity import COLUMN_FIELDS, IDS, column_of, file_ids
from dabench.store.records import Record, score_map
from dabench.store.rows import row_of

_ABSENT = "not given"


@dataclass
class RunDiff:
    """What two runs have in common, and what not.

    Attributes:
        names: one line for each run.
        reasons: why they are not comparable; empty where they are.
        compared: what differs and is meant to: method, start, options.
        remarks: what differs besides, and may move numbers: versions, machine, extras.
        scores: metric -> (A, B), where they are comparable; None is a hole.
    """

    names: tuple[str, str]
    reasons: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    scores: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    @property
    def comparable(self) -> bool:
        """Whether the difference of their scores means something."""
        return not self.reasons


def compare_runs(a: Record, b: Record) -> RunDiff:
    """Say whether two runs may be held against each other, and what follows.

    They may where they stand in one column of the leaderboard, have one seed, and saw the same data
    and stream from the same source model.
    """
    found = RunDiff((run_name(a), run_name(b)))
    found.reasons = [*_failed(a, b), *_settings(a, b)]
    if a["spec"]["seed"] != b["spec"]["seed"]:
        found.reasons.append(
            f"seed {a['spec']['seed']} against {b['spec']['seed']}: pair runs of one seed; "
            "'dabench leaderboard' compares rows over seeds"
        )
    elif not found.reasons:
        found.reasons = _versions(a, b) or _ids(a, b)
    found.compared = _compared(a, b)
    found.remarks = _remarks(a, b)
    if found.comparable:
        ours, theirs = score_map(a), score_map(b)
        names = [*ours, *(name for name in theirs if name not in ours)]
        found.scores = {name: (ours.get(name), theirs.get(name)) for name in names}
    return found


def run_name(record: Record) -> str:
    """Return a run in one line: row, seed, protocol, data, id."""
    spec = record["spec"]
    row, task = row_of(record).name, f"{spec['source']}→{spec['target']}"
    where = f"{spec['protocol']} on {spec['dataset']} {task}"
    return f"{row}, seed {spec['seed']}, {where} ({record['run_id']})"


def _failed(a: Record, b: Record) -> list[str]:
    return [
        f"{name} failed and has no scores" for name, r in (("A", a), ("B", b)) if r.get("failed")
    ]


def _settings(one: Record, two: Record) -> list[str]:
    """Return the fields of a column that differ."""
    if column_of(one) == column_of(two):
        return []
    files = [file_ids(record.get("ids", {})) for record in (one, two)]
    known = files[0].keys() & files[1].keys()  # a failed run may know of none
    a, b = (
        {**record["spec"], **{name: own[name][:12] for name in known}}
        for record, own in zip((one, two), files, strict=True)
    )
    names = [*(n for n in COLUMN_FIELDS if n != "protocol_options"), *OPTIONAL_FIELDS]
    lines = _changes({n: a.get(n) for n in names}, {n: b.get(n) for n in names})
    if a["protocol"] == b["protocol"]:
        options = _changes(a["protocol_options"], b["protocol_options"])
        lines += [f"option {line} of the protocol" for line in options]
    return lines


def _versions(a: Record, b: Record) -> list[str]:
    """Return why no difference is paired at equal settings, whatever the ids say."""
    kind = row_of(a).other_version(row_of(b))
    if not kind:
        return []
    name = "protocol" if kind == "protocol" else "init"
    left, right = (record["versions"].get(name, "1") for record in (a, b))
    return [f"{kind} version {left} against {right}: another task; run the older one again"]


def _ids(a: Record, b: Record) -> list[str]:
    pairs = zip(IDS, ids_of(a), ids_of(b), strict=True)
    meanings = {
        "data": "other images or labels: the folder, or the code that reads it, has changed",
        "stream": "other images in the parts, or another order: the protocol's code has changed",
        "source": "another source model: its recipe, or the code that trains it, has changed",
    }
    return [
        f"{name} id {left[:12]} against {right[:12]} at equal settings: {meanings[name]}"
        for name, left, right in pairs
        if left != right
    ]


def _compared(a: Record, b: Record) -> list[str]:
    names = ("method", "init")
    lines = _changes({n: a["spec"][n] for n in names}, {n: b["spec"][n] for n in names})
    if a["spec"]["method"] == b["spec"]["method"]:
        lines += _changes(a["spec"]["method_options"], b["spec"]["method_options"])
    return lines


def _remarks(a: Record, b: Record) -> list[str]:
    lines = []
    same = a["spec"]["method"] == b["spec"]["method"]
    for title in ("versions", "environment"):
        left, right = dict(a.get(title) or {}), dict(b.get(title) or {})
        if title == "versions" and not same:  # those of two methods say nothing
            left.pop("method", None), right.pop("method", None)
        lines += [f"{title}: {line}" for line in _changes(left, right)]
    for name in ("device", "threads"):
        if a["spec"].get(name) != b["spec"].get(name):
            lines.append(f"{name} moves the last digits of scores, and training amplifies them")
    extras = (" ".join(r.get("extras", [])) or "none" for r in (a, b))
    lines += _changes(*({"granted extras": names} for names in extras))
    marks = [name for name, r in (("A", a), ("B", b)) if r.get("reconstruction")]
    return [*lines, *(f"{name} is a reconstruction" for name in marks)]


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return ``name x against y`` for each value that differs."""
    names = [*a, *(name for name in b if name not in a)]
    pairs = [(name, a.get(name, _ABSENT), b.get(name, _ABSENT)) for name in names]
    return [f"{n} {_text(x)} against {_text(y)}" for n, x, y in pairs if x != y]


def _text(value: Any) -> str:
    return _ABSENT if value is None else str(value)
