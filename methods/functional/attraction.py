"""Answers that are drawn to those of their neighbours, and away from those of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

#: images a batch for which the weight of the dispersion was published
PUBLISHED_BATCH = 64


def attraction(p: Tensor, answers: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the per-sample -sum_k w_k s_k . p, small where the neighbours answer alike.

    (The authors' codes write kl_div(p, s) with p in place of log p: its gradient is that of this
    dot product, and that of no divergence.)

    Args:
        p: (B, K) probabilities.
        answers: (B, k, K) stored probabilities s of each row's neighbours.
        weight: (B, k) weights w; None = all 1.

    Returns:
        (B,) losses, at least -k.

    Source: NRC (Yang et al., NeurIPS 2021); AaD (Yang et al., NeurIPS 2022); authors' codes.
    """
    alike = torch.einsum("bkc,bc->bk", answers, p)
    return -(alike if weight is None else weight * alike).sum(1)


def dispersion(p: Tensor, batch: float = PUBLISHED_BATCH, *, squared: bool = False) -> Tensor:
    """Return (batch - 1) / (B - 1) sum_{j != i} p_i . p_j for every row i of a batch.

    The published sum grows with the batch; scaled to one of ``batch`` images, its weight against
    the attraction is the same at every size. The gradient passes both factors.

    Args:
        p: (B, K) probabilities.
        batch: images for which the sum is meant.
        squared: sum (p_i . p_j)^2 in its place.

    Returns:
        (B,) losses, 0 where B = 1.

    Source: AaD (Yang et al., NeurIPS 2022), authors' code; squared: SF(DA)2 (Hwang et al., ICLR
    2024), authors' code; the scale is ours.
    """
    if squared:
        others = (p @ p.T).square().fill_diagonal_(0).sum(1)
    else:
        others = (p * p.sum(0)).sum(1) - p.square().sum(1)
    return others * ((batch - 1) / max(1, len(p) - 1))
