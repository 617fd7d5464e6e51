"""Which images a network learns from: rules by loss, by confidence and by class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dabench.methods.functional.losses import entropy


def smallest_share(values: Tensor, share: float) -> Tensor:
    """Return (N,) bool: the floor(share N) images with the smallest of (N,) values.

    Of equal values the earlier ones count.
    """
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    order = values.argsort(stable=True)
    # 0.3 * 10 is a little below 3
    chosen[order[: math.floor(share * len(values) + 1e-9)]] = True
    return chosen


def class_thresholds(p: Tensor, confidence: float, scale: float) -> Tensor | None:
    """Return (K,) thresholds tau_c = confidence (n_c / max n)^scale, lower for classes in doubt.

    n_c counts the images that are predicted as c with more than ``confidence``.

    Args:
        p: (N, K) probabilities.
        confidence: in (0, 1).
        scale: at least 0; 0 = all alike.

    Returns:
        The thresholds; None where no image is sure: there is nothing to compare classes by.

    Source: SEAL's code (MingxuanXia/SEAL); after FlexMatch (Zhang et al., NeurIPS 2021).
    """
    sure, label = p.max(1)
    counts = torch.bincount(label[sure > confidence], minlength=p.shape[1]).to(p)
    if not bool(counts.any()):
        return None
    return confidence * (counts / counts.max()) ** scale


def weak_classes(p: Tensor, labels: Tensor, share: float) -> Tensor:
    """Return the classes that are predicted seldom and with doubt, the weakest first.

    Classes are ranked by how often they are predicted (seldom first) and by the mean entropy of
    the images that carry their label (high first); the sum of both ranks decides. Classes that no
    image has as its label cannot be reviewed and are left out.

    Args:
        p: (N, K) probabilities.
        labels: (N,) int64.
        share: of the K classes; at least one class is given.

    Source: RFC's code (shaojiezhanglalala/RFC).
    """
    k = p.shape[1]
    size = torch.bincount(labels, minlength=k)
    present = (size > 0).nonzero().squeeze(1)
    seldom = torch.bincount(p.argmax(1), minlength=k)[present].argsort(stable=True).argsort()
    doubt = p.new_zeros(k).index_add_(0, labels, entropy(p))[present] / size[present]
    rank = seldom + (-doubt).argsort(stable=True).argsort()
    return present[rank.argsort(stable=True)[: max(1, int(share * k + 1e-9))]]


def review_rows(loss: Tensor, labels: Tensor, classes: Tensor, share: float) -> Tensor:
    """Return places of the images with the smallest losses of some classes.

    Of class c floor(share sqrt(m n_c)) images, at most n_c and at least one; n_c carry its label,
    and m is the median of n over the classes (the lower one of two).

    Args:
        loss: (N,).
        labels: (N,) int64.
        classes: (C,) int64, each with an image.
        share: above 0.

    Source: RFC's code; at least one image is ours (there none, in classes of up to two).
    """
    size = torch.bincount(labels, minlength=int(classes.max()) + 1)[classes].double()
    median = float(size.median())
    chosen = []
    for c, n in zip(classes.tolist(), size.tolist(), strict=True):
        rows = (labels == c).nonzero().squeeze(1)
        count = min(max(1, int(share * math.sqrt(median * n))), int(n))
        chosen.append(rows[loss[rows].argsort(stable=True)[:count]])
    return torch.cat(chosen)


def rescaled_share(share: float, power: float) -> float:
    """Return (2 s)^(1/power) / 2 below s = 1/2, and its mirror image above; power 1 keeps s.

    Source: IterLNL's code (zhjscut/IterLNL).
    """
    if share > 0.5:
        return 1 - rescaled_share(1 - share, power)
    return float((2 * share) ** (1 / power) / 2)


class ClassScores:
    """The last scores of every class, and which new ones are among the best of them.

    Args:
        classes: K.
        length: scores kept a class. They start at 0, so that all are kept at first.
        device: where labels and scores lie.
    """

    def __init__(self, classes: int, length: int, device: torch.device | str = "cpu") -> None:
        self.scores = torch.zeros(classes, length, device=device)

    def select(self, scores: Tensor, labels: Tensor, share: float) -> Tensor:
        """Return (B,) bool: whose score is above the ``share`` quantile from above of its class.

        The scores are then kept. Where fewer than two images pass, the two best of the batch are
        chosen: BatchNorm cannot learn from one.

        Args:
            scores: (B,) in [0, 1].
            labels: (B,) int64.
            share: in [0, 1].

        Source: IterLNL's code, ``CategoricalSampleFilter``; two at least, as its other filter has.
        Of L kept scores the one at L * share cuts there, 100 being kept; of few, that lets less
        than ``share`` through, hence (L + 1) * share, rounded.
        """
        length = self.scores.shape[1]
        place = min(max(round((length + 1) * share) - 1, 0), length - 1)
        cut = self.scores.sort(1, descending=True).values[:, place]
        chosen = scores > cut[labels]
        if int(chosen.sum()) < 2:
            chosen = torch.zeros_like(chosen)
            chosen[scores.topk(min(2, len(scores))).indices] = True
        for c in sorted(set(labels.tolist())):
            fresh = torch.cat((self.scores[c], scores[labels == c].to(self.scores)))
            self.scores[c] = fresh[-length:]
        return chosen
