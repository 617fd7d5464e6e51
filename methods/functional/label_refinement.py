"""Soft labels that the target's own features correct: centroids, and neighbours as witnesses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.neighbours import nearest_neighbours


def centred_unit(features: Tensor) -> Tensor:
    """Return (N, D) features less their mean, each row brought to unit length.

    What all images of a set share says nothing of their classes, and would make all cosines alike.
    """
    return F.normalize(features - features.mean(0), dim=1)


def centroid_posterior(
    z: Tensor, p: Tensor, answers: Tensor, rounds: int, temperature: float, prior: float
) -> Tensor:
    """Refine soft labels by the classes' centroids, and by what was answered about each image.

    Every round: c_k = normalise(sum_i p_ik z_i), then p_ik is proportional to
    a_ik^prior exp(cos(z_i, c_k) / temperature). A centroid is weighted by its class's own column of
    p, so that a class which is hardly ever the likeliest still gets one. The answers keep rounds
    from drifting: without them the accuracy of labels falls again after two or three.

    Args:
        z: (N, D) rows of unit length.
        p: (N, K) distributions to start from.
        answers: (N, K) distributions a; values below 1e-6 count as 1e-6.
        rounds: 0 gives p back.
        temperature: of the cosines, above 0.
        prior: power of the answers: 0 = the centroids alone; below 1 for answers that are too sure.

    Returns:
        (N, K) distributions.

    Source: SHOT's centroids (Liang et al., 2020, section 3.3), which end in hard labels; soft
    rounds and the answers as a prior are ours.
    """
    log_prior = prior * answers.clamp_min(1e-6).log()
    for _ in range(rounds):
        cosine = z @ F.normalize(p.T @ z, dim=1).T
        # a class that nothing speaks for has no centroid, and stays without images
        cosine = cosine.masked_fill(p.sum(0) <= 0, -torch.inf)
        p = (cosine / temperature + log_prior).softmax(1)
    return p


def neighbours_answer(z: Tensor, p: Tensor, count: int) -> Tensor:
    """Return the (N, K) mean of p over every row's ``count`` nearest others by cosine.

    Args:
        z: (N, D) rows of unit length.
        p: (N, K) distributions.
        count: neighbours, at least 1.
    """
    return p[nearest_neighbours(z, count)].mean(1)
