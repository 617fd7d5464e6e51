"""Our figures beside those of reproduction cards, looked up in the records (no torch)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dabench import registry
from dabench.board.tables.agreement import repeated, seed_of
from dabench.board.tables.cards import METRICS, SETUP, Card
from dabench.config.signature import usual_options
from dabench.config.spec import resolve
from dabench.errors import ConfigError
from dabench.store.records import Record, score_map
from dabench.store.rows import version_of, version_order

#: fields of a spec that do not tell a card's runs from others: those of the machine, and paths,
#: whose files' content is in a record's ids
_LOOSE = ("seed", "device", "threads", "source_checkpoint")
_HEADER = (
    "<!-- Made of results/cards/ and the records by `dabench cards --markdown`: not by hand. -->"
)


@dataclass(frozen=True)
class Figure:
    """What was measured for a card.

    Attributes:
        percent: in the card's metric, the mean over tasks of the means over seeds; NaN where the
            metric is not defined in a run, or the runs are refused.
        seeds: how many, of the task with the fewest.
        runs: ids of the runs.
        reconstruction: the method is one of a paper that could not be read whole.
        note: why the runs are refused ("" = they are not).
    """

    percent: float
    seeds: int
    runs: tuple[str, ...]
    reconstruction: bool
    note: str = ""


def figure_of(card: Card, records: Iterable[Record]) -> Figure | None:
    """Return our figure for a card: of the runs that it names, else of those that fit its options.

    Options that a card does not give have their defaults; of several versions of method, protocol
    and start the newest counts. Two records of a seed, as of two machines, are refused as in the
    tables: they are no two seeds. None = a task has no run.

    Args:
        card: whose figure is wanted.
        records: of its protocol and data set.

    Raises:
        ConfigError: a run that the card names is missing, or its options are none.
    """
    metric, wrong = METRICS[card.metric]
    found = _runs_of(card, list(records))
    runs: dict[Any, list[Record]] = defaultdict(list)
    for record in found:
        runs[_task(record, card)].append(record)
    if set(runs) != set(card.tasks):
        return None
    note = next(filter(None, map(_twice, runs.values())), "")
    mean = math.nan if note else sum(_mean(own, metric) for own in runs.values()) / len(runs)
    return Figure(
        100 * (1 - mean if wrong else mean),
        min(map(len, runs.values())),
        tuple(str(record["run_id"]) for record in found),
        any(record.get("reconstruction") for record in found),
        note,
    )


def _mean(runs: Sequence[Record], metric: str) -> float:
    values = [score_map(record).get(metric) for record in runs]
    return sum(math.nan if value is None else value for value in values) / len(values)


def _twice(runs: Sequence[Record]) -> str:
    """Say which seed of a task has several records, and the way out ("" = none has)."""
    seeds = [seed_of(run) for run in runs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    return f"refused: {repeated(twice[0], runs)}; name one under run.records" if twice else ""


def lines_of(pairs: Sequence[tuple[Card, Figure | None]]) -> list[list[str]]:
    """Return a table of cards: a head, and a line each."""
    lines = [["card", "benchmark", "metric", "published", "ours", "gap", "state"]]
    for card, ours in pairs:
        percent = f"{card.percent:.1f}"
        figures = [percent, "-", "-"]
        if ours and not math.isnan(ours.percent):
            figures = [percent, f"{ours.percent:.1f}", f"{ours.percent - card.percent:+.1f}"]
        lines.append([card.name, card.benchmark, card.metric, *figures, state_of(card, ours)])
    return lines


def state_of(card: Card, ours: Figure | None) -> str:
    """Say how many seeds a card's figure has, or what a run needs."""
    if ours:
        if ours.note:
            return ours.note
        if math.isnan(ours.percent):
            return f"run, and {card.metric} is not defined there"
        seeds = f"{ours.seeds} seed{'s' if ours.seeds > 1 else ''}"
        return f"{seeds}, reconstruction" if ours.reconstruction else seeds
    needs = card.missing()
    return f"not run: needs {'; '.join(needs)}" if needs else "not run"


def said_of_others(names: Sequence[str]) -> str:
    """Say which methods have no card."""
    return f"No published figure read: {', '.join(names)}."


