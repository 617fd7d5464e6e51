"""SHOT's centroid pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def centroid_labels(features: Tensor, p: Tensor, rows: Tensor | None = None) -> Tensor:
    """Label every image by its nearest class centroid.

    z_i = normalise([f_i, 1]);  c_k = sum_i p_ik z_i / sum_i p_ik;  y_i = argmax_k cos(z_i, c_k);
    then the centroids are recomputed once from the hard labels. Classes that nobody is predicted
    to be are no candidates.

    Args:
        features: (N, D) bottleneck features.
        p: (N, K) probabilities over the known classes.
        rows: (N,) bool, the images that build centroids (all by default).

    Returns:
        (N,) int64 labels in 0..K-1.

    Source: Liang et al., "Do We Really Need to Access the Source Data?" (SHOT), section 3.3;
    tim-learn/SHOT, ``obtain_label``.
    """
    z = F.normalize(torch.cat((features, features.new_ones(len(features), 1)), 1), dim=1)
    use = torch.ones(len(p), dtype=torch.bool, device=p.device) if rows is None else rows
    if not bool(use.any()):
        return p.argmax(1)
    candidates = torch.bincount(p[use].argmax(1), minlength=p.shape[1]) > 0
    weight = p[use]
    for _ in range(2):
        centroids = F.normalize(weight.T @ z[use] / (weight.sum(0)[:, None] + 1e-8), dim=1)
        similarity = (z @ centroids.T).masked_fill(~candidates, -2.0)
        labels = similarity.argmax(1)
        weight = F.one_hot(labels[use], p.shape[1]).to(p)
    return labels
