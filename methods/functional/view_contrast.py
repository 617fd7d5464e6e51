"""Contrast between the views of a batch's images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def view_contrast(views: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull an image's views together, and away from all views of the other images.

    L = - mean_i 1/(V-1) sum_{j in P(i)} log [ exp(z_i.z_j / t) / sum_{a != i} exp(z_i.z_a / t) ]
    over all V B views z of unit length, P(i) the other views of i's image.

    Args:
        views: (V, B, D) features, V at least 2.
        temperature: t.

    Returns:
        A scalar; of a single image with two views it is 0.

    Source: supervised contrastive loss (Khosla et al., 2020, Eq. 2) as in the code of RMT and
    SANTA.
    """
    count, batch = views.shape[:2]
    z = F.normalize(views.flatten(0, 1), dim=1)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = z @ z.T / temperature
    log_share = logits - logits.masked_fill(own, float("-inf")).logsumexp(1, keepdim=True)
    image = torch.arange(batch, device=z.device).repeat(count)
    partner = (image[:, None] == image[None, :]) & ~own
    return -(log_share * partner).sum(1).mean() / (count - 1)
