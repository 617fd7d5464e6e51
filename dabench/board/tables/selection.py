"""Which epoch a run is judged by: rules of model selection side by side (no torch).

``last`` ranks. ``im``, ``entropy``, ``entropy-classes`` and ``snd`` choose by a score that needs no
label (the curves of that name in a record, see ``docs/comparability.md``); entropy alone is a
diagnostic, because it can choose collapse. ``oracle`` chooses by the target's labels: an optimistic
bound without interval and rank. A record without the curve that a rule needs is a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from dabench.board.statistics.seeds import better_sign
from dabench.board.tables.leaderboard import table
from dabench.errors import ConfigError, did_you_mean
from dabench.registry.method_info import REGISTERED, MethodInfo
from dabench.store.identity import column_of
from dabench.store.records import Record, score_map, score_name
from dabench.store.rows import row_of

#: label-free scores, and whether more is better (1) or less (-1)
LABEL_FREE = {"im": 1.0, "entropy": -1.0, "entropy-classes": -1.0, "snd": 1.0}
RULES = ("last", *LABEL_FREE, "oracle")


@dataclass(frozen=True)
class EpochChoice:
    """What a rule makes of a run.

    Attributes:
        rule: one of ``RULES``.
        at: the epoch that it chooses; None = it cannot choose.
        judged: the score that it chose by, larger = better; None for ``last``.
        values: metric (``metric/segment``) -> value at that epoch: all final scores for ``last``,
            for the others those that were measured at every scored epoch.
        note: why it cannot choose ("" = it can).
    """

    rule: str
    at: int | None
    judged: float | None
    values: dict[str, float | None]
    note: str = ""


def choose_epoch(record: Record, rule: str, info: MethodInfo = REGISTERED) -> EpochChoice:
    """Return the epoch that a rule chooses in a run; among equals the latest.

    Args:
        record: a run's record, with its curves.
        rule: one of ``RULES``.
        info: knows the metric that ranks, for ``oracle`` (``method_info.registered_info()``).

    Raises:
        ConfigError: an unknown rule.
    """
    if rule not in RULES:
        raise ConfigError(f"selection '{rule}'{did_you_mean(rule, RULES)}")
    if rule == "last":
        rows = record["scores"]
        return EpochChoice(rule, rows[0].get("at", 0) if rows else None, None, score_map(record))
    spec = record["spec"]
    metric = info.primary(spec["protocol"], spec["dataset"]) if rule == "oracle" else rule
    found = [row for row in record.get("curves", ()) if score_name(row) == metric]
    judged = [
        (_sign(metric) * row["value"], row["at"]) for row in found if row["value"] is not None
    ]
    if not judged:
        why = _why(metric, bool(found)) if "curves" in record else "read without its curves"
        return EpochChoice(rule, None, None, dict.fromkeys(_shared(record)), why)
    best, at = max(judged)
    return EpochChoice(
        rule, at, best, {name: rows.get(at) for name, rows in _shared(record).items()}
    )


def with_chosen_epoch(record: Record, rule: str, info: MethodInfo = REGISTERED) -> Record:
    """Return a copy of a record whose scores are those at the epoch that the rule chooses.

    The copy says so under ``selection``. ``last`` changes no score. A rule that cannot choose
    leaves holes. Arguments are those of :func:`choose_epoch`.
    """
    found = choose_epoch(record, rule, info)
    about = {"rule": rule, "at": found.at, "judged": found.judged, "note": found.note}
    final = {score_name(row): row for row in record["scores"]}
    moved = {} if found.at is None else {"at": found.at}
    scores = [{**final[name], "value": value} | moved for name, value in found.values.items()]
    return {**record, "scores": scores, "selection": about}


def side_by_side(
    records: Iterable[Record],
    rules: Sequence[str] = RULES,
    against: str = "source",
    info: MethodInfo = REGISTERED,
) -> pd.DataFrame:
    """Return the leaderboard's lines once for each rule, named in the column ``selection``.

    Both sides of a difference follow the same rule. Lines of ``oracle`` are marked in the column
    ``optimistic`` and have no intervals and no verdicts; ``target_tuned`` marks rows whose
    hyper-parameters were chosen by labels of the target. ``note`` says why a rule left a hole.

    Args:
        records: of finished runs, with their curves.
        rules: some of ``RULES``.
        against: as in ``leaderboard.table``.
        info: knows the metrics that rank, as in :func:`choose_epoch`.
    """
    kept = list(records)
    frames = [_by_rule(kept, rule, against, info) for rule in rules]
    return pd.concat(frames, ignore_index=True)


def _by_rule(records: list[Record], rule: str, against: str, info: MethodInfo) -> pd.DataFrame:
    applied = [with_chosen_epoch(record, rule, info) for record in records]
    said = ((row_key(record), record["selection"]["note"]) for record in applied)
    notes = {row: note for row, note in said if note}
    frame = table(applied, against, info)
    keys = list(zip(*(frame[n] for n in ("column", "method", "variant", "version")), strict=True))
    why = [notes.get(key, "") if n == 0 else "" for key, n in zip(keys, frame["n"], strict=True)]
    frame["note"] = [note or reason for note, reason in zip(frame["note"], why, strict=True)]
    frame["selection"], frame["optimistic"] = rule, rule == "oracle"
    if rule == "oracle":
        ends = ("_low", "_high", "verdict")
        frame[[name for name in frame.columns if name.endswith(ends)]] = None
    return frame


def _shared(record: Record) -> dict[str, dict[int, float | None]]:
    """Return metric -> epoch -> value of the final scores that have a curve.

    Where none has, all final scores: they become holes.
    """
    curves: dict[str, dict[int, float | None]] = {score_name(row): {} for row in record["scores"]}
    for row in record.get("curves", ()):
        if score_name(row) in curves:
            curves[score_name(row)][row["at"]] = row["value"]
    return {name: found for name, found in curves.items() if found} or curves


def _sign(metric: str) -> float:
    return LABEL_FREE.get(metric, better_sign(metric))


def _why(metric: str, there: bool) -> str:
    if there:
        return f"'{metric}' is a hole at every epoch"
    return (
        f"no curve of '{metric}': streams have none, and records of before this score none yet "
        "('dabench run' with --force makes them again)"
    )


def row_key(record: Record) -> tuple[str, str, str, str]:
    """Return what names a run's row: key of the column, label, variant, version."""
    row = row_of(record)
    return column_of(record), row.label, row.variant, row.version
