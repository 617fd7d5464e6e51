"""Contrastive alignment of a batch with a memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def memory_contrast(
    features: Tensor,
    labels: Tensor,
    memory: Tensor,
    memory_labels: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """Pull each sample of a batch towards the stored samples of its class.

    L = - mean_i 1/|P(i)| sum_{j in P(i)} log [ exp(z_i.z_j / t) / sum_a exp(z_i.z_a / t) ], where
    z are normalised features, P(i) the stored samples of i's class, and a runs over the memory and
    the other samples of the batch. Samples without a stored partner are left out of the mean.

    Args:
        features: (B, D) of the batch.
        labels: (B,) int64.
        memory: (M, D) features of the stored samples.
        memory_labels: (M,) int64.
        temperature: t.

    Returns:
        Scalar; 0 (with a gradient of 0) where no sample has a partner.

    Source: supervised contrastive loss, Khosla et al., 2020, Eq. 2, with positives from the memory
    alone; that alignment of memory and batch by a contrastive loss takes this form is ours.
    """
    z, stored = F.normalize(features, dim=1), F.normalize(memory, dim=1)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    among = (z @ z.T / temperature).masked_fill(own, float("-inf"))
    across = z @ stored.T / temperature
    log_share = across - torch.cat((across, among), 1).logsumexp(1, keepdim=True)
    partner = (labels[:, None] == memory_labels[None, :]).to(z.dtype)
    partners = partner.sum(1)
    # without a memory a batch of one has a denominator of -inf: nothing to learn from
    if not bool(partners.any()):
        return features.sum() * 0.0
    per_sample = -(partner * log_share).sum(1) / partners.clamp_min(1.0)
    return per_sample.sum() / (partners > 0).sum()
