"""Time to recover and calibration along a stream, against worked examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dabench.contract.stream import Segment, Stream
from dabench.metrics.classification import ExpectedCalibrationError
from dabench.protocols.streams.layout import SegmentSteps, StreamLayout
from dabench.protocols.streams.named.arrivals import MIXED
from dabench.protocols.streams.visit_scores import calibration_curve, recovery, visit_scores


class Short(StreamLayout):
    """Windows of two batches."""

    @property
    def window(self) -> int:
        return 2


def stream(*names: str, steps: int = 6) -> Stream:
    """Return segments of six batches of ten images."""
    rows = np.arange(10 * steps)
    segments = tuple((Segment(name, name.partition("@")[0]), rows) for name in names)
    return Stream(segments, 10, 0)


def layout(found: Stream, *, fresh: bool = False) -> StreamLayout:
    steps = [len(rows) // 10 for _, rows in found.segments]
    ends = np.cumsum([0, *steps]).tolist()
    parts = [
        SegmentSteps(segment.name, a, b)
        for (segment, _), a, b in zip(found.segments, ends, ends[1:], strict=False)
    ]
    return Short(tuple(parts), 10, fresh)


def hits(*shares: float) -> list[np.ndarray]:
    return [np.arange(10) < round(share * 10) for share in shares]


def test_images_until_accuracy_is_what_it_stays_at() -> None:
    found = stream("a", "b")
    # settled at .8; windows of b: .1, .4, .7, .8: the third misses .75, the fourth begins at 30
    right = hits(*[0.9] * 6, *(0.1, 0.1, 0.7, 0.7, 0.9, 0.8))
    score = recovery(found, right, layout(found))
    assert (score.value, score.n) == (30, 1)
    # a fresh method at each: the first, which is good at once, counts as well
    score = recovery(found, right, layout(found, fresh=True))
    assert (score.value, score.n) == (15, 2)


def test_who_never_loses_anything_has_recovered_at_once() -> None:
    found = stream("a", "b")
    assert recovery(found, hits(*[0.5] * 12), layout(found)).value == 0


def test_no_shift_is_a_hole() -> None:
    for found in (stream("a"), stream("a@1", "a@2"), stream("a", MIXED), stream("a", "b", steps=3)):
        steps = sum(len(rows) // 10 for _, rows in found.segments)
        score = recovery(found, hits(*[0.5] * steps), layout(found))
        assert (score.value, score.n) == (None, 0)


def test_a_windows_calibration() -> None:
    rng = np.random.default_rng(0)
    found = stream("a", "b")
    sure = [rng.random(10).astype(np.float32) for _ in range(12)]
    right = [rng.random(10) < 0.6 for _ in range(12)]
    for fresh in (False, True):
        curve = calibration_curve(right, sure, layout(found, fresh=fresh))
        assert [score.at for score in curve] == list(range(12))
        for at in (0, 5, 6, 7):
            begin = max(6 if fresh and at >= 6 else 0, at - 1)
            metric = ExpectedCalibrationError()
            for c, r in zip(sure[begin : at + 1], right[begin : at + 1], strict=True):
                metric.update(torch.from_numpy(c), torch.from_numpy(r))
            assert curve[at].value == pytest.approx(metric.compute()["ECE"])


def test_what_a_segment_says_is_not_said_twice() -> None:
    found = stream("a", "b")
    right = hits(*[0.5] * 6, *[0.7] * 6)
    sure = np.full(120, 0.5)
    keys = [score.key for score in visit_scores(found, right, sure, layout(found))]
    assert keys == ["ECE", "ECE/a", "ECE/b", "recovery"]
    again = stream("a@1", "b@1", "a@2")
    right += hits(*[0.1] * 6)
    scores = {s.key: s for s in visit_scores(again, right, np.full(180, 0.5), layout(again))}
    assert scores["accuracy/a"].value == pytest.approx(0.3)
    assert scores["accuracy/round-1"].value == pytest.approx(0.6)
    assert scores["accuracy/last-round"].value == pytest.approx(0.1)
    assert scores["ECE/b"].value == pytest.approx(0.2)
    assert scores["recovery"].n == 2
