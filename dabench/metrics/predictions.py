"""What a method answered on one part, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dabench.contract.types import FloatArray, IntArray, Prediction, Score


@dataclass(frozen=True)
class Predictions:
    """Per-sample answers over a part, by position.

    Attributes:
        known: (N,) argmax over the known classes.
        confidence: (N,) max softmax over the known classes.
        unknown_score: (N,) or None.
        is_unknown: (N,) bool or None.
        judged: scores that need no label (``metrics.label_free``), where they were asked for.
        probabilities: (N, K) over the known classes, on the CPU, where they were asked for.
    """

    known: IntArray
    confidence: FloatArray
    unknown_score: FloatArray | None
    is_unknown: np.ndarray | None
    judged: tuple[Score, ...] = ()
    probabilities: torch.Tensor | None = None

    def decided(self, num_known: int) -> IntArray:
        """Return (N,) decisions in 0..K, K = "unknown"."""
        if self.is_unknown is None:
            return self.known
        return np.where(self.is_unknown, num_known, self.known)


def gather(answers: Sequence[Prediction], *, keep: bool = False) -> Predictions:
    """Put the answers to batches one after the other; ``keep``: with all probabilities."""
    found: list[tuple[Any, Any, Any, Any]] = []
    for answer in answers:
        top = answer.logits.softmax(1).max(1)
        found.append((top.indices, top.values, answer.unknown_score, answer.is_unknown))
    known, confidence, score, unknown = (
        None if column[0] is None else torch.cat(column).cpu().numpy()
        for column in zip(*found, strict=True)
    )
    return Predictions(
        np.asarray(known, dtype=np.int64),
        np.asarray(confidence, dtype=np.float64),
        None if score is None else score.astype(np.float64),
        unknown,
        probabilities=torch.cat([a.logits.softmax(1).cpu() for a in answers]) if keep else None,
    )
