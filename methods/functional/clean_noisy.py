"""Labels that are clean or noisy: how far an answer is from its label, and what a row learns."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dabench.methods.functional.divergence import jsd, onehot
from dabench.methods.functional.losses import smooth_labels


def label_disagreement(labels: Tensor, p: Tensor, criterion: Literal["jsd", "ce"]) -> Tensor:
    """Return (N,) disagreement of (N, K) labels and predictions.

    Jensen-Shannon divergence, or cross-entropy -sum_k y_k log p_k (p at least 1e-10).
    """
    if criterion == "jsd":
        return jsd(labels, p)
    return -(labels * p.clamp_min(1e-10).log()).sum(1)


def harden_clean(
    labels: Tensor, omega: Tensor, share: float = 1.0, smoothing: float = 0.1
) -> Tensor:
    """Return (B, K) targets: what is surely clean learns its class, what is noisy the soft label.

    s w y + (1 - s w) q, with y the smoothed class of q and w the posterior of "clean".

    Args:
        labels: (B, K) soft labels q.
        omega: (B,) posteriors w.
        share: s in [0, 1]; 0 gives the soft labels back.
        smoothing: of the class.

    Source: the refinement of DivideMix (Li et al., 2020), which mixes a class with the network's
    own answer; anchoring noisy rows to the stored label is ours.
    """
    y = smooth_labels(onehot(labels.argmax(1), labels.shape[1]).to(labels), smoothing)
    w = share * omega[:, None]
    return w * y + (1 - w) * labels
