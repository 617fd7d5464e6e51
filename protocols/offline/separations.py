"""What the protocol makes of the separations that a method recorded, when the run is over."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import Recorder
from dabench.contract.types import IntArray, Score, Separation
from dabench.metrics.open_set import UnknownScoreMetrics


class SeparationRecorder(Recorder):
    """Pass everything on to another recorder, and keep the separations by name and epoch."""

    def __init__(self, inner: Recorder) -> None:
        self._inner = inner
        self._found: dict[str, dict[int, Separation]] = {}

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Record, and remember separations."""
        if isinstance(value, Separation):
            self._found.setdefault(name, {})[step] = value
        self._inner.put(name, step, value)

    def scores(self, truth: IntArray, num_classes: int) -> list[Score]:
        """Score every separation before its epoch; a name's part after "/" becomes the segment.

        Args:
            truth: (N,) classes of the adapt set, K = private.
            num_classes: K.

        Returns:
            Per separation: AUROC of the statistic, precision and recall of the positive side and
            its share. Positive means: not private, or where the separation has pseudo-labels,
            that the pseudo-label is right. With several names also their agreement: the share of
            images that two separations put on the same side.
        """
        rows: list[Score] = []
        for name, by_epoch in self._found.items():
            segment = name.partition("/")[2] or "all"
            for epoch, found in by_epoch.items():
                good = truth < num_classes if found.labels is None else found.labels == truth
                rows += [
                    Score(metric, value, len(truth), segment, epoch)
                    for metric, value in _values(found, good).items()
                ]
        for one, two in itertools.combinations(self._found.values(), 2):
            for epoch in sorted(one.keys() & two.keys()):
                same = float(np.mean(one[epoch].known == two[epoch].known))
                rows.append(Score("split_agreement", same, len(truth), at=epoch))
        return rows


def _values(found: Separation, good: np.ndarray) -> dict[str, float | None]:
    metric = UnknownScoreMetrics()
    positive = torch.from_numpy(good)
    metric.update(torch.from_numpy(found.values), ~positive, positive)
    hits = float(np.sum(found.known & good))
    return {
        "split_auroc": metric.compute()["AUROC"],
        "split_precision": hits / found.known.sum() if found.known.any() else None,
        "split_recall": hits / good.sum() if good.any() else None,
        "split_share": float(found.known.mean()),
    }
