"""Prototypes of classes from the target's likeliest images, against clusters of all others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.clusters import spherical_kmeans
from dabench.methods.functional.divergence import onehot


def count_clusters(
    z: Tensor, counts: Iterable[int], *, seed: int, dims: int = 32, most: int = 4000
) -> int | None:
    """Return the number of clusters with the best silhouette, among ``counts``.

    None where no candidate has a silhouette above 0 (all rows equal, say).

    k-means and silhouette on the ``dims`` largest principal components of at most ``most`` rows.

    Args:
        z: (N, D) features.
        counts: candidates; those below 2 or not below the number of rows are left out.
        seed: of the starts and of the choice of rows.
        dims: components.
        most: rows; of more, so many are drawn.

    Source: GLC (Qu et al., CVPR 2023), whose code has t-SNE in two dimensions in place of the
    components; components are ours: they are repeatable, and cheap.
    """
    if len(z) > most:
        z = z[torch.from_numpy(np.random.default_rng(seed).permutation(len(z))[:most]).to(z.device)]
    x = z.detach().cpu().double().numpy()
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    x = u[:, :dims] * s[:dims]
    best: float = 0.0
    chosen: int | None = None
    for count in sorted({count for count in counts if 2 <= count < len(x)}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
            labels = KMeans(count, n_init=3, random_state=seed).fit_predict(x)
        if 1 < len(np.unique(labels)) < len(x):
            score = float(silhouette_score(x, labels))
            if score > best:
                best, chosen = score, count
    return chosen


def likeliest_rows(p: Tensor, count: int) -> Tensor:
    """Return (K, n) places of the rows with the largest probability of each class, n < N.

    A class without images has its n likeliest rows all the same.

    Args:
        p: (N, K) probabilities, N >= 2.
        count: rows a class.
    """
    return p.topk(max(1, min(count, len(p) - 1)), dim=0).indices.T


def class_prototypes(z: Tensor, rows: Tensor) -> Tensor:
    """Return (K, D) unit means of the (N, D) rows of z at the (K, n) places of each class."""
    return F.normalize(torch.stack([z[own].mean(0) for own in rows]), dim=1)


def one_vs_all_targets(
    z: Tensor,
    p: Tensor,
    rows: Tensor,
    clusters: int,
    *,
    rho: float,
    seed: int,
    before: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Label every image by its nearest prototype, or as none of the classes.

    For every class c: w_c = rho + (1 - rho) mean p_c over its rows; the images that are none of its
    rows are clustered. A class accepts an image where w_c cos(z, prototype_c) is at least the
    cosine to every one of those centres. An image whose nearest class accepts it gets that class,
    any other one the uniform distribution.

    Args:
        z: (N, D) features of unit length.
        p: (N, K) probabilities.
        rows: (K, n) places of the images that are taken for the class, n < N.
        clusters: centres of the others; at most as many as there are others.
        rho: least weight of a class's prototype, in [0, 1].
        seed: of the clusters.
        before: each class's centres from an earlier time, to go on from.

    Returns:
        (N, K) targets, (N,) bool: known, and each class's centres.

    Source: GLC (Qu et al., CVPR 2023), authors' code; it clusters by Euclidean distance, we by
    cosine.
    """
    prior = rho + (1 - rho) * p.gather(0, rows.T).mean(0)
    cosine = z @ class_prototypes(z, rows).T
    accepted = torch.empty_like(cosine, dtype=torch.bool)
    found = []
    for c, own in enumerate(rows):
        others = torch.ones(len(z), dtype=torch.bool, device=z.device)
        others[own] = False
        count = min(clusters, int(others.sum()))
        start = None if before is None else before[c]
        centres, _ = spherical_kmeans(z[others], count, seed=seed, restarts=1, start=start)
        found.append(centres)
        accepted[:, c] = prior[c] * cosine[:, c] >= (z @ centres.T).amax(1)
    best = cosine.argmax(1)
    known = accepted.gather(1, best[:, None]).squeeze(1)
    uniform = torch.full_like(cosine, 1 / cosine.shape[1])
    targets = torch.where(known[:, None], onehot(best, cosine.shape[1]).to(p), uniform)
    return targets, known, found


def hard_negative_similarity(z: Tensor, stored: Tensor, clusters: int) -> Tensor:
    """Return (B,) cosines to a batch's hard negatives less those to stored neighbours, summed.

    The other rows of the batch (without gradient) in order of their cosine: the first
    ceil(B / clusters) may be of the same class; the k after them are the hard negatives, fewer at
    the batch's end.

    Args:
        z: (B, D) features of unit length.
        stored: (B, k, D) features of unit length of each row's neighbours.
        clusters: classes in the target.

    Source: GLC++ (Qu et al., 2024), authors' code.
    """
    within = z @ z.detach().T
    rows = torch.arange(len(z), device=z.device)
    # the row itself comes first, whatever rounding says
    ranked = (
        within.detach().index_put((rows, rows), z.new_tensor(torch.inf)).argsort(1, descending=True)
    )
    start = 1 + -(-len(z) // clusters)
    negatives = within.gather(1, ranked[:, start : start + stored.shape[1]])
    return negatives.sum(1) - torch.einsum("bd,bkd->b", z, stored)
