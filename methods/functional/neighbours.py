"""Nearest neighbours of every image in feature space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_neighbours(z: Tensor, count: int, *, chunk: int = 1024) -> Tensor:
    """Return the places of the ``count`` nearest other rows by cosine, the nearest first.

    Works on ``chunk`` rows at a time, so that no N x N matrix is held.

    Args:
        z: (N, D) rows of unit length, N >= 2.
        count: neighbours a row; at most N - 1 are given.
        chunk: rows compared at a time.

    Returns:
        (N, min(count, N - 1)) int64 places; a row is not its own neighbour.
    """
    count = min(count, len(z) - 1)
    found = []
    for start in range(0, len(z), chunk):
        similarity = z[start : start + chunk] @ z.T
        rows = torch.arange(len(similarity), device=z.device)
        similarity[rows, start + rows] = -torch.inf
        found.append(similarity.topk(count, dim=1).indices)
    return torch.cat(found)


def neighbourhood_mean(p: Tensor, places: Tensor) -> Tensor:
    """Return the (N, K) mean of every row of p with those of its (N, k) neighbours."""
    return (p + p[places].sum(1)) / (places.shape[1] + 1)


def bank_probabilities(z: Tensor, bank: Tensor, p: Tensor, count: int) -> Tensor:
    """Return the (B, K) mean probabilities of the nearest rows of a bank, by cosine.

    Args:
        z: (B, D) features of any length.
        bank: (N, D) stored features of any length, N >= 1.
        p: (N, K) their probabilities.
        count: neighbours a row; all, where the bank has fewer.

    Source: AdaContrast (Chen et al., CVPR 2022), Eq. 2.
    """
    similarity = F.normalize(z, dim=1) @ F.normalize(bank, dim=1).T
    places = similarity.topk(min(count, len(bank)), dim=1).indices
    return p[places].mean(1)
