"""Where predictions meet the truth: lives in the protocol's frame, never near a method."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import torch

from dabench.contract.types import IntArray, Score
from dabench.errors import DataError
from dabench.metrics.classification import ClosedSetAccuracy, ExpectedCalibrationError
from dabench.metrics.open_set import OpenSetAccuracy, UnknownScoreMetrics
from dabench.metrics.predictions import Predictions

#: words that tables and readers of records know as parts of a set, and not as classes
_WORDS = frozenset({"all", "unknown", "held-out", "final"})
_MARK = " (class)"


def class_segments(classes: Sequence[str]) -> list[str]:
    """Return what classes are called in scores: their names, or ``unknown (class)`` and so on.

    A class called like a part of a set is marked, and so is one called like a marked class: no two
    scores share a name.
    """
    return [
        name + _MARK if re.sub(rf"({re.escape(_MARK)})*$", "", name).casefold() in _WORDS else name
        for name in classes
    ]


class Scorer:
    """Turns predictions on one part into scores.

    Args:
        truth: (N,) int64, K = private.
        classes: names of the K known classes.
        open_set: which family of metrics applies.
        segment: name of the part in the scores.
    """

    def __init__(
        self, truth: IntArray, classes: tuple[str, ...], *, open_set: bool, segment: str
    ) -> None:
        self._truth = truth
        self._classes = classes
        self._open = open_set
        self._segment = segment

    def __call__(self, found: Predictions, at: int) -> list[Score]:
        """Return every metric of ``found`` (predictions in position order) after epoch ``at``."""
        n, k = len(self._truth), len(self._classes)
        truth = torch.from_numpy(self._truth)
        decided = torch.from_numpy(found.decided(k))
        metric = OpenSetAccuracy(k) if self._open else ClosedSetAccuracy(k)
        metric.update(decided, truth)
        values = dict(metric.compute())
        per_class = values.pop("class_accuracy")
        if self._open:
            values |= self._unknown_scores(found)
        else:
            calibration = ExpectedCalibrationError()
            calibration.update(torch.from_numpy(found.confidence), decided == truth)
            values |= calibration.compute()
        rows = [Score(name, value, n, self._segment, at) for name, value in values.items()]
        if self._segment == "all":
            counts = np.bincount(self._truth, minlength=len(per_class))
            names = [*class_segments(self._classes), "unknown"][: len(per_class)]
            rows += [
                Score("class_accuracy", value, int(count), name, at)
                for name, value, count in zip(names, per_class, counts, strict=True)
            ]
        return rows

    def _unknown_scores(self, found: Predictions) -> dict[str, float | None]:
        """AUROC, FPR95, OSCR of the method's own score, and AUROC of 1 - max p for every row."""
        private = self._truth == len(self._classes)
        correct = found.known == self._truth

        def evaluate(score: np.ndarray) -> dict[str, float | None]:
            metric = UnknownScoreMetrics()
            metric.update(
                torch.from_numpy(score), torch.from_numpy(private), torch.from_numpy(correct)
            )
            return dict(metric.compute())

        confidence = evaluate(1.0 - found.confidence)
        own = confidence if found.unknown_score is None else evaluate(found.unknown_score)
        return own | {"AUROC-maxprob": confidence["AUROC"]}


def order_leak(labels: IntArray) -> float:
    """Return a z-score of how far the order of ``labels`` is from random.

    Counts equal neighbours and compares with a random permutation (mean and variance of the
    join-count statistic under permutation, approximated as binomial). Sorted folders give hundreds.
    """
    n = len(labels)
    if n < 3:
        return 0.0
    _, counts = np.unique(labels, return_counts=True)
    chance = float(np.sum(counts * (counts - 1)) / (n * (n - 1)))
    same = float(np.sum(labels[1:] == labels[:-1]))
    spread = math.sqrt(max((n - 1) * chance * (1 - chance), 1e-12))
    return 0.0 if chance in (0.0, 1.0) else (same - (n - 1) * chance) / spread


def check_order(labels: IntArray, what: str) -> None:
    """Refuse data whose order tells the classes.

    Raises:
        DataError: equal labels stand together far more often, or far more seldom, than by chance.
    """
    if abs(order_leak(labels)) > 8.0:
        raise DataError(
            f"{what}: the order of the images tells their classes, so a position would be a label; "
            "a data set must hand its images out in name-hashed order"
        )
