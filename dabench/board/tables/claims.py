"""Numbers that papers report, beside what was measured here (no torch).

A claim is never ranked and never compared with a test: where anything of its setting differs from
ours, or could not be read, ``differs`` says so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from dabench import registry
from dabench.config.signature import usual_options
from dabench.errors import ConfigError, StoreError
from dabench.store.rows import options_text

#: target of a claim that is a mean over a data set's tasks
AVERAGE = "average"
_NEEDED = ("claim", "protocol", "dataset", "target", "metric", "paper", "read_in")
#: field of a claim -> how a reader calls it
_SETTING = {"backbone": "backbone", "image_size": "image size", "weights": "weights"}
_KEY = ("protocol", "dataset", "task", "metric", "method", "variant")
Places = Mapping[tuple[str, ...], Sequence[int]]
_MEASURED = ("row", "measured", "sd", "n", "same_setting", "differs")


@dataclass(frozen=True)
class Claim:
    """A number as a paper prints it.

    Attributes:
        claim: the method as the paper names it.
        method: the row of ours that is meant (``dine fine_tune=0.5``); "" = none.
        protocol: our protocol that comes nearest.
        dataset: name of the data set.
        source: source domain; "" for an average over tasks.
        target: target domain, or ``average``.
        metric: as in docs/comparability.md.
        percent: the number.
        backbone: "" where it could not be read; so with the next two.
        image_size: in pixels.
        weights: before source training.
        options: options of the protocol that the paper's setting comes to.
        paper: who reports it.
        table: where in the paper.
        read_in: where it was read.
        note: what else a reader must know.
    """

    claim: str
    method: str
    protocol: str
    dataset: str
    source: str
    target: str
    metric: str
    percent: float
    backbone: str
    image_size: str
    weights: str
    options: str
    paper: str
    table: str
    read_in: str
    note: str


def read_claims(path: Path) -> list[Claim]:
    """Read ``results/claims.csv``; without such a file there are no claims.

    Raises:
        StoreError: a column is missing, a number is none, or lies outside 0 to 100.
    """
    if not path.exists():
        return []
    names = [field.name for field in fields(Claim)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in names if name not in (reader.fieldnames or [])]
            if missing:
                raise StoreError(f"{path}: column {', '.join(missing)} is missing")
            return [_claim(path, reader.line_num, line, names) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error


def claims(frame: pd.DataFrame, reported: Iterable[Claim]) -> pd.DataFrame:
    """Return the claims, each with the rows of ours that come nearest (or with none).

    Columns: those of ``Claim``; ``value`` (a fraction); ``row``, ``measured`` (mean over seeds),
    ``sd``, ``n``; ``same_setting``; ``differs``, in words. A claim has a line for each column of
    the leaderboard (budget) in which its row stands.

    Args:
        frame: the leaderboard.
        reported: what ``read_claims`` found.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    keys = zip(*(frame[name].tolist() for name in _KEY), strict=True)
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    lines = [line for claim in reported for line in _beside(frame, places, claim)]
    names = [field.name for field in fields(Claim)]
    return pd.DataFrame(lines, columns=[*names, "value", *_MEASURED])


def _claim(path: Path, number: int, line: dict[str, Any], names: Sequence[str]) -> Claim:
    if None in line or None in line.values():
        raise StoreError(f"{path}, line {number}: expected {len(names)} fields")
    try:
        percent = float(line["percent"])
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise StoreError(f"{path}, line {number}: percent '{line['percent']}' is not in 0 to 100")
    empty = [name for name in _NEEDED if not line[name]]
    if empty:
        raise StoreError(f"{path}, line {number}: {', '.join(empty)} is empty; a claim needs it")
    return Claim(**{name: line[name] for name in names} | {"percent": percent})


def _beside(frame: pd.DataFrame, places: Places, claim: Claim) -> list[dict[str, Any]]:
    head = vars(claim) | {"value": claim.percent / 100}
    found = _rows(frame, places, claim)
    if not found:
        nothing = dict.fromkeys(("measured", "sd"), math.nan)
        return [head | nothing | {"row": "", "n": 0, "same_setting": False, "differs": ""}]
    lines = []
    for ours in found:
        differs = _differs(claim, ours)
        row = f"{ours['method']} {ours['variant']}".strip()
        measured = {"measured": ours["mean"], "sd": ours["sd"], "n": ours["n"], "row": row}
        remarks = [*differs, *_warnings(claim, ours)]
        lines.append(head | measured | {"same_setting": not differs, "differs": "; ".join(remarks)})
    return lines


def _rows(frame: pd.DataFrame, places: Places, claim: Claim) -> list[dict[str, Any]]:
    if not claim.method or claim.target == AVERAGE:
        return []
    label, _, variant = claim.method.partition(" ")
    task = f"{claim.source}→{claim.target}"
    key = (claim.protocol, claim.dataset, task, claim.metric, label, variant)
    found = frame.iloc[list(places.get(key, ()))]
    return [{str(k): v for k, v in line.items()} for line in found.to_dict("records")]


def _differs(claim: Claim, ours: dict[str, Any]) -> list[str]:
    """Return what is known to differ, or could not be read."""
    differences = []
    for name, title in _SETTING.items():
        theirs = getattr(claim, name)
        if not theirs:
            differences.append(f"{title} of the paper unknown")
        elif theirs != str(ours[name]):
            differences.append(f"{title} {theirs}, here {ours[name]}")
    theirs, options = _tokens(claim.options), _tokens(ours["protocol_options"])
    if not theirs.keys() <= options.keys():
        options = _usual(claim.protocol) | options
    for name, value in theirs.items():
        if options.get(name) != value:
            differences.append(f"{name} {value}, here {options.get(name, 'no such option')}")
    if not claim.options:
        differences.append("protocol of the paper unknown")
    return differences


def _tokens(text: str) -> dict[str, str]:
    return dict(token.partition("=")[::2] for token in text.split())


def _usual(protocol: str) -> dict[str, str]:
    """Return a protocol's defaults as text: a spec leaves out some that came later."""
    try:
        return _tokens(options_text(usual_options(registry.protocol(protocol), "protocol")))
    except ConfigError:  # a plugin that is not loaded
        return {}


def _warnings(claim: Claim, ours: dict[str, Any]) -> list[str]:
    said = ["our row is a reconstruction"] if ours["reconstruction"] else []
    return [*said, *([claim.note] if claim.note else [])]
