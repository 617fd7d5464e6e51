"""Which hyper-parameters a rule chooses for a method: its variants within a column (no torch).

The rules, and the epoch at which each judges a run, are those of ``selection``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dabench.board.statistics.holes import mean_of_all
from dabench.board.tables.agreement import ids_of
from dabench.board.tables.selection import choose_epoch, row_key, with_chosen_epoch
from dabench.registry.method_info import REGISTERED, MethodInfo
from dabench.store.records import Record


@dataclass(frozen=True)
class VariantChoice:
    """The hyper-parameters that a rule chooses for a method in a column.

    Attributes:
        column: as ``identity.column_key`` makes it.
        method: with ``+bn`` where BatchNorm was re-estimated on the target.
        version: of method, protocol and start.
        rule: one of ``RULES``.
        variant: changed options of the chosen runs ("" = the defaults); None = no choice.
        judged: variant -> mean score over the common runs, larger = better; None = a hole.
        runs: number of seeds that all candidates have, on equal data, stream and source model.
        target_tuned: whether labels of the target chose among several candidates.
        note: why there is no choice ("" = there is).
    """

    column: str
    method: str
    version: str
    rule: str
    variant: str | None
    judged: Mapping[str, float | None]
    runs: int
    target_tuned: bool
    note: str = ""


def choose_variants(
    records: Iterable[Record], rule: str, info: MethodInfo = REGISTERED
) -> list[VariantChoice]:
    """Choose among the variants of each method within a column by the score of a rule.

    A candidate's score is the mean, over the runs that all candidates have in common (same seed,
    data, stream and source model), of the rule's score at the epoch that the rule chooses.
    ``last`` does not look: it takes the default options. Arguments are those of
    :func:`selection.choose_epoch`.

    Raises:
        ConfigError: an unknown rule.
    """
    groups: dict[tuple[str, str, str], dict[str, dict[str, Record]]] = defaultdict(dict)
    for record in records:
        key, method, variant, version = row_key(record)
        runs = groups[key, method, version].setdefault(variant, {})
        runs[_pairing(record)] = record
    return [_choice(key, groups[key], rule, info) for key in sorted(groups)]


def chosen_runs(
    records: Iterable[Record], rule: str, info: MethodInfo = REGISTERED
) -> list[Record]:
    """Return the runs of the variants that a rule chooses, at the epochs that it chooses.

    They carry ``target_tuned`` where the rule or they themselves looked at labels of the target;
    their variant stays in the record, so that it can be shown.
    """
    kept = list(records)
    chosen = {
        (c.column, c.method, c.variant, c.version): c for c in choose_variants(kept, rule, info)
    }
    found = []
    for record in kept:
        choice = chosen.get(row_key(record))
        if choice is not None:
            tuned = choice.target_tuned or bool(record.get("target_tuned"))
            found.append({**with_chosen_epoch(record, rule, info), "target_tuned": tuned})
    return found


def _choice(
    key: tuple[str, str, str],
    candidates: Mapping[str, Mapping[str, Record]],
    rule: str,
    info: MethodInfo,
) -> VariantChoice:
    common = set.intersection(*(set(runs) for runs in candidates.values()))
    if rule == "last":
        variant, judged = ("" if "" in candidates else None), dict.fromkeys(candidates)
        note = "" if variant is not None else "no run with default options"
        return VariantChoice(*key, rule, variant, judged, len(common), False, note)
    judged = {
        name: mean_of_all([choose_epoch(runs[pair], rule, info).judged for pair in sorted(common)])
        for name, runs in sorted(candidates.items())
    }
    scores = {name: value for name, value in judged.items() if value is not None}
    if len(scores) < len(judged):
        holes = ", ".join(name or "the defaults" for name in judged if name not in scores)
        why = f"no score of {holes}" if common else "the candidates share no run"
        return VariantChoice(*key, rule, None, judged, len(common), False, why)
    best = max(scores, key=lambda name: (scores[name], not name))
    tuned = rule == "oracle" and len(scores) > 1
    return VariantChoice(*key, rule, best, judged, len(common), tuned)


def _pairing(record: Record) -> str:
    return " ".join([f"{record['spec']['seed']:06d}", *ids_of(record)])
