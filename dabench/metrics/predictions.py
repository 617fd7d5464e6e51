"""What a method answered on one part, by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dabench.contract.types import FloatArray, IntArray, Score


@dataclass(frozen=True)
class Predictions:
    """Per-sample answers over a part, by position.

    Attributes:
        known: (N,) argmax over the known classes.
        confidence: (N,) max softmax over the known classes.
        unknown_score: (N,) or None.
        is_unknown: (N,) bool or None.
        judged: scores that need no label (``metrics.label_free``), where they were asked for.
    """

    known: IntArray
    confidence: FloatArray
    unknown_score: FloatArray | None
    is_unknown: np.ndarray | None
    judged: tuple[Score, ...] = ()

    def decided(self, num_known: int) -> IntArray:
        """Return (N,) decisions in 0..K, K = "unknown"."""
        if self.is_unknown is None:
            return self.known
        return np.where(self.is_unknown, num_known, self.known)