def markdown(pairs: Sequence[tuple[Card, Figure | None]], others: Sequence[str] = ()) -> str:
    """Return the page of all cards, ``docs/reproduction.md``; ``others``: methods without one."""
    run = [pair for pair in pairs if pair[1]]
    rest = [pair for pair in pairs if not pair[1]]
    head = [
        "# Reproduction cards",
        _HEADER,
        "Figures that others published, the set-up that they were measured in, and the command "
        "that comes nearest here. A card is a YAML file in `results/cards/`; `dabench cards` "
        "prints them, `dabench cards NAME` one of them. Ours are looked up in the records, never "
        "typed. Add `--data-root` to a command, and `--seeds 0-4` where the figure is a mean of "
        "five; error = 100 (1 − accuracy). "
        f"{len(run)} of {len(pairs)} cards have a figure of ours. A gap is ours − published, in "
        "points, and is no verdict: `reason` says what differs. Whether your files and weights are "
        "the published ones, `dabench verify` tells ([comparability.md](comparability.md)). Cards "
        "take published figures as their sources print them, selection included "
        "([peeking.md](peeking.md)).",
        *([said_of_others([f"`{name}`" for name in others])] if others else []),
    ]
    for title, part in (("Measured here", run), ("Not run", rest)):
        head += [f"## {title}", "\n".join(_rows(lines_of(part)))] if part else []
    return "\n\n".join([*head, *(_section(card, ours) for card, ours in run + rest)]) + "\n"


def described(card: Card, ours: Figure | None) -> list[tuple[str, str]]:
    """Return all that a card says, by name."""
    known = [("published", f"{card.percent:.1f} {card.metric} (%), as {card.printed_as}")]
    known += [("source", f"{card.source['paper']}: {card.source['place']}")]
    known += [(name, card.setup[name]) for name in SETUP]
    if ours and not math.isnan(ours.percent):
        gap = f"{ours.percent - card.percent:+.1f}"
        known += [("ours", f"{ours.percent:.1f} ({state_of(card, ours)}), gap {gap}")]
        known += [("runs", " ".join(ours.runs))]
    else:
        known += [("ours", state_of(card, ours))]
    return [*known, *([("reason", card.reason)] if card.reason else [])]


def _section(card: Card, ours: Figure | None) -> str:
    known = dict(described(card, ours))
    lines = [f"{known['published']}; {known['source']}."]
    lines.append("; ".join(f"**{name}** {card.setup[name]}" for name in SETUP) + ".")
    lines.append(f"**ours** {known['ours']}." + (f" {card.reason}" if card.reason else ""))
    more = f" (and {len(card.commands) - 1} tasks more)" if len(card.commands) > 1 else ""
    lines.append(f"`{card.commands[0]}`{more}")
    return "\n\n".join([f"## {card.name}", *lines])


def _rows(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = [[text.replace("|", "\\|") for text in line] for line in lines]
    shown = [[f"[{line[0]}](#{line[0]})", *line[1:]] for line in rest]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *shown)]


def _runs_of(card: Card, records: list[Record]) -> list[Record]:
    """Return the runs that a card means, of the newest version."""
    own = [record for record in records if record["spec"]["method"] == card.method]
    if card.records:
        found = [r for r in own if str(r["run_id"]).startswith(tuple(card.records))]
        if len(found) != len(card.records):
            raise ConfigError(
                f"card {card.name}: run.records names {len(card.records)} runs of {card.method}, "
                f"and {len(found)} are among the records of {card.run['protocol']} and "
                f"{card.run['dataset']}; take out what is not there, or add the record"
            )
        return found
    if not own:
        return []
    found = [r for wanted in _specs(card) for r in own if _same(r["spec"], wanted)]
    newest = max(map(_age, found), default=None)
    return [record for record in found if _age(record) == newest]


def _specs(card: Card) -> list[dict[str, Any]]:
    """Return the full spec of each task, defaults filled in."""
    given = {name: text for name, text in card.run.items() if name not in ("tasks", "records")}
    found = []
    for source, target in card.tasks:
        ends = {"source": source, "target": target} if source else {}
        try:
            (spec,) = resolve({**given, **ends, "method": card.method, "device": "cpu", "seed": 0})
        except ConfigError as error:
            raise ConfigError(f"card {card.name}: {error}") from error
        found.append(spec.to_dict())
    return found


def _same(mine: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a record's spec is the wanted one; options that it lacks had their default."""
    usual = {
        "method_options": usual_options(registry.method(wanted["method"]), "method"),
        "protocol_options": usual_options(registry.protocol(wanted["protocol"]), "protocol"),
    }
    for name in (mine.keys() | wanted.keys()) - {*_LOOSE, *usual}:
        if mine.get(name) != wanted.get(name):
            return False
    return all(
        {**options, **mine[name]} == {**options, **wanted[name]} for name, options in usual.items()
    )


def _task(record: Record, card: Card) -> tuple[str, str]:
    spec = record["spec"]
    return (spec["source"], spec["target"]) if card.tasks != [("", "")] else ("", "")


def _age(record: Record) -> tuple[int, ...]:
    return version_order(version_of(record))
