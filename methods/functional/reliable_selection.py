"""Which labels can be relied on, by the answers to several views (C-SFDA)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def view_agreement(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what several views say of each image together.

    Args:
        logits: (V, B, K) of V >= 2 views.

    Returns:
        (B, K) mean logits; (B,) mean over the views of the largest probability; (B,) its standard
        deviation (V - 1 in the denominator).

    Source: C-SFDA (Karim et al., CVPR 2023), authors' code.
    """
    largest = logits.softmax(2).amax(2)
    return logits.mean(0), largest.mean(0), largest.std(0)


def reliable_rows(mean_logits: Tensor, confidence: Tensor, spread: Tensor) -> Tensor:
    """Return (B,) bool: surer than the batch's mean, and steadier than its mean.

    Of the others come back those whose two largest mean logits lie further apart than is usual
    among them, and that are steadier than is usual among them.

    Args:
        mean_logits: (B, K).
        confidence: (B,) mean largest probabilities.
        spread: (B,) their standard deviations over views.

    Source: C-SFDA (Karim et al., CVPR 2023), authors' code for VisDA-C.
    """
    kept = (confidence > confidence.mean()) & (spread < spread.mean())
    rest = ~kept
    if not bool(rest.any()):
        return kept
    top = mean_logits.topk(min(2, mean_logits.shape[1]), dim=1).values
    gap = top[:, 0] - top[:, -1]
    back = rest & (gap > gap[rest].mean()) & (spread < spread[rest].mean())
    return kept | back


def balanced_by_class(
    labels: Tensor, confidence: Tensor, kept: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """Let classes in of which nothing was kept, and weigh classes by their rarity.

    Of a class that somebody was labelled with and of which nothing was kept, as many of its surest
    images come in as the smallest kept class has. A class weighs 1 / (its kept images), 1 where it
    had none.

    Args:
        labels: (B,) int64 in 0..K-1.
        confidence: (B,) probabilities of the labels.
        kept: (B,) bool; where nothing is kept, nothing comes in.
        classes: K.

    Returns:
        (B,) bool and (K,) weights.

    Source: C-SFDA (Karim et al., CVPR 2023), authors' code.
    """
    counts = torch.bincount(labels[kept], minlength=classes)
    weight = 1 / counts.clamp_min(1).to(confidence)
    if not bool(kept.any()):
        return kept, weight
    least, kept = int(counts[counts > 0].min()), kept.clone()
    for c in (counts == 0).nonzero().flatten():
        members = (labels == c).nonzero().flatten()
        order = confidence[members].argsort(descending=True, stable=True)
        kept[members[order[:least]]] = True
    return kept, weight


def curriculum_factor(spread: Tensor, confidence: Tensor, rate: float) -> float:
    """Return 1 - rate exp(-c / u): what the weight of reliable labels is multiplied by in a step.

    Close to 1 while images are sure: with u a tenth of c it is 1 - 5e-5 rate.

    Args:
        spread: (B,) standard deviations, of mean u.
        confidence: (B,) mean largest probabilities, of mean c.
        rate: in [0, 1].

    Source: C-SFDA (Karim et al., CVPR 2023), authors' code.
    """
    u, c = float(spread.mean()), float(confidence.mean())
    return 1.0 if u <= 0 else 1 - rate * math.exp(-c / u)
