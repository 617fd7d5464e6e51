"""Classes by prototypes: mean features of sure pixels, of one image and along a stream."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sure_labels(p: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the (N,) most likely classes of (N, K) probabilities, and (N,) bool: p >= threshold.

    Source: DIGA (Wang et al., CVPR 2023), authors' code.
    """
    confidence, labels = p.max(1)
    return labels, confidence >= threshold


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the (K, D) mean feature of every class, and (K,) bool: somebody is of that class.

    Args:
        features: (N, D).
        labels: (N,) int64 in 0..K-1.
        num_classes: K. The mean of a class without a member is 0.

    Source: DIGA (Wang et al., CVPR 2023), authors' code.
    """
    member = F.one_hot(labels, num_classes).to(features)
    count = member.sum(0)
    return member.T @ features / count.clamp_min(1)[:, None], count > 0


def moved_prototypes(
    old: Tensor, known: Tensor, new: Tensor, present: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Return running prototypes after an image, and which classes have one.

    r_k <- (1 - rate) r_k + rate c_k where the image shows k; r_k <- c_k at its first showing.

    Args:
        old: (K, D) r.
        known: (K,) bool: r_k is one.
        new: (K, D) c of the image.
        present: (K,) bool: c_k is one.
        rate: weight of the image, in [0, 1].

    Source: DIGA (Wang et al., CVPR 2023), authors' code.
    """
    blended = torch.where(known[:, None], torch.lerp(old, new, rate), new)
    return torch.where(present[:, None], blended, old), known | present


def prototype_probabilities(features: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """Return (N, K) softmax_k(-||z - r_k||) over the classes that have a prototype.

    Args:
        features: (N, D) z.
        prototypes: (K, D) r.
        known: (K,) bool. The others' probability is 0; where none is known, all of them count.

    Source: DIGA (Wang et al., CVPR 2023), authors' code, which divides by 0 in the last case and
    where all distances are large.
    """
    # through inner products, small distances of long vectors would be rounding noise
    distance = torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    return (-distance).masked_fill(~known & known.any(), -torch.inf).softmax(1)
