"""Answers of a batch made to agree between neighbours in feature space (LAME)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Affinity = Literal["rbf", "knn", "linear"]


def affinity_matrix(z: Tensor, kind: Affinity, neighbours: int) -> Tensor:
    """Return the (N, N) affinities W of the rows of z, which are brought to unit length.

    ``rbf``: exp(-d^2 / 2 s^2) with Euclidean distances d and s the mean distance to the
    ``neighbours``-th nearest row, a row being its own first; where s is 0 (a single row, rows that
    are all equal) its limit, 1 for equal rows and else 0. ``knn``: 1 for the ``neighbours`` nearest
    other rows, else 0; not symmetric. ``linear``: z z^T. With fewer rows than ``neighbours`` all
    there are count.

    Args:
        z: (N, D) features.
        kind: as above.
        neighbours: k, at least 1.

    Source: LAME (Boudiaf et al., CVPR 2022), authors' code.
    """
    z = F.normalize(z, dim=1)
    if kind == "linear":
        return z @ z.T
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    if kind == "rbf":
        nearest = distance.topk(min(neighbours, len(z)), largest=False).values
        width = nearest[:, -1].mean().clamp_min(torch.finfo(z.dtype).eps)
        return (-0.5 * (distance / width).square()).exp()
    distance.fill_diagonal_(torch.inf)
    places = distance.topk(min(neighbours, len(z) - 1), largest=False).indices
    return torch.zeros_like(distance).scatter_(1, places, 1.0)


def agreeing_assignments(p: Tensor, affinity: Tensor, weight: float, steps: int = 100) -> Tensor:
    """Return (N, K) assignments Y that stay near p and agree between rows of large affinity.

    With U = -log(p + 1e-10): Y <- softmax(-U + weight W Y), from Y = softmax(-U), until the bound
    E = sum(U Y - weight (W Y) Y + Y log Y) moves by no more than 1e-8 of itself.

    Args:
        p: (N, K) probabilities.
        affinity: (N, N) W.
        weight: of the agreement; 0 gives p.
        steps: most iterations.

    Source: LAME (Boudiaf et al., CVPR 2022), authors' code.
    """
    log_p = (p + 1e-10).log()
    y, before = log_p.softmax(1), float("inf")
    for i in range(steps):
        pairwise = weight * (affinity @ y)
        y = (log_p + pairwise).softmax(1)
        terms = y * (y.clamp_min(1e-20).log() - log_p - pairwise)
        bound = float(terms.detach().sum())
        if i > 1 and abs(bound - before) <= 1e-8 * abs(before):
            break
        before = bound
    return y
