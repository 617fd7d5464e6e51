"""ROID's weights, loss and prior: sure answers that differ from what is common count most."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.losses import entropy, soft_cross_entropy


def scaled_to_unit(x: Tensor) -> Tensor:
    """Return (x - min) / (max - min) of (N,) values; 0 where all are equal (one value, say)."""
    low, high = x.aminmax()
    return (x - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny)


@torch.no_grad()
def certainty_diversity_weights(p: Tensor, average: Tensor, temperature: float) -> Tensor:
    """Return (N,) weights exp(d c / T) >= 1 of diverse samples, and 0 for the others.

    d: 1 - cos(p_i, average), c: -H(p_i), both scaled to [0, 1] over the batch. Samples with d below
    its mean have the weight 0; at least one stays.

    Args:
        p: (N, K) probabilities.
        average: (K,) moving average of earlier ones.
        temperature: T.

    Source: ROID (Marsden et al., WACV 2024), authors' code.
    """
    diverse = scaled_to_unit(1 - F.cosine_similarity(p, average[None], dim=1))
    certain = scaled_to_unit(-entropy(p))
    weights = (diverse * certain / temperature).exp()
    return weights.masked_fill(diverse < diverse.mean(), 0.0)


def soft_likelihood_ratio(p: Tensor) -> Tensor:
    """Return the per-sample loss -sum_k p_k log(p_k / (1 - p_k) + 1e-5), p clamped to .99.

    Unlike the entropy's, its gradient does not fade for sure samples, until p reaches .99.

    Args:
        p: (N, K) probabilities.

    Source: ROID (Marsden et al., WACV 2024), authors' code.
    """
    p = p.clamp(max=0.99)
    return -(p * (p / (1 - p) + 1e-5).log()).sum(1)


def symmetric_cross_entropy(one: Tensor, other: Tensor) -> Tensor:
    """Return (N,) losses (CE(b -> a) + CE(a -> b)) / 2 of two (N, K) logits; both get a gradient.

    Source: Wang et al., ICCV 2019, with the weights of ROID's code.
    """
    return (
        soft_cross_entropy(one, other.softmax(1)) + soft_cross_entropy(other, one.softmax(1))
    ) / 2


def smoothed_prior(p: Tensor) -> Tensor:
    """Return the (K,) mean prediction m of a batch as (m + s) / (1 + s K).

    s = max(1/N, 1/K) / max m: the smaller the batch, the more even.

    Args:
        p: (N, K) probabilities.

    Source: ROID (Marsden et al., WACV 2024), authors' code.
    """
    mean = p.mean(0)
    s = max(1 / len(p), 1 / p.shape[1]) / mean.max()
    return (mean + s) / (1 + s * p.shape[1])
