"""SHOT's centroid pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def unit_features(features: Tensor) -> Tensor:
    """Return normalise([f_i, 1]) of (N, D) features: (N, D + 1)."""
    longer = torch.cat((features, features.new_ones(len(features), 1)), 1)
    # in place where nothing looks back: a large set is not held once more
    return F.normalize(longer, dim=1, out=None if longer.requires_grad else longer)


def centroid_labels(
    features: Tensor, p: Tensor, rows: Tensor | None = None, least: int = 0
) -> Tensor:
    """Label every image by its nearest class centroid.

    z_i = normalise([f_i, 1]);  c_k = sum_i p_ik z_i / sum_i p_ik;  y_i = argmax_k cos(z_i, c_k);
    then the centroids are recomputed once from the hard labels. Classes that ``least`` or fewer are
    predicted to be are no candidates, unless that leaves none; nor, in the second round, are those
    that lost all their images.

    Args:
        features: (N, D) bottleneck features.
        p: (N, K) probabilities over the known classes.
        rows: (N,) bool, the images that build centroids (all by default).
        least: most predictions of a class that is no candidate (in partial sets: 10).

    Returns:
        (N,) int64 labels in 0..K-1.

    Source: Liang et al., "Do We Really Need to Access the Source Data?" (SHOT), section 3.3;
    tim-learn/SHOT, ``obtain_label``.
    """
    z = unit_features(features)
    use = torch.ones(len(p), dtype=torch.bool, device=p.device) if rows is None else rows
    if not bool(use.any()):
        return p.argmax(1)
    places = use.nonzero().flatten()
    labels, weight = p.argmax(1), p[use]
    counts = torch.bincount(labels[use], minlength=p.shape[1])
    allowed = counts > (least if bool((counts > least).any()) else 0)
    for _ in range(2):
        candidates = allowed & (torch.bincount(labels[use], minlength=p.shape[1]) > 0)
        # by parts: a large set is not held once more
        parts = zip(torch.split(weight, 8192), torch.split(places, 8192), strict=True)
        sums = torch.stack([share.T @ z[part] for share, part in parts]).sum(0)
        centroids = F.normalize(sums / (weight.sum(0)[:, None] + 1e-8), dim=1)
        similarity = (z @ centroids.T).masked_fill(~candidates, -2.0)
        labels = similarity.argmax(1)
        weight = F.one_hot(labels[use], p.shape[1]).to(p)
    return labels


def running_labels(
    features: Tensor, p: Tensor, sums: Tensor, mass: Tensor, memory: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Label a batch by centroids that remember earlier batches.

    S_k = memory * S_k(old) + sum_i p_ik z_i, y_i = argmax_k cos(z_i, S_k), then S is computed once
    more with the hard labels in place of p. Candidates are the classes that somebody in this batch
    is predicted to be (argmax of p; in the second round: was labelled with), and those that an
    earlier batch was labelled with, until their mass has faded to 0. With a memory of 0 this is
    :func:`centroid_labels`.

    Args:
        features: (B, D) bottleneck features.
        p: (B, K) probabilities.
        sums: (K, D + 1) sums so far (zeros at the start).
        mass: (K,) images behind them, by their labels; fading as the sums do.
        memory: share of the past that is kept, in [0, 1).

    Returns:
        (B,) int64 labels, and the new sums and mass.

    Source: the centroids of SHOT (Liang et al., 2020); their running form is ours.
    """
    z = unit_features(features)
    old_sums, old_mass = memory * sums, memory * mass
    labels, weight = p.argmax(1), p
    for _ in range(2):
        candidates = old_mass + torch.bincount(labels, minlength=p.shape[1]) > 0
        new_sums = old_sums + weight.T @ z
        similarity = (z @ F.normalize(new_sums, dim=1).T).masked_fill(~candidates, -2.0)
        labels = similarity.argmax(1)
        weight = F.one_hot(labels, p.shape[1]).to(p)
    return labels, old_sums + weight.T @ z, old_mass + weight.sum(0)
