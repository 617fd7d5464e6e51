"""Contrastive losses: of a batch with a memory, with a queue of keys, among views."""

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


def instance_contrast(
    query: Tensor, key: Tensor, queue: Tensor, negative: Tensor, temperature: float = 0.07
) -> Tensor:
    """Tell every query's own key from the keys of a queue: InfoNCE over chosen negatives.

    L = - mean_i log [ exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_{j in N(i)} exp(q_i.u_j / t)) ]

    Args:
        query: (B, D) of unit length.
        key: (B, D) of unit length, without gradient.
        queue: (Q, D) earlier keys u.
        negative: (B, Q) bool, N(i); a query without any adds 0.
        temperature: t.

    Returns:
        Scalar.

    Source: MoCo (He et al., CVPR 2020), Eq. 1; negatives of other classes alone: AdaContrast (Chen
    et al., CVPR 2022), Eq. 5.
    """
    own = (query * key).sum(1, keepdim=True)
    others = (query @ queue.T).masked_fill(~negative, float("-inf"))
    logits = torch.cat((own, others), 1) / temperature
    return F.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.int64))


def view_contrast(views: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull the views of a sample together, and push those of other samples away.

    L = - mean_a 1/(V-1) sum_{p in P(a)} log [ exp(z_a.z_p / t) / sum_{b != a} exp(z_a.z_b / t) ],
    a over all B V views, P(a) the other views of its sample, z of unit length.

    Args:
        views: (B, V, D), V at least 2; of any length.
        temperature: t.

    Returns:
        Scalar; log(V - 1) for a single sample whose views are alike.

    Source: SimCLR (Chen et al., 2020) for more than two views: Khosla et al., 2020, Eq. 2.
    """
    count, per_sample, _ = views.shape
    z = F.normalize(views.flatten(0, 1), dim=1)
    sample = torch.arange(count, device=z.device).repeat_interleave(per_sample)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_share = similarity - similarity.logsumexp(1, keepdim=True)
    partner = (sample[:, None] == sample[None, :]) & ~itself
    return -log_share[partner].mean()
