"""What is worth a picture in one run: its curves, predictions, classes and levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from dabench.board.page.page_records import RUNNING, running_curves
from dabench.board.page.run_charts import (
    MOST_CLASSES,
    class_bars,
    confusion_matrix,
    curve_chart,
    histogram,
    reliability,
)
from dabench.board.page.stream_chart import Legend, draw_curves, stream_segments
from dabench.board.page.texts import is_stream
from dabench.errors import StoreError
from dabench.store.arrays import check_arrays, file_beside, read_arrays
from dabench.store.records import Record, score_map

#: curves of a metric in one chart
MOST_LINES = 8
_CLASS_METRICS = ("class_accuracy", "class_iou")
#: metrics whose segments are levels, conditions or parts of a stream
_LEVEL_METRICS = ("accuracy", "mIoU")
Arrays = Mapping[str, npt.NDArray[Any]]
_PARTS = {"adapt": "adapt images", "held-out": "held-out images", "stream": "the whole stream"}


@dataclass(frozen=True)
class Figure:
    """A chart with its caption; ``wide`` = over the whole page."""

    title: str
    markup: Markup
    wide: bool = False
    legend: list[Legend] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """Charts that belong together."""

    title: str
    figures: list[Figure]
    remark: str = ""


def sections(path: Path, record: Record) -> tuple[list[Section], list[str]]:
    """Return the charts of a run, and what could not be read.

    Args:
        path: of the record.
        record: whole, with its curves.
    """
    arrays, notes = _arrays(path, record)
    step = "step" if is_stream(record["spec"]["protocol"]) else "epoch"
    found = [
        Section("Along the stream", _stream(record)),
        Section(f"Curves, by {step}", _curves(record)),
        Section("Predictions", [*_matrices(record, arrays), *_dense(record, arrays)]),
        Section(
            "Separation and confidence",
            _separations(record, arrays),
            "Shares of each group's own number.",
        ),
        Section("Classes and conditions", _bars(record)),
    ]
    return [section for section in found if section.figures], notes


def _arrays(path: Path, record: Record) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    name = record.get("predictions")
    if not name:
        return {}, []
    try:
        check_arrays(path, record)
        return read_arrays(file_beside(path, record)), []
    except StoreError:
        return {}, [f"The predictions {name}, and curves in it, are missing or damaged."]


def _stream(record: Record) -> list[Figure]:
    curves = running_curves(record)
    if not curves:
        return []
    entries = [
        Legend(c.name or record["spec"]["method"], "line source" if c.name else "line s0", True)
        for c in curves
    ]
    picture = draw_curves(
        curves, entries, stream_segments(record), "running figure along the stream"
    )
    return [Figure("Running figure over a window of batches", picture.markup, True, entries)]


def _curves(record: Record) -> list[Figure]:
    """Return a chart a metric; what the stream's chart shows is left out."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in record.get("curves") or []:
        if row["value"] is not None and row["metric"] not in RUNNING:
            found[row["metric"]][row["segment"]].append((row["at"], row["value"]))
    figures = []
    for metric, by_segment in found.items():
        lines = [(n, sorted(points)) for n, points in by_segment.items() if len(points) > 1]
        lines = lines[:MOST_LINES]
        if lines:
            named = len(lines) > 1 or lines[0][0] != "all"
            legend = [Legend(n, f"line s{i % 8}", True) for i, (n, _) in enumerate(lines)]
            picture = curve_chart(lines, metric)
            figures.append(Figure(metric, picture.markup, legend=legend if named else []))
    return figures


def _matrices(record: Record, arrays: Arrays) -> list[Figure]:
    figures = []
    for part, said in _PARTS.items():
        truth, called = arrays.get(f"{part}.truth"), arrays.get(f"{part}.prediction")
        if truth is None or called is None or not len(truth):
            continue
        size = int(max(truth.max(), called.max())) + 1
        names = _classes(record, size)
        flat = np.bincount(truth.astype(np.int64) * len(names) + called, minlength=len(names) ** 2)
        figures += _matrix(flat.reshape(len(names), len(names)), names, f"Confusion, {said}")
    return figures


