"""Scores by domain and by visit, calibration along a stream, and the time to recover."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dabench.contract.stream import Segment, Stream
from dabench.contract.types import FloatArray, IntArray, Score
from dabench.protocols.streams.layout import StreamLayout
from dabench.protocols.streams.named.arrivals import MIXED
from dabench.protocols.streams.scores import Bools
from dabench.protocols.streams.shifts import condition_of

#: bins of the calibration error, as everywhere
BINS = 15
#: how near its later accuracy a method has to come to have recovered
RECOVERED = 0.05


class Arrived:
    """Which domain and which visit every image of a stream belongs to.

    Attributes:
        domains: their names.
        domain: (N,) places in them, in the order of arrival.
        visit: (N,) numbers of visits from 1; 0 where a segment has none.
    """

    def __init__(self, stream: Stream) -> None:
        segments = [segment for segment, _ in stream.segments]
        sizes = [len(rows) for _, rows in stream.segments]
        if stream.domains:
            self.domains = [domain.name for domain in stream.domains]
            self.domain: IntArray = np.concatenate(stream.shown)
        else:
            names = [condition_of(segment) for segment in segments]
            self.domains = list(dict.fromkeys(names))
            self.domain = np.repeat([self.domains.index(name) for name in names], sizes)
        self.visit: IntArray = np.repeat([_visit(segment) for segment in segments], sizes)


def _visit(segment: Segment) -> int:
    number = segment.name.rpartition("@")[2] if "@" in segment.name else ""
    return int(number) if number.isdecimal() else 0


def visit_scores(
    stream: Stream, right: Sequence[Bools], confidence: FloatArray, layout: StreamLayout
) -> list[Score]:
    """Return accuracy by domain and by visit, ECE over all and by domain, time to recover.

    What is a segment's accuracy already is not said again.

    Args:
        stream: what was shown.
        right: per step, whether the method's answers are right.
        confidence: (N,) largest probabilities, in the order of arrival.
        layout: the stream's steps.
    """
    arrived, hits, done = Arrived(stream), np.concatenate(right), len(right)
    segments = {segment.name for segment, _ in stream.segments}
    rows = []
    by_domain = [(n, arrived.domain == i) for i, n in enumerate(arrived.domains)]
    by_domain = [(name, own) for name, own in by_domain if own.any()]
    for name, own in by_domain:
        if name not in segments:
            rows.append(Score("accuracy", float(hits[own].mean()), int(own.sum()), name, done))
    visits = [number for number in np.unique(arrived.visit).tolist() if number]
    named = [(f"round-{number}", number) for number in visits]
    for name, number in [*named, *(("last-round", number) for number in visits[-1:])]:
        own = arrived.visit == number
        rows.append(Score("accuracy", float(hits[own].mean()), int(own.sum()), name, done))
    rows.append(Score("ECE", _error(calibration([confidence], [hits])), len(hits), at=done))
    for name, own in by_domain if len(by_domain) > 1 else ():
        error = _error(calibration([confidence[own]], [hits[own]]))
        rows.append(Score("ECE", error, int(own.sum()), name, done))
    return [*rows, recovery(stream, right, layout)]


def recovery(stream: Stream, right: Sequence[Bools], layout: StreamLayout) -> Score:
    """Return the mean number of images from a shift until a method has recovered.

    It has recovered where the first window begins (of ``layout.window`` batches, within the
    segment) whose accuracy is at most .05 below that of the segment's second half; where there is
    none, the segment's images count. A shift is the beginning of a segment under another condition
    than the one before or, where every segment has a fresh method, of each. Segments shorter than
    two windows, and those of many domains, are left out; ``n`` is the number of shifts that count.
    """
    segments = [segment for segment, _ in stream.segments]
    same = [condition_of(a) == condition_of(b) for a, b in pairwise(segments)]
    shifts = [layout.fresh_per_segment, *(not s or layout.fresh_per_segment for s in same)]
    found = []
    for segment, steps, counts in zip(segments, layout.segments, shifts, strict=True):
        own = right[steps.first : steps.last]
        if not counts or segment.domain == MIXED or len(own) < 2 * layout.window:
            continue
        settled = float(np.concatenate(own[len(own) // 2 :]).mean())
        windows = (own[k : k + layout.window] for k in range(len(own) - layout.window + 1))
        good = [float(np.concatenate(w).mean()) >= settled - RECOVERED - 1e-9 for w in windows]
        begin = good.index(True) if any(good) else len(own)
        found.append(sum(map(len, own[:begin])))
    return Score("recovery", float(np.mean(found)) if found else None, len(found), at=len(right))


def calibration_curve(
    right: Sequence[Bools], confidence: Sequence[FloatArray], layout: StreamLayout
) -> list[Score]:
    """Return per step the ECE over a window, as wide as that of the running accuracy."""
    counts, gaps = calibration(confidence, right)
    rows, n = [], layout.window * layout.batch_size
    for episode in layout.episodes:
        for end in range(episode.start + 1, episode.stop + 1):
            window = slice(max(episode.start, end - layout.window), end)
            error = _error((counts[window], gaps[window]))
            rows.append(Score("running_ECE", error, n, at=end - 1))
    return rows


def calibration(
    confidence: Sequence[FloatArray], right: Sequence[Bools]
) -> tuple[FloatArray, FloatArray]:
    """Return (S, 15) images and (S, 15) sums of accuracy minus confidence, by step and bin.

    Bins are equal in width and closed above, as those of ``ExpectedCalibrationError``.
    """
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    counts, gaps = [], []
    for sure, hits in zip(confidence, right, strict=True):
        which = np.searchsorted(edges, sure.astype(np.float64), side="left")
        counts.append(np.bincount(which, minlength=BINS).astype(np.float64))
        gaps.append(np.bincount(which, hits.astype(np.float64) - sure, minlength=BINS))
    return np.stack(counts), np.stack(gaps)


def _error(found: tuple[FloatArray, FloatArray]) -> float:
    counts, gaps = found
    return float(np.abs(gaps.sum(0)).sum() / counts.sum())
