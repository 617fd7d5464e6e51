"""Learning from labels that are clean or noisy: how far an answer is from its label, two terms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dabench.methods.functional.divergence import jsd, onehot
from dabench.methods.functional.losses import soft_cross_entropy


def label_disagreement(labels: Tensor, p: Tensor, criterion: Literal["jsd", "ce"]) -> Tensor:
    """Return (N,) disagreement of (N, K) labels and predictions.

    Jensen-Shannon divergence, or cross-entropy -sum_k y_k log p_k (p at least 1e-10).
    """
    if criterion == "jsd":
        return jsd(labels, p)
    return -(labels * p.clamp_min(1e-10).log()).sum(1)


def clean_noisy_terms(
    logits: Tensor, target: Tensor, clean: Tensor, noisy_loss: Literal["mse", "ce"]
) -> tuple[Tensor, Tensor]:
    """Return the means over clean and over noisy rows (0 where there is none).

    Args:
        logits: (B, K).
        target: (B, K) distributions.
        clean: (B,) 1 = clean, 0 = noisy.
        noisy_loss: squared error sum_k (p_k - y_k)^2, or cross-entropy, on noisy rows.
    """
    l_clean = soft_cross_entropy(logits, target)
    l_noisy = l_clean
    if noisy_loss == "mse":
        l_noisy = (logits.softmax(1) - target).square().sum(1)
    noisy = 1 - clean
    return (
        (l_clean * clean).sum() / clean.sum().clamp(min=1),
        (l_noisy * noisy).sum() / noisy.sum().clamp(min=1),
    )


def refine_or_guess(
    labels: Tensor, omega: Tensor, clean: Tensor, own: Tensor, guess: Tensor
) -> Tensor:
    """Return (B, K) targets: refined labels where clean, a guess where noisy (as DivideMix does).

    w onehot(y) + (1 - w) p where clean, with w the posterior of "clean".

    Args:
        labels: (B,) classes y.
        omega: (B,) posterior of "clean".
        clean: (B,) 1 = clean, 0 = noisy.
        own: (B, K) answers p of the branch that learns.
        guess: (B, K) mean answers of all branches.
    """
    y = onehot(labels, own.shape[1]).to(own)
    refined = omega[:, None] * y + (1 - omega[:, None]) * own
    return torch.where(clean[:, None] > 0, refined, guess)
