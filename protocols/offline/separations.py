"""What the protocol keeps of what a method recorded: its separations, and figures it noted."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import Recorder
from dabench.contract.types import IntArray, Score, Separation
from dabench.metrics.open_set import UnknownScoreMetrics


class SeparationRecorder(Recorder):
    """Pass everything on to another recorder; keep separations and ``noted/`` scalars by epoch."""

    def __init__(self, inner: Recorder) -> None:
        self._inner = inner
        self._found: dict[str, dict[int, Separation]] = {}
        self._noted: dict[tuple[str, int], float] = {}

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Record, and remember separations and what is noted."""
        group, _, rest = name.partition("/")
        if isinstance(value, Separation):
            self._found.setdefault(name, {})[step] = value
        elif group == "noted" and not isinstance(value, Tensor):
            self._noted[rest, step] = float(value)
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
            images that two separations put on the same side. Before them what was noted, as it is,
            under ``noted`` with its name as the segment.
        """
        rows = [
            Score("noted", value, len(truth), name, step)
            for (name, step), value in self._noted.items()
        ]
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
