"""Closed sets: accuracy, mean accuracy over classes, calibration."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dabench.errors import ConfigError
from dabench.metrics.confusion import ConfusionMetric, check_lengths, mean_of_present


class ClosedSetAccuracy(ConfusionMetric):
    """Accuracy over all samples, and its mean over classes.

    ``compute()`` returns ``accuracy``, ``mean_class_accuracy`` (over the classes that have
    samples; VisDA-C's convention) and ``class_accuracy`` (K values or holes). ``confusion`` holds
    the (K, K) counts.

    Args:
        num_classes: K.
        kwargs: passed on to ``torchmetrics.Metric``.

    Source: Peng et al., "VisDA: the visual domain adaptation challenge", 2017, for the class mean.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)

    def compute(self) -> dict[str, Any]:
        """Return the scores over everything seen since the last reset."""
        total = int(self.confusion.sum())
        per_class = self._per_class()
        return {
            "accuracy": int(self.confusion.trace()) / total if total else None,
            "mean_class_accuracy": mean_of_present(per_class),
            "class_accuracy": per_class,
        }


class ExpectedCalibrationError(Metric):
    """Mean gap between confidence and accuracy, weighted by samples, over equal-width bins.

    ECE = sum_b n_b / n |accuracy_b - mean confidence_b| over bins ((b-1)/B, b/B] of the top-1
    probability. ``compute()`` returns ``ECE``; a hole without samples.

    Args:
        bins: B.
        kwargs: passed on to ``torchmetrics.Metric``.

    Source: Guo et al., "On calibration of modern neural networks", 2017, Eq. 3.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    count: Tensor
    gap: Tensor

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bins < 1:
            raise ConfigError(f"calibration needs at least one bin, not {bins}")
        self._bins = bins
        zeros = torch.zeros(bins, dtype=torch.float64)
        self.add_state("count", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("gap", zeros.clone(), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Count a batch.

        Args:
            confidence: (B,) top-1 probabilities in [0, 1].
            correct: (B,) bool, whether the top-1 class is the true one.

        Raises:
            ConfigError: the shapes do not fit, or a confidence is no probability.
        """
        check_lengths(confidence=confidence, correct=correct)
        confidence = confidence.detach().to(self.count.device, torch.float64)
        if not bool(((confidence >= 0) & (confidence <= 1 + 1e-6)).all()):
            raise ConfigError("probabilities in [0, 1] expected as confidence; logits given?")
        right = correct.to(confidence)
        edges = torch.linspace(0, 1, self._bins + 1, dtype=torch.float64).to(confidence)[1:-1]
        which = torch.bucketize(confidence, edges)
        self.count += torch.bincount(which, minlength=self._bins)
        self.gap += torch.bincount(which, weights=right - confidence, minlength=self._bins)

    def compute(self) -> dict[str, float | None]:
        """Return the error over everything seen since the last reset."""
        total = float(self.count.sum())
        return {"ECE": float(self.gap.abs().sum()) / total if total else None}
