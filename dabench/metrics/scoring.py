"""Where predictions meet the truth: lives in the protocol's frame, never near a method."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import torch

from dabench.contract.types import FloatArray, IntArray, Score
from dabench.errors import DataError
from dabench.metrics.classification import ClosedSetAccuracy, ExpectedCalibrationError
from dabench.metrics.open_set import OpenSetAccuracy, UnknownScoreMetrics
from dabench.metrics.predictions import Predictions

#: words that tables and readers of records know as parts of a set, and not as classes
_WORDS = frozenset({"all", "unknown", "held-out", "final"})
_MARK = " (class)"
#: nats of evidence from which an order is refused: a random one has a chance of about 1e-14
_LEAK = 32.0


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
    """Return how strongly the order of ``labels`` speaks against chance, in nats.

    The larger of two measures; a random order reaches x with a chance of about exp(-x). How many
    labels agree at a distance of 1 to 2K, for a round robin agrees wholly at K: a binomial bound,
    which holds for few labels, too. And the mean position of each class (Kruskal-Wallis, by the
    cube root of Wilson and Hilferty). Sorted folders give thousands.
    """
    n = len(labels)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    chance = float(np.sum(counts * (counts - 1)) / max(1, n * (n - 1)))
    if chance in (0.0, 1.0):
        return 0.0
    lags = np.arange(1, max(2, min(2 * len(counts), n // 2) + 1))
    short = codes.astype(np.int32)
    same = np.array([np.count_nonzero(short[lag:] == short[:-lag]) for lag in lags])
    agreement = float(np.max((n - lags) * _divergence(same / (n - lags), chance)))
    return max(agreement - math.log(len(lags)), _position_leak(codes, counts))


def _divergence(share: FloatArray, chance: float) -> FloatArray:
    """Return the Kullback-Leibler divergence of Bernoulli shares from a chance, in nats."""
    least = 1e-300  # 0 log 0 = 0
    yes = share * np.log(np.maximum(share, least) / chance)
    no = (1 - share) * np.log(np.maximum(1 - share, least) / (1 - chance))
    found: FloatArray = yes + no
    return found


def _position_leak(codes: IntArray, counts: IntArray) -> float:
    """Return half the square of the normal score of Kruskal-Wallis over positions."""
    n, free = len(codes), len(counts) - 1
    sums = np.bincount(codes, weights=np.arange(n) - (n - 1) / 2)
    spread = 12 / (n * (n + 1)) * float(np.sum(sums**2 / counts))
    unit = 2 / (9 * free)
    return float(((spread / free) ** (1 / 3) - (1 - unit)) ** 2 / (2 * unit))


def check_order(labels: IntArray, what: str) -> None:
    """Refuse data whose order tells the classes.

    Raises:
        DataError: equal labels stand together, or at any other short distance, far more often or
            more seldom than by chance, or some classes stand before others.
    """
    if order_leak(labels) > _LEAK:
        raise DataError(
            f"{what}: the order of the images tells their classes, so a position would be a label; "
            "a data set must hand its images out in name-hashed order"
        )
