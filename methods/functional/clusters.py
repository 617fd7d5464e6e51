"""Clusters of a target set's own features, and what they say of its classes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def spherical_kmeans(
    z: Tensor,
    count: int,
    *,
    seed: int,
    restarts: int = 3,
    rounds: int = 30,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cluster unit vectors by cosine; the best of ``restarts`` starts with far-apart centres.

    Args:
        z: (N, D) rows of unit length.
        count: clusters, 1..N.
        seed: of the starts; the same seed gives the same clusters.
        restarts: starts, of which the one with the largest mean cosine counts.
        rounds: most rounds of a start.
        start: (count, D) centres of unit length to go on from, in place of all starts.

    Returns:
        (count, D) centres of unit length and the (N,) int64 places of each row's centre.

    Source: Dhillon and Modha, "Concept decompositions for large sparse text data using
    clustering", 2001; starts as in Arthur and Vassilvitskii, "k-means++", 2007, by 1 - cosine.
    """
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(restarts if start is None else 1):
        centres = _far_apart(z, count, generator) if start is None else start
        labels = (z @ centres.T).argmax(1)
        for _ in range(rounds):
            sums = torch.zeros_like(centres).index_add_(0, labels, z)
            empty = torch.bincount(labels, minlength=count) == 0
            # a cluster that lost all its rows keeps its centre
            centres = F.normalize(torch.where(empty[:, None], centres, sums), dim=1)
            new = (z @ centres.T).argmax(1)
            if torch.equal(new, labels):
                break
            labels = new
        # by parts: two more copies of a large set are not made
        parts = zip(torch.split(z, 8192), torch.split(labels, 8192), strict=True)
        fit = float(torch.cat([(rows * centres[own]).sum(1) for rows, own in parts]).mean())
        if best is None or fit > best[0]:
            best = (fit, centres, labels)
    assert best is not None
    return best[1], best[2]


def _far_apart(z: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` rows, each drawn with a chance that grows with its distance to the rest."""
    first = int(torch.randint(len(z), (1,), generator=generator))
    places = [first]
    distance = (1 - z @ z[first]).clamp_min(0)
    for _ in range(count - 1):
        weight = distance.cpu().double() + 1e-12
        places.append(int(torch.multinomial(weight, 1, generator=generator)))
        distance = torch.minimum(distance, (1 - z @ z[places[-1]]).clamp_min(0))
    return z[places]


def match_clusters(p: Tensor) -> Tensor:
    """Give every class the one cluster that suits it best, over all classes together.

    Args:
        p: (C, K) mean probabilities of the clusters, C >= K.

    Returns:
        (K,) int64 places of the classes' clusters, all different: the assignment with the largest
        sum of probabilities.

    Source: Kuhn, "The Hungarian method for the assignment problem", 1955 (scipy).
    """
    rows, columns = linear_sum_assignment(-p.cpu().double().numpy())
    matched = torch.empty(p.shape[1], dtype=torch.int64)
    matched[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return matched.to(p.device)


def cluster_posterior(
    z: Tensor, p: Tensor, counts: Iterable[int], *, seed: int, temperature: float = 0.1
) -> Tensor:
    """Say which class an image is, or none, by the clusters of the target's own features.

    For every number of clusters: each class gets one cluster (:func:`match_clusters`); an image's
    mass lies on the clusters as the softmax of its cosines to their centres / ``temperature``; what
    lies on clusters without a class is mass on "none of the classes". Where two clusters look like
    one class to the classifier, only one of them can be it. Averaged over the numbers of clusters.

    Args:
        z: (N, D) features of unit length.
        p: (N, K) probabilities of the classifier.
        counts: numbers of clusters, each brought into K + 1..N.
        seed: of the clusters.
        temperature: of the softmax over cosines.

    Returns:
        (N, K + 1) probabilities, the last column for none of the classes.

    Source: ours, from one-to-one clustering in universal adaptation (Qu et al., "Upcycling Models
    under Domain and Category Shift" (GLC), CVPR 2023, divides globally by class, not one to one).
    """
    total = p.new_zeros(len(p), p.shape[1] + 1)
    usable = sorted({max(p.shape[1] + 1, min(count, len(z))) for count in counts})
    for count in usable:
        centres, labels = spherical_kmeans(z, count, seed=seed)
        sums = p.new_zeros(count, p.shape[1]).index_add_(0, labels, p)
        size = torch.bincount(labels, minlength=count).clamp_min(1)
        matched = match_clusters(sums / size[:, None])
        mass = (z @ centres.T / temperature).softmax(1)
        known = mass[:, matched]
        total += torch.cat((known, (1 - known.sum(1, keepdim=True)).clamp_min(0)), 1)
    return total / len(usable)
