"""Metrics as ``torchmetrics.Metric``; a number that is not defined is None, a hole, never 0.

Fractions in [0, 1], computed in double precision. Each holds counts or samples, so that
many updates equal one and processes can be summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dabench.errors import ConfigError
from dabench.metrics.confusion import (
    ConfusionMetric,
    check_lengths,
    concatenate_state,
    mean_of_present,
)


class OpenSetAccuracy(ConfusionMetric):
    """OS*, UNK, HOS and OS of open-set adaptation.

    The K known classes are 0..K-1; K stands for "private" in the truth and "unknown" in the
    prediction. OS* is the mean over known classes of per-class accuracy (a known sample called
    unknown is wrong; a class without samples is left out of the mean); UNK the accuracy pooled
    over private samples; HOS = 2 OS* UNK / (OS* + UNK), 0 if both are 0;
    OS the mean over the known classes that have samples and UNK, (K OS* + UNK) / (K + 1) where all
    have. Holes: without private samples UNK, HOS and OS; without known
    samples OS*, HOS and OS. ``class_accuracy`` has K + 1 values or holes, UNK last.
    ``confusion`` holds the (K + 1, K + 1) counts.

    The HOS of several tasks is the mean of their HOS, not the HOS of their means.

    Args:
        num_known: K.
        kwargs: passed on to ``torchmetrics.Metric``.

    Source: Saito et al., "Open set domain adaptation by backpropagation", 2018 (OS, OS*);
    Bucci et al., "On the effectiveness of image rotation for open set domain adaptation", 2020
    (HOS).
    """

    def __init__(self, num_known: int, **kwargs: Any) -> None:
        if num_known < 1:
            raise ConfigError(f"open-set accuracy needs at least one known class, not {num_known}")
        super().__init__(num_known + 1, **kwargs)

    def compute(self) -> dict[str, Any]:
        """Return the scores over everything seen since the last reset."""
        per_class = self._per_class()
        known, unknown = mean_of_present(per_class[:-1]), per_class[-1]
        hos: float | None = None
        both: float | None = None
        if known is not None and unknown is not None:
            total = known + unknown
            hos = 2 * known * unknown / total if total > 0 else 0.0
            there = sum(value is not None for value in per_class[:-1])
            both = (there * known + unknown) / (there + 1)
        return {"OS*": known, "UNK": unknown, "HOS": hos, "OS": both, "class_accuracy": per_class}


class UnknownScoreMetrics(Metric):
    """AUROC, FPR95 and OSCR of an unknown score (larger = more likely unknown).

    Equal scores are handled together, so the order of samples never matters.

    * ``AUROC``: the chance that a private sample scores above a known one, ties counting 1/2
      (Mann-Whitney). The same whichever side is called positive.
    * ``FPR95``: known samples are the positives, as in the out-of-distribution literature. Of the
      thresholds t = an observed score at which at least 95 % of known samples have score <= t
      ("accepted"), take the smallest; FPR95 is the share of private samples accepted there.
      No interpolation. Lower is better.
    * ``OSCR``: area under CCR(t) against FPR(t), where CCR(t) is the share of known samples that
      are classified right *and* score below t, and FPR(t) the share of private samples that
      score below t; trapezoids between distinct scores. At most the accuracy on known samples;
      equal to AUROC when all of them are right.

    All three are holes when known or private samples are missing.

    Source: Hendrycks and Gimpel, 2017 (AUROC); Liang et al., "Enhancing the reliability of
    out-of-distribution image detection", 2018 (FPR95); Dhamija et al., "Reducing network
    agnostophobia", 2018 (OSCR; theirs thresholds class probabilities, ours any score).
    """

    is_differentiable = False
    full_state_update = False
    score: list[Tensor]
    is_private: list[Tensor]
    known_correct: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("score", "is_private", "known_correct"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, score: Tensor, is_private: Tensor, known_correct: Tensor) -> None:
        """Keep a batch.

        Args:
            score: (B,) float unknown scores; infinite ones are fine.
            is_private: (B,) bool, True for samples of a private class.
            known_correct: (B,) bool, whether the best of the known classes is the true one;
                False for private samples.

        Raises:
            ConfigError: the shapes differ, a score is NaN, a mask is not bool, or a private sample
                is marked right.
        """
        check_lengths(score=score, is_private=is_private, known_correct=known_correct)
        for name, mask in (("is_private", is_private), ("known_correct", known_correct)):
            if mask.dtype != torch.bool:
                raise ConfigError(f"{name} must be bool, not {mask.dtype}")
        if bool(score.isnan().any()):
            raise ConfigError("an unknown score is NaN; look at the method's outputs")
        if bool((is_private & known_correct).any()):
            raise ConfigError("known_correct must be False for private samples")
        self.score.append(score.detach())
        self.is_private.append(is_private)
        self.known_correct.append(known_correct)

    def compute(self) -> dict[str, float | None]:
        """Return the scores over everything seen since the last reset."""
        score, private, right = (
            concatenate_state(state) for state in (self.score, self.is_private, self.known_correct)
        )
        n_private = int(private.sum())
        n_known = len(private) - n_private
        if not n_private or not n_known:
            return {"AUROC": None, "FPR95": None, "OSCR": None}
        distinct, rank = torch.unique(score, return_inverse=True)

        def count(mask: Tensor) -> Tensor:
            return torch.bincount(rank[mask], minlength=len(distinct))

        privates, knowns, rights = count(private), count(~private), count(right)
        below, below_right = knowns.cumsum(0), rights.cumsum(0)
        # trapezoids, doubled to stay in exact integers: one step per distinct score
        area = int((privates * (2 * below - knowns)).sum())
        area_right = int((privates * (2 * below_right - rights)).sum())
        accepting = int((100 * below >= 95 * n_known).int().argmax())
        return {
            "AUROC": area / (2 * n_private * n_known),
            "FPR95": int(privates[: accepting + 1].sum()) / n_private,
            "OSCR": area_right / (2 * n_private * n_known),
        }
