"""Statistics that say how far a prediction is from a label, and how uncertain it is.

All of them answer (N, K) probabilities with (N,) numbers; they are used to split a target set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.losses import entropy

EPS = 1e-10


def onehot(labels: Tensor, num_classes: int) -> Tensor:
    """Return (N, K) one-hot rows, in the default float type, of (N,) int64 labels in 0..K-1."""
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


def jsd(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Return the Jensen-Shannon divergence in bits: symmetric, 0 iff a = b, at most 1.

    JSD(a, b) = 1/2 KL(a || m) + 1/2 KL(b || m) with m = (a + b) / 2. If a is one-hot at class y
    and q = b_y, this is 1 - 1/2 (1 + q) log2(1 + q) + 1/2 q log2 q: it depends on q alone and
    ranks samples exactly as the cross-entropy -log q does. With soft labels it does not.

    Args:
        a: (N, K) probabilities.
        b: (N, K) probabilities.
        eps: added inside the logarithms.

    Returns:
        (N,) divergences. Rounding may leave values of about -1e-7 in float32.

    Source: Lin, "Divergence measures based on the Shannon entropy", 1991;
    eps as in the code of UNICON (Karim et al., 2022), which uses the natural logarithm.
    """
    log_m = ((a + b) / 2 + eps).log2()
    kl_a = (a * ((a + eps).log2() - log_m)).sum(dim=1)
    kl_b = (b * ((b + eps).log2() - log_m)).sum(dim=1)
    return (kl_a + kl_b) / 2


def js_distance(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Return the Jensen-Shannon distance sqrt(JSD(a, b)), a metric in [0, 1].

    Shapes as in :func:`jsd`. A statistic, not a loss: its gradient does not exist at a = b.

    Source: Endres and Schindelin, "A new metric for probability distributions", 2003.
    """
    return jsd(a, b, eps).clamp_min(0).sqrt()


def normalised_entropy(p: Tensor, eps: float = EPS) -> Tensor:
    """Return H(p) / log K in [0, 1] of (N, K) probabilities; 0 when K = 1.

    Source: SHOT's open-set rule (Liang et al., 2020) and its code, ``tim-learn/SHOT``.
    """
    if p.shape[1] == 1:
        return torch.zeros_like(p[:, 0])
    return (entropy(p, eps) / math.log(p.shape[1])).clamp(0, 1)


def cross_entropy_to_label(p: Tensor, labels: Tensor, eps: float = EPS) -> Tensor:
    """Return -log p_y in nats of (N, K) probabilities and (N,) int64 labels y.

    Source: the clean/noisy criterion of DivideMix (Li et al., 2020, Sec. 3.1).
    """
    return -p.gather(1, labels[:, None]).squeeze(1).clamp_min(eps).log()
