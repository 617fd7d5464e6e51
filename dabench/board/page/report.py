"""One run as one page: ``dabench report RUN``. What a protocol did not record is left out."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench.board.page import texts
from dabench.board.page.command import full_command
from dabench.board.page.dialog_data import flat_spec
from dabench.board.page.figures import Section, sections
from dabench.board.page.render import render
from dabench.config.options import row_label
from dabench.errors import StoreError
from dabench.registry.method_info import REGISTERED, TARGET_TUNED, MethodInfo
from dabench.store.records import Record, score_map, score_name

#: bytes of pictures that a page may hold
MOST_PICTURES = 8 * 2**20
_COSTS = {
    **dict.fromkeys(("seconds", "adapt_seconds"), texts.seconds),
    **dict.fromkeys(("peak_memory_bytes", "step_memory_bytes"), texts.size),
}


@dataclass(frozen=True)
class ScoreLine:
    """A score's line in the table."""

    name: str
    value: float | None
    n: int
    at: int


def report_page(
    path: Path, record: Record, base: Record | None, pictures: Path, info: MethodInfo = REGISTERED
) -> bytes:
    """Return the report of a run.

    Args:
        path: of the record; its predictions lie beside it.
        record: finished or failed.
        base: the run of ``source`` that it is held against, where there is one.
        pictures: the folder of the run's PNG files; it need not exist.
        info: baselines, the upper bound and the metrics that rank.

    Raises:
        StoreError: the record lacks its spec.
    """
    try:
        spec = record["spec"]
        title = row_label(spec["method"], spec["init"])
        where = f"{spec['protocol']} · {spec['dataset']} {spec['source']} → {spec['target']}"
        again = full_command(record)
        headline = _headline(record, base, info)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} lacks what a record has ({error}); run it again") from None
    drawn, notes = _safely(path, record)
    found, left_out = _pictures(pictures)
    return render(
        "report.html.j2",
        title=title,
        where=where,
        seed=spec["seed"],
        run_id=str(record["run_id"]),
        marks=_marks(record),
        failed=str(record.get("traceback", "")) if record.get("failed") else None,
        headline=headline,
        command=again,
        model=record.get("model"),
        sections=drawn,
        pictures=found,
        scores=[
            ScoreLine(score_name(r), r["value"], r["n"], r.get("at", 0))
            for r in record.get("scores") or []
        ],
        tables=_tables(record),
        notes=notes + left_out,
    )


def _headline(record: Record, base: Record | None, info: MethodInfo) -> list[tuple[str, str, str]]:
    """Return the figures that matter most: (name, value, remark)."""
    if not record.get("scores"):
        return []
    spec = record["spec"]
    metric = info.primary(spec["protocol"], spec["dataset"])
    scores = score_map(record)
    theirs = {} if base is None else score_map(base)
    names = [metric, *texts.headline_metrics(scores, metric, 4)]
    found = []
    for name in (name for name in names if name in scores):
        ours, other = scores[name], theirs.get(name)
        remark = ""
        if ours is not None and other is not None:
            remark = f"against source {texts.signed(ours - other)}"
        found.append((name, texts.number(ours), remark))
    return found


def _marks(record: Record) -> list[str]:
    found = [str(name) for name in record.get("extras") or []]
    found = [TARGET_TUNED, *found] if record.get("target_tuned") else found
    found = ["reconstruction", *found] if record.get("reconstruction") else found
    return [*found, *(f"{n}={v}" for n, v in sorted((record.get("variant") or {}).items()))]


def _safely(path: Path, record: Record) -> tuple[list[Section], list[str]]:
    """Return the charts, or why there are none: a damaged file must not cost the report."""
    try:
        return sections(path, record)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return [], [f"No charts: the record or its predictions are not as expected ({error})."]


def _tables(record: Record) -> list[tuple[str, list[list[str]]]]:
    """Return the record's plain parts, each as (name, value) pairs."""
    cost = {
        name: _COSTS.get(name, texts.count)(value)
        for name, value in (record.get("cost") or {}).items()
        if isinstance(value, int | float)
    }
    parts: Iterable[tuple[str, Mapping[str, Any]]] = (
        ("Cost", cost),
        ("Spec", record["spec"]),
        ("Digests and ids", record.get("ids") or {}),
        ("Source model", record.get("source_model") or {}),
        ("Environment", record.get("environment") or {}),
        ("Versions", record.get("versions") or {}),
    )
    return [(name, flat_spec(part)) for name, part in parts if part]


def _pictures(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (name, data URI) of the run's pictures, as many as there is room for."""
    found: list[tuple[str, str]] = []
    room = MOST_PICTURES
    paths = sorted(folder.glob("*.png")) if folder.is_dir() else []
    for path in paths:
        content = path.read_bytes()
        room -= len(content)
        if room < 0:
            return found, [f"{len(paths) - len(found)} more pictures lie in {folder}."]
        found.append((path.stem, f"data:image/png;base64,{base64.b64encode(content).decode()}"))
    return found, []
