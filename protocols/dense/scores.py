"""From confusion matrices along a stream to scores and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dabench.contract.types import Score
from dabench.metrics.segmentation import DenseIoU, iou_scores, mean_iou, union_of
from dabench.protocols.streams.scores import Course

#: the running mIoU's window in frames: a single frame lacks most classes
WINDOW = 20


@dataclass(frozen=True)
class DenseCourse(Course):
    """A stream of frames, one a step.

    Attributes:
        begins: steps at which a fresh method begins; the first is 0.
    """

    begins: tuple[int, ...] = (0,)

    @property
    def window(self) -> int:
        """Frames in a window."""
        return WINDOW

    @property
    def lives(self) -> list[slice]:
        """The steps that one method goes through."""
        ends = (*self.begins[1:], self.stretches[-1].last)
        return [slice(a, b) for a, b in zip(self.begins, ends, strict=True)]


@dataclass(frozen=True)
class Layout:
    """What the segments of a stream are, and which classes are scored.

    Attributes:
        classes: names of the K classes.
        names: of the segments.
        conditions: name of each segment's condition.
        rounds: number of each segment's round, from 1.
        steps: frames in the whole stream.
        subsets: names of classes by name of a subset.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    conditions: tuple[str, ...]
    rounds: tuple[int, ...]
    steps: int
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, list[int]]:
        """Class numbers by name of a mean: ``mIoU`` over all, ``mIoU-13`` over a subset."""
        found = {"mIoU": list(range(len(self.classes)))}
        for name, members in self.subsets.items():
            found[f"mIoU-{name}"] = [self.classes.index(member) for member in members]
        return found

    @property
    def by_condition(self) -> dict[str, list[int]]:
        """Numbers of the segments by condition, in the order of their first arrival."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.conditions):
            found.setdefault(name, []).append(number)
        return found

    @property
    def others(self) -> dict[str, list[int]]:
        """Further groups of segments: rounds, and segments that are not a whole condition."""
        found: dict[str, list[int]] = {}
        if max(self.rounds) > 1:
            for turn in sorted(set(self.rounds)):
                mine = [i for i, value in enumerate(self.rounds) if value == turn]
                found[f"round-{turn}"] = mine
        for number, name in enumerate(self.names):
            if name not in self.conditions:
                found[name] = [number]
        return found


def dense_scores(found: Tensor, layout: Layout, suffix: str = "") -> list[Score]:
    """Return every score of one timing, by class only for the ranked one.

    Args:
        found: (S, K, K) counts by segment.
        layout: what the segments are.
        suffix: appended to the segments' names ("" for the ranked timing).
    """
    overall = {"": list(range(len(layout.names)))}
    rows: list[Score] = []
    for name, members in (overall | layout.by_condition).items():
        rows += _means(found[members].sum(0), name, layout, suffix)
        if not suffix:  # of the other timing the counts are kept, and would double every table
            rows += _classes(found[members].sum(0), name, layout)
    for name, members in layout.others.items():
        rows += _means(found[members].sum(0), name, layout, suffix)
    for metric, classes in layout.metrics.items():
        values = condition_values(found, layout, classes)
        rows += _over_conditions(values, metric, int(found.sum()), layout, suffix)
    return rows


def condition_values(found: Tensor, layout: Layout, classes: list[int]) -> dict[str, float]:
    """Return the mean IoU by condition; conditions without a labelled pixel are left out."""
    values: dict[str, float | None] = {
        name: iou_scores(found[members].sum(0), classes)["mIoU"]
        for name, members in layout.by_condition.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def mean(values: Mapping[str, float]) -> float | None:
    """Return the mean of what is there, or None."""
    return sum(values.values()) / len(values) if values else None


def below_source(found: Tensor, source: Tensor, layout: Layout, suffix: str = "") -> list[Score]:
    """Return where the source model would have done better: by condition, and in their mean."""
    classes = layout.metrics["mIoU"]
    own, its = (condition_values(counts, layout, classes) for counts in (found, source))
    pairs = {"": (mean(own), mean(its))}
    pairs |= {name: (own.get(name), its.get(name)) for name in layout.by_condition}
    rows: list[Score] = []
    for name, (mine, theirs) in pairs.items():
        value = None if mine is None or theirs is None else float(mine < theirs)
        at = _segment(name, suffix)
        rows.append(Score("below_source", value, int(found.sum()), at, layout.steps))
    return rows


def empty_classes(found: Tensor, layout: Layout) -> list[str]:
    """Return ``condition: class, class`` where a class has no pixel in truth and answer."""
    lines: list[str] = []
    for name, members in layout.by_condition.items():
        union = union_of(found[members].sum(0)).tolist()
        gone = [c for c, pixels in zip(layout.classes, union, strict=True) if not pixels]
        if gone:
            lines.append(f"{name}: {', '.join(gone)}")
    return lines


def running(per_step: Tensor, course: Course, segment: str) -> list[Score]:
    """Return the curve of the mean IoU over windows, from (steps, K, K) counts.

    Windows end where a fresh method begins; one without a labelled pixel has no point.
    """
    total = per_step.cumsum(0)
    rows: list[Score] = []
    for life in course.lives:
        for end in range(life.start + 1, life.stop + 1):
            begin = max(life.start, end - course.window)
            counts = total[end - 1] - (total[begin - 1] if begin else 0)
            value = float(mean_iou(counts))
            if value == value:  # not nan
                rows.append(Score("running_mIoU", value, int(counts.sum()), segment, end - 1))
    return rows


def segment_sums(per_step: Tensor, course: Course) -> Tensor:
    """Return (S, K, K) counts by segment, from (steps, K, K)."""
    return torch.stack([per_step[s.first : s.last].sum(0) for s in course.stretches])


def _segment(name: str, suffix: str) -> str:
    return f"{name}{suffix}".lstrip("/") or "all"


def _scores(counts: Tensor) -> dict[str, Any]:
    metric = DenseIoU(len(counts))
    metric.update(None, None, counts)
    return dict(metric.compute())


def _means(counts: Tensor, name: str, layout: Layout, suffix: str) -> list[Score]:
    n, segment = int(counts.sum()), _segment(name, suffix)
    found = _scores(counts)
    rows = [
        Score(metric, iou_scores(counts, classes)["mIoU"], n, segment, layout.steps)
        for metric, classes in layout.metrics.items()
    ]
    return [*rows, Score("pixel_accuracy", found["pixel_accuracy"], n, segment, layout.steps)]


def _classes(counts: Tensor, name: str, layout: Layout) -> list[Score]:
    """Return the IoU by class; its n is the union."""
    union = union_of(counts).tolist()
    values = _scores(counts)["class_iou"]
    return [
        Score("class_iou", value, n, _segment(f"{name}/{label}", ""), layout.steps)
        for label, value, n in zip(layout.classes, values, union, strict=True)
    ]


def _over_conditions(
    values: Mapping[str, float], metric: str, n: int, layout: Layout, suffix: str
) -> list[Score]:
    worst = min(values.values()) if values else None
    return [
        Score(metric, mean(values), n, f"mean-conditions{suffix}", layout.steps),
        Score(metric, worst, n, f"worst-condition{suffix}", layout.steps),
    ]
