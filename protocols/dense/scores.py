"""From confusion matrices along a stream to scores and curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dabench.contract.types import Score
from dabench.errors import ConfigError
from dabench.metrics.confusion import mean_of_present
from dabench.metrics.segmentation import iou_scores, mean_iou, union_of
from dabench.protocols.streams.layout import StreamLayout

#: the running mIoU's window in frames: a single frame lacks most classes
WINDOW = 20


@dataclass(frozen=True)
class DenseStreamLayout(StreamLayout):
    """A stream of frames, one a step.

    Attributes:
        episode_starts: steps at which a fresh method begins; the first is 0.
    """

    episode_starts: tuple[int, ...] = (0,)

    @property
    def window(self) -> int:
        """Frames in a window."""
        return WINDOW

    @property
    def episodes(self) -> list[slice]:
        """The steps from one fresh method to the next."""
        ends = (*self.episode_starts[1:], self.segments[-1].last)
        return [slice(a, b) for a, b in zip(self.episode_starts, ends, strict=True)]


@dataclass(frozen=True)
class ScoreGroups:
    """Which segments of a stream, and which classes, are scored together.

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
    def classes_by_metric(self) -> dict[str, list[int]]:
        """Class numbers by name of a mean: ``mIoU`` over all, ``mIoU-13`` over a subset."""
        found = {"mIoU": list(range(len(self.classes)))}
        for name, members in self.subsets.items():
            found[f"mIoU-{name}"] = [self.classes.index(member) for member in members]
        return found

    @property
    def segments_by_condition(self) -> dict[str, list[int]]:
        """Numbers of the segments by condition, in the order of their first arrival."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.conditions):
            found.setdefault(name, []).append(number)
        return found

    @property
    def other_segments(self) -> dict[str, list[int]]:
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


def check_names(conditions: Iterable[str], classes: Sequence[str], rounds: int) -> None:
    """Refuse conditions and classes of which two scores would be under one key.

    Args:
        conditions: their names; several segments may be of one.
        classes: their names.
        rounds: how often the conditions come.

    Raises:
        ConfigError: names one that is taken.
    """
    names = list(dict.fromkeys(conditions))
    own = ["", *names, *(f"round-{turn}" for turn in range(1, rounds + 1))]
    means = [_segment(f"{name}{part}", "") for name in own for part in ("", "/before", "/after")]
    means += ["mean-conditions", "worst-condition"]
    by_class = [_segment(f"{name}/{label}", "") for name in ("", *names) for label in classes]
    for keys in (means, by_class):
        if twice := [key for key, count in Counter(keys).items() if count > 1]:
            raise ConfigError(
                f"two scores would be called '{twice[0]}': a domain or a class has a name that "
                "scores use, or that holds a '/'; give it another name"
            )


def dense_scores(found: Tensor, groups: ScoreGroups, suffix: str = "") -> list[Score]:
    """Return every score of one timing, by class only for the ranked one.

    Args:
        found: (S, K, K) counts by segment.
        groups: which segments and classes are scored together.
        suffix: appended to the segments' names ("" for the ranked timing).
    """
    overall = {"": list(range(len(groups.names)))}
    rows: list[Score] = []
    for name, members in (overall | groups.segments_by_condition).items():
        rows += _means(found[members].sum(0), name, groups, suffix)
        if not suffix:  # of the other timing the counts are kept, and would double every table
            rows += _classes(found[members].sum(0), name, groups)
    for name, members in groups.other_segments.items():
        rows += _means(found[members].sum(0), name, groups, suffix)
    for metric, classes in groups.classes_by_metric.items():
        values = condition_values(found, groups, classes)
        rows += _over_conditions(values, metric, int(found.sum()), groups, suffix)
    return rows


def condition_values(found: Tensor, groups: ScoreGroups, classes: list[int]) -> dict[str, float]:
    """Return the mean IoU by condition; conditions without a labelled pixel are left out."""
    values: dict[str, float | None] = {
        name: _mean_of(iou_scores(found[members].sum(0)), classes)
        for name, members in groups.segments_by_condition.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def mean_value(values: Mapping[str, float]) -> float | None:
    """Return the mean of what is there, or None."""
    return sum(values.values()) / len(values) if values else None


def below_source_scores(
    found: Tensor, source: Tensor, groups: ScoreGroups, suffix: str = ""
) -> list[Score]:
    """Return where the source model would have done better: by condition, and in their mean."""
    classes = groups.classes_by_metric["mIoU"]
    own, its = (condition_values(counts, groups, classes) for counts in (found, source))
    pairs = {"": (mean_value(own), mean_value(its))}
    pairs |= {name: (own.get(name), its.get(name)) for name in groups.segments_by_condition}
    rows: list[Score] = []
    for name, (mine, theirs) in pairs.items():
        value = None if mine is None or theirs is None else float(mine < theirs)
        at = _segment(name, suffix)
        rows.append(Score("below_source", value, int(found.sum()), at, groups.steps))
    return rows


def empty_classes(found: Tensor, groups: ScoreGroups) -> list[str]:
    """Return ``condition: class, class`` where a class has no pixel in truth and answer."""
    lines: list[str] = []
    for name, members in groups.segments_by_condition.items():
        union = union_of(found[members].sum(0)).tolist()
        gone = [c for c, pixels in zip(groups.classes, union, strict=True) if not pixels]
        if gone:
            lines.append(f"{name}: {', '.join(gone)}")
    return lines


def running_miou(per_step: Tensor, layout: StreamLayout, segment: str) -> list[Score]:
    """Return the curve of the mean IoU over windows, from (steps, K, K) counts.

    Windows end where a fresh method begins; one without a labelled pixel has no point.
    """
    total = per_step.cumsum(0)
    rows: list[Score] = []
    for episode in layout.episodes:
        for end in range(episode.start + 1, episode.stop + 1):
            begin = max(episode.start, end - layout.window)
            counts = total[end - 1] - (total[begin - 1] if begin else 0)
            value = float(mean_iou(counts))
            if value == value:  # not nan
                rows.append(Score("running_mIoU", value, int(counts.sum()), segment, end - 1))
    return rows


def counts_by_segment(per_step: Tensor, layout: StreamLayout) -> Tensor:
    """Return (S, K, K) counts by segment, from (steps, K, K)."""
    return torch.stack([per_step[s.first : s.last].sum(0) for s in layout.segments])


def _segment(name: str, suffix: str) -> str:
    return f"{name}{suffix}".lstrip("/") or "all"


def _mean_of(found: Mapping[str, Any], classes: list[int]) -> float | None:
    """Return the mean IoU of some classes; each counts all its pixels, whatever the others are."""
    return mean_of_present([found["class_iou"][c] for c in classes])


def _means(counts: Tensor, name: str, groups: ScoreGroups, suffix: str) -> list[Score]:
    n, segment = int(counts.sum()), _segment(name, suffix)
    found = iou_scores(counts)
    rows = [
        Score(metric, _mean_of(found, classes), n, segment, groups.steps)
        for metric, classes in groups.classes_by_metric.items()
    ]
    return [*rows, Score("pixel_accuracy", found["pixel_accuracy"], n, segment, groups.steps)]


def _classes(counts: Tensor, name: str, groups: ScoreGroups) -> list[Score]:
    """Return the IoU by class; its n is the union."""
    union = union_of(counts).tolist()
    values = iou_scores(counts)["class_iou"]
    return [
        Score("class_iou", value, n, _segment(f"{name}/{label}", ""), groups.steps)
        for label, value, n in zip(groups.classes, values, union, strict=True)
    ]


def _over_conditions(
    values: Mapping[str, float], metric: str, n: int, groups: ScoreGroups, suffix: str
) -> list[Score]:
    worst = min(values.values()) if values else None
    return [
        Score(metric, mean_value(values), n, f"mean-conditions{suffix}", groups.steps),
        Score(metric, worst, n, f"worst-condition{suffix}", groups.steps),
    ]