def _dense(record: Record, arrays: Arrays) -> list[Figure]:
    figures = []
    for timing in ("source", "before", "after"):
        counts = arrays.get(f"segment.{timing}")
        if counts is not None and counts.ndim == 3:
            who = "source model" if timing == "source" else f"{timing} the update"
            names = _classes(record, counts.shape[-1])
            figures += _matrix(counts.sum(0), names, f"Confusion of pixels, {who}")
    return figures


def _matrix(counts: npt.NDArray[Any], names: Sequence[str], title: str) -> list[Figure]:
    if len(counts) > MOST_CLASSES:
        return []
    return [Figure(f"{title}; rows: truth", confusion_matrix(counts, names, title).markup)]


def _classes(record: Record, size: int) -> list[str]:
    """Return the names of classes in their order, which is that of the scores; else numbers."""
    rows = [row for row in record.get("scores") or [] if row["metric"] in _CLASS_METRICS]
    names = list(dict.fromkeys(row["segment"].rpartition("/")[2] for row in rows))
    return names if len(names) >= size else [str(number) for number in range(size)]


def _separations(record: Record, arrays: Arrays) -> list[Figure]:
    figures = []
    for part, said in _PARTS.items():
        truth, score = arrays.get(f"{part}.truth"), arrays.get(f"{part}.unknown_score")
        if truth is not None and score is not None and len(score):
            names = _classes(record, int(truth.max()) + 1)
            private = truth == names.index("unknown") if "unknown" in names else truth < 0
            if np.isfinite(score).all():
                groups = (score[~private], score[private])
                figures.append(_pair(*groups, "unknown score", said, ("known", "private")))
        called, sure = arrays.get(f"{part}.prediction"), arrays.get(f"{part}.confidence")
        if truth is not None and called is not None and sure is not None and len(sure):
            right = truth == called
            if np.isfinite(sure).all():
                groups = (sure[right], sure[~right])
                figures.append(_pair(*groups, "largest probability", said, ("right", "wrong")))
                if score is None:  # calibration is defined on closed sets
                    # what a file keeps of confidences is rounded: the score is of the exact ones
                    error = score_map(record).get("ECE/held-out" if part == "held-out" else "ECE")
                    figures.append(_reliability(sure, right, said, error))
    return figures


def _pair(
    first: npt.NDArray[Any], second: npt.NDArray[Any], axis: str, said: str, names: tuple[str, str]
) -> Figure:
    picture = histogram(first, second, axis, f"{axis}, {said}")
    legend = [
        Legend(f"{name} ({len(part)})", css, True)
        for name, part, css in zip(names, (first, second), ("line s0", "line s1"), strict=True)
    ]
    return Figure(f"{axis.capitalize()}, {said}", picture.markup, legend=legend)


def _reliability(
    sure: npt.NDArray[Any], right: npt.NDArray[Any], said: str, error: float | None
) -> Figure:
    picture = reliability(sure, right, f"reliability diagram, {said}")
    title = f"Share of right answers by confidence, {said}"
    title += "" if error is None else f"; expected calibration error {error:.3f}"
    return Figure(title, picture.markup, legend=[Legend("confidence = accuracy", "line s1", True)])


def _bars(record: Record) -> list[Figure]:
    figures = []
    for metric in (*_LEVEL_METRICS, *_CLASS_METRICS):
        rows = [r for r in record.get("scores") or [] if r["metric"] == metric]
        rows = [r for r in rows if r["segment"] != "all"]
        if metric in _CLASS_METRICS:
            rows = [r for r in rows if "/" not in r["segment"]]
        if len(rows) > 2:
            values = [(str(r["segment"]), r["value"], int(r["n"])) for r in rows[:MOST_CLASSES]]
            figures.append(Figure(metric, class_bars(values, metric).markup))
    return figures
