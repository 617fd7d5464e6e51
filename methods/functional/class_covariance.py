"""Covariances of features by class: logits of features moved along them, and their distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class RunningCovariance:
    """Mean and covariance of every class over all batches so far, each image counting alike.

    Args:
        classes: K.
        width: D; K x D x D numbers are held.

    Attributes:
        amount: (K,) images so far.

    Source: ISDA (Wang et al., NeurIPS 2019), as in SF(DA)2's code.
    """

    def __init__(self, classes: int, width: int, like: Tensor) -> None:
        self.amount = like.new_zeros(classes)
        self._mean = like.new_zeros(classes, width)
        self._covariance = like.new_zeros(classes, width, width)

    def update(self, features: Tensor, labels: Tensor) -> Tensor:
        """Take in (B, D) features with (B,) int64 labels, and return the (K, D, D) covariances.

        What the batch adds to them has a gradient; what was there before has none.
        """
        parts, present = [], torch.unique(labels)
        for c in present:
            own = features[labels == c]
            batch_mean, count = own.mean(0), len(own)
            within = (own - batch_mean).T @ (own - batch_mean) / count
            share = count / (float(self.amount[c]) + count)
            away = self._mean[c] - batch_mean
            between = share * (1 - share) * torch.outer(away, away)
            parts.append((1 - share) * self._covariance[c] + share * within + between)
            self._mean[c] = torch.lerp(self._mean[c], batch_mean.detach(), share)
            self.amount[c] += count
        found = self._covariance.index_copy(0, present, torch.stack(parts))
        self._covariance = found.detach()
        return found


def augmented_surprise(
    logits: Tensor, weight: Tensor, covariance: Tensor, labels: Tensor, strength: float
) -> Tensor:
    """Return the per-sample 2 sum_c CE(l^c, c) of logits raised along a covariance.

    l^c_j = l_j + (s / 2) (w_j - w_c)' S_y (w_j - w_c).

    l^c are the logits of class c's bound over endlessly many features that are drawn around the
    image's, along the covariance S_y of the class y that it is called. The sum goes over all
    classes c, not over y alone.

    Args:
        logits: (B, K) l.
        weight: (K, D) rows w of the head.
        covariance: (K, D, D) S.
        labels: (B,) int64 y.
        strength: s, at least 0.

    Returns:
        (B,) losses.

    Source: SF(DA)2 (Hwang et al., ICLR 2024), authors' code; the bound: ISDA (Wang et al., 2019).
    """
    present, places = torch.unique(labels, return_inverse=True)
    inner = torch.einsum("kd,yde,le->ykl", weight, covariance[present], weight)
    own = inner.diagonal(dim1=1, dim2=2)
    # symmetric by construction, so that the two cross terms are one
    squared = own[:, :, None] + own[:, None, :] - 2 * inner
    moved = logits[:, None, :] + strength / 2 * squared[places]
    return -2 * moved.log_softmax(2).diagonal(dim1=1, dim2=2).sum(1)


def covariance_distance(covariance: Tensor, p: Tensor) -> Tensor:
    """Return sum_{c < d} (mean p of c . mean p of d) (1 - cos(S_c, S_d)), a scalar.

    Classes that get like answers weigh most. A class that nobody is called counts for nothing.

    Args:
        covariance: (K, D, D) S.
        p: (N, K) probabilities of all images, without gradient; an image's class is its argmax.

    Source: SF(DA)2 (Hwang et al., ICLR 2024), authors' code: its feature disentanglement maximises
    this. There a class without images makes the loss undefined (0 / 0).
    """
    own = F.one_hot(p.argmax(1), p.shape[1]).to(p)
    mean = own.T @ p / own.sum(0).clamp_min(1)[:, None]
    flat = F.normalize(covariance.flatten(1), dim=1)
    return ((mean @ mean.T).detach() * (1 - flat @ flat.T)).triu(1).sum()
