"""Means and variances of features by class: how far the present ones are from the source's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_mean(features: Tensor, means: Tensor, usable: Tensor) -> Tensor:
    """Return for each of (B, D) features the class mean with the largest cosine, (B, D).

    Args:
        features: (B, D), without gradient.
        means: (K, D).
        usable: (K,) bool, the classes that have a mean; at least one.

    Source: SANTA (Chakrabarty et al., TMLR 2023), authors' benchmark code.
    """
    z, rows = F.normalize(features.detach(), dim=1), means[usable]
    return rows[(z @ F.normalize(rows, dim=1).T).argmax(1)]


def divergence(means: Tensor, source: Tensor, variance: Tensor, classes: Tensor) -> float:
    """Return 1 - exp(-mean of (m - s)^2 / (v + 1e-6)) over some classes and all D numbers: [0, 1).

    Args:
        means: (K, D) m, of the present features.
        source: (K, D) s.
        variance: (K, D) v of the source's features.
        classes: (C,) int64, each once; none of them = 0.

    Source: PeTTA (Hoang et al., NeurIPS 2024), Eq. 6; authors' code.
    """
    if not len(classes):
        return 0.0
    away = (means[classes] - source[classes]).square() / (variance[classes] + 1e-6)
    return float(1 - (-away.mean()).exp())


def move_class_means(means: Tensor, features: Tensor, labels: Tensor, decay: float) -> Tensor:
    """Return (K, D) means, those of the labels' classes moved: decay m + (1 - decay) batch mean.

    Args:
        means: (K, D).
        features: (B, D), without gradient.
        labels: (B,) int64.
        decay: in [0, 1].

    Source: PeTTA (Hoang et al., NeurIPS 2024), authors' code.
    """
    onehot = F.one_hot(labels, len(means)).to(features.dtype)
    counts = onehot.sum(0)[:, None]
    batch = onehot.T @ features / counts.clamp_min(1)
    return torch.where(counts > 0, torch.lerp(batch, means, decay), means)


def weight_similarity(parameters: list[Tensor], start: list[Tensor]) -> Tensor:
    """Return the mean over tensors of their cosine to what they were, each as one vector.

    Source: PeTTA (Hoang et al., NeurIPS 2024), authors' code: the "cosine" regulariser, negated.
    """
    pairs = zip(parameters, start, strict=True)
    found = [F.cosine_similarity(p.flatten(), s.flatten(), dim=0) for p, s in pairs]
    return torch.stack(found).mean()
