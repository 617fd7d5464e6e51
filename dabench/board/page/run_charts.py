"""The charts of one run's report: confusion matrix, histograms, curves, bars of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dabench.board.page import texts
from dabench.board.page.svg import Picture, clipped, scale, tick_label, ticks

#: bins of a histogram
BINS = 30
#: bins of confidence, as those of ECE
CONFIDENCE_BINS = 15
#: classes up to which a matrix is drawn
MOST_CLASSES = 100
_WIDTH = 400
Counts = npt.NDArray[np.int64]


def confusion_matrix(counts: Counts, names: Sequence[str], label: str) -> Picture:
    """Return a matrix of counts, rows = truth, each row shaded by its shares.

    Args:
        counts: (K, K).
        names: of the K classes.
        label: for screen readers.
    """
    size = len(counts)
    cell = max(6.0, min(26.0, 420.0 / size))
    longest = min(max(len(name) for name in names), 14)
    left, top = 14 + 6.6 * longest, 12 + 5.4 * longest
    # the last name leans over the rim
    picture = Picture(left + cell * size + 3.4 * longest + 6, top + cell * size + 6, label)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row in range(size):
        y = top + row * cell
        if cell > 8 or row % 5 == 0:
            name = clipped(names[row], 14)
            picture.text(left - 6, y + cell / 2 + 4, name, names[row], css="tick end")
            turned = f"translate({left + row * cell + cell / 2 + 4:.1f} {top - 6}) rotate(-60)"
            picture.text(0, 0, name, names[row], css="tick", transform=turned)
        for column in np.flatnonzero(counts[row]).tolist():
            side = cell - 1
            share, count = float(shares[row, column]), int(counts[row, column])
            tip = f"{names[row]} called {names[column]}: {count} ({share:.1%})"
            box = {"x": left + column * cell, "y": y, "width": side, "height": side}
            picture.mark("rect", tip, css="heat", fill_opacity=f"{max(share, 0.03):.2f}", **box)
    frame = {"x": left - 1.0, "y": top - 1.0, "width": cell * size, "height": cell * size}
    picture.mark("rect", "", css="frame", **frame)
    return picture


def histogram(
    first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], axis: str, label: str
) -> Picture:
    """Return two histograms over one another, each as shares of its own number.

    Args:
        first: (N,) values, at least one of both in all.
        second: (M,) values.
        axis: what the values are.
        label: for screen readers.
    """
    picture = Picture(_WIDTH, 240, label)
    both = np.concatenate((first, second))
    low, high = float(both.min()), float(both.max())
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, BINS + 1)
    parts = [np.histogram(part, edges)[0] / max(len(part), 1) for part in (first, second)]
    most = max(float(part.max()) for part in parts)
    x, y = scale(low, high, 10, _WIDTH - 10), scale(0, most, 200, 12)
    for part, css in zip(parts, ("first", "second"), strict=True):
        for left, right, share in zip(edges[:-1], edges[1:], part, strict=True):
            if share > 0:
                box = {"x": x(left), "y": y(share), "width": x(right) - x(left) - 0.5}
                tip = f"{left:.3f} to {right:.3f}: {share:.1%}"
                picture.mark("rect", tip, css=css, height=max(200 - y(share), 0.5), **box)
    picture.line((10, 200), (_WIDTH - 10, 200), "axis")
    for tick in ticks(low, high, 5):
        picture.text(x(tick), 216, tick_label(tick), css="tick mid")
    picture.text(_WIDTH / 2, 234, axis, css="tick mid")
    return picture


def reliability(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], label: str
) -> Picture:
    """Return a reliability diagram (accuracy by confidence; Guo et al., 2017).

    Args:
        confidence: (N,) top-1 probabilities in [0, 1], N > 0; bins are ((b-1)/B, b/B].
        right: (N,) whether the answer is right.
        label: for screen readers.
    """
    bins = np.clip(np.ceil(confidence * CONFIDENCE_BINS).astype(int) - 1, 0, CONFIDENCE_BINS - 1)
    count, good, sure = (
        np.bincount(bins, weight, CONFIDENCE_BINS)
        for weight in (None, right.astype(np.float64), confidence.astype(np.float64))
    )
    picture = Picture(_WIDTH, 300, label)
    x, y = scale(0, 1, 44, _WIDTH - 12), scale(0, 1, 254, 12)
    for tick in ticks(0, 1, 5):
        picture.line((44, y(tick)), (_WIDTH - 12, y(tick)), "grid")
        picture.text(38, y(tick) + 4, tick_label(tick), css="tick end")
        picture.text(x(tick), 272, tick_label(tick), css="tick mid")
    for place in np.flatnonzero(count).tolist():
        left, accuracy = x(place / CONFIDENCE_BINS), float(good[place] / count[place])
        mean = float(sure[place] / count[place])
        tip = (
            f"confidence {mean:.3f}: {accuracy:.3f} right, {texts.count(int(count[place]))} images"
        )
        width = x((place + 1) / CONFIDENCE_BINS) - left - 1
        height = max(y(0) - y(accuracy), 1.0)
        box = {"x": left, "y": y(0) - height, "width": width, "height": height}
        picture.mark("rect", tip, css="first", **box)
    picture.path([(x(0), y(0)), (x(1), y(1))], "line s1", "confidence = accuracy")
    picture.text(_WIDTH / 2, 292, "largest probability", css="tick mid")
    return picture


def curve_chart(lines: Sequence[tuple[str, Sequence[tuple[int, float]]]], label: str) -> Picture:
    """Return lines of (epoch or step, value), each at least two points long."""
    picture = Picture(_WIDTH, 220, label)
    points = [point for _, line in lines for point in line]
    low, high = min(v for _, v in points), max(v for _, v in points)
    high = high if high - low > 1e-9 else low + 0.1
    room = (high - low) * 0.06
    x = scale(min(at for at, _ in points), max(at for at, _ in points), 44, _WIDTH - 12)
    y = scale(low - room, high + room, 184, 10)
    for tick in ticks(low, high, 4):
        picture.line((44, y(tick)), (_WIDTH - 8, y(tick)), "grid")
        picture.text(38, y(tick) + 4, tick_label(tick), css="tick end")
    for tick in ticks(points[0][0], max(max(at for at, _ in points), points[0][0] + 1), 6):
        picture.text(x(tick), 202, tick_label(tick), css="tick mid")
    for place, (name, line) in enumerate(lines):
        path = [(x(at), y(value)) for at, value in line]
        picture.path(path, f"line s{place % 8}", name)
        if len(line) < 25:
            for (at, value), (px, py) in zip(line, path, strict=True):
                tip = f"{name} after {at}: {texts.number(value, 4)}"
                picture.mark("circle", tip, css=f"spot s{place % 8}", cx=px, cy=py, r=3)
    return picture


def class_bars(values: Sequence[tuple[str, float | None, int]], label: str) -> Picture:
    """Return a bar a class: (name, fraction or hole, number of samples)."""
    row, name_end, end = 20, 132, _WIDTH - 54
    picture = Picture(_WIDTH, len(values) * row + 6, label)
    x = scale(0, 1, name_end, end)
    for place, (name, value, count) in enumerate(values):
        middle = place * row + row / 2 + 2
        tip = f"{name}: {texts.number(value)} of {texts.count(count)}"
        picture.text(name_end - 8, middle + 4, clipped(name, 19), name, css="end")
        if value is not None:
            box = {"x": x(0), "y": middle - 6, "width": max(x(value) - x(0), 1.0), "height": 12}
            picture.mark("rect", tip, css="bar method", rx=2, **box)
        picture.text(end + 8, middle + 4, texts.number(value), tip, css="number")
    return picture
