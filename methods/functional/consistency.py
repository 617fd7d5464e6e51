"""Agreement of a dense answer with the answer to a changed image, over the pixels that count."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.losses import kl_divergence


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of (B, H, W) values where the mask is True; 0 where it never is.

    Values outside the mask have no influence and get no gradient, whatever they are.
    """
    if mask is None:
        return values.mean()
    counted = torch.where(mask, values, values.new_zeros(()))
    return counted.sum() / mask.sum().clamp_min(1)


def consistency(
    target_probs: Tensor,
    logits: Tensor,
    valid: Tensor | None = None,
    threshold: float | None = None,
) -> Tensor:
    """Return the mean over pixels of KL(t || softmax(z)); the target gets no gradient.

    The cross-entropy CE(t, z) differs from it by the entropy of t, which has no gradient here, so
    that both teach the same; this one is 0 where the answers agree.

    Args:
        target_probs: (B, K, H, W) t, in the frame of z.
        logits: (B, K, H, W) z, of the changed image.
        valid: (B, H, W) bool, the pixels that both images show; None = all.
        threshold: None = soft targets; else the target is the class of the largest t, where that
            is above the threshold, and other pixels do not count.

    Returns:
        A scalar; 0 if no pixel counts.

    Source: a reconstruction of TransAdapt's invariance and equivariance (docs/reconstructions.md).
    """
    target = target_probs.detach()
    if threshold is None:
        return masked_mean(kl_divergence(target, logits), valid)
    confidence, label = target.max(1)
    sure = confidence > threshold
    losses = F.cross_entropy(logits, label, reduction="none")
    return masked_mean(losses, sure if valid is None else sure & valid)
